"""One layer: norms, a branch and how it joins the stream, built from the tables of their files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from x_transformers.attention import Attention
from x_transformers.branch import Scale, run_branch
from x_transformers.call import Call, Depth
from x_transformers.errors import FlagError
from x_transformers.feedforward import FeedForward
from x_transformers.layerscale import with_layerscale
from x_transformers.norms import followed, norm_slots, part
from x_transformers.plan import Plan, spread
from x_transformers.positions.flags import rotary_of
from x_transformers.residuals import make_residual
from x_transformers.shift import ShiftTokens, shifts_of
from x_transformers.state import Fresh


class Layer(nn.ModuleList):
    """One residual branch: [norms before, after and around it; the branch; how it joins the stream].

    Every flag of the layer already became one of these parts. It can be indexed as in 2.0.1: `layer[1].to_q`.
    """

    def __init__(
        self, norms: nn.ModuleList, branch: nn.Module, residual: nn.Module, adaptive: bool = False, shares_norm: str | None = None
    ):
        super().__init__([norms, branch, residual])
        self.adaptive = adaptive  # whether the norms take a condition
        self.leads, self.follows = shares_norm == 'leads', shares_norm == 'follows'  # in a block of one norm

    norms = property(lambda self: self[0])
    branch = property(lambda self: self[1])
    residual = property(lambda self: self[2])

    def forward(self, x: Tensor, call: Call, depth: Depth, state: Any) -> tuple[Tensor, Any]:
        parts: Any = self
        (before, after, around), branch, residual = parts
        given = followed(self.adaptive, call.condition)
        inputs, stream, joining = residual.prepare(x, depth)
        if depth.entered is not None:
            inputs = depth.entered
        if call.trace is not None:
            call.trace.layer_hiddens.append(inputs)
        if call.injection is not None:
            inputs = inputs + call.injection
        if isinstance(state, Fresh) and state.memory is not None:
            state = replace(state, memory=before(state.memory, **followed(self.adaptive, call.condition_of(state.memory))))
        normed: Any = depth.normed if self.follows else part(before, inputs, **given)
        if self.leads:
            depth.normed = normed
        y, state = run_branch(branch, normed, call, depth, state)
        x = residual(part(after, y, **given), stream, **joining)
        return part(around, x, **followed(self.adaptive, call.stream_condition)), state


def build_layer(index: int, plan: Plan, cfg: Any) -> Layer:
    """Norms, branch and residual of the built layer number `index`, from the tables of their files."""
    kind, shift = plan.kinds[index], plan.shifts[index]
    branch = BRANCHES[kind](cfg, plan.kinds[:index].count(kind), plan.kinds.count(kind))
    if shift:
        if len(shifts_of(shift, cfg.causal)) > cfg.dim:
            raise FlagError(f'shift_tokens={shift} cuts dim={cfg.dim} features into more parts than there are; lower it')
        branch = ShiftTokens(shifts_of(shift, cfg.causal), branch)
    shares_norm = None
    if cfg.parallel_block_one_norm:
        shares_norm = 'follows' if index % plan.block_length else 'leads'
    norms = norm_slots(cfg, cfg.dim, before=shares_norm != 'follows' and (index > 0 or cfg.norm_first_layer))
    return Layer(norms, with_layerscale(branch, cfg), make_residual(cfg, kind, index), cfg.adaptive_norms, shares_norm)


def self_attention(cfg: Any, number: int, count: int) -> nn.Module:
    """Self-attention number `number` of `count`; the first one has no values to mix in."""
    of_attention = lambda name: spread(f'attn_{name}', getattr(cfg.attn, name), count, 'self-attentions')[number]
    return Attention(
        replace(
            cfg.attn,
            prefix='attn_',
            max_attend_past=of_attention('max_attend_past'),
            window=of_attention('window'),
            rotary=rotary_of(cfg, number, count),
            carries_scores=cfg.residual_attn,
            shares_values=cfg.add_value_residual,
            learned_value_residual_mix=cfg.add_value_residual and cfg.learned_value_residual_mix and number > 0,
            qkv_receive_diff_residuals=cfg.qkv_receive_diff_residuals,
            zero_init_output=cfg.zero_init_branch_output or cfg.attn.zero_init_output,
        )
    )


def cross_attention(cfg: Any, number: int, count: int) -> nn.Module:
    return Attention(
        replace(
            cfg.cross_attn,
            prefix='cross_attn_',
            cross=True,
            carries_scores=cfg.cross_residual_attn,
            shares_values=cfg.add_value_residual,
            zero_init_output=cfg.zero_init_branch_output or cfg.cross_attn.zero_init_output,
        )
    )


def feed_forward(cfg: Any, number: int, count: int) -> nn.Module:
    branch = FeedForward(replace(cfg.ff, zero_init_output=cfg.zero_init_branch_output or cfg.ff.zero_init_output))
    return Scale(0.5, branch) if cfg.macaron else branch


BRANCHES = {'a': self_attention, 'c': cross_attention, 'f': feed_forward}
