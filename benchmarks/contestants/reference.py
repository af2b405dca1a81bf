"""Each workload written by hand for one configuration: no flag, no branch that is not taken. Our own, and short.

`take` copies the weights of a model of the library, and the tests hold both to the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contestants.common import ids, noise, prepared, step

Kept = list[Tensor]  # per layer: (2, b, g, length, d), keys and values in room for all of them


class RMSNorm(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(dim=-1, keepdim=True) + 1e-12).rsqrt() * self.gain


def turn(t: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions for the leading features of t (b, h, n, d); cos and sin (n, r / 2)."""
    size = 2 * cos.shape[-1]
    x, y = t[..., :size].unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((x * cos - y * sin, y * cos + x * sin), dim=-1).flatten(-2)
    return torch.cat((turned, t[..., size:]), dim=-1)


def windowed(q: Tensor, k: Tensor, v: Tensor, w: int) -> Tensor:
    """Causal attention that looks at most w tokens back, by blocks of w queries on their own and the block before."""
    b, n = q.shape[0], q.shape[2]
    blocks = n // w
    cut = lambda t: t.unflatten(2, (blocks, w)).transpose(1, 2).flatten(0, 1)  # (b blocks) h w d
    (k0, k1), (v0, v1) = ((cut(F.pad(t, (0, 0, w, 0))[:, :, :n]), cut(t)) for t in (k, v))
    i, j = torch.arange(w)[:, None] + w, torch.arange(2 * w)
    near = (j <= i) & (i - j <= w)
    first = near & (j >= w)
    mask = torch.stack((first, *[near] * (blocks - 1))).repeat(b, 1, 1)[:, None]
    out = F.scaled_dot_product_attention(cut(q), torch.cat((k0, k1), dim=2), torch.cat((v0, v1), dim=2), attn_mask=mask)
    return out.unflatten(0, (b, blocks)).transpose(1, 2).flatten(2, 3)


