"""ViTransformerWrapper: an image as a sequence of patches (ViT, 2010.11929), with register tokens (2309.16588)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from x_transformers.countable import Countable, Example
from x_transformers.errors import InputError
from x_transformers.flags import Config, Rules, configured, demands, flag
from x_transformers.inputs import expect, expect_dtype, expect_switch
from x_transformers.layers import AttentionLayers
from x_transformers.models.ask import check_names
from x_transformers.norms import LayerNorm, make_layer_norm
from x_transformers.storable import Storable

Size = int | tuple[int, int]


def pair(size: Size) -> tuple[int, int]:
    """(height, width), from one number for both or from two."""
    height, width = size if isinstance(size, tuple) else (size, size)
    return height, width


@dataclass(frozen=True, kw_only=True)
class VisionConfig(Config):
    """The flags of `ViTransformerWrapper` besides those of its layer stack."""

    image_size: int | tuple[int, ...] = flag(doc='Height and width of the largest image; one number for both.', at_least=1)
    patch_size: int | tuple[int, ...] = flag(doc='Height and width of a patch; one number for both.', at_least=1)
    attn_layers: AttentionLayers = flag(doc='The layer stack.')
    channels: int = flag(3, 'Channels of the image.', example={'channels': 1}, at_least=1)
    num_classes: int | None = flag(None, 'Logits; without it what the head would read is returned.', example={'num_classes': 5}, at_least=1)
    post_emb_norm: bool = flag(
        False, 'LayerNorm of the embedded patches; `norm_eps` and `norm_bias` of the stack are its own too.', paper='2211.05100'
    )
    patch_norm: bool = flag(True, 'LayerNorms on both sides of the projection of patches.', example={'patch_norm': False})
    use_cls_token: bool = flag(
        False, 'The head reads a learned token ahead of the patches, with a position of its own, instead of their mean.', paper='2010.11929'
    )
    num_register_tokens: int = flag(
        0, 'Learned tokens behind the patches.', paper='2309.16588', example={'num_register_tokens': 2}, at_least=0
    )
    emb_dropout: float = flag(0.0, 'Dropout of embeddings.', example={'emb_dropout': 0.5}, at_least=0, at_most=1)

    rules: ClassVar[Rules] = (
        demands('image_size', lambda c: isinstance(c.image_size, int) or len(c.image_size) == 2, 'it is (height, width).'),
        demands('patch_size', lambda c: isinstance(c.patch_size, int) or len(c.patch_size) == 2, 'it is (height, width).'),
        demands(
            'image_size',
            lambda c: all(whole % part == 0 for whole, part in zip(pair(c.image_size), pair(c.patch_size), strict=True)),
            'it must be a multiple of patch_size, in height and in width.',
        ),
        demands('use_cls_token', lambda c: not c.attn_layers.causal, 'ahead of the patches it would see nothing of them. Use an Encoder.'),
    )


class Patches(nn.Module):
    """(b, c, height, width) to (b, patches, features): patches row by row, in each its rows, columns and channels."""

    def __init__(self, size: tuple[int, int]):
        super().__init__()
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        return rearrange(image, 'b c (h p) (w q) -> b (h w) (p q c)', p=self.size[0], q=self.size[1])


@configured(VisionConfig)
class ViTransformerWrapper(Storable, Countable, nn.Module):
    """A transformer over patches of an image. `forward(img (b, channels, height, width))` returns logits (b, num_classes).

    >>> from x_transformers import Encoder, ViTransformerWrapper
    >>> model = ViTransformerWrapper(image_size=(16, 24), patch_size=8, num_classes=10, attn_layers=Encoder(dim=32, depth=1))
    >>> model(torch.randn(2, 3, 16, 24)).shape
    torch.Size([2, 10])
    """

    def __init__(self, **keywords: Any):
        super().__init__()
        cfg = self.config = VisionConfig.of(None, (), keywords)
        dim, (height, width), patch = cfg.attn_layers.dim, pair(cfg.image_size), pair(cfg.patch_size)
        self.image_size, self.patch_size, self.channels = cfg.image_size, cfg.patch_size, cfg.channels
        self.has_register_tokens = cfg.num_register_tokens > 0
        self.num_cls_tokens = int(cfg.use_cls_token)
        self.pos_embedding = nn.Parameter(torch.randn(1, self.num_cls_tokens + (height // patch[0]) * (width // patch[1]), dim))
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, dim)) if cfg.use_cls_token else None
        if self.has_register_tokens:
            self.register_tokens = nn.Parameter(torch.randn(cfg.num_register_tokens, dim))
        features = cfg.channels * patch[0] * patch[1]
        self.to_patches = Patches(patch)
        norm = LayerNorm if cfg.patch_norm else nn.Identity
        self.patch_to_embedding = nn.Sequential(norm(features), nn.Linear(features, dim), norm(dim))
        self.post_emb_norm = make_layer_norm(cfg.attn_layers.config, dim) if cfg.post_emb_norm else nn.Identity()
        self.dropout = nn.Dropout(cfg.emb_dropout)
        self.attn_layers = cfg.attn_layers
        self.mlp_head = nn.Linear(dim, cfg.num_classes) if cfg.num_classes else nn.Identity()

    def forward(self, img: Tensor, return_embeddings: bool = False, return_logits_and_embeddings: bool = False, **inputs: Any) -> Any:
        """img (b, channels, height, width): logits (b, num_classes), embeddings of the patches (b, patches, dim), or both.

        Smaller images take the first positions. Other inputs go to the layer stack: condition, context ...
        """
        expect_switch('return_embeddings', return_embeddings)
        expect_switch('return_logits_and_embeddings', return_logits_and_embeddings)
        self._check(img, bool(return_embeddings and return_logits_and_embeddings), inputs)
        x = self.patch_to_embedding(self.to_patches(img))
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        n = x.shape[1]
        x = self.dropout(self.post_emb_norm(x + self.pos_embedding[:, :n]))
        if self.has_register_tokens:
            x = torch.cat((x, self.register_tokens.expand(x.shape[0], -1, -1)), dim=1)
        out = self.attn_layers(x, **inputs)[:, :n]
        embeds = out[:, self.num_cls_tokens :]
        if return_embeddings:
            return embeds
        logits = self.mlp_head(embeds.mean(dim=1) if self.cls_token is None else out[:, 0])
        return (logits, embeds) if return_logits_and_embeddings else logits

    # ------------------------------------------------------------------ counting

    _takes_length = False

    @property
    def _length(self) -> int | None:
        return self.pos_embedding.shape[1]

    def _example(self, batch: int, n: int) -> Example:
        return (self._zeros(batch, self.channels, *pair(self.image_size)),), self.attn_layers._beside(batch, n)

    def _check(self, img: Any, both: bool, inputs: dict[str, Any]) -> None:
        """Whether this is a batch of images that can be cut into patches for which there are positions."""
        if both:
            raise InputError('return_embeddings and return_logits_and_embeddings were both given; they say different things: give one')
        hint = f'ViTransformerWrapper takes images (batch, channels={self.channels}, height, width)'
        expect('img', img, (None, self.channels, None, None), 'float', hint)
        if 0 in img.shape:
            raise InputError(f'img has shape {tuple(img.shape)}: there must be at least one image of at least one patch')
        expect_dtype('img', img, self)
        (height, width), patch = img.shape[2:], pair(self.patch_size)
        if height % patch[0] or width % patch[1]:
            raise InputError(f'img has shape {tuple(img.shape)}: height and width must be multiples of patch_size={self.patch_size}')
        count = (height // patch[0]) * (width // patch[1])
        places = self.pos_embedding.shape[1] - self.num_cls_tokens
        if count > places:
            raise InputError(
                f'img has shape {tuple(img.shape)}, {count} patches, but image_size={self.image_size} has positions for '
                f'{places}; shrink it, or build the model with a larger image_size'
            )
        if inputs and not torch.compiler.is_compiling():
            check_names(inputs, self, ('return_embeddings', 'return_logits_and_embeddings'))
