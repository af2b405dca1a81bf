"""Every flag of every training wrapper trains, is alive, comes back, and compiles; generation is exact however it is cut."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from law_cases import BASE, DECODERS, Case, build_model, context_of, perturb, tokens
from torch import Tensor, nn

from x_transformers import (
    DPO,
    AutoregressiveWrapper,
    Decoder,
    Encoder,
    NeoMLP,
    NonAutoregressiveWrapper,
    TransformerWrapper,
    XLAutoregressiveWrapper,
)
from x_transformers.flags import catalogue

VOCABULARY, SEGMENT = 32, 5
GENERATORS = [case for case in DECODERS if not case.per_token]  # what belongs to tokens to come is unknown


@dataclass(frozen=True)
class Wrapped:
    """A wrapper with one flag switched on."""

    kind: type
    name: str
    flags: dict[str, Any]

    def __str__(self) -> str:
        return f'{self.kind.__name__} {self.name}'

    @property
    def without(self) -> Wrapped:
        """The same but for the flag itself."""
        return Wrapped(self.kind, 'without', {name: value for name, value in self.flags.items() if name != self.name})

    def build(self, **more: Any) -> Any:
        torch.manual_seed(0)
        needed = REQUIRED[self.kind]()
        made = self.kind(**{**needed, **self.flags, **more}).double()
        perturb(made)
        return made

    def loss(self, model: nn.Module, seed: int = 1) -> Tensor:
        torch.manual_seed(seed)
        random.seed(seed)
        return LOSSES[self.kind](model)


def causal() -> dict[str, Any]:
    stack = Decoder(**BASE, rel_pos_bias=True)
    return {'net': TransformerWrapper(num_tokens=VOCABULARY, max_seq_len=SEGMENT, max_mem_len=SEGMENT, attn_layers=stack)}


def masked() -> dict[str, Any]:
    return {'net': TransformerWrapper(num_tokens=VOCABULARY, max_seq_len=12, attn_layers=Encoder(**BASE)), 'mask_id': VOCABULARY - 1}


def preferring() -> dict[str, Any]:
    return {'model': TransformerWrapper(num_tokens=VOCABULARY, max_seq_len=12, tie_embedding=True, attn_layers=Decoder(**BASE))}


def neurons() -> dict[str, Any]:
    return {'dim_in': 3, 'dim_hidden': 4, 'dim_out': 2, 'dim_model': 16, 'depth': 2}


def preference(model: nn.Module) -> Tensor:
    x, y = tokens(), tokens(seed=5)
    y[:, 9:] = 0
    return model(x, y, prompt_mask=(torch.arange(12) < 4).expand(2, -1))


REQUIRED: dict[type, Callable[[], dict[str, Any]]] = {
    AutoregressiveWrapper: causal,
    XLAutoregressiveWrapper: causal,
    NonAutoregressiveWrapper: masked,
    DPO: preferring,
    NeoMLP: neurons,
}
LOSSES: dict[type, Callable[[Any], Tensor]] = {
    AutoregressiveWrapper: lambda model: model(tokens()),
    XLAutoregressiveWrapper: lambda model: model(tokens()),
    NonAutoregressiveWrapper: lambda model: model(tokens()).loss,
    DPO: preference,
    NeoMLP: lambda model: model(torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3)).square().sum(),
}
FROZEN = ('ref_model.', 'random_fourier.0.')  # what never learns
CASES = [Wrapped(kind, 'defaults', {}) for kind in REQUIRED]
CASES += [Wrapped(kind, e.name, dict(e.example)) for kind in REQUIRED for e in catalogue(kind.config_class) if e.example]
each = pytest.mark.parametrize('case', CASES, ids=str)


@each
def test_the_loss_reaches_every_parameter_that_learns_and_no_other(case: Wrapped) -> None:
    always_shown = case.flags.get('self_cond_train_prob') == 1  # then nothing is learnt of having nothing to show
    model = case.build(**({'self_cond_train_prob': 0.0} if case.name == 'self_cond' else {}))
    case.loss(model).backward()
    for name, parameter in model.named_parameters():
        if name.startswith(FROZEN):
            assert parameter.grad is None and not parameter.requires_grad, name
        elif name != 'null_embed' or not always_shown:
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize('case', [case for case in CASES if case.name in case.flags], ids=str)
def test_no_flag_of_a_wrapper_is_dead(case: Wrapped, monkeypatch: pytest.MonkeyPatch) -> None:
    model, without = case.build(), case.without.build()
    if {name: t.shape for name, t in model.state_dict().items()} != {name: t.shape for name, t in without.state_dict().items()}:
        return
    if case.name in ('steps', 'can_mask_prev_unmasked'):  # concern generation
        drawn = []
        for either in (model, without):
            torch.manual_seed(3)
            drawn.append(either.generate(batch_size=4))
        assert not torch.equal(*drawn)
        return
    if case.name == 'loss_chunk_size':  # keeps the numbers, and makes no logits
        assert torch.allclose(case.loss(model), case.loss(without), rtol=0, atol=1e-12)
        monkeypatch.delattr(TransformerWrapper, 'read_out')
        case.loss(model)
        return
    losses = [torch.stack([case.loss(either, seed) for seed in range(6)]) for either in (model, without)]
    assert not torch.allclose(*losses, rtol=1e-9, atol=0)


@each
def test_a_config_a_state_dict_and_a_file_rebuild_the_wrapper(case: Wrapped) -> None:
    model = case.build()
    assert case.kind(**model.config.keywords()).config == model.config
    written = {e.name: e.default for e in catalogue(case.kind.config_class) if not e.required}
    assert case.kind(**{**written, **model.config.keywords()}).config == model.config
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    twin = case.build()
    twin.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(case.loss(twin), case.loss(model))


@each
def test_the_loss_compiles_into_one_graph(case: Wrapped) -> None:
    torch.compiler.reset()
    model = case.build(**({'self_cond_train_prob': 0.0} if case.name == 'self_cond' else {}))  # a draw in Python is a break
    compiled = torch.compile(model, fullgraph=True, backend='eager')
    assert torch.allclose(case.loss(compiled), case.loss(model), rtol=0, atol=1e-12)


@pytest.mark.parametrize('case', GENERATORS, ids=str)
def test_generation_over_segments_is_segment_recurrence(case: Case) -> None:
    """For every flag: each token is the best one of the segments run by hand, from the first segment on."""
    made = build_model(Case(case.name, case.stack, {'max_mem_len': 4}), max_seq_len=SEGMENT)
    model, prompt, inputs = XLAutoregressiveWrapper(made.net), tokens(7), context_of(case)
    by_hand = prompt
    with torch.no_grad():
        for _ in range(11):
            mems = None
            for segment in by_hand.split(SEGMENT, dim=1):
                logits, mems = model.net(segment, mems=mems, return_mems=True, **inputs)
            by_hand = torch.cat((by_hand, logits[:, -1:].argmax(dim=-1)), dim=1)
    for cache_kv in (True, False):
        assert torch.equal(model.generate(prompt, 11, temperature=0.0, cache_kv=cache_kv, **inputs), by_hand[:, 7:])


@pytest.mark.parametrize('case', GENERATORS, ids=str)
def test_a_beam_of_one_is_greedy_and_every_beam_scores_what_the_model_says(case: Case) -> None:
    model, prompt, inputs = build_model(case), tokens(6), context_of(case)
    one = model.beam_search(prompt, 6, num_beams=1, **inputs)
    assert torch.equal(one.sequences[:, 0], model.generate(prompt, 6, temperature=0.0, **inputs))
    for cache_kv in (True, False):
        beams = model.beam_search(prompt, 6, num_beams=3, num_return_sequences=3, length_penalty=0.0, cache_kv=cache_kv, **inputs)
        for row in range(2):
            both = torch.cat((prompt[row].expand(3, -1), beams.sequences[row]), dim=1)
            alone = {name: t[row : row + 1].expand(3, *t.shape[1:]) for name, t in inputs.items()}
            with torch.no_grad():
                said = model.net(both[:, :-1], **alone).log_softmax(dim=-1).gather(-1, both[:, 1:, None])[:, -6:, 0]
            assert torch.allclose(beams.scores[row], said.sum(dim=-1), atol=1e-9)
