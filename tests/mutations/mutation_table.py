"""Lines of the library and what breaks them, each with the law that must then fail.

A text stands exactly once in its file; `tests/mutations/test_mutations_apply.py` says so when one has moved. `laws` is a file of
tests/laws and `k` chooses in it, as pytest's -k does.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Mutation(NamedTuple):
    name: str
    file: str  # in x_transformers
    laws: str
    k: str
    text: str
    broken: str


FORMULAS, DECODING, PADDING, CAUSALITY = 'test_formulas.py', 'test_decoding.py', 'test_padding.py', 'test_causality.py'
WAYS = 'test_ways_to_generate.py'
BACKENDS, MODELS, LOSSES, CHOICES = 'test_backends.py', 'test_model_formulas.py', 'test_loss_formulas.py', 'test_choices.py'
PACKING = 'test_packing.py'

MUTATIONS = (
    # positions
    Mutation(
        'rotary sign', 'positions/rotary.py', FORMULAS, 'rotary_pos_emb',
        '(-sin[..., ::2], sin[..., 1::2])',
        '(sin[..., ::2], -sin[..., 1::2])',
    ),
    Mutation(
        'rotary halves', 'positions/rotary.py', FORMULAS, 'rotary_half_split',
        'torch.cat((second, first), dim=-1)',
        'torch.cat((first, second), dim=-1)',
    ),
    Mutation(
        'rotary pairs', 'positions/rotary.py', FORMULAS, 'rotary_emb_dim or rotary_pos_emb',
        't.reshape(*t.shape[:-1], -1, 2).flip(-1)',
        't.reshape(*t.shape[:-1], 2, -1).flip(-2)',
    ),
    Mutation(
        'rotary interpolation', 'positions/rotary.py', FORMULAS, 'rotary_interpolation_factor',
        'freqs / self.interpolation_factor',
        'freqs * self.interpolation_factor',
    ),
    Mutation(
        'rotary base', 'positions/rotary.py', FORMULAS, 'rotary_base_rescale_factor',
        '(dim / max(dim - 2, 1))',
        '(dim / max(dim - 1, 1))',
    ),
    Mutation(
        'rotary position of queries', 'entry.py', FORMULAS, 'rotary_pos_emb',
        'own = rotary.rotation(queries, keys, device, new, stack.config.attn.dim_head)',
        'own = rotary.rotation(replace(queries, start=queries.start + 1), keys, device, new + 1, 0)',
    ),
    Mutation(
        'xPos exponent', 'positions/rotary.py', FORMULAS, 'rotary_xpos',
        'self.decay(middle - keys.positions(device))',
        'self.decay(keys.positions(device) - middle)',
    ),
    Mutation(
        'xPos centre of keys', 'positions/rotary.py', FORMULAS, 'rotary_xpos',
        'self.decay(middle - keys',
        'self.decay(middle + 1 - keys',
    ),
    Mutation(
        'ALiBi slopes', 'positions/alibi.py', FORMULAS, 'alibi_pos_bias',
        '-8.0 * (k + 1) / count',
        '-8.0 * k / count',
    ),
    Mutation(
        'ALiBi heads', 'positions/alibi.py', FORMULAS, 'alibi_num_heads',
        'padded = chosen + [0.0] * (self.total_heads - heads)',
        'padded = [0.0] * (self.total_heads - heads) + chosen',
    ),
    Mutation(
        'distance offset', 'positions/distance.py', FORMULAS, 'alibi_pos_bias',
        'return table[distance - nearest]',
        'return table[(distance - nearest - 1).clamp(min=0)]',
    ),
    Mutation(
        'distance of given positions', 'positions/distance.py', FORMULAS, 'positions_of_ones_own and (alibi or rel_pos)',
        'return self.at(distance).permute(0, 3, 1, 2)',
        'return self.at(distance + 1).permute(0, 3, 1, 2)',
    ),
    Mutation(
        'T5 near buckets', 'positions/t5.py', FORMULAS, 'rel_pos_num_buckets',
        'torch.where(reach < exact, reach, far)',
        'torch.where(reach < exact - 1, reach, far)',
    ),
    Mutation(
        'T5 last bucket', 'positions/t5.py', FORMULAS, 'rel_pos_max_distance',
        'math.log(max_distance / exact)',
        'math.log(max_distance)',
    ),
    Mutation(
        'T5 direction', 'positions/t5.py', FORMULAS, 'Encoder and rel_pos_bias',
        '(distance < 0).long() * num_buckets',
        '(distance > 0).long() * num_buckets',
    ),
    Mutation(
        'T5 scale', 'positions/flags.py', FORMULAS, 'rel_pos_bias',
        'cfg.attn.dim_head**0.5',
        'cfg.attn.dim_head**-0.5',
    ),
    Mutation(
        'dynamic bias logarithm', 'positions/dynamic.py', FORMULAS, 'dynamic_pos_bias_log_distance',
        't.sign() * torch.log(t.abs() + 1)',
        't.sign() * torch.log(t.abs() + 2)',
    ),
    Mutation(
        'CoPE direction', 'positions/cope.py', FORMULAS, 'attn_use_cope',
        'return gates.flip(-1).cumsum(dim=-1).flip(-1)',
        'return gates.cumsum(dim=-1)',
    ),
    Mutation(
        'CoPE interpolation', 'positions/cope.py', FORMULAS, 'attn_use_cope',
        'share * at(position.ceil()) + (1 - share) * at(below)',
        '(1 - share) * at(position.ceil()) + share * at(below)',
    ),
    Mutation(
        'forget gates of a key', 'positions/forgetting.py', FORMULAS, 'attn_data_dependent_alibi',
        't[:, :, -i:] - t.transpose(-1, -2)',
        't[:, :, -i:] - t.transpose(-1, -2).roll(1, -1)',
    ),
    Mutation(
        'forget gates of padding', 'positions/forgetting.py', PADDING, 'memories and attn_data_dependent_alibi',
        'gates.masked_fill(~counts[:, None, :, None], 0.0)',
        'gates',
    ),
    Mutation(
        'forget gates by row', 'positions/forgetting.py', FORMULAS, 'forget and row and window',
        'gates = gates.tril(j - i - 1)',
        'gates = gates.tril(j - i)',
    ),
    Mutation(
        'learned position scale', 'positions/embeddings.py', MODELS, 'defaults',
        'else dim**-0.5',
        'else dim**0.5',
    ),
    Mutation(
        'positions behind padding', 'positions/embeddings.py', PADDING, 'test_left_padded_tokens',
        '(pos - seq_start_pos[:, None]).clamp(min=0)',
        '(pos - seq_start_pos[:, None] + 1).clamp(min=0)',
    ),
    Mutation(
        'sinusoids', 'positions/embeddings.py', MODELS, 'scaled_sinu',
        'theta ** -(k / half)',
        'theta ** -(k / dim)',
    ),
    # masks
    Mutation(
        'causal mask offset', 'attention/masks.py', CAUSALITY, 'no_gradient and (softclamp_logits or num_mem_kv)',
        'keys.order(device) <= queries.order(device)[:, None]',
        'keys.order(device) <= queries.order(device)[:, None] + 1',
    ),
    Mutation(
        'causal mask left out', 'attention/masks.py', DECODING, 'test_pieces_equal_the_whole and defaults',
        'keys.start + keys.length - 1 <= queries.start',
        'keys.start + keys.length - 1 <= queries.start + 1',
    ),
    Mutation(
        'window offset', 'attention/masks.py', FORMULAS, 'max_attend_past',
        'near = distance <= self.window',
        'near = distance < self.window',
    ),
    Mutation(
        'window left out', 'attention/masks.py', DECODING, 'max_attend_past',
        'queries.start + queries.length - 1 - keys.start <= self.window',
        'queries.start + queries.length - 1 - keys.start <= self.window + 1',
    ),
    Mutation(
        'window behind padding', 'attention/masks.py', PADDING, 'behind_memories and attn_max_attend_past',
        'torch.where(k < 0, begins[:, None, None, None], 0)',
        'torch.where(k < 0, 0, begins[:, None, None, None])',
    ),
    Mutation(
        'padding of keys', 'attention/masks.py', PADDING, 'test_right_padding and defaults',
        'explicit = None if keys.visible is None else keys.visible[:, None, None, :]',
        'explicit = None',
    ),
    Mutation(
        'mask of a lead', 'attention/masks.py', PADDING, 'test_left_padding_changes_nothing and num_mem_kv',
        'ahead(both(explicit, together), lead, True)',
        'ahead(both(explicit, together), lead, False)',
    ),
    Mutation(
        'blind queries', 'attention/backends.py', BACKENDS, 'Decoder and defaults',
        'return torch.where(blind, mean, out)',
        'return out',
    ),
    Mutation(
        'aligned mask', 'attention/masks.py', PADDING, 'test_left_padding_changes_nothing and defaults',
        'past is not None and explicit is None and lead == 0 and',
        'past is not None and lead == 0 and',
    ),
    Mutation(
        'left padding', 'entry.py', PADDING, 'test_left_padding_changes_nothing and defaults',
        'padding = from_start < 0',
        'padding = from_start < -1',
    ),
    Mutation(
        'positions of left padding', 'entry.py', PADDING, 'test_left_padding_changes_nothing and rotary and memory',
        'pos = from_start if pos is None else pos',
        'pos = pos',
    ),
    Mutation(
        'mask of memories', 'attention/sight.py', PADDING, 'both_sides_of_memories and defaults',
        'visible=both(span.visible, padded(memory_mask, span.length))',
        'visible=span.visible',
    ),
    # heads, keys, scores
    Mutation(
        'grouped heads', 'attention/project.py', BACKENDS, 'Decoder and kv_heads',
        "'b (r g) i d -> b r g i d'",
        "'b (g r) i d -> b r g i d'",
    ),
    Mutation(
        'grouped heads of the kernel', 'attention/backends.py', FORMULAS, 'attn_kv_heads',
        't[:, None].expand(-1, heads // t.shape[1], -1, -1, -1)',
        't[:, :, None].expand(-1, -1, heads // t.shape[1], -1, -1)',
    ),
    Mutation(
        'memory keys first', 'attention/attention.py', FORMULAS, 'num_mem_kv',
        "'k': torch.cat((*keys, k), dim=-2)",
        "'k': torch.cat((k, *keys), dim=-2)",
    ),
    Mutation(
        'zero key', 'attention/keys.py', FORMULAS, 'attn_add_zero_kv',
        'k.new_zeros((*k.shape[:2], 1, k.shape[-1]))',
        'k.new_ones((*k.shape[:2], 1, k.shape[-1]))',
    ),
    Mutation(
        'norm of memory keys', 'attention/attention.py', FORMULAS, 'turned and normed and memory',
        '(self.norm_heads(self.mem_k, self.k_rmsnorm, self.qk_norm_k_scale, 1), ',
        '(self.mem_k, ',
    ),
    Mutation(
        'value residual share', 'attention/keys.py', FORMULAS, 'add_value_residual',
        'first + (v - first) * share',
        'v + (first - v) * share',
    ),
    Mutation(
        'value residual of grouped heads', 'attention/keys.py', FORMULAS, 'shared and grouped and exponential',
        'share.mean(dim=-2)',
        'share[..., 0, :]',
    ),
    Mutation(
        'qk norm groups', 'attention/project.py', FORMULAS, 'attn_qk_norm_groups',
        't.unflatten(-1, (groups, -1))',
        't.unflatten(-1, (1, -1))',
    ),
    Mutation(
        'qk norm scale', 'attention/attention.py', FORMULAS, 'attn_qk_norm_scale',
        'cfg.qk_norm_scale if cfg.qk_norm else cfg.dim_head**-0.5',
        'cfg.dim_head**-0.5',
    ),
    Mutation(
        'softmax scale', 'attention/backends.py', BACKENDS, 'defaults',
        'else products(q * scale, k)',
        'else products(q * scale**2, k)',
    ),
    Mutation(
        'distances of the kernel', 'attention/backends.py', FORMULAS, 'attn_l2_distance',
        'scale = 2 * scale',
        'scale = scale',
    ),
    Mutation(
        'talking heads', 'attention/attend.py', FORMULAS, 'attn_pre_talking_heads',
        'return sim if mixed is None else sim + mixed',
        'return sim if mixed is None else mixed',
    ),
    Mutation(
        'residual attention', 'attention/backends.py', FORMULAS, 'residual_attn',
        'sim = sim + scored.previous.to(sim.dtype)',
        'pass',
    ),
    Mutation(
        'gradient of strips', 'attention/strips.py', FORMULAS, 'alibi_pos_bias',
        'centred[:, rows] / total',
        'centred[:, rows]',
    ),
    Mutation(
        'strips of the reference', 'attention/backends.py', FORMULAS, 'softclamp_logits',
        '.tril(keys - (end - begin))',
        '.tril(keys - (end - begin) - 1)',
    ),
    Mutation(
        'blocks of a few rows', 'shortcuts.py', DECODING, 'defaults',
        'made.transpose(0, 1).reshape(',
        'made.reshape(',
    ),
    Mutation(
        'slope of CoPE', 'positions/cope.py', FORMULAS, 'attn_use_cope',
        'F.pad(exact.diff(dim=-1), (0, 1)).gather',
        'F.pad(exact.diff(dim=-1), (1, 0)).gather',
    ),
    Mutation(
        'gradient of CoPE', 'positions/cope.py', FORMULAS, 'attn_use_cope',
        '(slope * grad).cumsum(dim=-1)',
        '(slope * grad).flip(-1).cumsum(dim=-1).flip(-1)',
    ),
    Mutation(
        'soft clamp', 'attention/scores.py', FORMULAS, 'softclamp',
        '(t / value).tanh() * value',
        '(t / value).tanh()',
    ),
    Mutation(
        'selective shift', 'attention/scores.py', FORMULAS, 'attn_selective',
        'F.pad(by_query, (0, 0, 1, -1)).cumsum(dim=-2)',
        'by_query.cumsum(dim=-2)',
    ),
    Mutation(
        'selective first token', 'attention/scores.py', FORMULAS, 'attn_selective',
        'exempt = (k <= first) |',
        'exempt = (k < first) |',
    ),
    Mutation(
        'selective memory', 'attention/scores.py', DECODING, 'test_pieces_equal_the_whole and attn_selective',
        'total = total + selection.deselected',
        'total = total',
    ),
    Mutation(
        'top-k of scores', 'attention/normalise.py', FORMULAS, 'attn_sparse_topk',
        'scores.topk(min(sparse_topk,',
        'scores.topk(min(sparse_topk + 1,',
    ),
    Mutation(
        'hard attention', 'attention/normalise.py', FORMULAS, 'attn_hard',
        'scores.argmax(',
        'scores.argmin(',
    ),
    Mutation(
        'LASER', 'attention/outputs.py', FORMULAS, 'attn_laser_softclamp_value',
        'return softclamp(v if bound < math.log(torch.finfo(v.dtype).max) else single(v), bound).exp()',
        'return v.exp()',
    ),
    Mutation(
        'latent sub-heads', 'attention/project.py', DECODING, 'test_pieces_equal_the_whole and sub-heads',
        'F.pad(plain, (0, subheads * d))',
        'F.pad(plain, (subheads * d, 0))',
    ),
    Mutation(
        'latent values', 'attention/project.py', DECODING, 'test_pieces_equal_the_whole and latents and grouped',
        "'b r g i l, g e l -> b r g i e'",
        "'b g r i l, g e l -> b r g i e'",
    ),
    Mutation(
        'attention alone', 'attention/alone.py', FORMULAS, 'outside_of_a_stack and rotary_xpos',
        'q = attention.place(q, turns.queries, turns.query_scale)',
        'q = attention.place(q, turns.queries)',
    ),
    Mutation(
        'memory of attention alone', 'attention/alone.py', FORMULAS, 'hidden_memory and attn_qk_norm',
        'front = ones(memory) if mem_mask is None else mem_mask',
        'front = ones(memory)',
    ),
    Mutation(
        'cache of attention alone', 'attention/alone.py', FORMULAS, 'goes_on_from and attn_kv_heads',
        'torch.cat((t[..., :memory, :], old.to(t), t[..., memory:, :]), dim=-2)',
        'torch.cat((t[..., :memory, :], t[..., memory:, :], old.to(t)), dim=-2)',
    ),
    # states
    Mutation(
        'state append', 'state.py', DECODING, 'test_pieces_equal_the_whole and defaults',
        'torch.cat((self.records[name], t), dim=-2)',
        'torch.cat((t, self.records[name]), dim=-2)',
    ),
    Mutation(
        'growing state forgets', 'state.py', DECODING, 'forgets_the_same and (num_mem_kv or rotary_pos_emb)',
        't[..., self.lead + cut :, :]',
        't[..., self.lead : t.shape[-2] - cut, :]',
    ),
    Mutation(
        'fixed keys write', 'state.py', DECODING, 'test_pieces_equal_the_whole and defaults',
        'narrow(-2, at.end, new)',
        'narrow(-2, at.end - 1, new)',
    ),
    Mutation(
        'fixed keys lead moves', 'state.py', DECODING, 'forgets_the_same and num_mem_kv',
        't[..., begin : begin + self.lead, :] = t[..., self.begin : self.begin + self.lead, :].clone()',
        'pass',
    ),
    Mutation(
        'fixed keys compact', 'state.py', DECODING, 'window_that_slides',
        't[..., :live, :] = t[..., self.begin : self.end, :].clone()',
        't[..., :live, :] = t[..., :live, :].clone()',
    ),
    Mutation(
        'rewind of records', 'state.py', DECODING, 'can_be_rewound and defaults',
        't[..., : t.shape[-2] - count, :]',
        't[..., count:, :]',
    ),
    Mutation(
        'rewind of fixed keys', 'state.py', DECODING, 'can_be_rewound and defaults',
        'replace(self, end=self.end - count)',
        'replace(self, end=self.end - count + 1)',
    ),
    Mutation(
        'rewind of positions', 'state.py', DECODING, 'can_be_rewound and rotary_pos_emb',
        'keys=self.keys.first(self.length - count)',
        'keys=self.keys.last(self.length - count)',
    ),
    Mutation(
        'reorder', 'state.py', DECODING, 'reordered and defaults',
        'lambda t: t.index_select(0, index) if t.shape[0] == batch else t',
        'lambda t: t',
    ),
    Mutation(
        'keep', 'state.py', DECODING, 'forgets_the_same and defaults',
        'keys=self.keys.last(count), layers',
        'keys=self.keys.first(count), layers',
    ),
    Mutation(
        'rewrite of fixed keys', 'state.py', DECODING, 'test_pieces_equal_the_whole and attn_selective',
        'whole[..., self.begin : self.end, :] = t',
        'pass',
    ),
    Mutation(
        'memory mask of a state', 'state.py', PADDING, 'forgotten_first and defaults',
        'else mask[:, cut:]',
        'else mask[:, : mask.shape[1] - cut]',
    ),
    Mutation(
        'tail of a shift', 'shift.py', DECODING, 'test_pieces_equal_the_whole and shift_tokens',
        'return torch.cat(parts, dim=-1), kept[..., n:, :]',
        'return torch.cat(parts, dim=-1), kept[..., : self.reach, :]',
    ),
    Mutation(
        'context keys reused', 'attention/attention.py', DECODING, 'test_pieces_equal_the_whole and cross_attend',
        'return state, state.records, seen',
        'return state, {**state.records, "k": state.records["k"].flip(2)}, seen',
    ),
    Mutation(
        'states of another batch', 'layers.py', '../errors/test_misuses.py', 'another and batch',
        'if batches and batch not in batches:',
        'if False:',
    ),
    Mutation(
        'hybrid state', 'attention/hybrid.py', DECODING, 'test_pieces_equal_the_whole and attn_hybrid_fold_axial_dim',
        'lambda t: t.roll(-seen, 1), state',
        'lambda t: t, state',
    ),
    Mutation(
        'memory rows', 'layers.py', DECODING, 'transformer_xl_memory_equals and rel_pos_bias',
        'inputs if inputs.ndim == 3 else inputs[1:].mean(dim=0)',
        'inputs.flip(1) if inputs.ndim == 3 else inputs[1:].mean(dim=0)',
    ),
    Mutation(
        'memory positions', 'entry.py', PADDING, 'left_padding_behind_memories and defaults',
        'past = Span(-memory, memory,',
        'past = Span(-memory - 1, memory,',
    ),
    # layers
    Mutation(
        'shift of features', 'shift.py', FORMULAS, 'shift_tokens',
        'start = self.reach - amount',
        'start = self.reach - min(amount, 0)',
    ),
    Mutation(
        'shift behind padding', 'shift.py', PADDING, 'test_left_padding_changes_nothing and shift_tokens',
        'x = x.masked_fill(call.padding[..., None], 0.0)',
        'pass',
    ),
    Mutation(
        'residual scale', 'residuals.py', FORMULAS, 'scale_residual_constant',
        'residual = residual * self.scale_residual_constant',
        'x = x * self.scale_residual_constant',
    ),
    Mutation(
        'gated residual', 'residuals.py', FORMULAS, 'gate_residual',
        'self.gru(x.flatten(0, -2), residual.flatten(0, -2))',
        'self.gru(residual.flatten(0, -2), x.flatten(0, -2))',
    ),
    Mutation(
        'hyper-connections read', 'residuals.py', FORMULAS, 'num_residual_streams',
        'mixed = alpha.transpose(-1, -2) @ streams',
        'mixed = alpha[..., self.num_input_views :] @ streams',
    ),
    Mutation(
        'hyper-connections write', 'residuals.py', FORMULAS, 'num_residual_streams',
        'x[:, :, None] * beta[..., None] + residual',
        'x[:, :, None] + residual',
    ),
    Mutation(
        'ResiDual', 'residuals.py', FORMULAS, 'resi_dual_scale',
        'depth.dual + self.scale * x',
        'depth.dual + x',
    ),
    Mutation(
        'layer scale', 'layerscale.py', 'test_building.py', 'however_its_gains and layerscale',
        'init_value - float(unit_offset)',
        'init_value',
    ),
    Mutation(
        'layer norm gain', 'norms.py', FORMULAS, 'defaults',
        'gain = self.gamma + 1.0 if self.unit_offset else self.gamma',
        'gain = self.gamma',
    ),
    Mutation(
        'layer norm epsilon', 'norms.py', FORMULAS, 'defaults',
        'LAYER_NORM_EPS = 1e-5',
        'LAYER_NORM_EPS = 1e-3',
    ),
    Mutation(
        'adaptive gain', 'norms.py', FORMULAS, 'use_adaptive_layernorm',
        'if condition.ndim == 2 else condition) + 1.0',
        'if condition.ndim == 2 else condition)',
    ),
    Mutation(
        'U-net skips', 'plan.py', FORMULAS, 'unet_skips or skips',
        'sources[(blocks - 1 - early) * block_length] = early * block_length',
        'sources[(blocks - blocks // 2 + early) * block_length] = early * block_length',
    ),
    Mutation(
        'sandwich order', 'plan.py', FORMULAS, 'sandwich_coef',
        "('a',) * ends + block * (cfg.depth - ends) + ('f',) * ends, 1",
        "('f',) * ends + block * (cfg.depth - ends) + ('a',) * ends, 1",
    ),
    Mutation(
        'macaron halves', 'layer.py', FORMULAS, 'macaron',
        'Scale(0.5, branch)',
        'Scale(1.0, branch)',
    ),
    Mutation(
        'gated linear unit', 'feedforward.py', FORMULAS, 'ff_glu',
        'value * self.act(gate)',
        'gate * self.act(value)',
    ),
    Mutation(
        'injected input', 'layer.py', FORMULAS, 'reinject_input',
        'inputs = inputs + call.injection',
        'inputs = call.injection',
    ),
    # models
    Mutation(
        'memory tokens off again', 'models/memory_tokens.py', CAUSALITY, 'nothing_a_model_says and num_memory_tokens',
        'return x[:, :count], x[:, count:]',
        'return x[:, :count], torch.cat((x[:, count + 1 :], x[:, -1:]), dim=1)',
    ),
    Mutation(
        'memory behind padding', 'models/memory_tokens.py', PADDING, 'test_left_padded_tokens and memory',
        'torch.where(at < first, at + m,',
        'torch.where(at <= first, at + m,',
    ),
    Mutation(
        'positions of new tokens', 'models/body.py', DECODING, 'goes_on_by_state and defaults',
        'pos = torch.arange(ask.seen, ask.seen + x.shape[1], device=x.device)',
        'pos = torch.arange(ask.seen + 1, ask.seen + 1 + x.shape[1], device=x.device)',
    ),
    Mutation(
        'XL memory cut', 'models/body.py', DECODING, 'transformer_xl_memory_equals and rel_pos_bias',
        't[:, -self.max_mem_len :].detach()',
        't[:, : self.max_mem_len].detach()',
    ),
    Mutation(
        'memories shifted down', 'models/body.py', DECODING, 'memories_shifted_down',
        '[*ask.mems[self.shift_mem_down :], *ask.mems[: self.shift_mem_down]]',
        '[*ask.mems[-self.shift_mem_down :], *ask.mems[: -self.shift_mem_down]]',
    ),
    Mutation(
        'recycling', 'models/body.py', MODELS, 'recycling',
        'entries.z + carried, **inputs, return_hiddens',
        'entries.z, **inputs, return_hiddens',
    ),
    Mutation(
        'tied logits', 'models/heads.py', MODELS, 'tie_embedding',
        'return self.of[0].token_emb.emb.weight',
        'return self.of[0].token_emb.emb.weight.roll(1, 0)',
    ),
    Mutation(
        'mixture of softmaxes', 'models/heads.py', MODELS, 'mixture_of_softmax',
        'share = weights.to(prob.dtype).softmax(dim=-1)',
        'share = weights.to(prob.dtype).softmax(dim=-2)',
    ),
    Mutation(
        'xVal scaling', 'models/xval.py', MODELS, 'XVal',
        'torch.where(ids == self.numerical_token_id, numbers.to(z.dtype), 1.0)',
        'torch.where(ids == self.numerical_token_id, 1.0, numbers.to(z.dtype))',
    ),
    # generation
    Mutation(
        'last position', 'decoding/sources.py', DECODING, 'cached_generation and defaults',
        'return logits_of(self.net(x, **given), self.batch)[:, -count:]',
        'return logits_of(self.net(x, **given), self.batch)[:, -count - 1 : -1]',
    ),
    Mutation(
        'window of a stepper', 'decoding/sources.py', CHOICES, 'slides',
        'room = max(self.window - piece.shape[1], 0)',
        'room = max(self.window - piece.shape[1] - 1, 0)',
    ),
    Mutation(
        'padding moves with the window', 'decoding/sources.py', CHOICES, 'slides',
        '(start - dropped).clamp(min=0)',
        'start',
    ),
    Mutation(
        'padding of a stepper', 'decoding/sources.py', CHOICES, 'rows_go_on',
        'self.start = moved(start, dropped)',
        'self.start = None',
    ),
    Mutation(
        'ragged prompts', 'decoding/prompts.py', DECODING, 'cached_generation and defaults',
        'source = torch.arange(n, device=t.device) - (n - lens)[:, None]',
        'source = torch.arange(n, device=t.device) - (n - lens)[:, None] - 1',
    ),
    Mutation(
        'end of a row', 'decoding/generate.py', CHOICES, 'end',
        'over = over | (out[:, -1] == self.eos_token)',
        'over = out[:, -1] == self.eos_token',
    ),
    Mutation(
        'copies of a prompt', 'decoding/sources.py', WAYS, 'several',
        'index = torch.arange(len(logits), device=out.device).repeat_interleave(self.copies)',
        'index = torch.arange(len(logits), device=out.device).repeat(self.copies)',
    ),
    Mutation(
        'what is kept of a draft', 'decoding/speculative.py', WAYS, 'draft_changes and defaults',
        '* chance(q) < chance(p[:, :k])',
        '* chance(q) <= chance(p[:, :k])',
    ),
    Mutation(
        'the token behind a draft', 'decoding/speculative.py', WAYS, 'together',
        'choose.draw(p[:, k])',
        'choose.draw(p[:, k - 1])',
    ),
    Mutation(
        'how far rows advance together', 'decoding/speculative.py', WAYS, 'draft_changes and (defaults or rotary)',
        'cumprod(dim=1).sum(dim=1).min()',
        'cumprod(dim=1).sum(dim=1).max()',
    ),
    Mutation(
        'an older state', 'decoding/sources.py', WAYS, 'draft_changes and shift_tokens',
        'self.fed, self.state = self.past.pop()',
        'self.fed, self.state = length, self.past.pop()[1]',
    ),
    Mutation(
        'padding behind a prefix', 'joining.py', WAYS, 'prefix and defaults',
        'insert(seen, torch.zeros((1, count)',
        'insert(seen, torch.ones((1, count)',
    ),
    Mutation(
        'positions behind a prefix', 'decoding/sources.py', WAYS, 'prefix and defaults',
        'padding + fed :]',
        'padding :]',
    ),
    Mutation(
        'ended prompts', 'decoding/prompts.py', CHOICES, 'end',
        '>= self.start[:, None])',
        '< self.start[:, None])',
    ),
    Mutation(
        'beam reorder', 'decoding/beam.py', 'test_wrappers.py', 'beam_of_one and defaults',
        'source.reorder(rows)',
        'source.reorder(rows.flip(0))',
    ),
    Mutation(
        'beam scores', 'decoding/beam.py', 'test_wrappers.py', 'beam_of_one and defaults',
        'total[..., None] + step',
        'total[..., None].roll(1, 1) + step',
    ),
    Mutation(
        'length penalty', 'decoding/beam.py', CHOICES, 'beam',
        '** length_penalty',
        '* length_penalty',
    ),
    Mutation(
        'ended beams', 'decoding/beam.py', CHOICES, 'beam',
        '.masked_fill(ended, 0.0)',
        '.masked_fill(ended, -1.0)',
    ),
    Mutation(
        'top-k', 'decoding/sampling.py', CHOICES, 'filter',
        'kept = logits.topk(count, dim=-1)',
        'kept = logits.topk(min(count + 1, logits.shape[-1]), dim=-1)',
    ),
    Mutation(
        'top-p', 'decoding/sampling.py', CHOICES, 'filter',
        'dropped = before > thres',
        'dropped = before + ordered.softmax(dim=-1) > thres',
    ),
    Mutation(
        'min-p', 'decoding/sampling.py', CHOICES, 'filter',
        'probs < min_p * probs.amax(dim=-1, keepdim=True)',
        'probs < min_p',
    ),
    Mutation(
        'contrast', 'decoding/sampling.py', CHOICES, 'contrast',
        '(1 + beta) * expert_logits - beta',
        '(1 - beta) * expert_logits - beta',
    ),
    Mutation(
        'segments', 'decoding/segments.py', 'test_wrappers.py', 'over_segments and rel_pos_bias',
        'segment = out[:, self.begin : self.begin + self.length]',
        'segment = out[:, self.begin : self.begin + self.length - 1]',
    ),
    # losses
    Mutation(
        'loss shift', 'training/losses.py', LOSSES, 'loss_of_tokens',
        'inputs, targets = x[:, :-1].long(), x[:, 1:].long()',
        'inputs, targets = x[:, :-1].long(), x[:, :-1].long()',
    ),
    Mutation(
        'ignored targets', 'training/losses.py', LOSSES, 'loss_of_tokens',
        'total / counts.sum().clamp(min=1)',
        'total / targets.numel()',
    ),
    Mutation(
        'segments of a loss', 'training/xl.py', LOSSES, 'over_segments',
        'loss * (segment.shape[1] / inputs.shape[1])',
        'loss / 3',
    ),
    Mutation(
        'DPO reference', 'training/dpo.py', LOSSES, 'preferences',
        'self.beta * (margin - reference)',
        'self.beta * (margin + reference)',
    ),
    Mutation(
        'numbers that are none', 'training/xval.py', LOSSES, 'loss_of_numbers',
        '(targets == self.net.numerical_token_id) & counted',
        'counted',
    ),
    Mutation(
        'NAR schedule', 'training/nonautoregressive.py', LOSSES, 'schedule',
        'times = torch.linspace(0.0, 1.0, self.steps + 1)[1:]',
        'times = torch.linspace(0.0, 1.0, self.steps + 1)[:-1]',
    ),
    Mutation(
        'NAR loss', 'training/nonautoregressive.py', LOSSES, 'masked_tokens',
        '(surprise * mask).sum() / mask.sum()',
        'surprise.mean()',
    ),
    # packed rows
    Mutation(
        'documents that see each other', 'attention/masks.py', PACKING, 'test_no_token_sees and defaults',
        'queries.document[:, None, :, None] == keys.document[:, None, None, :]',
        'queries.document[:, None, :, None] >= keys.document[:, None, None, :]',
    ),
    Mutation(
        'queries that see nothing of their document', 'attention/masks.py', PACKING, 'test_a_query_that_sees_nothing',
        'explicit, past = both(explicit, past()), None',
        'explicit, past = explicit, past',
    ),
    Mutation(
        'positions of packed rows', 'call.py', PACKING, 'alone_with_gradients and rotary and memory',
        'order - self.document',
        'order',
    ),
    Mutation(
        'absolute positions of packed rows', 'models/body.py', 'test_every_model.py', 'test_packed_documents and defaults',
        'pos = places(ask.document_ids)',
        'pos = places(ask.document_ids * 0)',
    ),
    Mutation(
        'shift across documents', 'shift.py', PACKING, 'test_no_token_sees and shift_tokens',
        'part.masked_fill(~own[..., None], 0.0)',
        'part.masked_fill(own[..., None] & False, 0.0)',
    ),
    Mutation(
        'first tokens of documents', 'attention/scores.py', PACKING, 'alone_with_gradients and selective',
        'begins if keys.document is None else keys.document',
        'begins',
    ),
    Mutation(
        'context of a document', 'entry.py', PACKING, 'alone_with_gradients and cross_attend',
        'given.context_mask, document)',
        'given.context_mask)',
    ),
    Mutation(
        'loss across documents', 'training/autoregressive.py', PACKING, 'test_the_loss_of_packed_rows',
        'targets.masked_fill(~followed(document_ids), self.ignore_index)',
        'targets.masked_fill(document_ids[:, 1:] < 0, self.ignore_index)',
    ),
    Mutation(
        'padding that is one document', 'documents.py', PACKING, 'test_the_loss_of_packed_rows',
        'value=True) | (ids < 0)',
        'value=True)',
    ),
    # checks
    Mutation(
        'rewinding what was deselected', 'state.py', DECODING, 'can_be_rewound and attn_selective',
        "if 'deselected' in records:",
        'if False:',
    ),
    Mutation(
        'order of a state', 'layers.py', DECODING, 'order_of_ones_own',
        'if len(state.layers) != len(steps) or state.order not in (None, order):',
        'if False:',
    ),
)


def broken(mutation: Mutation, package: Path) -> str:
    """The source of its file with the mutation in it."""
    source = (package / mutation.file).read_text(encoding='utf-8')
    if (count := source.count(mutation.text)) != 1:
        raise LookupError(
            f'{mutation.name}: x_transformers/{mutation.file} holds the text\n    {mutation.text}\n{count} times, expected once. Where the '
            'line has moved or reads differently, mend its row in tests/mutations/mutation_table.py'
        )
    return source.replace(mutation.text, mutation.broken)
