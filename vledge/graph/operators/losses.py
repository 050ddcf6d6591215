"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: what models end in while they train."""

from __future__ import annotations

from typing import Final

from vledge.errors import FormatError
from vledge.graph.functions import NotCertain, Writer, function

_REDUCTIONS: Final = ("none", "sum", "mean")


@function("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood_loss(
    to: Writer,
    x: str,
    target: str,
    weight: str = "",
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> str:
    return _loss(to, x, target, weight, ignore_index, reduction, x)


@function("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy_loss(
    to: Writer,
    scores: str,
    labels: str,
    weights: str = "",
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[str, str]:
    if to.opset < 13 and to.rank(scores) > 2:
        raise NotCertain  # LogSoftmax is of all axes from the second on
    logarithms = to.add("LogSoftmax", [scores], axis=1)
    return _loss(to, logarithms, labels, weights, ignore_index, reduction, scores), logarithms


def _loss(
    to: Writer,
    x: str,
    target: str,
    weight: str,
    ignored: int | None,
    reduction: str,
    like: str,
) -> str:
    """Of logarithms [N, C, …] and classes [N, …]; one that is ignored has no loss and no weight."""
    if reduction not in _REDUCTIONS:
        raise FormatError(f"reduction is {reduction!r}, expected one of {', '.join(_REDUCTIONS)}")
    zero, one = to.number(0, like), to.number(1, like)
    out = ""
    if ignored is not None:
        out = to.add("Equal", [target, to.number(ignored, target)])
        target = to.add("Where", [out, to.number(0, target), target])
    picked = to.add("GatherElements", [x, to.unsqueezed(target, [1])], axis=1)
    loss = to.add("Neg", [to.squeezed(picked, [1])])
    share = to.add("Gather", [weight, target]) if weight else ""
    if out:
        loss = to.add("Where", [out, zero, loss])
        share = to.add("Where", [out, zero, share or one])
    if weight:
        loss = to.add("Mul", [loss, share])
    if reduction == "none":
        return loss
    if reduction == "mean" and not share:
        return to.add("ReduceMean", [loss], keepdims=0)
    total = to.add("ReduceSum", [loss], keepdims=0)
    if reduction == "sum":
        return total
    return to.add("Div", [total, to.add("ReduceSum", [share], keepdims=0)])
