"""Filling in masked tokens: schedules, corruption, losses and generation against their descriptions."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers import Encoder, NonAutoregressiveWrapper, TransformerWrapper
from x_transformers.nonautoregressive_wrapper import (
    SelfCritic,
    cosine_schedule,
    get_mask_subset_prob,
    gumbel_sample,
    linear_schedule,
    top_k,
)

MASK, LENGTH = 12, 10
X = torch.randint(0, MASK, (4, LENGTH), generator=torch.Generator().manual_seed(1))


def network(depth: int = 2, **flags: Any) -> TransformerWrapper:
    stack = Encoder(dim=16, depth=depth, heads=2, attn_dim_head=8)
    net = TransformerWrapper(**{'num_tokens': 13, 'max_seq_len': LENGTH, 'attn_layers': stack, **flags})
    for parameter in net.parameters():
        parameter.data.normal_(std=0.5)
    return net.double()


def model(**flags: Any) -> NonAutoregressiveWrapper:
    torch.manual_seed(0)
    return NonAutoregressiveWrapper(network(), mask_id=MASK, **flags).double()


def test_schedules_are_what_they_are_called() -> None:
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    assert torch.allclose(linear_schedule(t), 1 - t)
    assert torch.allclose(cosine_schedule(t), torch.tensor([math.cos(math.pi / 2 * float(s)) for s in t], dtype=torch.float64))


@pytest.mark.parametrize('schedule', ['linear', 'cosine', lambda t: (1 - t) ** 2])
@pytest.mark.parametrize('steps', [1, 3, 18])
def test_the_steps_mask_what_the_schedule_says_and_nothing_at_the_end(schedule: Any, steps: int) -> None:
    made = model(schedule=schedule, steps=steps)
    share = {'linear': lambda t: 1 - t, 'cosine': lambda t: math.cos(math.pi / 2 * t)}.get(schedule, schedule)
    for i, masked in enumerate(made.masked_per_step(), 1):
        assert -1e-4 < share(i / steps) * LENGTH - masked < 1 + 1e-4  # rounded down, as far as single precision can tell
    assert made.masked_per_step()[-1] == 0
    assert all(later <= earlier for earlier, later in zip(made.masked_per_step(), made.masked_per_step()[1:]))


def test_a_random_share_of_a_mask_is_rounded_up() -> None:
    mask = torch.arange(LENGTH) < torch.tensor([[0], [1], [4], [10]])
    for prob in (0.0, 0.15, 0.5, 1.0):
        subset = get_mask_subset_prob(mask, prob)
        assert bool((subset <= mask).all())
        assert subset.sum(dim=-1).tolist() == [math.ceil(prob * n - 1e-6) for n in (0, 1, 4, 10)]
    assert get_mask_subset_prob(mask, 0.0, min_mask=1).sum(dim=-1).tolist() == [0, 1, 1, 1]


def test_a_share_of_logits_is_kept() -> None:
    logits = torch.randn(2, 3, 10)
    for thres, count in ((0.9, 1), (0.7, 4), (0.5, 5)):  # 0.3 * 10 is more than 3 in floating point, as in 2.0.1
        kept = top_k(logits, thres)
        assert bool((kept.isfinite().sum(dim=-1) == count).all())
        assert torch.equal(kept.amax(dim=-1), logits.amax(dim=-1))


def test_gumbel_samples_follow_the_probabilities() -> None:
    torch.manual_seed(0)
    share = gumbel_sample(torch.tensor([0.0, 1.0]).expand(40000, -1)).float().mean().item()
    assert share == pytest.approx(torch.tensor(1.0).sigmoid().item(), abs=0.01)
    cold = gumbel_sample(torch.tensor([0.0, 2.0]).expand(40000, -1), temperature=0.5).float().mean().item()
    assert cold == pytest.approx(torch.tensor(4.0).sigmoid().item(), abs=0.01)


def test_a_sequence_is_corrupted_as_bert_does() -> None:
    torch.manual_seed(0)
    plain = model(no_replace_prob=0.0, random_token_prob=0.0)
    for _ in range(20):
        mask, seen = plain.corrupt(X)
        assert bool((mask.sum(dim=-1) >= 1).all())
        assert torch.equal(seen, X.masked_fill(mask, MASK))
    kept, scrambled = model(no_replace_prob=1.0, random_token_prob=0.0), model(no_replace_prob=0.0, random_token_prob=1.0)
    ways = {'left': 0, 'masked': 0, 'changed': 0}
    for _ in range(60):
        mask, seen = kept.corrupt(X)
        assert torch.equal(seen, X) or torch.equal(seen, X.masked_fill(mask, MASK))  # one coin for the batch
        ways['left'] += torch.equal(seen, X)
        mask, seen = scrambled.corrupt(X)
        assert torch.equal(seen[~mask], X[~mask])
        masked = bool((seen[mask] == MASK).all())
        ways['masked'] += masked
        ways['changed'] += not masked
    assert min(ways.values()) > 10


def test_the_loss_is_the_surprise_at_masked_tokens_and_the_error_of_the_critic() -> None:
    made = model(self_token_critic=True, critic_loss_weight=0.5, no_replace_prob=0.0, random_token_prob=0.0)
    torch.manual_seed(5)
    losses = made(X, generator_sample_temperature=0.7)
    torch.manual_seed(5)
    mask, seen = made.corrupt(X)
    logits = made.net(seen)
    generator = F.cross_entropy(logits[mask], X[mask])
    sampled = gumbel_sample(logits, 0.7)
    critic = made.token_critic(torch.where(mask, sampled, X))[..., 0]
    error = F.binary_cross_entropy_with_logits(critic, (sampled != X).double())
    assert torch.allclose(losses.generator_loss, generator) and torch.allclose(losses.critic_loss, error)
    assert torch.allclose(losses.loss, generator + 0.5 * error)
    parameters = list(made.parameters())
    for a, b in zip(torch.autograd.grad(losses.loss, parameters), torch.autograd.grad(generator + 0.5 * error, parameters)):
        assert torch.allclose(a, b, atol=1e-12)


def test_generator_and_critic_can_take_turns() -> None:
    made = model(self_token_critic=True)
    critic = made(X, only_train_critic=True)
    assert critic.generator_loss is None and torch.equal(critic.loss, critic.critic_loss)
    critic.loss.backward()
    assert made.net.to_logits.weight.grad is None and made.token_critic.to_logits.weight.grad is not None
    generator = made(X, only_train_generator=True)
    assert generator.critic_loss is None and torch.equal(generator.loss, generator.generator_loss)


def test_self_conditioning_shows_what_was_thought_before() -> None:
    made = model(self_cond=True, self_cond_train_prob=1.0, no_replace_prob=0.0, random_token_prob=0.0)
    torch.manual_seed(5)
    loss = made(X).loss
    torch.manual_seed(5)
    mask, seen = made.corrupt(X)
    thought = made.net(seen, return_embeddings=True).detach()
    assert torch.allclose(loss, F.cross_entropy(made.net(seen, sum_embeds=made.to_self_cond(thought))[mask], X[mask]))
    never = model(self_cond=True, self_cond_train_prob=0.0, no_replace_prob=0.0, random_token_prob=0.0)
    torch.manual_seed(5)
    assert torch.allclose(never(X).loss, F.cross_entropy(never.net(seen, sum_embeds=never.to_self_cond(never.null_embed))[mask], X[mask]))


def fill_in_by_hand(made: NonAutoregressiveWrapper, again: bool) -> Tensor:
    """One sequence, position by position, at temperature zero and without noise."""
    seq, hidden = [MASK] * LENGTH, list(range(LENGTH))
    for count in made.masked_per_step():
        said = made.net(torch.tensor([seq]))[0]
        seq = [int(said[i].argmax()) if i in hidden else token for i, token in enumerate(seq)]
        if made.token_critic is None:
            doubt = [1 - float(said[i].softmax(dim=-1).max()) for i in range(LENGTH)]
        else:
            doubt = made.token_critic(torch.tensor([seq]))[0, :, 0].tolist()
        places = range(LENGTH) if again else hidden
        hidden = sorted(places, key=lambda i: -doubt[i])[:count]
        seq = [MASK if i in hidden else token for i, token in enumerate(seq)]
    return torch.tensor(seq)


@pytest.mark.parametrize('flags', [{}, {'self_token_critic': True}, {'self_token_critic': True, 'can_mask_prev_unmasked': True}], ids=str)
def test_generation_is_demasking_by_hand(flags: dict[str, Any]) -> None:
    made = model(steps=5, **flags)
    with torch.no_grad():
        by_hand = fill_in_by_hand(made.eval(), 'can_mask_prev_unmasked' in flags)
    torch.manual_seed(0)
    cold: dict[str, Any] = {'filter_thres': 0.95, 'noise_level_scale': 0.0}  # the best logit alone
    if not flags:
        cold['filter_thres'] = None  # confidence is that among all tokens
        cold['start_temperature'] = 0.0
    assert torch.equal(made.generate(**cold), by_hand)
    assert torch.equal(made.generate(batch_size=3, **cold), by_hand.expand(3, -1))


def test_a_critic_of_its_own_and_a_context() -> None:
    critic = network(depth=1, logits_dim=1)
    made = model(token_critic=critic)
    assert made(X).critic_loss is not None and made.generate(batch_size=2).shape == (2, LENGTH)
    stack = Encoder(dim=16, depth=1, heads=2, attn_dim_head=8, cross_attend=True)
    seeing = NonAutoregressiveWrapper(network(attn_layers=stack), mask_id=MASK, self_token_critic=True).double()
    context = torch.randn(4, 3, 16, dtype=torch.float64)
    assert seeing(X, context=context).loss.isfinite()
    assert seeing.generate(batch_size=4, context=context).shape == (4, LENGTH)


def test_generation_gives_every_module_its_mode_back_and_replays_by_seed() -> None:
    made = model(self_token_critic=True).train()
    made.net.token_emb.eval()
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        random.seed(3)
        drawn.append(made.generate(batch_size=2))
    assert torch.equal(*drawn)
    assert made.training and made.net.attn_layers.training and not made.net.token_emb.training


def test_a_self_critic_adds_one_linear_map() -> None:
    net = network()
    critic = SelfCritic(net)
    assert {name for name in critic.state_dict() if not name.startswith('net.')} == {'to_logits.weight', 'to_logits.bias'}
    assert critic.double()(X).shape == (4, LENGTH, 1)
