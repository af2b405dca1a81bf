"""Every loss is its formula, target by target, and masked tokens are filled in on the schedule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from law_cases import BASE, VOCABULARY, Case, build_model, perturb, tokens
from test_wrappers import causal, masked, preferring
from torch import Tensor, nn

from x_transformers import (
    DPO,
    ContinuousAutoregressiveWrapper,
    ContinuousTransformerWrapper,
    Decoder,
    NonAutoregressiveWrapper,
    XLAutoregressiveWrapper,
    XTransformer,
    XValAutoregressiveWrapper,
    XValTransformerWrapper,
)

IGNORED, PAD = -100, 5


def alive(model: Any) -> Any:
    perturb(model.double().eval())
    return model


def surprises(logits: Tensor, targets: Tensor) -> list[tuple[int, int, float]]:
    """(row, position, -log p) of the targets (b, n) that count, under logits (b, n, v)."""
    logits = logits.detach()
    places = [(b, t) for b in range(targets.shape[0]) for t in range(targets.shape[1]) if targets[b, t] != IGNORED]
    return [(b, t, float(logits[b, t].logsumexp(dim=-1) - logits[b, t, targets[b, t]])) for b, t in places]


def mean_surprise(logits: Tensor, targets: Tensor) -> float:
    found = [value for _, _, value in surprises(logits, targets)]
    return sum(found) / max(len(found), 1)


def some_ignored() -> tuple[Tensor, Tensor]:
    """Ids of which some do not count, and what the model reads in their place."""
    x = tokens()
    x[0, 3], x[1, 8:] = IGNORED, IGNORED
    return x, x.masked_fill(x == IGNORED, PAD)


@pytest.mark.parametrize('z_loss', [False, True])
def test_a_loss_of_tokens_is_the_mean_surprise_at_the_next_ones_that_count(z_loss: bool) -> None:
    model = build_model(Case('', {'rotary_pos_emb': True}, training={'pad_value': PAD, 'add_attn_z_loss': z_loss}))
    x, read = some_ignored()
    want = mean_surprise(model.net(read[:, :-1]), x[:, 1:])
    if z_loss:  # 2202.08906, equation 5, of the sum over layers
        _, seen = model.net(read[:, :-1], return_intermediates=True, return_attn_z_loss=True)
        total = sum(each.pre_softmax_attn.exp().sum(dim=-1).log() for each in seen.attn_intermediates)
        want += float(total.square().sum(dim=1).mean()) * model.net.attn_z_loss_weight
    assert float(model(x)) == pytest.approx(want, rel=1e-9)


def test_a_forgetful_loss_hides_its_share_of_earlier_keys_and_never_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = build_model(Case('', {'rotary_pos_emb': True}, training={'mask_prob': 0.4})), []
    model.net.register_forward_pre_hook(lambda _, args, kwargs: given.append(kwargs['self_attn_kv_mask']), with_kwargs=True)
    loss = model(tokens())
    assert (~given[0]).sum(dim=-1).tolist() == [int(0.4 * 12)] * 2 and given[0][:, 0].all()
    assert float(loss) == pytest.approx(mean_surprise(model.net(tokens()[:, :-1], self_attn_kv_mask=given[0]), tokens()[:, 1:]), rel=1e-9)


def test_a_loss_over_segments_weighs_each_by_its_length() -> None:
    model, (x, read), mems, want = alive(XLAutoregressiveWrapper(**causal(), pad_value=PAD)), some_ignored(), None, 0.0
    for begin in range(0, 11, 5):
        logits, mems = model.net(read[:, begin : min(begin + 5, 11)], mems=mems, return_mems=True)
        want += mean_surprise(logits, x[:, begin + 1 : begin + 6]) * logits.shape[1] / 11
    assert float(model(x)) == pytest.approx(want, rel=1e-9)


def test_a_loss_of_preferences_is_that_of_the_paper() -> None:
    """2305.18290, equation 7, of mean log-probabilities."""
    model = alive(DPO(**preferring(), beta=0.3, pad_id=0))
    model.policy_model.attn_layers.layers[1][1].ff[-1].weight.data.mul_(2)
    better, worse, prompt = tokens().clamp(min=1), tokens(seed=5).clamp(min=1), torch.arange(12).expand(2, -1) < 4
    worse[:, 9:] = 0

    def score(net: nn.Module, seq: Tensor, row: int) -> Tensor:
        said = net(seq[:, :-1]).log_softmax(dim=-1)[row]
        return torch.stack([said[t - 1, seq[row, t]] for t in range(1, 12) if not prompt[row, t - 1] and seq[row, t - 1] != 0]).mean()

    want = []
    for row in range(2):
        ratio = [score(model.policy_model, seq, row) - score(model.ref_model, seq, row) for seq in (better, worse)]
        want.append(-math.log(1 / (1 + math.exp(-0.3 * float(ratio[0] - ratio[1])))))
    assert float(model(better, worse, prompt_mask=prompt)) == pytest.approx(sum(want) / 2, rel=1e-9)


@pytest.mark.parametrize('hidden', [False, True])
def test_a_loss_of_numbers_adds_the_squared_error_where_a_number_stands(hidden: bool) -> None:
    net = XValTransformerWrapper(num_tokens=VOCABULARY, numerical_token_id=2, max_seq_len=12, attn_layers=Decoder(**BASE))
    model = alive(XValAutoregressiveWrapper(net, numerical_loss_weight=0.7, pad_value=PAD))
    x, numbers = tokens() % 4, torch.randn(2, 12, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    mask = torch.arange(12) < torch.tensor([[12], [8]])
    given = {'mask': mask} if hidden else {}
    logits, said = net(x[:, :-1], numbers[:, :-1], **({'mask': mask[:, :-1]} if hidden else {}))
    counted = [
        value + 0.7 * (float(said[b, t] - numbers[b, t + 1]) ** 2 if x[b, t + 1] == 2 else 0.0)
        for b, t, value in surprises(logits, x[:, 1:])
        if not hidden or mask[b, t + 1]
    ]
    assert float(model(x, numbers, **given)) == pytest.approx(sum(counted) / len(counted), rel=1e-9)


@pytest.mark.parametrize('probabilistic', [False, True])
@pytest.mark.parametrize('equal', [None, False, True])
def test_a_loss_of_vectors_is_the_squared_error_or_the_likelihood_of_what_is_there(probabilistic: bool, equal: bool | None) -> None:
    flags = {'dim_in': 3, 'dim_out': 3, 'max_seq_len': 12, 'probabilistic': probabilistic}
    model = ContinuousAutoregressiveWrapper(
        ContinuousTransformerWrapper(attn_layers=Decoder(**BASE), **flags), equal_loss_weight_batch=bool(equal)
    )
    model, x = alive(model), torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    mask = torch.arange(12) < torch.tensor([[12], [8]])
    out = model.net(x[:, :-1], **({} if equal is None else {'mask': mask[:, :-1]}))
    rows: list[list[float]] = [[], []]
    for b in range(2):
        for t in range(11):
            if equal is None or mask[b, t]:
                mean, variance = (out[0, b, t], out[1, b, t]) if probabilistic else (out[b, t], torch.full((3,), 1.0, dtype=torch.float64))
                error = (x[b, t + 1] - mean) ** 2 / variance
                each = 0.5 * (error + variance.log()) if probabilistic else error
                rows[b].append(float(each.sum() if equal else each.mean()))
    want = sum(sum(row) / len(row) for row in rows) / 2 if equal else sum(map(sum, rows)) / sum(map(len, rows))
    given = {} if equal is None else {'mask': mask}
    assert float(model(x, **given)) == pytest.approx(want, rel=1e-9)


def test_a_loss_of_a_target_is_that_of_its_decoder_behind_the_encoded_source() -> None:
    sides = {
        f'{side}_{name}': n for side in ('enc', 'dec') for name, n in {'num_tokens': 9, 'max_seq_len': 12, 'depth': 1, 'heads': 2}.items()
    }
    model, source, target = alive(XTransformer(dim=16, **sides)), tokens() % 9, tokens(7) % 9
    mask = torch.arange(12) < torch.tensor([[12], [7]])
    logits = model.decoder.net(target[:, :-1], context=model.encoder(source, mask=mask), context_mask=mask)
    assert float(model(source, target, mask=mask)) == pytest.approx(mean_surprise(logits, target[:, 1:]), rel=1e-9)


# ------------------------------------------------------------------------------------------------ masked tokens


def filling(**flags: Any) -> tuple[NonAutoregressiveWrapper, list[Tensor]]:
    """A model over masked tokens, and all that it reads."""
    torch.manual_seed(0)
    model, read = alive(NonAutoregressiveWrapper(**{**masked(), 'no_replace_prob': 0.0, 'random_token_prob': 0.0, **flags})), []
    model.net.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    return model, read


def test_a_loss_of_masked_tokens_is_the_mean_surprise_at_them_alone() -> None:
    (model, read), x, chosen = filling(), tokens() % (VOCABULARY - 1), set()
    for seed in range(8):
        torch.manual_seed(seed)
        read.clear()
        loss = model(x).loss
        hidden = read[0] == model.mask_id
        assert hidden.any(dim=-1).all() and torch.equal(read[0][~hidden], x[~hidden])
        assert float(loss) == pytest.approx(mean_surprise(model.net(read[0]), x.masked_fill(~hidden, IGNORED)), rel=1e-9)
        chosen.update(hidden.sum(dim=-1).tolist())
    assert len(chosen) > 3


@pytest.mark.parametrize('steps', [1, 4, 7])
@pytest.mark.parametrize('schedule', ['linear', 'cosine'])
def test_generation_hides_as_many_tokens_in_each_step_as_the_schedule_says(schedule: str, steps: int) -> None:
    """2202.04200, §3.2, with 12 tokens."""
    model, read = filling(schedule=schedule, steps=steps)
    made = model.generate(batch_size=3)
    share = {'linear': lambda t: 1 - t, 'cosine': lambda t: math.cos(t * math.pi / 2)}[schedule]
    assert [(ids == model.mask_id).sum(dim=-1).tolist() for ids in read] == [[int(12 * share(k / steps) + 1e-6)] * 3 for k in range(steps)]
    for before, after in zip(read, [*read[1:], made], strict=True):  # what is settled stays
        assert torch.equal(after[before != model.mask_id], before[before != model.mask_id])
