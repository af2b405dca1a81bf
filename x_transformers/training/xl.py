"""XLAutoregressiveWrapper: long sequences segment by segment, each with the memories of those before (1901.02860)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from x_transformers.decoding.callables import processors_of, stops_of, surrounded
from x_transformers.decoding.generate import Ends, OneByOne, tokens
from x_transformers.decoding.nets import check_generator, check_given, check_outputs
from x_transformers.decoding.prompts import check_end, check_generation, check_lasting, check_padding, read_prompts
from x_transformers.decoding.sampling import Choice, chosen_filter, top_k
from x_transformers.decoding.segments import Mems, Segments
from x_transformers.errors import FlagError, InputError
from x_transformers.flags import Config, configured, flag
from x_transformers.storable import Storable
from x_transformers.training.lean import LeanHead
from x_transformers.training.losses import expect_token_model, shifted, token_loss


@dataclass(frozen=True, kw_only=True)
class XLAutoregressiveConfig(Config):
    """The flags of `XLAutoregressiveWrapper`."""

    net: nn.Module = flag(doc='The model; a segment is its max_seq_len long, and it returns memories of max_mem_len.')
    ignore_index: int = flag(-100, 'Targets with this value do not count.')
    pad_value: int = flag(0, 'Token that stands for what does not count, and follows an end token.')

    positional = ('net', 'ignore_index', 'pad_value')


@configured(XLAutoregressiveConfig)
class XLAutoregressiveWrapper(Storable, nn.Module):
    """Trains a model on sequences of many segments, and generates with it by exact segment recurrence.

    >>> from x_transformers import Decoder, TransformerWrapper
    >>> net = TransformerWrapper(num_tokens=256, max_seq_len=8, max_mem_len=8, attn_layers=Decoder(dim=32, depth=1, rel_pos_bias=True))
    >>> model = XLAutoregressiveWrapper(net)
    >>> loss = model(torch.randint(0, 256, (2, 33)))
    >>> model.generate(torch.randint(0, 256, (2, 11)), 20).shape
    torch.Size([2, 20])
    """

    def __init__(self, *args: Any, **keywords: Any):
        super().__init__()
        cfg = self.config = XLAutoregressiveConfig.of(None, args, keywords)
        expect_token_model('net', cfg.net, 'max_seq_len', 'max_mem_len')
        if not cfg.net.max_seq_len:
            raise FlagError('net has max_seq_len=0, which gives segments no length; give it one')
        self.net = cfg.net
        self.pad_value = cfg.pad_value
        self.ignore_index = cfg.ignore_index
        self.max_seq_len: int = cfg.net.max_seq_len

    def forward(self, x: Tensor, mems: Mems = None, **kwargs: Any) -> Tensor:
        """x (b, n + 1) token ids -> mean loss in nats over all segments; memories carry no gradient from one to the next."""
        check_given(kwargs, self.net, XLAutoregressiveWrapper.forward, 'the loss')
        check_outputs(self.net, 'the loss')
        inputs, targets = shifted(x, self.ignore_index, self.pad_value, getattr(self.net, 'num_logits', None), type(self).__name__)
        head = LeanHead.of(self.net, None)
        if head is not None:
            kwargs.update(return_embeddings=True)
        losses = []
        for segment, wanted in zip(inputs.split(self.max_seq_len, dim=1), targets.split(self.max_seq_len, dim=1)):
            outputs, mems = self.net(segment, mems=mems, return_mems=True, **kwargs)
            if head is None:
                loss = token_loss(outputs, wanted, self.ignore_index, getattr(self.net, 'output_is_log_prob', False))
            else:
                loss = head.loss(outputs, wanted, self.ignore_index, 0.0, 0.0)
            losses.append(loss * (segment.shape[1] / inputs.shape[1]))
        return torch.stack(losses).sum()

    @torch.no_grad()
    def generate(
        self,
        start_tokens: Tensor,
        seq_len: int,
        eos_token: int | None = None,
        temperature: float = 1.0,
        filter_logits_fn: str | Callable[..., Tensor] = top_k,
        filter_kwargs: dict[str, Any] | None = None,
        mems: Mems = None,
        cache_kv: bool = True,
        generator: torch.Generator | None = None,
        logits_processors: Sequence[Callable[..., Tensor]] | None = None,
        stopping_criteria: Sequence[Callable[..., Any]] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Continue `start_tokens`, ids (t,), (b, t) or (..., t), of any length by up to `seq_len` tokens; returns the new ones.

        When every row holds an end token, generation stops and what follows the first is `pad_value`; as in 2.0.1, nothing
        is replaced where it ends before that. `mems`: memories from before the start tokens. `seq_start_pos` (b,): padding in
        front of each, within one segment. `logits_processors` and `stopping_criteria` are those of `AutoregressiveWrapper`.
        """
        seq_len, temperature, eos_token = check_generation(seq_len, temperature, eos_token, generator, cache_kv=cache_kv)
        if 'prompt_lens' in kwargs:
            raise InputError('prompt_lens cannot be used with segments, whose memories have one length; generate from one length at a time')
        rows = read_prompts(start_tokens, seq_start_pos=kwargs.pop('seq_start_pos', None))
        check_given(kwargs, self.net, XLAutoregressiveWrapper.generate, 'generate')
        check_generator(self.net)
        check_end(eos_token, self.net)
        check_lasting(kwargs, seq_len)
        check_padding(kwargs, *rows.tokens.shape)
        fed = rows.tokens.shape[1] + seq_len - 1
        if rows.start is not None and fed > self.max_seq_len:
            raise InputError(
                f'seq_start_pos with {fed} tokens to read goes beyond one segment (max_seq_len={self.max_seq_len}), whose memories have '
                'one length; generate from one length at a time'
            )
        choose = Choice(temperature, chosen_filter(filter_logits_fn, filter_kwargs), generator)
        ends, processors = Ends(eos_token, stops_of(stopping_criteria)), processors_of(logits_processors)
        source = surrounded(Segments(self.net, self.max_seq_len, kwargs, mems, cache_kv), processors)
        made = list(tokens(OneByOne(source, choose), rows, seq_len, ends, (self,)))
        if not made:
            return start_tokens.new_empty((*rows.leading, 0))
        out, over = (torch.stack(each, dim=-1) for each in zip(*made))
        if ends.possible and bool(ends.after(torch.cat((rows.tokens, out), dim=1), over[:, -1]).all()):
            out = out.masked_fill(over, self.pad_value)
        return out.reshape(*rows.leading, -1)
