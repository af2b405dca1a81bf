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
    text: str
    broken: str
    laws: str
    k: str


FORMULAS, DECODING, PADDING, CAUSALITY = 'test_formulas.py', 'test_decoding.py', 'test_padding.py', 'test_causality.py'
BACKENDS, MODELS, LOSSES, CHOICES = 'test_backends.py', 'test_model_formulas.py', 'test_loss_formulas.py', 'test_choices.py'

MUTATIONS = tuple(
    Mutation(*row)
    for row in (
        # positions
        ('rotary sign', 'positions/rotary.py', 'y * self.cos + x * self.sin)', 'y * self.cos - x * self.sin)', FORMULAS, 'rotary_pos_emb'),
        ('rotary pairs', 'positions/rotary.py', 'x, y = head.unflatten(-1, (-1, 2)).unbind(-1)', 'x, y = head.chunk(2, dim=-1)', FORMULAS, 'rotary_emb_dim or rotary_pos_emb'),
        ('rotary interpolation', 'positions/rotary.py', 'self.inv_freq.to(wide) / self.interpolation_factor', 'self.inv_freq.to(wide) * self.interpolation_factor', FORMULAS, 'rotary_interpolation_factor'),
        ('rotary base', 'positions/rotary.py', '(dim / max(dim - 2, 1))', '(dim / max(dim - 1, 1))', FORMULAS, 'rotary_base_rescale_factor'),
        ('rotary position of queries', 'entry.py', 'own = rotary.rotation(queries, keys, device, new)', 'own = rotary.rotation(replace(queries, start=queries.start + 1), keys, device, new + 1)', FORMULAS, 'rotary_pos_emb'),
        ('xPos exponent', 'positions/rotary.py', 'self.decay(q_pos, middle), 1 / self.decay(every, middle)', 'self.decay(q_pos, middle), self.decay(every, middle)', FORMULAS, 'rotary_xpos'),
        ('xPos centre of keys', 'positions/rotary.py', '1 / self.decay(every, middle)', '1 / self.decay(every, middle + 1)', FORMULAS, 'rotary_xpos'),
        ('ALiBi slopes', 'positions/alibi.py', '-8.0 * (k + 1) / count', '-8.0 * k / count', FORMULAS, 'alibi_pos_bias'),
        ('ALiBi heads', 'positions/alibi.py', 'padded = chosen + [0.0] * (self.total_heads - heads)', 'padded = [0.0] * (self.total_heads - heads) + chosen', FORMULAS, 'alibi_num_heads'),
        ('distance offset', 'positions/distance.py', 'return table[distance - nearest]', 'return table[(distance - nearest - 1).clamp(min=0)]', FORMULAS, 'alibi_pos_bias'),
        ('distance of given positions', 'positions/distance.py', 'return self.at(distance).permute(0, 3, 1, 2)', 'return self.at(distance + 1).permute(0, 3, 1, 2)', FORMULAS, 'positions_of_ones_own and (alibi or rel_pos)'),
        ('T5 near buckets', 'positions/t5.py', 'torch.where(reach < exact, reach, far)', 'torch.where(reach < exact - 1, reach, far)', FORMULAS, 'rel_pos_num_buckets'),
        ('T5 last bucket', 'positions/t5.py', 'math.log(max_distance / exact)', 'math.log(max_distance)', FORMULAS, 'rel_pos_max_distance'),
        ('T5 direction', 'positions/t5.py', '(distance < 0).long() * num_buckets', '(distance > 0).long() * num_buckets', FORMULAS, 'Encoder and rel_pos_bias'),
        ('T5 scale', 'positions/flags.py', 'cfg.attn.dim_head**0.5', 'cfg.attn.dim_head**-0.5', FORMULAS, 'rel_pos_bias'),
        ('dynamic bias logarithm', 'positions/dynamic.py', 't.sign() * torch.log(t.abs() + 1)', 't.sign() * torch.log(t.abs() + 2)', FORMULAS, 'dynamic_pos_bias_log_distance'),
        ('CoPE direction', 'positions/cope.py', 'return gates.flip(-1).cumsum(dim=-1).flip(-1)', 'return gates.cumsum(dim=-1)', FORMULAS, 'attn_use_cope'),
        ('CoPE interpolation', 'positions/cope.py', 'share * at(position.ceil()) + (1 - share) * at(below)', '(1 - share) * at(position.ceil()) + share * at(below)', FORMULAS, 'attn_use_cope'),
        ('forget gates of a key', 'positions/forgetting.py', 't[:, :, -i:] - t.transpose(-1, -2)', 't[:, :, -i:] - t.transpose(-1, -2).roll(1, -1)', FORMULAS, 'attn_data_dependent_alibi'),
        ('forget gates of padding', 'positions/forgetting.py', 'gates.masked_fill(~counts[:, None, :, None], 0.0)', 'gates', PADDING, 'memories and attn_data_dependent_alibi'),
        ('forget gates by row', 'positions/forgetting.py', 'gates = gates.tril(j - i - 1)', 'gates = gates.tril(j - i)', FORMULAS, 'attn_data_dependent_alibi_per_row'),
        ('learned position scale', 'positions/embeddings.py', 'else dim**-0.5', 'else dim**0.5', MODELS, 'defaults'),
        ('positions behind padding', 'positions/embeddings.py', '(pos - seq_start_pos[:, None]).clamp(min=0)', '(pos - seq_start_pos[:, None] + 1).clamp(min=0)', PADDING, 'test_left_padded_tokens'),
        ('sinusoids', 'positions/embeddings.py', 'theta ** -(k / half)', 'theta ** -(k / dim)', MODELS, 'scaled_sinu'),
        # masks
        ('causal mask offset', 'attention/masks.py', 'return keys.order(device) <= queries.order(device)[:, None]', 'return keys.order(device) <= queries.order(device)[:, None] + 1', CAUSALITY, 'no_gradient and (softclamp_logits or num_mem_kv)'),
        ('causal mask left out', 'attention/masks.py', 'keys.start + keys.length - 1 <= queries.start', 'keys.start + keys.length - 1 <= queries.start + 1', DECODING, 'test_pieces_equal_the_whole and defaults'),
        ('window offset', 'attention/masks.py', 'return distance <= self.window', 'return distance < self.window', FORMULAS, 'max_attend_past'),
        ('window left out', 'attention/masks.py', 'queries.start + queries.length - 1 - keys.start <= self.window', 'queries.start + queries.length - 1 - keys.start <= self.window + 1', DECODING, 'max_attend_past'),
        ('window behind padding', 'attention/masks.py', 'torch.where(k < 0, begins[:, None, None, None], 0)', 'torch.where(k < 0, 0, begins[:, None, None, None])', PADDING, 'behind_memories and attn_max_attend_past'),
        ('padding of keys', 'attention/masks.py', 'explicit = None if keys.visible is None else keys.visible[:, None, None, :]', 'explicit = None', PADDING, 'test_right_padding and defaults'),
        ('mask of a lead', 'attention/masks.py', 'Visible(ahead(explicit, lead, True)', 'Visible(ahead(explicit, lead, False)', BACKENDS, 'num_mem_kv'),
        ('blind queries', 'attention/backends.py', 'return torch.where(blind, mean, out)', 'return out', BACKENDS, 'Decoder and defaults'),
        ('aligned mask', 'attention/masks.py', 'past is not None and explicit is None and lead == 0 and', 'past is not None and lead == 0 and', PADDING, 'test_left_padding_changes_nothing and defaults'),
        ('left padding', 'entry.py', 'padding = from_start < 0', 'padding = from_start < -1', PADDING, 'test_left_padding_changes_nothing and defaults'),
        ('positions of left padding', 'entry.py', 'pos = from_start if pos is None else pos', 'pos = pos', DECODING, 'left_padded_batch and rotary_pos_emb'),
        ('mask of memories', 'attention/attention.py', 'tokens if span.visible is None else tokens & span.visible', 'tokens if span.visible is None else span.visible', PADDING, 'in_front_of_memories and defaults'),
        # heads, keys, scores
        ('grouped heads', 'attention/project.py', "'b (r g) i d -> b r g i d'", "'b (g r) i d -> b r g i d'", BACKENDS, 'Decoder and kv_heads'),
        ('grouped heads of the kernel', 'attention/backends.py', 't[:, None].expand(-1, heads // groups, -1, -1, -1)', 't[:, :, None].expand(-1, -1, heads // groups, -1, -1)', FORMULAS, 'attn_kv_heads'),
        ('memory keys first', 'attention/attention.py', "'k': torch.cat((*keys, k), dim=-2)", "'k': torch.cat((k, *keys), dim=-2)", FORMULAS, 'num_mem_kv'),
        ('zero key', 'attention/keys.py', 'k.new_zeros((*k.shape[:2], 1, k.shape[-1]))', 'k.new_ones((*k.shape[:2], 1, k.shape[-1]))', FORMULAS, 'attn_add_zero_kv'),
        ('norm of memory keys', 'attention/attention.py', 'self.norm_heads(self.mem_k, self.qk_norm_k_scale, 1) if cfg.qk_norm else self.mem_k', 'self.mem_k', FORMULAS, 'memory keys'),
        ('value residual share', 'attention/keys.py', 'first + (v - first) * share', 'v + (first - v) * share', FORMULAS, 'add_value_residual'),
        ('value residual of grouped heads', 'attention/keys.py', 'share.mean(dim=-2)', 'share[..., 0, :]', FORMULAS, 'shared values of grouped heads'),
        ('qk norm groups', 'attention/project.py', 't.unflatten(-1, (groups, -1)), dim=-1)', 't.unflatten(-1, (groups, -1)), dim=-2)', FORMULAS, 'attn_qk_norm_groups'),
        ('qk norm scale', 'attention/attention.py', 'cfg.qk_norm_scale if cfg.qk_norm else cfg.dim_head**-0.5', 'cfg.dim_head**-0.5', FORMULAS, 'attn_qk_norm_scale'),
        ('softmax scale', 'attention/backends.py', 'else products(q * scale, k)', 'else products(q * scale**2, k)', BACKENDS, 'defaults'),
        ('distances of the kernel', 'attention/backends.py', 'scale = 2 * scale', 'scale = scale', FORMULAS, 'attn_l2_distance'),
        ('talking heads', 'attention/attend.py', 'return sim if mixed is None else sim + mixed', 'return sim if mixed is None else mixed', FORMULAS, 'attn_pre_talking_heads'),
        ('residual attention', 'attention/backends.py', 'sim = sim + scored.previous.to(sim.dtype)', 'pass', FORMULAS, 'residual_attn'),
        ('soft clamp', 'attention/scores.py', '(t / value).tanh() * value', '(t / value).tanh()', FORMULAS, 'softclamp'),
        ('selective shift', 'attention/scores.py', 'F.pad(by_query, (0, 0, 1, -1)).cumsum(dim=-2)', 'by_query.cumsum(dim=-2)', FORMULAS, 'attn_selective'),
        ('selective first token', 'attention/scores.py', 'exempt = (k <= first) |', 'exempt = (k < first) |', FORMULAS, 'attn_selective'),
        ('selective memory', 'attention/scores.py', 'total = total + selection.deselected', 'total = total', DECODING, 'test_pieces_equal_the_whole and attn_selective'),
        ('top-k of scores', 'attention/normalise.py', 'scores.topk(min(sparse_topk,', 'scores.topk(min(sparse_topk + 1,', FORMULAS, 'attn_sparse_topk'),
        ('hard attention', 'attention/normalise.py', 'scores.argmax(dim=-1)', 'scores.argmin(dim=-1)', FORMULAS, 'attn_hard'),
        ('LASER', 'attention/outputs.py', 'return softclamp(v, bound).exp()', 'return v.exp()', FORMULAS, 'attn_laser_softclamp_value'),
        ('latent sub-heads', 'attention/project.py', "'b s i d, s t -> b s i t d'", "'b s i d, t s -> b t i s d'", FORMULAS, 'latents, key sub-heads'),
        ('latent values', 'attention/project.py', "'b r g i l, g e l -> b r g i e'", "'b g r i l, g e l -> b r g i e'", FORMULAS, 'latents of grouped heads'),
        # states
        ('state append', 'state.py', 'torch.cat((self.records[name], t), dim=-2)', 'torch.cat((t, self.records[name]), dim=-2)', DECODING, 'test_pieces_equal_the_whole and defaults'),
        ('growing state forgets', 'state.py', 't[..., self.lead + cut :, :]', 't[..., self.lead : t.shape[-2] - cut, :]', DECODING, 'forgets_the_same and (num_mem_kv or rotary_pos_emb)'),
        ('fixed keys write', 'state.py', 'at.buffers[name][..., at.end : at.end + new, :] = t', 'at.buffers[name][..., at.end - 1 : at.end - 1 + new, :] = t', DECODING, 'test_pieces_equal_the_whole and defaults'),
        ('fixed keys lead moves', 'state.py', 't[..., begin : begin + self.lead, :] = t[..., self.begin : self.begin + self.lead, :].clone()', 'pass', DECODING, 'forgets_the_same and num_mem_kv'),
        ('fixed keys compact', 'state.py', 't[..., :live, :] = t[..., self.begin : self.end, :].clone()', 't[..., :live, :] = t[..., :live, :].clone()', DECODING, 'window_that_slides'),
        ('rewind of records', 'state.py', 't[..., : t.shape[-2] - count, :]', 't[..., count:, :]', DECODING, 'can_be_rewound and defaults'),
        ('rewind of fixed keys', 'state.py', 'replace(self, end=self.end - count)', 'replace(self, end=self.end - count + 1)', DECODING, 'can_be_rewound and defaults'),
        ('rewind of positions', 'state.py', 'keys=self.keys.first(self.length - count)', 'keys=self.keys.last(self.length - count)', DECODING, 'can_be_rewound and rotary_pos_emb'),
        ('reorder', 'state.py', 'lambda t: t.index_select(0, index) if t.shape[0] == batch else t', 'lambda t: t', DECODING, 'reordered and defaults'),
        ('keep', 'state.py', 'keys=self.keys.last(count), layers', 'keys=self.keys.first(count), layers', DECODING, 'transformer_xl_memory_equals and rel_pos_bias'),
        ('rewrite of fixed keys', 'state.py', 'whole[..., self.begin : self.end, :] = t', 'pass', DECODING, 'test_pieces_equal_the_whole and attn_selective'),
        ('memory mask of a state', 'state.py', 'else mask[:, cut:]', 'else mask[:, : mask.shape[1] - cut]', DECODING, 'forgotten_memories'),
        ('tail of a shift', 'shift.py', 'return torch.cat(parts, dim=-1), kept[..., n:, :]', 'return torch.cat(parts, dim=-1), kept[..., : self.reach, :]', DECODING, 'test_pieces_equal_the_whole and shift_tokens'),
        ('context keys reused', 'attention/attention.py', 'return state, state.records, seen', 'return state, {**state.records, "k": state.records["k"].flip(2)}, seen', DECODING, 'test_pieces_equal_the_whole and cross_attend'),
        ('states of another batch', 'layers.py', 'if batches and batch not in batches:', 'if False:', DECODING, 'another_batch'),
        ('hybrid state', 'attention/hybrid.py', 'lambda t: t.roll(-seen, 1), state', 'lambda t: t, state', DECODING, 'test_pieces_equal_the_whole and attn_hybrid_fold_axial_dim'),
        ('memory rows', 'layers.py', 'inputs if inputs.ndim == 3 else inputs[1:].mean(dim=0)', 'inputs + 1 if inputs.ndim == 3 else inputs[1:].mean(dim=0)', DECODING, 'transformer_xl_memory_equals and rel_pos_bias'),
        ('memory positions', 'entry.py', 'past = Span(-memory, memory,', 'past = Span(-memory - 1, memory,', DECODING, 'transformer_xl_memory_equals and rel_pos_bias'),
        # layers
        ('shift of features', 'shift.py', 'start = self.reach - amount', 'start = self.reach - min(amount, 0)', FORMULAS, 'shift_tokens'),
        ('shift behind padding', 'shift.py', 'x = x.masked_fill(call.padding[..., None], 0.0)', 'pass', PADDING, 'test_left_padding_changes_nothing and shift_tokens'),
        ('residual scale', 'residuals.py', 'residual = residual * self.scale_residual_constant', 'x = x * self.scale_residual_constant', FORMULAS, 'scale_residual_constant'),
        ('gated residual', 'residuals.py', 'self.gru(x.flatten(0, -2), residual.flatten(0, -2))', 'self.gru(residual.flatten(0, -2), x.flatten(0, -2))', FORMULAS, 'gate_residual'),
        ('hyper-connections read', 'residuals.py', 'mixed = alpha.transpose(-1, -2) @ streams', 'mixed = alpha[..., self.num_input_views :] @ streams', FORMULAS, 'num_residual_streams'),
        ('hyper-connections write', 'residuals.py', 'x[:, :, None] * beta[..., None] + residual', 'x[:, :, None] + residual', FORMULAS, 'num_residual_streams'),
        ('ResiDual', 'residuals.py', 'depth.dual + self.scale * x', 'depth.dual + x', FORMULAS, 'resi_dual_scale'),
        ('layer scale', 'layerscale.py', 'init_value - float(unit_offset)', 'init_value', 'test_building.py', 'defaults_of_gains'),
        ('layer norm gain', 'norms.py', 'weight=self.gamma + float(self.unit_offset)', 'weight=self.gamma', FORMULAS, 'defaults'),
        ('layer norm epsilon', 'norms.py', 'weight=self.gamma + float(self.unit_offset))', 'weight=self.gamma + float(self.unit_offset), eps=1e-3)', FORMULAS, 'defaults'),
        ('adaptive gain', 'norms.py', 'if condition.ndim == 2 else condition) + 1.0', 'if condition.ndim == 2 else condition)', FORMULAS, 'use_adaptive_layernorm'),
        ('U-net skips', 'plan.py', 'sources[(blocks - 1 - early) * block_length] = early * block_length', 'sources[(blocks - blocks // 2 + early) * block_length] = early * block_length', FORMULAS, 'unet_skips or skips'),
        ('sandwich order', 'plan.py', "('a',) * ends + block * (cfg.depth - ends) + ('f',) * ends, 1", "('f',) * ends + block * (cfg.depth - ends) + ('a',) * ends, 1", FORMULAS, 'sandwich_coef'),
        ('macaron halves', 'layer.py', 'Scale(0.5, branch)', 'Scale(1.0, branch)', FORMULAS, 'macaron'),
        ('gated linear unit', 'feedforward.py', 'value * self.act(gate)', 'gate * self.act(value)', FORMULAS, 'ff_glu'),
        ('injected input', 'layer.py', 'inputs = inputs + call.injection', 'inputs = call.injection', FORMULAS, 'reinject_input'),
        # models
        ('memory tokens off again', 'models/memory_tokens.py', 'return x[:, :count], x[:, count:]', 'return x[:, :count], torch.cat((x[:, count + 1 :], x[:, -1:]), dim=1)', CAUSALITY, 'nothing_a_model_says and num_memory_tokens'),
        ('memory behind padding', 'models/memory_tokens.py', 'torch.where(at < first, at + m,', 'torch.where(at <= first, at + m,', PADDING, 'test_left_padded_tokens and memory'),
        ('positions of new tokens', 'models/body.py', 'pos = torch.arange(ask.seen, ask.seen + x.shape[1], device=x.device)', 'pos = torch.arange(ask.seen + 1, ask.seen + 1 + x.shape[1], device=x.device)', DECODING, 'goes_on_by_state and defaults'),
        ('XL memory cut', 'models/body.py', 't[:, -self.max_mem_len :].detach()', 't[:, : self.max_mem_len].detach()', DECODING, 'transformer_xl_memory_equals and rel_pos_bias'),
        ('memories shifted down', 'models/body.py', '[*ask.mems[self.shift_mem_down :], *ask.mems[: self.shift_mem_down]]', '[*ask.mems[-self.shift_mem_down :], *ask.mems[: -self.shift_mem_down]]', DECODING, 'memories_shifted_down'),
        ('recycling', 'models/body.py', 'entries.z + carried, **inputs, return_hiddens', 'entries.z, **inputs, return_hiddens', MODELS, 'recycling'),
        ('tied logits', 'models/heads.py', 'F.linear(x, self.of[0].token_emb.emb.weight)', 'F.linear(x, self.of[0].token_emb.emb.weight.roll(1, 0))', MODELS, 'tie_embedding'),
        ('mixture of softmaxes', 'models/heads.py', 'share = weights.to(prob.dtype).softmax(dim=-1)', 'share = weights.to(prob.dtype).softmax(dim=-2)', MODELS, 'mixture_of_softmax'),
        ('xVal scaling', 'models/xval.py', 'torch.where(ids == self.numerical_token_id, numbers.to(z.dtype), 1.0)', 'torch.where(ids == self.numerical_token_id, 1.0, numbers.to(z.dtype))', MODELS, 'XVal'),
        # generation
        ('last position', 'decoding/generate.py', 'return logits_of(self.net(x, **given), self.batch)[:, -1]', 'return logits_of(self.net(x, **given), self.batch)[:, -2]', DECODING, 'cached_generation and defaults'),
        ('window of a stepper', 'decoding/generate.py', 'room = max(self.window - new.shape[1], 0)', 'room = max(self.window - new.shape[1] - 1, 0)', CHOICES, 'slides'),
        ('padding moves with the window', 'decoding/generate.py', '(start - dropped).clamp(min=0)', 'start', CHOICES, 'slides'),
        ('tokens fed', 'decoding/generate.py', 'new = out[:, self.fed :] if self.fed', 'new = out[:, self.fed - 1 :] if self.fed', DECODING, 'cached_generation and rotary_pos_emb'),
        ('ragged prompts', 'decoding/prompts.py', 'source = torch.arange(n, device=t.device) - (n - lens)[:, None]', 'source = torch.arange(n, device=t.device) - (n - lens)[:, None] + 1', DECODING, 'cached_generation and defaults'),
        ('end of a row', 'decoding/generate.py', 'over = over | (token == eos_token)', 'over = token == eos_token', CHOICES, 'end'),
        ('ended prompts', 'decoding/prompts.py', '>= self.start[:, None])', '< self.start[:, None])', CHOICES, 'end'),
        ('beam reorder', 'decoding/beam.py', 'source.reorder(rows)', 'pass', 'test_wrappers.py', 'beam_of_one and defaults'),
        ('beam scores', 'decoding/beam.py', 'total[..., None] + step', 'total[..., None].roll(1, 1) + step', 'test_wrappers.py', 'beam_of_one and defaults'),
        ('length penalty', 'decoding/beam.py', '** length_penalty', '* length_penalty', CHOICES, 'beam'),
        ('ended beams', 'decoding/beam.py', '.masked_fill(ended, 0.0)', '.masked_fill(ended, -1.0)', CHOICES, 'beam'),
        ('top-k', 'decoding/sampling.py', 'kept = logits.topk(count, dim=-1)', 'kept = logits.topk(min(count + 1, logits.shape[-1]), dim=-1)', CHOICES, 'filter'),
        ('top-p', 'decoding/sampling.py', 'dropped = before > thres', 'dropped = before + ordered.softmax(dim=-1) > thres', CHOICES, 'filter'),
        ('min-p', 'decoding/sampling.py', 'probs < min_p * probs.amax(dim=-1, keepdim=True)', 'probs < min_p', CHOICES, 'filter'),
        ('contrast', 'decoding/sampling.py', '(1 + beta) * expert_logits - beta', '(1 - beta) * expert_logits - beta', CHOICES, 'contrast'),
        ('segments', 'decoding/segments.py', 'self.begin, self.stepper = self.begin + self.length, None', 'self.begin = self.begin + self.length', 'test_wrappers.py', 'over_segments and rel_pos_bias'),
        # losses
        ('loss shift', 'training/losses.py', 'inputs, targets = x[:, :-1].long(), x[:, 1:].long()', 'inputs, targets = x[:, :-1].long(), x[:, :-1].long()', LOSSES, 'AutoregressiveWrapper'),
        ('ignored targets', 'training/losses.py', '(targets != ignore_index).sum().clamp(min=1)', 'targets.numel()', LOSSES, 'AutoregressiveWrapper'),
        ('segments of a loss', 'training/xl.py', 'loss * (segment.shape[1] / inputs.shape[1])', 'loss / 3', LOSSES, 'XL'),
        ('DPO reference', 'training/dpo.py', 'self.beta * (margin - reference)', 'self.beta * (margin + reference)', LOSSES, 'DPO'),
        ('numbers that are none', 'training/xval.py', '(targets == self.net.numerical_token_id) & counted', 'counted', LOSSES, 'XVal'),
        ('NAR schedule', 'training/nonautoregressive.py', 'times = torch.linspace(0.0, 1.0, self.steps + 1)[1:]', 'times = torch.linspace(0.0, 1.0, self.steps + 1)[:-1]', LOSSES, 'schedule'),
        ('NAR loss', 'training/nonautoregressive.py', '(surprise * mask).sum() / mask.sum()', 'surprise.mean()', LOSSES, 'NonAutoregressive'),
        # checks
        ('room of a state', 'state.py', 'isinstance(inner, Fresh) and inner.capacity is not None and new > inner.capacity', 'False', DECODING, 'full_says_so'),
        ('order of a state', 'layers.py', 'if len(state.layers) != len(steps) or state.order not in (None, order):', 'if False:', DECODING, 'order_of_ones_own'),
    )
)  # fmt: skip


def broken(mutation: Mutation, package: Path) -> str:
    """The source of its file with the mutation in it."""
    source = (package / mutation.file).read_text(encoding='utf-8')
    if (count := source.count(mutation.text)) != 1:
        raise LookupError(
            f'{mutation.name}: x_transformers/{mutation.file} holds the text\n    {mutation.text}\n{count} times, expected once. Where the '
            'line has moved or reads differently, mend its row in tests/mutations/mutation_table.py'
        )
    return source.replace(mutation.text, mutation.broken)
