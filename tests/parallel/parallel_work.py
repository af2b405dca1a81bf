"""Longer work for processes in the tests: steps of an optimizer, checkpoints, what is left to chance, decoding."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # optimizers and DDP import it at their first step: here, once for all processes
from parallel_cases import Subject, apart, gradients, step, whole
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper
from x_transformers.errors import CheckpointError, FlagError, InputError
from x_transformers.parallel import checkpoint_layers, gather, load_checkpoint, parallelize, plain, save_checkpoint, within

EXAMPLES = Path(__file__).parents[2] / 'examples'
ROWS = 6  # of a batch: for one, two and three processes


def language_model(seed: int = 0, **flags: Any) -> AutoregressiveWrapper:
    """Six query heads on two key heads, so that two processes share the key heads out, and three the query heads of each."""
    torch.manual_seed(seed)
    layers = {'dim': 24, 'depth': 2, 'heads': 6, 'attn_dim_head': 4, 'attn_kv_heads': 2, 'rotary_pos_emb': True, 'ff_glu': True}
    net = TransformerWrapper(num_tokens=31, max_seq_len=16, attn_layers=Decoder(**{**layers, **flags}))
    return AutoregressiveWrapper(net).double()


def ids(at: int = 0) -> Tensor:
    return torch.randint(0, 31, (ROWS, 9), generator=torch.Generator().manual_seed(at))


SUBJECT = Subject(language_model, lambda model, rows: model(ids()[rows]))


def own_rows(rank: int, strategy: str, count: int) -> slice:
    return slice(None) if strategy == 'tp' else slice(rank, ROWS, count)


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, rows: slice, *steps: int) -> list[float]:
    """The norm of the gradients of each step."""
    norms = []
    for at in steps:
        model(ids(at)[rows]).backward()
        norms.append(whole(nn.utils.clip_grad_norm_(model.parameters(), 0.5)).item())
        optimizer.step()
        optimizer.zero_grad()
    return norms


def trained(*steps: int) -> tuple[AutoregressiveWrapper, list[float]]:
    """The model alone, after these steps."""
    model = language_model()
    return model, train(model, make_optimizer(model), slice(None), *steps)


# ------------------------------------------------------------------------------------------------ steps


def steps_alike(rank: int, strategy: str, count: int) -> list[str]:
    """Steps of the optimizer, norms of gradients, and names, from models that were begun with other seeds."""
    model = parallelize(language_model(seed=rank), strategy)
    norms = train(model, make_optimizer(model), own_rows(rank, strategy, count), 0, 1, 2)
    alone, wanted = trained(0, 1, 2)
    found = {name: whole(t) for name, t in plain(model).state_dict().items()}
    gathered, none = gather(model)
    said = [apart(found, alone.state_dict()), *(f'norm {a}, not {b}' for a, b in zip(norms, wanted) if abs(a - b) > 1e-9)]
    said += [apart(gathered, alone.state_dict())] if rank == 0 else [f'gathered {len(gathered)}'] if gathered else []
    held = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in plain(model).parameters())
    total = sum(p.numel() for p in alone.parameters())
    most = {'ddp': 1.0, 'fsdp': 1 / count + 0.01, 'tp': 0.8}[strategy]
    return [*filter(None, said), *([f'holds {held} of {total}'] if held > most * total or none else [])]


def copies_of_parts(rank: int) -> str:
    """FSDP on two axes: two copies of two parts."""
    mesh = init_device_mesh('cpu', (2, 2), mesh_dim_names=('copy', 'part'))
    model = parallelize(language_model(seed=rank), 'fsdp', mesh, reshard_after_forward=False)
    two = Subject(language_model, lambda model, rows: model(torch.cat((ids(), ids()[:2]))[rows]))
    step(model, two, slice(rank, 8, 4))
    alone = language_model()
    step(alone, two, slice(None))
    return apart(gradients(model), gradients(alone))


def recomputes(rank: int, strategy: str, count: int) -> str:
    model = parallelize(language_model(), strategy, checkpoint=True)
    stack = plain(model).net.attn_layers
    step(model, SUBJECT, own_rows(rank, strategy, count))
    alone = language_model()
    step(alone, SUBJECT, slice(None))
    switched = stack.config.checkpoint and not checkpoint_layers(plain(model), False).net.attn_layers.config.checkpoint
    return apart(gradients(model), gradients(alone)) if switched else 'it was not switched'


def narrows(rank: int) -> list[str]:
    """FSDP in bfloat16: numbers stay in single precision, and the loss is near the one that they give."""
    model = parallelize(language_model().float(), 'fsdp', precision=torch.bfloat16)
    seen: list[torch.dtype] = []
    model.net.attn_layers.layers[0][1].to_q.register_forward_hook(lambda _, args, out: seen.append(out.dtype))
    loss = model(ids())
    loss.backward()
    off = abs(loss.item() - language_model().float()(ids()).item())
    kinds = {p.dtype for p in model.parameters()} | {p.grad.dtype for p in model.parameters()}
    return [*([f'off by {off}'] if off > 0.05 else []), *map(str, kinds - {torch.float32}), *map(str, {*seen} - {torch.bfloat16})]


def inputs_by_head(rank: int) -> str:
    """What a caller gives for each head, and what else enters a tensor-parallel stack, with gradients."""
    draw = lambda seed, *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    memories = [draw(4, 2, 3, 24).requires_grad_() for _ in range(2)]
    given = {'attn_bias': draw(1, 2, 6, 9, 12).requires_grad_(), 'attn_mask': draw(2, 6, 9, 12) < 1.5, 'mems': memories}
    given |= {'context': draw(5, 2, 4, 24).requires_grad_(), 'mask': torch.arange(9) < torch.tensor([[9], [7]])}
    found = []
    for together in (True, False):
        torch.manual_seed(0)
        stack = Decoder(dim=24, depth=2, heads=6, attn_dim_head=4, attn_kv_heads=2, cross_attend=True, rel_pos_bias=True).double()
        stack = parallelize(stack, 'tp') if together else stack
        x = draw(6, 2, 9, 24).requires_grad_()
        stack(x, **given).square().mean().backward()
        leaves = {'x': x, 'bias': given['attn_bias'], 'context': given['context'], **{f'mem {i}': m for i, m in enumerate(memories)}}
        found.append({**gradients(stack), **{name: t.grad for name, t in leaves.items()}})
        for t in leaves.values():
            t.grad = None
    return apart(*found)


# ------------------------------------------------------------------------------------------------ chance


def chances_alike(rank: int, strategy: str, count: int) -> str:
    """Layers that are left out, with seeds of one's own: what is drawn is what the first process draws, and later draws are one's own."""
    chance = Subject(lambda: language_model(layer_dropout=0.5), SUBJECT.loss)
    model, alone = parallelize(chance.build(), strategy), chance.build()
    random.seed(rank)
    for _ in range(4):
        SUBJECT.loss(model, own_rows(rank, strategy, count)).backward()
    drawn = random.random()
    random.seed(0)
    for _ in range(4):
        SUBJECT.loss(alone, slice(None)).backward()
    if rank == 0 and drawn != random.random() or rank and drawn != random.Random(rank).random():
        return 'what is drawn later is not its own'
    return apart(gradients(model), gradients(alone))


# ------------------------------------------------------------------------------------------------ decoding


def decodes_alike(rank: int, strategy: str) -> str:
    model, alone = parallelize(language_model(), strategy).eval(), language_model().eval()
    train_a_little = model(ids()[: ROWS]).item()  # the first forward of a sharded model is its own
    made, wanted = (each.generate(ids()[:2, :4], 6, temperature=0.0) for each in (plain(model), alone))
    with within(model) as inner, torch.no_grad():
        logits = inner.net(ids())
    off = (logits - alone.net(ids())).abs().max()
    return '' if torch.equal(made, wanted) and off < 1e-10 and train_a_little else f'{made.tolist()} is not {wanted.tolist()}, or {off}'


# ------------------------------------------------------------------------------------------------ checkpoints


def saves(rank: int, folder: str, strategy: str, count: int) -> None:
    model = parallelize(language_model(), strategy)
    optimizer = make_optimizer(model)
    train(model, optimizer, own_rows(rank, strategy, count), 0, 1)
    save_checkpoint(Path(folder), model, optimizer, extra={'step': 2})


def goes_on(rank: int, folder: str, strategy: str, count: int) -> str:
    """From a checkpoint, one more step: as one process that was never interrupted."""
    model = parallelize(language_model(seed=9), strategy)
    optimizer = make_optimizer(model)
    extra = load_checkpoint(folder, model, optimizer)
    train(model, optimizer, own_rows(rank, strategy, count), 2)
    found = {name: whole(t) for name, t in plain(model).state_dict().items()}
    return apart(found, trained(0, 1, 2)[0].state_dict()) if extra == {'step': 2} else f'extra is {extra}'


def refuses(rank: int, folder: str) -> list[str]:
    """What saving and loading say of folders that do not fit; every process says the same."""
    model = language_model()
    attempts = {
        'is there already, and a checkpoint is not written over': lambda: save_checkpoint(folder, model),
        'cannot be written': lambda: save_checkpoint(f'{folder}/extra.json/new', model),
        'holds no complete checkpoint': lambda: load_checkpoint(f'{folder}-of-nobody', model),
        'missing: net.attn_layers.layers.4.': lambda: load_checkpoint(folder, language_model(depth=3)),
        'to_k.weight is (8, 24), the model has (24, 24)': lambda: load_checkpoint(folder, language_model(attn_kv_heads=6)),
        'extra cannot be kept': lambda: save_checkpoint(f'{folder}-new', model, extra={'step': torch.ones(1)}),
        'extra=[1] is not possible; expected a dict': lambda: save_checkpoint(f'{folder}-new', model, extra=[1]),  # type: ignore[arg-type]
    }
    return unsaid(attempts)


def unsaid(attempts: dict[str, Callable[[], Any]]) -> list[str]:
    """Of attempts, each to be refused in one sentence with these words, those that are not."""
    found = []
    for words, attempt in attempts.items():
        try:
            attempt()
            found.append(f'nothing, instead of {words}')
        except (FlagError, InputError, CheckpointError) as error:
            if words not in str(error) or '\n' in str(error) or len(str(error)) > 600:
                found.append(f'{error}, instead of {words}')
    return found


class Replaced(nn.Linear):
    """A map of one's own."""