class ChunkedLoss(torch.autograd.Function):
    """Mean cross-entropy of a linear head, a few rows of logits at a time, with its gradients made on the way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, rows: int) -> Tensor:
        by_x, by_weight, total = torch.empty_like(x), torch.zeros_like(weight), 0.0
        for at in range(0, len(x), rows):
            here = slice(at, at + rows)
            logits = x[here] @ weight.t()
            top, hit = logits.amax(dim=-1, keepdim=True), logits.gather(1, targets[here, None])
            e = logits.sub_(top).exp_()
            spread = e.sum(dim=-1, keepdim=True)
            total = total + (top + spread.log() - hit).sum()
            e.div_(spread).scatter_add_(1, targets[here, None], torch.full_like(top, -1.0))
            by_x[here] = e @ weight
            by_weight.addmm_(e.t(), x[here])
        ctx.gradients = (by_x, by_weight)
        ctx.count = len(x)
        return total / len(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        by_x, by_weight = (t.mul_(grad / ctx.count) for t in ctx.gradients)
        return by_x, by_weight, None, None


class Block(nn.Module):
    """Attention, cross-attention where there is a context, and feed-forward, each before its norm."""

    def __init__(self, dim: int, heads: int, groups: int, causal: bool, llama: bool, cross: bool, window: int | None):
        super().__init__()
        norm = RMSNorm if llama else lambda width: nn.LayerNorm(width, bias=False)
        linear = lambda *sizes: nn.Linear(*sizes, bias=False)
        self.heads, self.groups, self.causal, self.window, self.llama = heads, groups, causal, window, llama
        self.norm, self.qkv, self.out = norm(dim), linear(dim, (heads + 2 * groups) * 64), linear(heads * 64, dim)
        if cross:
            self.cross_norm, self.cross_q = norm(dim), linear(dim, heads * 64)
            self.cross_kv, self.cross_out = linear(dim, 2 * heads * 64), linear(heads * 64, dim)
        self.ff_norm, self.up = norm(dim), nn.Linear(dim, (8 if llama else 4) * dim)
        self.down = nn.Linear(4 * dim, dim, bias=not llama)

    def split(self, t: Tensor) -> Tensor:
        return t.unflatten(-1, (-1, 64)).transpose(1, 2)

    def forward(
        self, x: Tensor, turns: Any = None, kept: Tensor | None = None, at: int = 0, memory: Tensor | None = None, context: Any = None
    ) -> Tensor:
        n, read = x.shape[1], x if memory is None else torch.cat((memory, x), dim=1)
        q, k, v = self.split(self.qkv(self.norm(read))).split((self.heads, self.groups, self.groups), dim=1)
        if turns is not None:
            q, k = turn(q, *turns), turn(k, *turns)
        if kept is not None:
            kept[0, :, :, at : at + n], kept[1, :, :, at : at + n] = k, v
            k, v = kept[:, :, :, : at + n]
        q, repeats = q[:, :, -n:], self.heads // self.groups
        if self.window:
            out = windowed(q, k, v, self.window)
        elif repeats > 1 and n == 1:  # the heads that share keys are rows of one query
            rows = q.unflatten(1, (repeats, self.groups)).transpose(1, 2).squeeze(3)
            out = F.scaled_dot_product_attention(rows, k, v).transpose(1, 2).flatten(1, 2)[:, :, None]
        else:
            past = k.shape[2] - n
            mask = None if not self.causal or n == 1 or not past else torch.ones(n, n + past, dtype=torch.bool).tril(past)
            k, v = (t.repeat(1, repeats, 1, 1) if repeats > 1 else t for t in (k, v))
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal and n > 1 and mask is None)
        x = x + self.out(out.transpose(1, 2).flatten(2))
        if context is not None:
            k, v = context
            out = F.scaled_dot_product_attention(self.split(self.cross_q(self.cross_norm(x))), k, v)
            x = x + self.cross_out(out.transpose(1, 2).flatten(2))
        y = self.up(self.ff_norm(x))
        if self.llama:
            value, gate = y.chunk(2, dim=-1)
            return x + self.down(value * F.silu(gate))
        return x + self.down(F.gelu(y))

    def read_context(self, context: Tensor) -> tuple[Tensor, ...]:
        return self.split(self.cross_kv(context)).chunk(2, dim=1)

    def take(self, layers: Any) -> None:
        """The weights of a layer of attention, one of cross-attention perhaps, and one of feed-forward."""
        (attention, *cross), ff = layers[:-1], layers[-1]
        take_norm(self.norm, attention[0][0])
        self.qkv.weight.data = torch.cat([getattr(attention[1], f'to_{name}').weight.data for name in 'qkv'])
        self.out.weight.data = attention[1].to_out.weight.data
        for layer in cross:
            take_norm(self.cross_norm, layer[0][0])
            self.cross_q.weight.data, self.cross_out.weight.data = layer[1].to_q.weight.data, layer[1].to_out.weight.data
            self.cross_kv.weight.data = torch.cat((layer[1].to_k.weight.data, layer[1].to_v.weight.data))
        take_norm(self.ff_norm, ff[0][0])
        self.up.load_state_dict((ff[1].ff[0].proj if self.llama else ff[1].ff[0][0]).state_dict())
        self.down.load_state_dict(ff[1].ff[-1].state_dict())


def take_norm(norm: Any, from_: Any) -> None:
    name = 'gain' if isinstance(norm, RMSNorm) else 'weight'
    getattr(norm, name).data = next(from_.parameters()).data + 1.0  # stored as an offset from one


class Stack(nn.Module):
    """Blocks and a last norm."""

    def __init__(self, dim: int, depth: int, heads: int, groups: int = 0, causal: bool = True, llama: bool = False, **more: Any):
        super().__init__()
        made = [Block(dim, heads, groups or heads, causal, llama, more.get('cross', False), more.get('window')) for _ in range(depth)]
        self.blocks = nn.ModuleList(made)
        self.norm = RMSNorm(dim) if llama else nn.LayerNorm(dim, bias=False)
        if llama or more.get('rotary'):
            angles = torch.arange(more['length'])[:, None] / 10000 ** (torch.arange(0, 32, 2) / 32)
            self.register_buffer('turns', torch.stack((angles.cos(), angles.sin())))
        else:
            self.turns = None

    def forward(self, x: Tensor, kept: Kept | None = None, at: int = 0, memory: Kept | None = None, context: Any = None) -> Tensor:
        total = x.shape[1] + (memory[0].shape[1] if memory else 0)
        turns = None if self.turns is None else self.turns[:, at : at + total].unbind(0)
        self.entered = []
        for i, block in enumerate(self.blocks):
            self.entered.append(x)
            x = block(x, turns, kept and kept[i], at, memory and memory[i], context and context[i])
        return self.norm(x)

    def take(self, stack: Any) -> Stack:
        each = len(stack.layers) // len(self.blocks)
        for i, block in enumerate(self.blocks):
            block.take(list(stack.layers)[each * i : each * (i + 1)])
        take_norm(self.norm, stack.final_norm)
        return self


class Language(nn.Module):
    """A language model: a stack between a table of tokens and a head; positions are learned, unless they are rotary."""

    def __init__(self, vocabulary: int, length: int, dim: int, head: bool = True, **stack: Any):
        super().__init__()
        self.table = nn.Embedding(vocabulary, dim)
        self.stack = Stack(dim, length=length, **stack)
        self.places = nn.Parameter(torch.randn(length, dim) * dim**-0.5) if self.stack.turns is None else None
        self.head = nn.Linear(dim, vocabulary, bias=False) if head else None

    def embed(self, tokens: Tensor, at: int = 0, **more: Any) -> Tensor:
        x = self.table(tokens)
        return self.stack(x if self.places is None else x + self.places[at : at + x.shape[1]], at=at, **more)

    def loss(self, tokens: Tensor, rows: int = 0) -> Tensor:
        x, targets = self.embed(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
        return ChunkedLoss.apply(x, self.head.weight, targets, rows) if rows else F.cross_entropy(self.head(x), targets)

    def segments(self, tokens: Tensor, size: int) -> Tensor:
        """The mean loss over segments, each with the rows that the layers of the one before read (1901.02860)."""
        total, memory = 0.0, None
        for inputs, targets in zip(tokens[:, :-1].split(size, dim=1), tokens[:, 1:].split(size, dim=1)):
            logits = self.head(self.embed(inputs, memory=memory))
            memory = [t.detach() for t in self.stack.entered]
            total = total + F.cross_entropy(logits.flatten(0, 1), targets.flatten()) * (inputs.shape[1] / (tokens.shape[1] - 1))
        return total

    @torch.no_grad()
    def generate(self, prompt: Tensor, new: int, context: Tensor | None = None) -> Tensor:
        """The most probable tokens, one after the other, with keys and values in room that is there from the start."""
        (b, at), first = prompt.shape, self.stack.blocks[0]
        kept = [self.table.weight.new_empty(2, b, first.groups, at + new, 64) for _ in self.stack.blocks]
        seen = None if context is None else [block.read_context(context) for block in self.stack.blocks]
        x = self.head(self.embed(prompt, kept=kept, context=seen)[:, -1:]).argmax(dim=-1)
        made = [x]
        for place in range(at, at + new - 1):
            x = self.head(self.embed(x, place, kept=kept, context=seen)).argmax(dim=-1)
            made.append(x)
        return torch.cat(made, dim=1)

    def take(self, net: Any) -> Language:
        self.table.weight.data = net.token_emb.emb.weight.data
        self.stack.take(net.attn_layers)
        if self.places is not None:
            self.places.data = net.pos_emb.emb.weight.data * net.emb_dim**-0.5
        if self.head is not None:
            self.head.weight.data = net.to_logits.weight.data
        return self


class Vision(nn.Module):
    """Patches, positions, a stack, their mean, and classes."""

    def __init__(self, image: int, patch: int, classes: int, dim: int, depth: int, heads: int):
        super().__init__()
        self.patch = patch
        width, count = 3 * patch**2, (image // patch) ** 2
        self.read = nn.Sequential(nn.LayerNorm(width, bias=False), nn.Linear(width, dim), nn.LayerNorm(dim, bias=False))
        self.places = nn.Parameter(torch.randn(1, count, dim) * 0.02)
        self.stack, self.head = Stack(dim, depth, heads, causal=False), nn.Linear(dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        p = self.patch
        patches = images.unflatten(3, (-1, p)).unflatten(2, (-1, p)).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        return self.head(self.stack(self.read(patches) + self.places).mean(dim=-2))

    def take(self, net: Any) -> Vision:
        first, linear, last = net.patch_to_embedding
        self.read[0].weight.data, self.read[2].weight.data = first.gamma.data, last.gamma.data
        self.read[1].load_state_dict(linear.state_dict())
        self.places.data = net.pos_embedding.data
        self.stack.take(net.attn_layers)
        self.head.load_state_dict(net.mlp_head.state_dict())
        return self


# ------------------------------------------------------------------------------------------------ what runs in a benchmark

KNOWN = {'rotary_pos_emb', 'use_rmsnorm', 'ff_glu', 'ff_swish', 'ff_no_bias', 'attn_kv_heads', 'attn_max_attend_past', 'attn_flash'}


def shape_of(size: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a stack for the flags of a workload."""
    flags = size.get('flags', {})
    if flags.keys() - KNOWN:
        raise NotImplementedError(f'nobody wrote {sorted(flags.keys() - KNOWN)} by hand')
    more = {'llama': 'use_rmsnorm' in flags, 'rotary': 'rotary_pos_emb' in flags, 'window': flags.get('attn_max_attend_past')}
    return {'depth': size['depth'], 'heads': size['dim'] // 64, 'groups': flags.get('attn_kv_heads', 0), 'length': size['length'], **more}


def language(size: dict[str, Any], **more: Any) -> Language:
    shape = shape_of(size)
    return Language(size['vocabulary'], shape.pop('length'), size['dim'], **shape, **more)


def train(size: dict[str, Any]) -> Callable[[], Any]:
    model, tokens = prepared(language(size), size), ids(size, size['length'] + 1)
    rows = 2**24 // size['vocabulary'] if size['vocabulary'] > 2**13 else 0
    loss = torch.compile(model.loss) if size.get('compile') else model.loss
    return step(model, lambda: loss(tokens, rows), size)


def generate(size: dict[str, Any]) -> Callable[[], Any]:
    model, prompt = prepared(language(size), size).eval(), ids(size, size['prompt'])
    return lambda: model.generate(prompt, size['new'])


def stack(size: dict[str, Any]) -> Callable[[], Any]:
    shape = shape_of(size)
    model = prepared(Stack(size['dim'], **shape), size)
    x = noise(size, size['batch'], size['length'], size['dim'])
    return step(model, lambda: model(x).square().mean(), size)


def segments(size: dict[str, Any]) -> Callable[[], Any]:
    model, tokens = prepared(language({**size, 'length': 2 * size['length']}), size), ids(size, size['segments'] * size['length'] + 1)
    return step(model, lambda: model.segments(tokens, size['length']), size)


def vision(size: dict[str, Any]) -> Callable[[], Any]:
    model = prepared(Vision(size['image'], size['patch'], 1000, size['dim'], size['depth'], size['dim'] // 64), size)
    images = noise(size, size['batch'], 3, size['image'], size['image'])
    return step(model, lambda: F.cross_entropy(model(images), torch.arange(size['batch'], device=images.device)), size)


def translate(size: dict[str, Any]) -> Callable[[], Any]:
    encoder = prepared(language(size, head=False, causal=False), size).eval()
    decoder = prepared(language(size, cross=True), size).eval()
    source, start = ids(size, size['length']), ids(size, 1)
    return lambda: decoder.generate(start, size['new'], encoded(encoder, source))


@torch.no_grad()
def encoded(encoder: Language, source: Tensor) -> Tensor:
    return encoder.embed(source)


KINDS = {'train': train, 'generate': generate, 'stack': stack, 'segments': segments, 'vision': vision, 'translate': translate}
