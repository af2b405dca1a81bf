"""AutoregressiveWrapper: next-token loss (with forgetful causal masks, 2210.13432), generation, and beam search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from x_transformers.decoding.beam import Beams, beam_search, check_beam
from x_transformers.decoding.generate import Contrast, Source, Way, source_for, tokens
from x_transformers.decoding.nets import check_generator, check_given, check_outputs, why_no_logits
from x_transformers.decoding.prompts import Prompts, check_generation, check_lasting, read_prompts
from x_transformers.decoding.sampling import chosen_filter, pick, top_k
from x_transformers.documents import expect_documents, followed, starts
from x_transformers.errors import FlagError, InputError, quoted
from x_transformers.flags import Config, Rules, configured, demands, flag
from x_transformers.inputs import expect_place, expect_switch, real
from x_transformers.storable import Storable
from x_transformers.toolbox import evaluating, identity
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

    def generate(
        self,
        prompts: Tensor,
        seq_len: int,
        eos_token: int | None = None,
        temperature: float = 1.0,
        prompt_lens: Tensor | None = None,
        filter_logits_fn: str | Callable[..., Tensor] = top_k,
        restrict_to_max_seq_len: bool = True,
        amateur_model: Any = None,
        filter_kwargs: dict[str, Any] | None = None,
        contrastive_decode_kwargs: Any = None,
        cache_kv: bool = True,
        generator: torch.Generator | None = None,
        compile: bool = False,
        prefill_chunk: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Continue `prompts`, ids (t,), (b, t) or (..., t), by up to `seq_len` tokens; returns only the new ones.

        eos_token, after which `pad_value` stands; temperature (0: the most probable token); prompt_lens (b,) of ragged
        prompts, or seq_start_pos (b,), the padding in front of each; filter_logits_fn ('top_k', 'top_p', 'top_a', 'min_p' or
        a function) with filter_kwargs; restrict_to_max_seq_len (False: never forget the earliest tokens); amateur_model, or
        several, with contrastive_decode_kwargs; cache_kv; generator (torch.Generator); mask (b, t) of the prompts. Other
        keywords go to the model.

        compile=True compiles the step from token to token: two graphs, whatever the length; it pays from some hundred tokens.
        prefill_chunk runs the prompt in chunks of so many tokens, which bounds the memory that a long one takes.

        A model with forward hooks, or a subclass with a forward of its own, decodes by that forward: the whole window is run
        for every token, which is slower.
        """
        with evaluating(self):  # once, not for every token
            made = list(
                self.stream(
                    prompts,
                    seq_len,
                    eos_token=eos_token,
                    temperature=temperature,
                    prompt_lens=prompt_lens,
                    filter_logits_fn=filter_logits_fn,
                    restrict_to_max_seq_len=restrict_to_max_seq_len,
                    amateur_model=amateur_model,
                    filter_kwargs=filter_kwargs,
                    contrastive_decode_kwargs=contrastive_decode_kwargs,
                    cache_kv=cache_kv,
                    generator=generator,
                    compile=compile,
                    prefill_chunk=prefill_chunk,
                    **kwargs,
                )
            )
        if not made:
            return prompts.new_empty((*prompts.shape[:-1], 0))
        return torch.stack(made, dim=-1)

    def stream(
        self,
        prompts: Tensor,
        seq_len: int,
        eos_token: int | None = None,
        temperature: float = 1.0,
        prompt_lens: Tensor | None = None,
        filter_logits_fn: str | Callable[..., Tensor] = top_k,
        restrict_to_max_seq_len: bool = True,
        amateur_model: Any = None,
        filter_kwargs: dict[str, Any] | None = None,
        contrastive_decode_kwargs: Any = None,
        cache_kv: bool = True,
        generator: torch.Generator | None = None,
        compile: bool = False,
        prefill_chunk: int | None = None,
        **kwargs: Any,
    ) -> Iterator[Tensor]:
        """As `generate`, token by token: yields ids of the shape of `prompts` without its last axis."""
        switches = {'restrict_to_max_seq_len': restrict_to_max_seq_len, 'cache_kv': cache_kv, 'compile': compile}
        seq_len, temperature, eos_token = check_generation(seq_len, temperature, eos_token, generator, **switches)
        way = Way.checked(cache_kv, compile, prefill_chunk)
        keep = chosen_filter(filter_logits_fn, filter_kwargs)
        rows = read_prompts(prompts, prompt_lens, kwargs.pop('seq_start_pos', None))
        check_given(kwargs, self.net, AutoregressiveWrapper.stream, 'generate')
        amateurs, contrasts = contrast(self.net, amateur_model, contrastive_decode_kwargs)
        source_of = partial(self.source, rows, seq_len, kwargs, restrict_to_max_seq_len, way, eos_token is not None)
        source: Source = source_of(self.net)
        if amateurs:
            source, keep = Contrast(source, [source_of(net) for net in amateurs], contrasts), identity
        choose = partial(pick, temperature=temperature, keep=keep, generator=generator)
        made = tokens(source, rows, seq_len, choose, eos_token, (self, *amateurs))
        return (token.masked_fill(over, self.pad_value).reshape(rows.leading) for token, over in made)

    @torch.no_grad()
    def beam_search(
        self,
        prompts: Tensor,
        seq_len: int,
        num_beams: int = 4,
        eos_token: int | None = None,
        length_penalty: float = 1.0,
        num_return_sequences: int = 1,
        prompt_lens: Tensor | None = None,
        restrict_to_max_seq_len: bool = True,
        cache_kv: bool = True,
        compile: bool = False,
        prefill_chunk: int | None = None,
        **kwargs: Any,
    ) -> Beams:
        """The best continuations of `prompts`, ids (t,), (b, t) or (..., t), among `num_beams` that are followed at a time.

        Returns sequences (..., num_return_sequences, k) of new tokens, the best first, and scores (..., num_return_sequences):
        the sum of log-probabilities over the number of tokens (the end token is one) to the power of `length_penalty`. With 0 the
        score is the log-probability itself, with 1 its mean per token; above that, longer ones are favoured (1609.08144).
        """
        switches = {'restrict_to_max_seq_len': restrict_to_max_seq_len, 'cache_kv': cache_kv, 'compile': compile}
        seq_len, _, eos_token = check_generation(seq_len, eos_token=eos_token, **switches)
        way = Way.checked(cache_kv, compile, prefill_chunk)
        rows = read_prompts(prompts, prompt_lens, kwargs.pop('seq_start_pos', None))
        check_given(kwargs, self.net, AutoregressiveWrapper.beam_search, 'beam_search')
        check_beam(num_beams, num_return_sequences, length_penalty, seq_len, eos_token, getattr(self.net, 'num_logits', None))
        source = self.source(rows, seq_len, kwargs, restrict_to_max_seq_len, way, eos_token is not None, self.net)
        with evaluating(self):
            found = beam_search(source, rows, seq_len, int(num_beams), eos_token, float(length_penalty), self.pad_value)
        best = [t[:, : int(num_return_sequences)] for t in found]
        return Beams(*(t.reshape(*rows.leading, *t.shape[1:]) for t in best))

    def source(self, rows: Prompts, seq_len: int, kwargs: dict[str, Any], slides: bool, way: Way, may_end: bool, net: Any) -> Source:
        """How a model, ours or an amateur, decodes behind the prompts: what it sees is never longer than what ours sees."""
        check_generator(net)
        check_lasting(kwargs, seq_len)
        lengths = [length for length in (self.net.max_seq_len, net.max_seq_len) if length]
        window = min(lengths) if slides and lengths else 0
        return source_for(net, rows, seq_len, kwargs, window=window, way=way, may_end=may_end)


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


