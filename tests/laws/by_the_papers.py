"""A layer stack written anew from the papers, to be read: whole sequences, no state, no masks that are shared, no kernels.

It takes from the library only the weights of a stack and the flags that it was built with. Tokens are (b, n, d), heads (b, h, n, d).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOWEST = -torch.finfo(torch.float64).max


def stack_by_the_papers(
    stack: Any,
    x: Tensor,
    context: Tensor | None = None,
    context_pos: Tensor | None = None,
    condition: Tensor | None = None,
    in_attn_cond: Tensor | None = None,
    pos: Tensor | None = None,
) -> Tensor:
    """x (b, n, d) -> (b, n, d), by the weights and flags of `stack`."""
    cfg = stack.config
    pos, kinds = torch.arange(x.shape[1])[None] if pos is None else pos, kinds_of(cfg, stack)
    assert kinds == ''.join(stack.layer_types)
    if condition is not None:
        condition = condition if condition.ndim == 3 else condition[:, None]
        condition = F.silu(condition @ stack.adaptive_mlp[0].weight.T) if cfg.adaptive_condition_mlp else condition
    added = injected(stack, x, in_attn_cond)
    streams = [x] if cfg.num_residual_streams == 1 else [x + own for own in stack.stream_emb]
    dual, entered, entering, handed = cfg.resi_dual_scale * x, [], streams, {'pos': pos}
    block = 1 + (not cfg.only_cross) + cfg.cross_attend
    for step, at in enumerate(order_of(cfg, len(stack.layers))):
        norms, branch, residual = stack.layers[at]
        entered.append(streams)
        if (early := skip_into(cfg, at, len(stack.layers))) is not None:
            combine = stack.skip_combines[at].combine.weight
            streams = [torch.cat(both, dim=-1) @ combine.T for both in zip(entered[early], streams, strict=True)]
        entering = streams if step % block == 0 else entering
        inputs, join = read_streams(cfg, residual, streams, views=3 if cfg.qkv_receive_diff_residuals and kinds[at] == 'a' else 1)
        inputs = entering if cfg.parallel_block else inputs  # 2204.02311, §2: x + a(n(x)) + f(n(x))
        inputs = [each if added is None else each + added for each in inputs]
        owner = at - at % block if cfg.parallel_block_one_norm else at
        if norms_first(cfg) and (owner > 0 or cfg.norm_first_layer):
            inputs = [norm(cfg, stack.layers[owner][0][0], each, condition) for each in inputs]
        handed['number'] = kinds[:at].count('a')
        y = run_branch(stack, kinds[at], at, branch, inputs, context, context_pos, condition, handed)
        y = norm(cfg, norms[1], y, condition) if cfg.sandwich_norm else y
        dual = dual + cfg.resi_dual_scale * y
        streams = join(y)
        streams = streams if norms_first(cfg) else [norm(cfg, norms[2], each, condition) for each in streams]
    if cfg.softclamp_output:
        streams = [softclamp(each, cfg.softclamp_output_value) for each in streams]
    out = sum(streams[1:], streams[0])
    if cfg.resi_dual:  # 2304.14802, equation 4
        return out + norm(cfg, stack.final_norm, dual, condition)
    return norm(cfg, stack.final_norm, out, condition) if norms_first(cfg) else out


# ------------------------------------------------------------------------------------------------ which layers, and what joins them


def kinds_of(cfg: Any, stack: Any) -> str:
    """The letter of each built layer."""
    block = ('f' if cfg.macaron else '') + ('' if cfg.only_cross else 'a') + ('c' if cfg.cross_attend else '') + 'f'
    if cfg.custom_layers is not None:
        return ''.join(cfg.custom_layers)
    if cfg.par_ratio is not None:  # 2009.04534 in the form of 2.0.1, which has no formula
        return ''.join(stack.layer_types)
    if (k := cfg.sandwich_coef) is not None:  # 1911.03864, §4: s^k (s f)^(n - k) f^k
        return 'a' * k + block * (cfg.depth - k) + 'f' * k
    return block * (1 if cfg.weight_tie_layers else cfg.depth)


def order_of(cfg: Any, built: int) -> tuple[int, ...]:
    """The built layer of each step."""
    return cfg.layers_execute_order or tuple(range(built)) * (cfg.depth if cfg.weight_tie_layers else 1)


def skip_into(cfg: Any, at: int, built: int) -> int | None:
    """2209.12152: the first layer of block k joins the stream that entered block L - 1 - k."""
    alone = cfg.custom_layers is not None or cfg.sandwich_coef is not None or cfg.par_ratio is not None
    length = 1 if alone else 2 + cfg.macaron + cfg.cross_attend - cfg.only_cross
    blocks, late = built // length, at // length
    mirrored = blocks - 1 - late
    return mirrored * length if cfg.unet_skips and at % length == 0 and mirrored < late else None


def norms_first(cfg: Any) -> bool:
    return cfg.pre_norm and not cfg.resi_dual


def injected(stack: Any, x: Tensor, given: Tensor | None) -> Tensor | None:
    """2410.03020: what is added to the input of every branch."""
    if stack.config.reinject_input:
        given = x @ stack.reinject_input_proj.weight.T
    if given is None:
        return None
    given = given if given.ndim == 3 else given[:, None]
    gate = stack.learned_reinject_input_gate
    return given if gate is None else given * torch.sigmoid(x @ gate.weight.T)


def read_streams(cfg: Any, residual: Any, streams: list[Tensor], views: int) -> tuple[list[Tensor], Callable[[Tensor], list[Tensor]]]:
    """What a branch reads (its queries, keys and values apart, where there are three views), and what its output makes of the streams."""
    if cfg.num_residual_streams > 1:  # 2409.19606, equations 2 to 13, per token
        together = torch.stack(streams, dim=-2)  # b n s d
        normed = unit_variance(together) * residual.norm.weight
        bounded = torch.tanh if cfg.residual_fn_kwargs.get('tanh', True) else lambda t: t
        alpha = bounded(normed @ residual.dynamic_alpha_fn) * residual.dynamic_alpha_scale + residual.static_alpha
        beta = bounded(normed @ residual.dynamic_beta_fn) * residual.dynamic_beta_scale + residual.static_beta
        column = lambda k: sum(alpha[..., s, k, None] * stream for s, stream in enumerate(streams))
        return [column(k) for k in range(views)], lambda y: [column(views + s) + beta[..., s, None] * y for s in range(len(streams))]
    (x,) = streams
    flags = {'scale_residual_constant': cfg.scale_residual_constant, 'scale_residual': cfg.scale_residual, **cfg.residual_fn_kwargs}
    kept = x * residual.residual_scale if flags['scale_residual'] else x
    if cfg.gate_residual:
        return [x], lambda y: [gated_unit(residual.gru, y, kept)]
    return [x], lambda y: [y + kept * flags['scale_residual_constant']]


def gated_unit(gru: nn.GRUCell, x: Tensor, hidden: Tensor) -> Tensor:
    """1910.06764, §3.2, with the gates of a GRU cell."""
    r, z, n = (x @ gru.weight_ih.T + gru.bias_ih).chunk(3, dim=-1)
    r_h, z_h, n_h = (hidden @ gru.weight_hh.T + gru.bias_hh).chunk(3, dim=-1)
    reset, keep = torch.sigmoid(r + r_h), torch.sigmoid(z + z_h)
    return (1 - keep) * torch.tanh(n + reset * n_h) + keep * hidden


# ------------------------------------------------------------------------------------------------ norms and scales


def unit_variance(x: Tensor, eps: float | None = None) -> Tensor:
    return (x - x.mean(dim=-1, keepdim=True)) / (x.var(dim=-1, keepdim=True, unbiased=False) + (1e-5 if eps is None else eps)).sqrt()


def unit_square(x: Tensor, eps: float | None = None) -> Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + (0 if eps is None else eps)).sqrt()


def unit_length(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def softclamp(t: Tensor, bound: float) -> Tensor:
    return bound * torch.tanh(t / bound)


def norm(cfg: Any, module: Any, x: Tensor, condition: Tensor | None) -> Tensor:
    """1607.06450, 1910.05895, 1910.07467, 2307.14995, 2212.09748."""
    if cfg.use_adaptive_layernorm or cfg.use_adaptive_rmsnorm:
        normed = (unit_variance if cfg.use_adaptive_layernorm else unit_square)(x, cfg.norm_eps)
        return normed * (1 + condition @ module.to_gamma.weight.T)
    if cfg.use_simple_rmsnorm:
        return unit_square(x, cfg.norm_eps)
    if cfg.use_rmsnorm or cfg.use_scalenorm:
        return unit_square(x, cfg.norm_eps) * (module.g + cfg.norm_add_unit_offset)
    return unit_variance(x, cfg.norm_eps) * (module.gamma + cfg.norm_add_unit_offset) + (module.beta if cfg.norm_bias else 0)


def shifted(cfg: Any, amount: int, x: Tensor) -> Tensor:
    """Features in parts; part k comes from k tokens before (of both sides, where attention looks both ways)."""
    moves = list(range(amount + 1)) if cfg.causal else list(range(-amount, amount + 1))
    out, size, n = x.clone(), x.shape[-1] // len(moves), x.shape[1]
    for part, move in enumerate(moves):
        for t in range(n):
            features = slice(part * size, (part + 1) * size)
            out[:, t, features] = x[:, t - move, features] if 0 <= t - move < n else 0.0
    return out


# ------------------------------------------------------------------------------------------------ branches


def run_branch(
    stack: Any,
    kind: str,
    at: int,
    branch: Any,
    inputs: list[Tensor],
    context: Any,
    context_pos: Any,
    condition: Any,
    handed: dict[str, Any],
) -> Tensor:
    """The output of an attention or feed-forward, with what stands around it."""
    cfg, gain = stack.config, None
    if cfg.use_layerscale:  # 2103.17239
        gain = branch.gamma + cfg.norm_add_unit_offset
    if cfg.use_adaptive_layerscale:  # 2212.09748
        gain = torch.sigmoid(condition @ branch.to_gamma.weight.T + branch.to_gamma.bias)
    shift = cfg.shift_tokens[at] if isinstance(cfg.shift_tokens, tuple) else cfg.shift_tokens
    inputs = [shifted(cfg, shift, each) for each in inputs] if shift else inputs
    while hasattr(branch, 'fn'):
        branch = branch.fn
    if kind == 'f':
        y = feed_forward(cfg.ff, branch.ff, inputs[0]) * (0.5 if cfg.macaron else 1.0)
    else:
        y = attention(stack, kind, branch, inputs, context, context_pos, handed)
    return y if gain is None else y * gain


def feed_forward(cfg: Any, ff: Any, x: Tensor) -> Tensor:
    """1706.03762, §3.3; 2002.05202; 2109.08668; 2110.09456."""
    gelu = lambda t: 0.5 * t * (1 + torch.erf(t / math.sqrt(2)))
    near = lambda t: 0.5 * t * (1 + torch.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t**3)))  # 1606.08415, §2
    act = (lambda t: t.clamp(min=0) ** 2) if cfg.relu_squared else (lambda t: t * torch.sigmoid(t)) if cfg.swish else gelu
    act = (lambda t: t.clamp(min=0)) if cfg.relu else near if cfg.gelu_tanh else act
    if cfg.glu:
        value, gate = linear(ff[0].proj, x).chunk(2, dim=-1)
        hidden = value * act(gate) * (ff[0].mult_bias if cfg.glu_mult_bias else 1)
    else:
        hidden = act(linear(ff[0][0], x))
    if cfg.post_act_ln:
        hidden = unit_variance(hidden) * ff[1].gamma
    return linear(ff[-1], hidden)


def linear(module: Any, x: Tensor) -> Tensor:
    return x @ module.weight.T + (0 if module.bias is None else module.bias)


def heads(x: Tensor, count: int) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def attention(stack: Any, kind: str, module: Any, inputs: list[Tensor], context: Any, context_pos: Any, handed: dict[str, Any]) -> Tensor:
    """1706.03762, §3.2, with the flags of `stack.config`; `handed` is what layers hand down."""
    cfg = stack.config.attn if kind == 'a' else stack.config.cross_attn
    h, g = stack.config.heads, 1 if cfg.one_kv_head else cfg.kv_heads or stack.config.heads
    x, *sources = inputs if len(inputs) == 3 else inputs * 3
    sources = [context, context] if kind == 'c' else sources
    q, k, v = queries_keys_values(cfg, module, x, sources, h, g)
    own = v
    if stack.config.add_value_residual and ('first', kind) in handed:  # 2410.17897, 2412.15113
        mix = module.to_value_residual_mix
        share = 0.5 if mix is None else torch.sigmoid(linear(mix[0], x)).unflatten(-1, (-1, g)).mean(dim=-2).transpose(1, 2)[..., None]
        v = share * v + (1 - share) * handed['first', kind]
    handed.setdefault(('first', kind), own)
    q_pos = handed['pos']
    k_pos = q_pos if kind == 'a' else context_pos
    if stack.rotary_pos_emb is not None and k_pos is not None:
        q, k = (turned(stack.config, cfg, t, pos, sign, handed) for t, pos, sign in ((q, q_pos, 1), (k, k_pos, -1)))
    v = torch.exp(softclamp(v, cfg.laser_softclamp_value)) if cfg.laser else v
    k, v, lead = with_lead(cfg, module, k, v)
    k, v = (t[:, [r % g for r in range(h)]] for t in (k, v))  # query head r shares key head r mod g
    sim, factor = scores(stack, cfg, module, kind, x, q, k, lead, handed)
    attn = weights(cfg, sim)
    if cfg.post_talking_heads:
        attn = talk(module.attend.post_softmax_talking_heads, attn)
    out = (attn if factor is None else attn * factor.masked_fill(sim == LOWEST, 0.0)) @ v
    return put_out(cfg, module, torch.log(out) if cfg.laser else out, x)


def queries_keys_values(cfg: Any, module: Any, x: Tensor, sources: list[Tensor], h: int, g: int) -> tuple[Tensor, Tensor, Tensor]:
    """2305.13245; 2405.04434, §2.1; 2010.04245."""
    q = heads(linear(module.to_q, linear(module.to_latent_q, x) if cfg.use_latent_q else x), h)
    if cfg.use_latent_kv:
        latent = linear(module.to_latent_kv, sources[0])
        subheads = cfg.latent_rope_subheads or 0
        k, v = heads(linear(module.to_k, latent), g - subheads), heads(linear(module.to_v, latent), g)
        k = torch.cat((k, heads(linear(module.to_rotateable_k, sources[0]), subheads)), dim=1) if subheads else k
    else:
        k, v = heads(linear(module.to_k, sources[0]), g), heads(linear(module.to_v, sources[1]), g)
    if cfg.qk_rmsnorm:
        q, k = (unit_square(t, cfg.qk_rmsnorm_eps) * own.g for t, own in ((q, module.q_rmsnorm), (k, module.k_rmsnorm)))
    if cfg.qk_norm:
        of_groups = lambda t: unit_length(t.unflatten(-1, (cfg.qk_norm_groups, -1))).flatten(-2)
        q, k = of_groups(q), of_groups(k)
        if cfg.qk_norm_dim_scale:
            q, k = q * module.qk_norm_q_scale, k * module.qk_norm_k_scale
    return q, k, v


def of_layer(value: Any, handed: dict[str, Any]) -> Any:
    """What a flag says of this self-attention."""
    return value[handed.get('number', 0)] if isinstance(value, tuple) else value


def turned(cfg: Any, attn: Any, t: Tensor, pos: Tensor, sign: int, handed: dict[str, Any]) -> Tensor:
    """2104.09864, equation 34, in complex numbers: pair k times e^(i m theta_k); xPos (2212.10554) stretches queries, shrinks keys."""
    dim = cfg.rotary_emb_dim or max(attn.dim_head // 2, 2)
    dim += dim % 2
    scaling = of_layer(cfg.rotary_scaling, handed)
    base = of_layer(cfg.rotary_base, handed) * (cfg.rotary_base_rescale_factor ** (dim / max(dim - 2, 1)))
    pair = torch.arange(dim // 2, dtype=torch.float64)
    theta = (1 / base ** (2 * pair / dim)).float().double()  # a buffer in single precision
    theta, grown = scaled_frequencies(scaling, theta, base) if scaling else (theta, 1.0)
    angles = pos[..., None] * theta / cfg.rotary_interpolation_factor
    size = torch.full_like(angles, grown)
    if cfg.rotary_xpos:
        zeta = ((2 * pair / dim + 0.4) / 1.4).float().double()
        size = zeta ** (sign * pos[..., None] / cfg.rotary_xpos_scale_base)
    out, first = t.clone(), t.shape[1] - min(attn.latent_rope_subheads or attn.rotate_num_heads or t.shape[1], t.shape[1])
    features = torch.arange(dim).unflatten(0, (2, -1)).T if cfg.rotary_half_split else torch.arange(dim).unflatten(0, (-1, 2))
    pairs = torch.view_as_complex(t[:, first:][..., features].contiguous())
    out[:, first:, :, features.flatten()] = torch.view_as_real(pairs * torch.polar(size, angles)[:, None]).flatten(-2)
    return out


def scaled_frequencies(scaling: dict[str, Any], theta: Tensor, base: float) -> tuple[Tensor, float]:
    """2306.15595; 2309.00071, §3.2 and §3.4; 2407.21783; 2402.13753: frequencies, and what turned features grow by."""
    kind, s, length = scaling['kind'], scaling['factor'], scaling.get('original_length')
    if kind == 'linear':
        return theta / s, 1.0
    if kind == 'longrope':
        return theta / torch.tensor(scaling['factors']).double(), math.sqrt(1 + math.log(s) / math.log(length))
    if kind == 'llama3':
        low, high = scaling['low_freq_factor'], scaling['high_freq_factor']
        smooth = ((length / (2 * math.pi / theta) - low) / (high - low)).clamp(0, 1)
        return (1 - smooth) * theta / s + smooth * theta, 1.0
    pair_that_turns = lambda times: len(theta) * math.log(length / (2 * math.pi * times)) / math.log(base)
    low, high = max(math.floor(pair_that_turns(32)), 0), math.ceil(pair_that_turns(1))
    gamma = 1 - ((torch.arange(len(theta)).double() - low) / (high - low)).clamp(0, 1)
    return (1 - gamma) * theta / s + gamma * theta, 0.1 * math.log(s) + 1


def with_lead(cfg: Any, module: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, int]:
    """Keys and values behind a zero slot and the learned memory (1907.01470), and how many those are."""
    ahead = lambda t, rows: torch.cat((rows.expand(t.shape[0], -1, -1, -1), t), dim=2)
    if cfg.num_mem_kv:
        mem_k = unit_length(module.mem_k) if cfg.qk_norm else module.mem_k
        mem_k = unit_square(mem_k, cfg.qk_rmsnorm_eps) * module.k_rmsnorm.g if cfg.qk_rmsnorm else mem_k
        mem_k = mem_k * module.qk_norm_k_scale if cfg.qk_norm_dim_scale else mem_k
        mem_v = torch.exp(softclamp(module.mem_v, cfg.laser_softclamp_value)) if cfg.laser else module.mem_v
        k, v = ahead(k, mem_k), ahead(v, mem_v)
    if cfg.add_zero_kv:
        k, v = ahead(k, torch.zeros_like(k[:1, :, :1])), ahead(v, torch.zeros_like(v[:1, :, :1]))
    return k, v, cfg.num_mem_kv + cfg.add_zero_kv


# ------------------------------------------------------------------------------------------------ scores and weights


def talk(conv: nn.Conv2d, t: Tensor) -> Tensor:
    """2003.02436: scores or weights mixed across heads."""
    return torch.einsum('b h i j, o h -> b o i j', t, conv.weight[:, :, 0, 0])


def scores(
    stack: Any, cfg: Any, module: Any, kind: str, x: Tensor, q: Tensor, k: Tensor, lead: int, handed: dict[str, Any]
) -> tuple[Tensor, Tensor | None]:
    """What is normalised, (b, h, i, lead + j), and what scales the weights."""
    scale = cfg.qk_norm_scale if cfg.qk_norm else cfg.scale or cfg.dim_head**-0.5
    sim = -(q[:, :, :, None] - k[:, :, None]).square().sum(dim=-1) if cfg.l2_distance else q @ k.transpose(-1, -2)
    sim = sim * scale
    hands_on = stack.config.residual_attn if kind == 'a' else stack.config.cross_residual_attn
    if hands_on and ('scores', kind) in handed:  # 2012.11747
        sim = sim + handed['scores', kind]
    attend = module.attend
    factor = talk(attend.pre_scale_post_talking_heads, sim) if cfg.pre_scale_post_talking_heads else None
    sim = sim + talk(attend.pre_softmax_talking_heads, sim) if cfg.pre_talking_heads else sim
    if kind == 'a':
        sim = torch.cat((sim[..., :lead], sim[..., lead:] + bias(stack, cfg, module, x, handed['pos'])), dim=-1)
    sim = softclamp(sim, cfg.logit_softclamp_value) if cfg.softclamp_logits else sim
    n, window, both = x.shape[1], of_layer(cfg.max_attend_past, handed), of_layer(cfg.window, handed)
    if kind == 'a':
        hidden = torch.zeros(n, lead + n, dtype=torch.bool)
        for i in range(n):
            for j in range(n):
                too_far = (window is not None and i - j > window) or (both is not None and abs(i - j) > both)
                hidden[i, lead + j] = too_far or (stack.config.causal and j > i)
        sim = sim.masked_fill(hidden, LOWEST)
        sim = sim + contextual(cfg, attend.cope, q, sim, hidden) if cfg.use_cope else sim
        sim = deselected(sim, lead) if cfg.selective else sim
    handed['scores', kind] = sim
    return sim, factor


def deselected(sim: Tensor, lead: int) -> Tensor:
    """2410.02703, §3: each query takes its first head's positive scores from what later ones see, but for the first token and itself."""
    out = sim.clone()
    for i in range(sim.shape[2]):
        for query in range(i):
            for j in range(1, query):
                out[:, :, i, lead + j] -= sim[:, :1, query, lead + j].clamp(min=0)
    return out


