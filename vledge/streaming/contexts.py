"""Nodes that see the frames just before: padding in front, causal convolutions, shifts, sums.

Each is given a state, the frames before (or their sum), in the place of what stands in front.
"""

from __future__ import annotations

import numpy as np

from vledge.model.definition import Node
from vledge.streaming.promotion import Kind, Promotion, label

__all__ = ["CONTEXTS"]

_LAST = np.iinfo(np.int64).max


def _pad(promotion: Promotion, node: Node) -> Node:
    axis = promotion.time_axis(node.inputs[0])
    if axis is None:
        return node
    pads, value = _pads_of(promotion, node)
    rank = promotion.short[node.inputs[0]].ndim
    before, after = pads[axis], pads[axis + rank]
    if before == 0 == after:
        return node
    if after > 0:
        _doubt_frames_behind(promotion, node, after)
    constant = node.attributes.get("mode", "constant") == "constant"
    if before < 0 or after < 0 or not constant or value:
        promotion.doubt(
            node,
            "cuts frames off, or puts others than zeros in front: a stream carries zeros only",
        )
        return node
    joined = _with_frames_before(promotion, node, axis, before) if before else None
    if joined is None:
        return node
    pads[axis] = 0
    if not any(pads):
        return Node("Identity", [joined], node.outputs, {}, node.name)
    if len(node.inputs) == 1:
        attributes = {**node.attributes, "pads": pads}
        return Node("Pad", [joined], node.outputs, attributes, node.name)
    constants = [promotion.constant(f"{label(node)}.pads", pads), *node.inputs[2:3]]
    return Node("Pad", [joined, *constants], node.outputs, node.attributes, node.name)


