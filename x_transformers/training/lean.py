"""The loss of a linear head without its logits: they are made, used for loss and gradients, and forgotten, a few rows at a time.

The gradient of a row's loss by its logits is softmax - target, known as soon as they are, so nothing is kept for the backward
pass but the gradients themselves (2410.10989, 2411.09009). `token_loss` (losses.py) is the twin written to be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack

from x_transformers.decoding.nets import has_own_forward, is_watched, unwrapped
from x_transformers.errors import InputError
from x_transformers.models.heads import TiedLogits
from x_transformers.models.transformer import TransformerWrapper
from x_transformers.training.losses import check_targets

LARGE = 2**13  # tokens in a vocabulary from which a loss is made without logits
AT_ONCE = 2**26  # logits that are made at once
AT_ONCE_ON_CPU = 2**23


def why_logits(net: nn.Module) -> str | None:
    """Why the loss of this model, as it is now, needs logits, or None: its head is one linear map that nobody else looks at."""
    model: Any = unwrapped(net)
    if not isinstance(model, TransformerWrapper):
        return f'a {type(model).__name__} is no TransformerWrapper'
    if has_own_forward(net) or type(model).read_out is not TransformerWrapper.read_out:
        return 'its forward is not ours alone (a subclass, or hooks)'
    if model.output_is_log_prob or model.sigsoftmax_logits:
        return f'{"mixture_of_softmax" if model.output_is_log_prob else "sigsoftmax_logits"}=True changes them after the head'
    if model.logits_mlp is not None:
        return 'logits_mlp=True stands ahead of the head'
    if model._logits_bound is not None:
        return 'logits_softclamp_value bounds them after the head'
    head: Any = model.to_logits
    if type(head).forward not in (nn.Linear.forward, TiedLogits.forward):
        return f'its head (to_logits) is a {type(head).__name__}, not one linear map'
    if is_watched(head) or head._backward_hooks or head._backward_pre_hooks:
        return 'there are hooks on its head'
    kind = type(weights_of(head)[0])
    return None if kind in (Tensor, nn.Parameter) else f'the weights of its head are a {kind.__name__}'


def weights_of(head: Any) -> tuple[Tensor, Tensor | None]:
    """Weight (v, d) and bias (v,) of a linear head."""
    return (head.table if isinstance(head, TiedLogits) else head.weight, head.bias)


@dataclass(frozen=True)
class LeanHead:
    """A linear head, of which `rows` rows of logits are made at a time."""

    weight: Tensor
    bias: Tensor | None
    rows: int

    @staticmethod
    def of(net: nn.Module, chunk_size: int | None) -> LeanHead | None:
        """The head of a model; None where all logits are made at once: the model needs it, the vocabulary is small, or chunk_size=0."""
        if chunk_size == 0 or why_logits(net) or peek_interpreter_stack() is not None:  # torch.func takes logits
            return None
        weight, bias = weights_of(unwrapped(net).to_logits)
        if chunk_size is None and len(weight) < LARGE:
            return None
        at_once = AT_ONCE_ON_CPU if weight.device.type == 'cpu' else AT_ONCE
        return LeanHead(weight, bias, chunk_size or max(at_once // len(weight), 1))

    def loss(self, x: Tensor, targets: Tensor, ignore_index: int, label_smoothing: float, z_loss_weight: float) -> Tensor:
        """`token_loss` of targets (b, n), from the embeddings (b, n, d) that the head reads."""
        check_targets(targets, ignore_index, len(self.weight))
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        wanted = [torch.is_grad_enabled() and t is not None and t.requires_grad for t in (x, self.weight, self.bias)]
        numbers = (ignore_index, label_smoothing, z_loss_weight, self.rows, dtype, wanted)
        total = LeanLoss.apply(x.flatten(0, 1), self.weight, self.bias, targets.flatten(), *numbers)[0]
        return total / (targets != ignore_index).sum().clamp(min=1)


class LeanLoss(torch.autograd.Function):
    """Sum of the losses, and beside it the gradients of that sum, which the backward pass scales."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return (as_one_operator if torch.compiler.is_compiling() else loss_and_gradients)(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.numbers, ctx.gradients = inputs[4:], output[1:]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        compiling = torch.compiler.is_compiling()
        if torch.is_grad_enabled() and not compiling:
            raise InputError(
                'this loss is made without its logits and has no second derivative (create_graph=True, torch.func); build the wrapper '
                'with loss_chunk_size=0 to make it of logits'
            )
        gradients = ctx.gradients
        if not compiling:
            ctx.gradients = None  # the first backward pass scales them in place and gives them away; another makes new ones
            gradients = gradients or loss_and_gradients(*ctx.saved_tensors, *ctx.numbers)[1:]
        scale = lambda t: t.mul_(grad.to(t.dtype))
        return *(scale(t) if wanted else None for t, wanted in zip(gradients, ctx.numbers[-1])), *[None] * 7