def contextual(cfg: Any, cope: Any, q: Tensor, sim: Tensor, hidden: Tensor) -> Tensor:
    """2405.18719, equations 3 to 6: a key's position is the sum of the gates from it on."""
    sim = talk(cope.talking_heads, sim).masked_fill(hidden, LOWEST) if cfg.cope_talking_heads else sim
    gates, table = torch.sigmoid(sim), cope.pos_emb
    position = torch.stack([gates[..., j:].sum(dim=-1) for j in range(sim.shape[-1])], dim=-1).clamp(max=len(table) - 1)
    nearness = 1 - (position[..., None] - torch.arange(len(table))).abs()  # linear between two whole positions
    share = ((nearness - 1) / 5e-2).softmax(dim=-1) if cfg.cope_soft_onehot_pos else nearness.clamp(min=0)
    return torch.einsum('b h i d, b h i j p, p d -> b h i j', q, share, table)


def weights(cfg: Any, sim: Tensor) -> Tensor:
    """Softmax, or what stands in its place: 2409.04431, 2410.01104, 1912.11637."""
    if cfg.custom_attn_fn is not None:
        return cfg.custom_attn_fn(sim)
    if cfg.sigmoid:
        return 1 / (1 + torch.exp(-sim.clamp(min=-700)))
    if cfg.hard:
        return (sim == sim.max(dim=-1, keepdim=True).values).double()
    if cfg.sparse_topk is not None:
        rank = (sim[..., None, :] > sim[..., None]).sum(dim=-1)
        sim = sim.masked_fill(rank >= cfg.sparse_topk, LOWEST)
    raised = torch.exp(sim - sim.max(dim=-1, keepdim=True).values)
    return raised / raised.sum(dim=-1, keepdim=True)


