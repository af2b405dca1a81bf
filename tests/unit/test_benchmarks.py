"""What benchmarks compare does the same: the workloads by hand have the numbers of the library, at a tiny size."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from x_transformers import (
    AutoregressiveWrapper,
    Decoder,
    Encoder,
    TransformerWrapper,
    ViTransformerWrapper,
    XLAutoregressiveWrapper,
    XTransformer,
)

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))
import run as bench
import workloads
from contestants import reference
from environments import contestant
from report import show, write_page

V, SIZE = 31, {'dim': 128, 'depth': 2, 'heads': 2}
LLAMA = {'rotary_pos_emb': True, 'use_rmsnorm': True, 'ff_glu': True, 'ff_swish': True, 'ff_no_bias': True, 'attn_kv_heads': 1}
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'defaults': ({}, {}),
    'llama': (LLAMA, {'llama': True, 'groups': 1}),
    'window': ({'attn_max_attend_past': 4}, {'window': 4}),
}


def tokens(length: int, seed: int = 1) -> Tensor:
    return torch.randint(0, V, (2, length), generator=torch.Generator().manual_seed(seed))


def perturbed(model: Any) -> Any:
    torch.manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return model.double()


def net(length: int = 16, head: bool = True, kind: Any = Decoder, **flags: Any) -> TransformerWrapper:
    lengths = {'max_seq_len': length, 'max_mem_len': length}
    return perturbed(TransformerWrapper(num_tokens=V, **lengths, return_only_embed=not head, attn_layers=kind(**SIZE, **flags)))


def by_hand(model: TransformerWrapper, length: int = 16, **shape: Any) -> reference.Language:
    made = reference.Language(V, length, head=model.to_logits is not None, **SIZE, **shape).double()
    return made.take(model)


@pytest.mark.parametrize('name', SHAPES)
def test_a_step_by_hand_has_the_loss_and_the_gradient_of_the_library(name: str) -> None:
    flags, shape = SHAPES[name]
    model, x = net(**flags), tokens(17)
    hand = by_hand(model, **shape)
    wanted, losses = AutoregressiveWrapper(model)(x), [hand.loss(x), hand.loss(x, rows=5)]
    by_head = torch.autograd.grad(wanted, model.to_logits.weight)[0]  # type: ignore[union-attr]
    for loss in losses:
        assert torch.allclose(loss, wanted, rtol=0, atol=1e-7)
        assert torch.allclose(torch.autograd.grad(loss, hand.head.weight)[0], by_head, rtol=0, atol=1e-7)


@pytest.mark.parametrize('name', ['defaults', 'llama'])
def test_decoding_by_hand_writes_what_the_library_writes(name: str) -> None:
    flags, shape = SHAPES[name]
    model, prompt = net(32, **flags), tokens(5)
    made = AutoregressiveWrapper(model).generate(prompt, 12, temperature=0.0)
    assert torch.equal(by_hand(model, 32, **shape).generate(prompt, 12), made)


def test_segments_by_hand_have_the_loss_of_the_library() -> None:
    model, x = net(8, rotary_pos_emb=True), tokens(25)
    hand = by_hand(model, 16, rotary=True)
    assert torch.allclose(hand.segments(x, 8), XLAutoregressiveWrapper(model)(x), rtol=0, atol=1e-7)


def test_images_and_translation_by_hand_are_those_of_the_library() -> None:
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    model = perturbed(ViTransformerWrapper(image_size=16, patch_size=8, num_classes=1000, attn_layers=Encoder(**SIZE)))
    hand = reference.Vision(16, 8, 1000, **SIZE).double().take(model)
    assert torch.allclose(hand(images), model(images), rtol=0, atol=1e-7)
    side = {'num_tokens': V, 'max_seq_len': 16, 'depth': 2, 'heads': 2}
    both = perturbed(XTransformer(dim=128, **{f'{which}_{n}': value for which in ('enc', 'dec') for n, value in side.items()}))
    encoder, decoder = by_hand(both.encoder, causal=False), by_hand(both.decoder.net, cross=True)
    written = decoder.generate(tokens(1), 10, reference.encoded(encoder, tokens(16)))
    assert torch.equal(written, both.generate(tokens(16), tokens(1), 10, temperature=0.0))


def test_attention_by_blocks_is_attention_in_a_window() -> None:
    q, k, v = torch.randn(3, 2, 2, 20, 8, dtype=torch.float64).unbind(0)
    i = torch.arange(20)
    near = (i <= i[:, None]) & (i[:, None] - i <= 5)
    want = F.scaled_dot_product_attention(q, k, v, attn_mask=near)
    assert torch.allclose(reference.windowed(q, k, v, 5), want, rtol=0, atol=1e-12)


TINY = workloads.Case('tiny', 'train', {'vocabulary': 9, 'length': 4, 'batch': 1, 'dim': 64, 'depth': 1}, at=4)


def test_contestants_go_in_turns_and_say_why_they_cannot(tmp_path: Path) -> None:
    with bench.running([contestant(name, tmp_path) for name in ('ours', 'reference')], threads=1) as started:
        found = bench.measure(TINY, started, 3, 'cpu')
        refused = bench.measure(workloads.Case('none', 'train', {**TINY.size, 'flags': {'macaron': True}}), started, 1, 'cpu')
    assert {name: len(times) for name, times in found['seconds'].items()} == {'ours': 3, 'reference': 3}
    assert refused['errors'] == {'reference': "NotImplementedError: nobody wrote ['macaron'] by hand"} and 'ours' in refused['seconds']
    row = bench.row(TINY, found)
    assert row['ratio']['reference'][1] <= row['ratio']['reference'][0] <= row['ratio']['reference'][2]
    told = {'workload': 'train', 'shows': 'a step', 'bar': 'none', 'base': None, 'clock': 'wall', 'rows': [row], 'exponents': {}}
    assert '| tiny | ' in show({**told, 'labels': {'ours': 'ours', 'reference': 'by hand'}})


def test_growth_is_the_slope_of_logarithms() -> None:
    rows = [{'at': n, 'ms': {'ours': 3.0 * n**1.5, 'other': 1.0}} for n in (10, 20, 40)]
    assert bench.exponents(rows, 'ms') == {'ours': 1.5, 'other': 0.0}


def test_what_the_machine_allows_is_counted_from_the_model() -> None:
    size = {'vocabulary': 9, 'length': 4, 'batch': 1, 'dim': 64, 'depth': 2, 'prompt': 1, 'new': 2}
    for flags in ({}, {**LLAMA, 'attn_kv_heads': 1}):
        net = TransformerWrapper(num_tokens=9, max_seq_len=4, attn_layers=Decoder(dim=64, depth=2, heads=1, **flags))
        matrices = sum(p.numel() for name, p in net.named_parameters() if p.ndim == 2 and 'emb' not in name)
        assert workloads.weights(size, flags) == matrices


def test_the_page_has_a_place_for_results_and_every_workload_is_explained(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / 'docs' / 'benchmarks.md'
    text = page.read_text(encoding='utf-8')
    assert [w.name for w in workloads.WORKLOADS if f'`{w.name}`' not in text.split('## Results')[0]] == []
    copy = tmp_path / 'page.md'
    copy.write_text(text, encoding='utf-8')
    write_page(copy, page.parents[1] / 'benchmarks' / 'results', [w.name for w in workloads.WORKLOADS])
    assert copy.read_text(encoding='utf-8') == text, 'the page is older than the results: python benchmarks/run.py --page'


def test_every_flag_that_json_can_say_is_measured() -> None:
    names = {case.name for case in workloads.flag_cases()}
    assert len(names) > 100 and {'attn_flash', 'rotary_pos_emb', 'use_adaptive_layernorm'} <= names