def replaced() -> nn.Module:
    model = language_model()
    model.net.attn_layers.layers[0][1].to_q = Replaced(24, 24, bias=False)
    return model


def tied_by_hand() -> nn.Module:
    model = language_model()
    model.net.to_logits.weight = model.net.token_emb.emb.weight
    return model


def refusals(rank: int) -> list[str]:
    model = language_model()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    three = init_device_mesh('cpu', (2, 1), mesh_dim_names=('copy', 'part'))
    flagged = lambda **flags: lambda: parallelize(language_model(**flags), 'tp')
    z_loss = AutoregressiveWrapper(model.net, add_attn_z_loss=True)
    said = unsaid(
        {
            'attn_pre_talking_heads=True cannot be tensor-parallel: it mixes heads': flagged(attn_pre_talking_heads=True),
            'heads=3 cannot be shared out among 2 processes': flagged(heads=3, attn_kv_heads=3),
            'heads=5 with 1 key heads cannot be shared out among 2': flagged(heads=5, attn_kv_heads=1),
            'the 27 hidden features of ff_mult=1.15': flagged(ff_mult=1.15),
            'ff_post_act_ln=True cannot be tensor-parallel': flagged(ff_post_act_ln=True),
            'layers.0.1.to_q is a Replaced, and tensor parallelism shares out': lambda: parallelize(replaced(), 'tp'),
            'net.token_emb.emb.weight and net.to_logits.weight are one parameter': lambda: parallelize(tied_by_hand(), 'tp'),
            'add_attn_z_loss=True cannot be tensor-parallel': lambda: parallelize(z_loss, 'tp'),
            "mesh has 2 axes, and strategy='tp' takes 1": lambda: parallelize(model, 'tp', three),
            "bucket_cap_mb is no keyword of strategy='tp'": lambda: parallelize(model, 'tp', bucket_cap_mb=1),
            'is parallel already': lambda: parallelize(parallelize(language_model(), 'fsdp'), 'fsdp'),
            'has no parameter to train': lambda: parallelize(language_model().requires_grad_(False), 'ddp'),
        }
    )
    return [*said, *filter(None, [apart(before, model.state_dict())])]


# ------------------------------------------------------------------------------------------------ the example


def run_example(rank: int, argv: list[str]) -> tuple[int, str, str]:
    """The language model example in this process: its status, and what it prints."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))  # it imports its helpers from its own folder
    import train_lm

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = train_lm.main(argv)
    return status, out.getvalue(), err.getvalue()
