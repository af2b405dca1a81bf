"""AutoregressiveWrapper: next-token loss (with forgetful causal masks, 2210.13432), generation, and beam search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from x_transformers.decoding.beam import Beams
from x_transformers.decoding.nets import check_given, check_outputs, why_no_logits
from x_transformers.decoding.prefix import Prefix
from x_transformers.decoding.request import SAMPLING, SEARCHING, Request, requests
from x_transformers.decoding.sources import Way
from x_transformers.decoding.task import generated, remembered, searched
from x_transformers.documents import expect_documents, followed, starts
from x_transformers.errors import FlagError, InputError
from x_transformers.flags import Config, Rules, configured, demands, flag
from x_transformers.inputs import expect_place, expect_switch
from x_transformers.storable import Storable
from x_transformers.toolbox import evaluating
from x_transformers.training.lean import LeanHead, why_logits
from x_transformers.training.losses import expect_token_model, shifted, token_loss


@dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig(Config):
    """The flags of `AutoregressiveWrapper`."""

    net: nn.Module = flag(doc='The model: token ids (b, n) to logits (b, n, vocabulary).')
    ignore_index: int = flag(-100, 'Targets with this value do not count.')
    pad_value: int = flag(0, 'Token that stands for what does not count, and follows an end token.')
    mask_prob: float = flag(
        0.0, 'Share of earlier tokens hidden from attention.', paper='2210.13432', example={'mask_prob': 0.3}, at_least=0
    )
    add_attn_z_loss: bool = flag(False, 'Add the z-loss of attention scores.', paper='2202.08906')
    label_smoothing: float = flag(
        0.0, 'Share of each target that is spread over all tokens.', paper='1512.00567', example={'label_smoothing': 0.1}, at_least=0
    )
    z_loss_weight: float = flag(
        0.0,
        'Weight of the squared log-sum-exp of the logits, which holds it near zero.',
        paper='2204.02311',
        example={'z_loss_weight': 0.1},
        at_least=0,
    )
    loss_chunk_size: int | None = flag(
        None,
        'Make the loss without its logits, so many rows at a time; 0: never; by default where the vocabulary is large.',
        paper='2411.09009',
        example={'loss_chunk_size': 5},
        at_least=0,
    )

    rules: ClassVar[Rules] = (
        demands('mask_prob', lambda c: c.mask_prob < 1, 'something must stay visible. Use less than 1.'),
        demands('label_smoothing', lambda c: c.label_smoothing < 1, 'something must be left of the target. Use less than 1.'),
        demands(
            'z_loss_weight',
            lambda c: not getattr(c.net, 'output_is_log_prob', False),
            'the model makes log-probabilities (mixture_of_softmax=True), whose log-sum-exp is always zero. Leave one out.',
        ),
    )
    positional = ('net', 'ignore_index', 'pad_value', 'mask_prob', 'add_attn_z_loss')


OF_THE_LOSS = ('mask_prob', 'add_attn_z_loss', 'label_smoothing', 'z_loss_weight', 'loss_chunk_size')


@configured(AutoregressiveConfig)
class AutoregressiveWrapper(Storable, nn.Module):
    """Trains a model to predict the next token, and generates with it.

    >>> from x_transformers import Decoder, TransformerWrapper
    >>> net = TransformerWrapper(num_tokens=256, max_seq_len=64, attn_layers=Decoder(dim=32, depth=1))
    >>> model = AutoregressiveWrapper(net)
    >>> loss = model(torch.randint(0, 256, (2, 17)))
    >>> model.generate(torch.randint(0, 256, (2, 4)), 8).shape
    torch.Size([2, 8])
    """

    def __init__(self, *args: Any, **keywords: Any):
        super().__init__()
        cfg = self.config = AutoregressiveConfig.of(None, args, keywords)
        expect_token_model('net', cfg.net, 'max_seq_len')
        concerns = next((name for name in OF_THE_LOSS if getattr(cfg, name)), None)
        if concerns and (reason := why_no_logits(cfg.net)):
            raise FlagError(f'{concerns}={getattr(cfg, concerns)!r} concerns the loss, which there is none of: {reason}. Leave one out.')
        self.net = cfg.net
        self.pad_value = cfg.pad_value
        self.ignore_index = cfg.ignore_index
        self.mask_prob = cfg.mask_prob
        self.add_attn_z_loss = cfg.add_attn_z_loss
        self.label_smoothing, self.z_loss_weight = cfg.label_smoothing, cfg.z_loss_weight
        self.loss_chunk_size = cfg.loss_chunk_size
        reason = why_logits(cfg.net) if cfg.loss_chunk_size else None
        if reason:
            raise FlagError(f'loss_chunk_size={cfg.loss_chunk_size} makes the loss without logits, but {reason}; leave it out')
        self.max_seq_len: int = cfg.net.max_seq_len

    def forward(self, x: Tensor, return_outputs: bool = False, *, document_ids: Tensor | None = None, **kwargs: Any) -> Any:
        """x (b, n + 1) token ids -> mean loss in nats, or `(loss, (logits, LayerIntermediates))` with return_outputs.

        document_ids (b, n + 1): packed rows, the document of each token, negative for padding. No document sees another, and the
        last token of one is not trained to predict the first of the next; the loss is that of the documents one per row.
        Other inputs go to the model and concern its n inputs; `attn_z_loss_weight` weighs the z-loss of attention scores.

        Where the vocabulary is large, and nothing but the loss asks for logits, they are never all there: memory and time fall to
        half and less (`loss_chunk_size`). Outputs that are asked for, hooks and heads of one's own get them as ever.
        """
        expect_switch('return_outputs', return_outputs)
        check_given(kwargs, self.net, AutoregressiveWrapper.forward, 'the loss')
        check_outputs(self.net, 'the loss')
        inputs, targets = shifted(x, self.ignore_index, self.pad_value, getattr(self.net, 'num_logits', None), type(self).__name__)
        if document_ids is not None:
            check_packed(x, document_ids, self.add_attn_z_loss)
            targets = targets.masked_fill(~followed(document_ids), self.ignore_index)
            document_ids = kwargs['document_ids'] = document_ids[:, :-1]
        if self.mask_prob > 0:
            seen = forgetful_mask(x.shape[1], inputs, self.mask_prob, document_ids)
            given = kwargs.get('self_attn_kv_mask')
            kwargs.update(self_attn_kv_mask=seen if given is None else seen & given)
        head = None if return_outputs else LeanHead.of(self.net, self.loss_chunk_size)
        if head is not None:
            kwargs.update(return_embeddings=True)
        if return_outputs or self.add_attn_z_loss:
            outputs, cache = self.net(inputs, return_intermediates=True, return_attn_z_loss=self.add_attn_z_loss, **kwargs)
        else:
            outputs, cache = self.net(inputs, **kwargs), None
        scored = outputs[:, -targets.shape[1] :] if kwargs.get('prepend_embeds') is not None else outputs
        if head is None:
            is_log_prob = getattr(self.net, 'output_is_log_prob', False)
            loss = token_loss(scored, targets, self.ignore_index, is_log_prob, self.label_smoothing, self.z_loss_weight)
        else:
            loss = head.loss(scored, targets, self.ignore_index, self.label_smoothing, self.z_loss_weight)
        if self.add_attn_z_loss:
            loss = loss + cache.attn_z_loss
        return (loss, (outputs, cache)) if return_outputs else loss

    @requests(*SAMPLING)
    def generate(self, ask: Request) -> Tensor:
        """Continue prompts by up to `seq_len` tokens; returns only the new ones, (..., k).

        A model with forward hooks, or a subclass with a forward of its own, decodes by that forward: the whole window is run
        for every token, which is slower.
        """
        with evaluating(self):  # once, not for every token
            shape, made = self._generated(ask)
            rows = list(made)
        return torch.stack(rows, dim=-1).reshape(*shape, -1) if rows else ask.prompts.new_empty((*shape, 0))

    @requests(*SAMPLING)
    def stream(self, ask: Request) -> Iterator[Tensor]:
        """As `generate`, token by token: yields ids of the shape of prompts without its last axis.

        What is wrong with the arguments is said at once. A row that has ended goes on with `pad_value` until every row has.
        """
        shape, made = self._generated(ask)
        return (token.reshape(shape) for token in made)

    def _generated(self, ask: Request) -> tuple[torch.Size, Iterator[Tensor]]:
        given = ask.amateur_model
        amateurs = given if isinstance(given, (tuple, list)) else [] if given is None else [given]
        ask = replace(ask, amateur_model=[bare(each) for each in amateurs], draft=bare(ask.draft))
        shape, made = generated(self, self.net, ask, AutoregressiveWrapper.generate)
        return shape, (token.masked_fill(over, self.pad_value) for token, over in made)

    @torch.no_grad()
    @requests(*SEARCHING)
    def beam_search(self, ask: Request) -> Beams:
        """The best continuations of prompts among `num_beams` that are followed at a time.

        Returns sequences (..., num_return_sequences, k) of new tokens, the best first, and scores (..., num_return_sequences):
        the sum of log-probabilities over the number of tokens (the end token is one) to the power of `length_penalty` (1609.08144).
        """
        return searched(self, self.net, ask, AutoregressiveWrapper.beam_search, self.pad_value)

    @torch.no_grad()
    def remember(self, prompts: Tensor, prefill_chunk: int | None = None, prefix: Prefix | None = None, **inputs: Any) -> Prefix:
        """Read ids (t,) or (b, t) that stand ahead of many prompts: `generate(prompts, prefix=...)` goes on from them.

        One row is ahead of any number of prompts, several are ahead of as many. The numbers are those of generating from all of
        it, without computing it again; they hold for the weights as they are. `prefix`: what was remembered before these.
        Inputs go to the model, and go with the later prompts too.
        """
        way = Way.checked(True, False, prefill_chunk)
        return remembered(self, self.net, prompts, way, prefix, inputs, AutoregressiveWrapper.remember)


def bare(model: Any) -> Any:
    """The model in a wrapper, or what it is."""
    return model.net if isinstance(model, AutoregressiveWrapper) else model


def check_packed(x: Tensor, document_ids: Any, z_loss: bool) -> None:
    """Whether the loss of packed rows can be that of their documents."""
    expect_place({'document_ids': document_ids}, x)
    expect_documents('document_ids', document_ids, tuple(x.shape))
    if z_loss:
        raise InputError(
            'document_ids cannot be combined with add_attn_z_loss=True: it is a mean over all inputs, and in a packed row the last token '
            'of a document is one, which predicts nothing. Give one document per row, or leave the z-loss out.'
        )


def forgetful_mask(n: int, inputs: Tensor, prob: float, document_ids: Tensor | None = None) -> Tensor:
    """(b, n - 1) bool: a random share of keys is hidden, the first one, or that of each document, last of all."""
    scores = torch.randn(inputs.shape, device=inputs.device)
    first = torch.arange(inputs.shape[1], device=inputs.device) == 0 if document_ids is None else starts(document_ids)
    scores = scores.masked_fill(first, -torch.finfo(scores.dtype).max)
    count = min(int(n * prob), inputs.shape[1])
    hidden = scores.topk(count, dim=-1).indices
    return ~torch.zeros_like(inputs, dtype=torch.bool).scatter(1, hidden, True)
