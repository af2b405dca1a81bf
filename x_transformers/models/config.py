"""The flags that every model over tokens has, declared once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from x_transformers.flags import Config, Rules, at_most_one, demands, flag
from x_transformers.layers import AttentionLayers


def vocabularies(flag: str) -> Rules:
    """What holds of a dict of names, each with the number of its ids."""
    fits = lambda name: isinstance(name, str) and name != '' and '.' not in name
    counts = lambda size: isinstance(size, int) and not isinstance(size, bool) and size > 0
    return (
        demands(flag, lambda c: all(map(fits, getattr(c, flag))), 'names become names of parameters: no dot, not empty.'),
        demands(flag, lambda c: all(map(counts, getattr(c, flag).values())), 'every vocabulary is a whole number of at least one token.'),
    )


@dataclass(frozen=True, kw_only=True)
class BodyFlags(Config):
    """The flags of every model over tokens."""

    max_seq_len: int = flag(doc='Longest sequence; 0 switches absolute positions off.', at_least=0)
    emb_dim: int | None = flag(None, 'Width of the embeddings; `dim` by default.', paper='1909.11942', example={'emb_dim': 12}, at_least=1)
    max_mem_len: int = flag(0, 'Positions kept in the memories that are returned; 0 keeps all.', paper='1901.02860', at_least=0)
    shift_mem_down: int = flag(0, 'Each layer reads the memory of the layer so many above.', paper='2012.15688', at_least=0)
    emb_dropout: float = flag(0.0, 'Dropout of embeddings.', example={'emb_dropout': 0.5}, at_least=0, at_most=1)
    post_emb_norm: bool = flag(
        False, 'LayerNorm of the summed embeddings; `norm_eps` and `norm_bias` of the stack are its own too.', paper='2211.05100'
    )
    num_memory_tokens: int | None = flag(
        None, 'Learned tokens ahead of the sequence.', paper='2006.11527', example={'num_memory_tokens': 2}, at_least=0
    )
    memory_tokens_interspersed_every: int | None = flag(
        None,
        'Put the memory tokens ahead of every block of so many tokens.',
        example={'num_memory_tokens': 2, 'memory_tokens_interspersed_every': 4},
        at_least=1,
    )
    use_abs_pos_emb: bool = flag(
        True, 'Add absolute positions, unless the stack brings relative ones.', paper='2203.16634', example={'use_abs_pos_emb': False}
    )
    scaled_sinu_pos_emb: bool = flag(False, 'Sinusoids with a learned scale instead of learned positions.', paper='2202.10447')
    emb_frac_gradient: float = flag(
        1.0, 'Share of the gradient that reaches the embeddings.', paper='2210.02414', example={'emb_frac_gradient': 0.1}, at_least=0
    )
    attn_z_loss_weight: float = flag(
        1e-4,
        'Weight of the z-loss that `return_attn_z_loss` asks for.',
        paper='2202.08906',
        example={'attn_z_loss_weight': 0.1},
        inputs=('return_attn_z_loss',),
        at_least=0,
    )
    recycling: bool = flag(
        False,
        'Feed what the stack makes back to its input, several times.',
        paper='https://doi.org/10.1038/s41586-021-03819-2',
        inputs=('recycle_steps',),
    )
    train_max_recycle_steps: int = flag(
        4,
        'Training takes a random number of passes up to this.',
        example={'recycling': True, 'train_max_recycle_steps': 2},
        inputs=('recycle_steps',),
        at_least=1,
    )
    average_pool_embed: bool = flag(False, 'One output for a sequence: the head reads the mean of all tokens.')
    use_cls_token: bool = flag(False, 'One output for a sequence: the head reads learned tokens ahead of it.', paper='1810.04805')
    num_cls_tokens: int = flag(1, 'How many of them.', example={'use_cls_token': True, 'num_cls_tokens': 2}, at_least=1)

    rules: ClassVar[Rules] = (
        demands('emb_frac_gradient', lambda c: c.emb_frac_gradient > 0, 'embeddings would not learn. Use more than 0.'),
        demands(
            'memory_tokens_interspersed_every', lambda c: c.num_memory_tokens, 'there are none to put there. Set {prefix}num_memory_tokens.'
        ),
        demands(
            'memory_tokens_interspersed_every',
            lambda c: c.stack.causal,
            'blocks of tokens with memory between them are for stacks that look back only. Use a Decoder.',
        ),
        demands('use_cls_token', lambda c: not c.stack.causal, 'ahead of the sequence they would see nothing of it. Use an Encoder.'),
        demands('num_cls_tokens', lambda c: c.use_cls_token, 'it counts CLS tokens. Set {prefix}use_cls_token=True.'),
        demands('train_max_recycle_steps', lambda c: c.recycling, 'it counts passes of recycling. Set {prefix}recycling=True.'),
        at_most_one('average_pool_embed', 'use_cls_token'),
    )


@dataclass(frozen=True, kw_only=True)
class ModelFlags(BodyFlags):
    """A body and its layer stack."""

    attn_layers: AttentionLayers = flag(doc='The layer stack.')

    @property
    def stack(self) -> Any:
        """What tells `dim` and `causal`."""
        return self.attn_layers

    @property
    def has_positions(self) -> bool:
        """Whether there is a length to make absolute positions for."""
        return self.max_seq_len > 0