def _pads_of(promotion: Promotion, node: Node) -> tuple[list[int], float]:
    """A Pad node's pads, for every axis, and its value."""
    short = promotion.short
    if len(node.inputs) == 1:
        return list(node.attributes["pads"]), node.attributes.get("value", 0.0)
    rank = short[node.inputs[0]].ndim
    given = [int(pad) for pad in short[node.inputs[1]]]
    has = [index < len(node.inputs) and bool(node.inputs[index]) for index in range(4)]
    value = float(short[node.inputs[2]].reshape(-1)[0]) if has[2] else 0.0
    axes = [int(a) % rank for a in short[node.inputs[3]]] if has[3] else range(rank)
    pads = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        pads[axis], pads[axis + rank] = given[place], given[place + len(given) // 2]
    return pads, value


def _convolution(promotion: Promotion, node: Node) -> Node:
    axis = promotion.time_axis(node.inputs[0])
    if axis is None or axis < 2:
        return node
    rank = promotion.short[node.inputs[0]].ndim - 2
    place = axis - 2
    pads = list(node.attributes.get("pads", [0] * 2 * rank))
    stride = node.attributes.get("strides", [1] * rank)[place]
    span = node.attributes.get("dilations", [1] * rank)[place]
    span *= promotion.short[node.inputs[1]].shape[axis] - 1
    if stride != 1:
        promotion.doubt(node, f"has stride {stride} over time: a stream has an output a frame")
        return node
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        if span:
            promotion.doubt(node, "has auto_pad over time: pad it on the left by Pad")
        return node
    before, after = pads[place], pads[place + rank]
    if after:
        _doubt_frames_behind(promotion, node, after)
    if not before:
        if span and promotion.short[node.inputs[0]].shape[axis] == promotion.steps:
            promotion.doubt(
                node,
                f"needs {span} frames more than it gives, and no zeros are put in front of it",
            )
        return node
    joined = _with_frames_before(promotion, node, axis, before)
    if joined is None:
        return node
    pads[place] = 0
    inputs = [joined, *node.inputs[1:]]
    return Node("Conv", inputs, node.outputs, {**node.attributes, "pads": pads}, node.name)


def _doubt_frames_behind(promotion: Promotion, node: Node, frames: int) -> None:
    promotion.doubt(
        node,
        f"pads {frames} frames behind the last one: an output needs frames that are still to come",
    )


def _with_frames_before(promotion: Promotion, node: Node, axis: int, frames: int) -> str | None:
    """The node's input after the frames that the stream remembers; None where it cannot be."""
    x = node.inputs[0]
    counts = (promotion.short[x].shape[axis], promotion.long[x].shape[axis])
    if counts != (promotion.steps, promotion.steps + 1):
        promotion.doubt(
            node,
            f"gets {counts[0]} frames where the input has {promotion.steps}: only padding by one "
            "node in front of a convolution can be streamed",
        )
        return None
    shape = list(promotion.short[x].shape)
    shape[axis] = frames
    initial = np.zeros(shape, promotion.short[x].dtype)
    return _carried(promotion, node, x, axis, initial)


def _carried(promotion: Promotion, node: Node, x: str, axis: int, initial: np.ndarray) -> str:
    """x after a state of as many frames as ``initial`` has, which are the last ones of the two."""
    name = promotion.fresh(f"{label(node)}.context.joined")
    rows = promotion.row_axis(x)
    output = promotion.fresh(f"{label(node)}.context.next")
    state = promotion.remember(f"{label(node)}.context", output, initial, rows)
    promotion.nodes.append(Node("Concat", [state.input, x], [name], {"axis": axis}))
    _slice(promotion, name, state.output, axis, -initial.shape[axis], _LAST)
    return name


def _slice(promotion: Promotion, x: str, output: str, axis: int, start: int, end: int) -> None:
    bounds = {"starts": [start], "ends": [end], "axes": [axis]}
    if promotion.opset < 10:
        promotion.nodes.append(Node("Slice", [x], [output], bounds))
        return
    given = [promotion.constant(f"{output}.{key}", bound) for key, bound in bounds.items()]
    promotion.nodes.append(Node("Slice", [x, *given], [output]))


def _concat(promotion: Promotion, node: Node) -> Node:
    """Frames of the model's own in front of all others: a shift, or padding in another guise."""
    if len(node.inputs) != 2:
        return node
    front, x = node.inputs
    axis = promotion.time_axis(x)
    rank = np.ndim(promotion.short[x])
    if axis is None or axis != node.attributes.get("axis", 1) % rank:
        return node
    counts = promotion.short[x].shape[axis], promotion.long[x].shape[axis]
    fits = counts == (promotion.steps, promotion.steps + 1)
    if not fits or promotion.grows(front) or promotion.from_inputs(front):
        return node
    initial = np.array(promotion.short[front])
    if not initial.shape[axis]:
        return node
    joined = _carried(promotion, node, x, axis, initial)
    return Node("Identity", [joined], node.outputs, {}, node.name)


def _running_sum(promotion: Promotion, node: Node) -> Node:
    """CumSum over time: the sum so far stands in front of the frames."""
    x = node.inputs[0]
    axis = promotion.time_axis(x)
    rank = np.ndim(promotion.short[x])
    if axis is None or int(promotion.short[node.inputs[1]].item()) % rank != axis:
        return node
    if node.attributes.get("reverse", 0):
        promotion.doubt(node, "sums from the last frame on, which a stream has not seen")
        return node
    shape = list(promotion.short[x].shape)
    shape[axis] = 1
    initial = np.zeros(shape, promotion.short[x].dtype)
    name = label(node)
    output = promotion.fresh(f"{name}.sum.next")
    rows = promotion.row_axis(x)
    state = promotion.remember(f"{name}.sum", output, initial, rows)
    joined, sums = promotion.fresh(f"{name}.joined"), promotion.fresh(f"{name}.sums")
    promotion.nodes.append(Node("Concat", [state.input, x], [joined], {"axis": axis}))
    promotion.nodes.append(Node("CumSum", [joined, node.inputs[1]], [sums], {}, node.name))
    _slice(promotion, sums, output, axis, -1, _LAST)
    start, end = (0, -1) if node.attributes.get("exclusive", 0) else (1, _LAST)
    _slice(promotion, sums, node.outputs[0], axis, start, end)
    return promotion.nodes.pop()


CONTEXTS: dict[tuple[str, str], Kind] = {
    ("", "Pad"): _pad,
    ("", "Conv"): _convolution,
    ("", "Concat"): _concat,
    ("", "CumSum"): _running_sum,
}