def contrast(expert: Any, models: Any, options: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """Amateur models, taken out of their wrappers, and the keywords of each contrast."""
    listed = [] if models is None else list(models) if isinstance(models, (tuple, list)) else [models]
    nets = [model.net if isinstance(model, AutoregressiveWrapper) else model for model in listed]
    each: Sequence[dict[str, Any]] = options if isinstance(options, (tuple, list)) else [{} if options is None else options] * len(nets)
    if len(each) != len(nets):
        raise InputError(f'contrastive_decode_kwargs has {len(each)} entries for {len(nets)} amateur models; give one each')
    for net, given in zip(nets, each):
        check_amateur(expert, net, given)
    return nets, list(each)


def check_amateur(expert: Any, net: Any, options: dict[str, Any]) -> None:
    """An amateur must have the expert's vocabulary, and its contrast known keywords."""
    if not isinstance(net, nn.Module):
        raise InputError(f'amateur_model={quoted(net)} is no model; expected one over the same tokens, or several')
    if not isinstance(getattr(net, 'max_seq_len', None), int):
        raise InputError(f'amateur_model={type(net).__name__} has no max_seq_len; expected a model over tokens, such as TransformerWrapper')
    if not isinstance(options, Mapping):
        raise InputError(
            f'contrastive_decode_kwargs={quoted(options)} is not possible; expected a dict with alpha and beta, or one for each'
        )
    ours, theirs = getattr(expert, 'num_logits', None), getattr(net, 'num_logits', None)
    if None not in (ours, theirs) and ours != theirs:
        raise InputError(f'amateur_model has logits for {theirs} tokens and the model for {ours}; give one with the same vocabulary')
    unknown = sorted(options.keys() - {'alpha', 'beta'})
    if unknown:
        raise InputError(f'contrastive_decode_kwargs holds {unknown[0]!r}; expected alpha and beta')
    alpha, beta = real(options.get('alpha', 0.1)), real(options.get('beta', 0.5))
    if alpha is None or not 0 < alpha <= 1:
        raise InputError(f'contrastive_decode_kwargs has alpha={quoted(options["alpha"])}; expected a share above 0 and at most 1')
    if beta is None or not abs(beta) < float('inf'):
        raise InputError(f'contrastive_decode_kwargs has beta={quoted(options["beta"])}; expected a number')