def put_out(cfg: Any, module: Any, out: Tensor, x: Tensor) -> Tensor:
    """2110.09456, 2306.12929, 2411.13676, 1908.06954."""
    out = out * module.head_scale_params if cfg.head_scale else out
    if cfg.gate_value_heads:
        out = out * torch.sigmoid(linear(module.to_v_head_gate, x)).transpose(1, 2)[..., None]
    if cfg.hybrid_module is not None:
        folds, beside = cfg.hybrid_fold_axial_dim or 1, x.new_zeros(*x.shape[:2], out.shape[1] * out.shape[3])
        for fold in range(folds):
            made = module.hybrid_module.fn(x[:, fold::folds])
            beside[:, fold::folds] = made[0] if isinstance(made, tuple) else made
        sides = zip((out, heads(beside, out.shape[1])), module.hybrid_norms, strict=True)
        out = sum(unit_square(t) * (1 + own.gamma) for t, own in sides) / 2
    merged = out.transpose(1, 2).flatten(2)
    if cfg.gate_values:
        gate = linear(module.to_v_gate, x)
        merged = merged * torch.sigmoid(gate) * (gate if cfg.swiglu_values else 1)
    if not cfg.on_attn:
        return linear(module.to_out, merged)
    value, gate = linear(module.to_out[0], merged).chunk(2, dim=-1)
    return value * torch.sigmoid(gate)