def loss_and_gradients(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    ignore_index: int,
    smoothing: float,
    z_weight: float,
    rows: int,
    dtype: torch.dtype,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (n, d), weight (v, d), bias (v,), targets (n,) -> the sum of the losses, and its gradients by x, weight and bias where wanted.

    Logits are made in `dtype`, as autocast would make them. A compiled graph holds this whole, as one operator, whatever n is.

    With l the logits of a row, e = exp(l - max l) and lse = log sum exp l, its loss is lse - (1 - s) l[target] - s mean l + z lse^2,
    and its gradient by l is e (1 + 2 z lse) / sum e - (1 - s) onehot(target) - s / v. Only e is as wide as the vocabulary: its
    factors are numbers of a row, which join the smaller matrix of a product, and the last two terms are made without logits.
    """
    wide = torch.promote_types(dtype, torch.float32)
    narrow = torch.float32 if dtype == torch.float16 else dtype  # sums over a vocabulary outgrow float16
    with torch.autocast(x.device.type, enabled=False):
        counts = (targets != ignore_index).to(wide)[:, None]
        targets = targets.masked_fill(targets == ignore_index, 0)
        made, offset = weight.to(dtype), None if bias is None else bias.to(dtype)
        by_x, by_weight, by_bias = found = blanks(x, weight, wide, wanted)
        total = x.new_zeros((), dtype=wide)
        room = x.new_empty((min(rows, len(x)), len(weight)), dtype=dtype)
        for at in range(0, len(x), rows):
            here = slice(at, at + rows)
            read, count = x[here].to(dtype), counts[here]
            e = torch.mm(read, made.t(), out=room[: len(read)])
            e = (e if offset is None else e.add_(offset)).to(wide)
            hit, top = e.gather(1, targets[here, None]), e.amax(dim=-1, keepdim=True)
            spread = e.sub_(top).exp_().sum(dim=-1, keepdim=True)
            lse = top + spread.log()
            total += (count * (lse - (1 - smoothing) * hit + z_weight * lse.square())).sum()
            share, e = count * (1 + 2 * z_weight * lse) / spread, e.to(narrow)
            if wanted[0]:
                by_x[here] = (e @ made.to(narrow)) * share
            if wanted[1]:
                add_product_(by_weight, e.t(), (read * share).to(narrow))
            if wanted[2]:
                add_product_(by_bias[:, None], e.t(), share.to(narrow))
        subtract_targets_(found, x.to(wide) * counts, counts, weight, targets, 1 - smoothing, wanted)
        if smoothing:
            total -= subtract_mean_(found, x.to(wide) * counts, counts, weight, bias, smoothing, wanted)
    return total, by_x.to(x.dtype), by_weight.to(weight.dtype), by_bias.to(weight.dtype)


as_one_operator = torch.library.custom_op(
    'x_transformers::loss_and_gradients',
    loss_and_gradients,
    mutates_args=(),
    schema='(Tensor x, Tensor weight, Tensor? bias, Tensor targets, int ignore_index, float smoothing, float z_weight, int rows, '
    'ScalarType dtype, bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor)',
)


@as_one_operator.register_fake
def _(x: Tensor, weight: Tensor, *others: Any) -> tuple[Tensor, ...]:
    *_, dtype, wanted = others
    total = x.new_empty((), dtype=torch.promote_types(dtype, torch.float32))
    by_x, by_weight, by_bias = blanks(x, weight, total.dtype, wanted)
    return total, by_x.to(x.dtype), by_weight.to(weight.dtype), by_bias.to(weight.dtype)


def blanks(x: Tensor, weight: Tensor, wide: torch.dtype, wanted: list[bool]) -> list[Tensor]:
    """Zeros to sum gradients in; empty where none is wanted."""
    shapes = (x.shape, weight.shape, weight.shape[:1])
    return [x.new_zeros(shape if wants else (0,), dtype=wide) for shape, wants in zip(shapes, wanted)]


def add_product_(total: Tensor, a: Tensor, b: Tensor) -> None:
    """`total` plus a @ b, in the precision of `total`."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)


def subtract_targets_(
    found: list[Tensor], x: Tensor, counts: Tensor, weight: Tensor, targets: Tensor, share: float, wanted: list[bool]
) -> None:
    """The gradients of `share` times the logit of each target that counts, off `found`; x (n, d) is zero where none does."""
    by_x, by_weight, by_bias = found
    if wanted[0]:
        by_x.addcmul_(weight[targets].to(x.dtype), counts, value=-share)
    if wanted[1]:
        by_weight.index_add_(0, targets, x, alpha=-share)
    if wanted[2]:
        by_bias.index_add_(0, targets, counts[:, 0], alpha=-share)


def subtract_mean_(
    found: list[Tensor], x: Tensor, counts: Tensor, weight: Tensor, bias: Tensor | None, share: float, wanted: list[bool]
) -> Tensor:
    """The gradients of `share` times the mean logit of each row that counts, off `found`; returns the sum of what they belong to.

    Logits are linear, so their mean is that of the mean weight.
    """
    by_x, by_weight, by_bias = found
    mean = weight.mean(dim=0, dtype=x.dtype)
    if wanted[0]:
        by_x.addcmul_(mean, counts, value=-share)
    if wanted[1]:
        by_weight.sub_(x.sum(dim=0), alpha=share / len(weight))
    if wanted[2]:
        by_bias.sub_(counts.sum(), alpha=share / len(weight))
    return share * ((x @ mean).sum() + (0.0 if bias is None else bias.mean(dtype=x.dtype) * counts.sum()))
