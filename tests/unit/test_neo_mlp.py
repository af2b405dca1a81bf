"""NeoMLP against its description, neuron by neuron."""

from __future__ import annotations

import math

import torch

from x_transformers import NeoMLP
from x_transformers.neo_mlp import RandomFourierEmbed


def test_numbers_become_random_cosines_that_do_not_learn() -> None:
    embed = RandomFourierEmbed(8)
    x = torch.randn(2, 3)
    w, b = embed.proj.weight[:, 0], embed.proj.bias
    assert torch.allclose(embed(x)[1, 2], torch.cos(2 * math.pi * (w * x[1, 2] + b)), atol=1e-6)
    assert not any(p.requires_grad for p in embed.parameters())
    assert all(bool((p.abs() <= 1).all()) for p in embed.parameters())


def test_every_output_neuron_reads_itself() -> None:
    model = NeoMLP(dim_in=3, dim_hidden=4, dim_out=2, dim_model=16, depth=1).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    y, (inputs, hidden, outputs) = model(x, return_embeds=True)
    assert (inputs.shape, hidden.shape, outputs.shape) == ((5, 3, 16), (5, 4, 16), (5, 2, 16))
    for o in range(2):
        assert torch.allclose(y[:, o], outputs[:, o] @ model.to_output_weights[o] + model.to_output_bias[o])
    rest = torch.cat((model.hidden_embed, model.output_embed)).expand(5, -1, -1)
    neurons = torch.cat((model.random_fourier(x) + model.input_embed, rest), dim=1)
    assert torch.allclose(model.transformer(neurons)[:, 7:], outputs)
    alone, embeds = model(x[1], return_embeds=True)
    assert torch.allclose(alone, y[1]) and embeds[0].shape == (1, 3, 16)


def test_it_learns_a_product() -> None:
    torch.manual_seed(0)
    model = NeoMLP(dim_in=2, dim_hidden=4, dim_out=1, dim_model=16, depth=1)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    x = torch.rand(64, 2)
    losses = []
    for _ in range(60):
        loss = (model(x)[:, 0] - x.prod(dim=-1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