# ------------------------------------------------------------------------------------------------ biases


def bias(stack: Any, cfg: Any, module: Any, x: Tensor, pos: Tensor) -> Tensor | float:
    """(b|1, h, n, n), pair by pair."""
    flags = stack.config
    if cfg.data_dependent_alibi:
        return forgetting(cfg, module.data_dependent_alibi, x, flags.heads, flags.causal)
    if not (flags.alibi_pos_bias or flags.rel_pos_bias or flags.dynamic_pos_bias):
        return 0.0
    of_pair = alibi if flags.alibi_pos_bias else t5 if flags.rel_pos_bias else dynamic
    of_row = lambda row: torch.stack([torch.stack([of_pair(stack, i - j) for j in row]) for i in row])
    return torch.stack([of_row(row) for row in pos.tolist()]).permute(0, 3, 1, 2)


def alibi(stack: Any, distance: int) -> Tensor:
    """2108.12409, §3: (h,) of minus the slope per token."""
    cfg = stack.config
    count = cfg.alibi_num_heads or cfg.heads
    slopes = cfg.rel_pos_kwargs.get('slopes', [2 ** (-8 * (k + 1) / count) for k in range(count)])
    return -abs(distance) * torch.tensor([*slopes, *[0.0] * (cfg.heads - count)], dtype=torch.float32).double()


