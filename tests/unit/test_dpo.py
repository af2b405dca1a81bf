"""DPO against the formula of the paper, and a reference that stays what it was."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from x_transformers import DPO, Decoder, TransformerWrapper


def model(**flags: Any) -> TransformerWrapper:
    torch.manual_seed(0)
    stack = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, attn_dropout=0.2)
    return TransformerWrapper(num_tokens=13, max_seq_len=12, attn_layers=stack, **flags).double()


def sequence(seed: int) -> Tensor:
    return torch.randint(1, 13, (3, 9), generator=torch.Generator().manual_seed(seed))


PREFERRED, UNPREFERRED = sequence(1), sequence(2)
PROMPT = torch.arange(9) < torch.tensor([[3], [2], [4]])
HERE = torch.arange(9) < torch.tensor([[9], [7], [8]])


def score(net: nn.Module, seq: Tensor, prompt: Tensor, here: Tensor) -> Tensor:
    """Mean log-probability of one sequence (n,), over what its answer's tokens predict."""
    chosen = [i for i in range(len(seq) - 1) if here[i] and not prompt[i]]
    said = net(seq[None, :-1])[0].log_softmax(dim=-1)
    return sum(said[i, seq[i + 1]] for i in chosen) / len(chosen)


def by_the_paper(policy: nn.Module, reference: nn.Module, beta: float) -> Tensor:
    """Equation 7 of 2305.18290, row by row: -log sigmoid(beta log pi(y_w)/ref(y_w) - beta log pi(y_l)/ref(y_l))."""

    def ratio(seq: Tensor, row: int) -> Tensor:
        ours, theirs = (score(net, seq[row], PROMPT[row], HERE[row]) for net in (policy, reference))
        return ours - theirs.detach()

    losses = [-torch.sigmoid(beta * ratio(PREFERRED, row) - beta * ratio(UNPREFERRED, row)).log() for row in range(3)]
    return torch.stack(losses).mean()


@pytest.mark.parametrize('beta', [0.1, 2.0])
@pytest.mark.parametrize('tied', [False, True])
def test_the_loss_is_that_of_the_paper_with_its_gradients(beta: float, tied: bool) -> None:
    dpo = DPO(model(tie_embedding=tied), beta=beta).eval()
    for parameter in dpo.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    masks = {'prompt_mask': PROMPT, 'preferred_seq_mask': HERE, 'unpreferred_seq_mask': HERE}
    got, expected = dpo(PREFERRED, UNPREFERRED, **masks), by_the_paper(dpo.policy_model, dpo.ref_model, beta)
    assert torch.allclose(got, expected, atol=1e-12)
    parameters = list(dpo.parameters())
    for a, b in zip(torch.autograd.grad(got, parameters), torch.autograd.grad(expected, parameters)):
        assert torch.allclose(a, b, atol=1e-12)


def test_a_model_and_its_copy_differ_in_nothing() -> None:
    assert torch.allclose(DPO(model()).eval()(PREFERRED, UNPREFERRED, prompt_mask=PROMPT), torch.tensor(2.0).double().log())


def test_masks_may_leave_out_the_last_token_and_padding_is_found() -> None:
    dpo = DPO(model(), pad_id=0).eval()
    for parameter in dpo.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    padded = [seq.masked_fill(~HERE, 0) for seq in (PREFERRED, UNPREFERRED)]
    whole = dpo(*padded, prompt_mask=PROMPT)
    assert torch.equal(dpo(*padded, prompt_mask=PROMPT[:, :-1]), whole)
    assert torch.equal(dpo(*padded, prompt_mask=PROMPT, preferred_seq_mask=HERE, unpreferred_seq_mask=HERE[:, :-1]), whole)


@pytest.mark.parametrize('tied', [False, True])
def test_the_reference_is_frozen_whatever_happens_to_the_policy(tied: bool) -> None:
    dpo = DPO(model(tie_embedding=tied))
    before = {name: t.clone() for name, t in dpo.ref_model.state_dict().items()}
    with torch.no_grad():
        said = dpo.ref_model(PREFERRED)
    optimizer = torch.optim.AdamW(dpo.train().requires_grad_().parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        dpo(PREFERRED, UNPREFERRED, prompt_mask=PROMPT).backward()
        optimizer.step()
    assert all(torch.equal(t, before[name]) for name, t in dpo.ref_model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in dpo.ref_model.parameters())
    with torch.no_grad():
        assert torch.equal(dpo.ref_model(PREFERRED), said)
    assert dpo.policy_model.training and not any(part.training for part in dpo.ref_model.modules())


def test_the_policy_is_the_model_that_was_given() -> None:
    net = model()
    dpo = DPO(net)
    assert dpo.policy_model is net and {id(p) for p in dpo.parameters()} == {id(p) for p in net.parameters()}
    assert set(dpo.state_dict()) == {f'{part}.{name}' for part in ('policy_model', 'ref_model') for name in net.state_dict()}
    assert deepcopy(dpo)(PREFERRED, UNPREFERRED, prompt_mask=PROMPT).isfinite()