def t5(stack: Any, distance: int) -> Tensor:
    """1910.10683, §2.1: half of the buckets for one distance each, the others in the logarithm of the distance."""
    cfg = stack.config
    buckets, first = cfg.rel_pos_num_buckets, 0
    if not cfg.causal:
        buckets //= 2
        first, distance = buckets if distance < 0 else 0, abs(distance)
    near, distance = buckets // 2, max(distance, 0)
    if distance >= near:
        share = math.log(distance / near) / math.log(cfg.rel_pos_max_distance / near)
        distance = min(near + math.floor(share * (buckets - near)), buckets - 1)
    return stack.rel_pos.relative_attention_bias.weight[first + distance] * cfg.attn.dim_head**0.5


def dynamic(stack: Any, distance: int) -> Tensor:
    """2108.00154, §3.2; 2111.09883, equation 4."""
    seen = math.copysign(math.log(1 + abs(distance)), distance) if stack.config.dynamic_pos_bias_log_distance else distance
    return nn.Sequential(*stack.rel_pos.mlp)(torch.tensor([float(seen)], dtype=torch.float64))


def forgetting(cfg: Any, module: Any, x: Tensor, h: int, causal: bool) -> Tensor:
    """2503.02130, §3: sums of log gates between two tokens."""
    b, n = x.shape[:2]
    out, scale = x.new_zeros(b, h, n, n), cfg.data_dependent_alibi_kwargs.get('post_log_scale', 1.0)
    projected = linear(module.to_forget_gates[0], x)
    if cfg.data_dependent_alibi_per_row:
        asked, met = (heads(t, h) for t in projected.chunk(2, dim=-1))
        gates = F.logsigmoid(asked @ met.transpose(-1, -2) * cfg.data_dependent_alibi_per_row_dim_head**-0.5) * scale
        for i in range(n):
            for j in range(i):
                out[:, :, i, j] = gates[:, :, i, j:i].sum(dim=-1)
        return out
    gates = (F.logsigmoid(projected) * scale).transpose(1, 2)  # b h n, the other way in the second half
    for i in range(n):
        for j in range(n):
            out[:, :, i, j] = gates[:, :h, j + 1 : i + 1].sum(dim=-1) if j <= i or causal else gates[:, h:, i + 1 : j + 1].sum(dim=-1)
    return out
