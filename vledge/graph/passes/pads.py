"""A Pad by zeros before a convolution becomes the convolution's own pads, which cost no copy.

torch writes causal convolutions so, and exporters whatever is padded unevenly.
"""

from __future__ import annotations

import numpy as np

from vledge.graph.passes.program import Program
from vledge.model.definition import Graph, Node

__all__ = ["join_pads"]

_BATCH_AND_CHANNELS = 2


def join_pads(program: Program) -> bool:
    """Let every Conv read what was padded for it; whether there was one. Pads that nobody reads any
    more stay."""
    return _joined(program, program.graph, {})


def _joined(program: Program, graph: Graph, outer: dict[str, Node]) -> bool:
    changed = False
    pads = dict(outer)
    for node in graph.nodes:
        for inner in node.subgraphs():
            changed |= _joined(program, inner, pads)
        if node.domain:
            continue
        if node.op_type == "Pad":
            pads[node.outputs[0]] = node
        elif node.op_type == "Conv":
            while node.inputs[0] in pads and _join(program, pads[node.inputs[0]], node):
                changed = True
    return changed


def _join(program: Program, pad: Node, conv: Node) -> bool:
    weight = program.constants.get(conv.inputs[1])
    if weight is None or conv.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    rank = weight.ndim - _BATCH_AND_CHANNELS
    more = _zeros_around(program, pad, weight.ndim)
    if more is None or more[:, :_BATCH_AND_CHANNELS].any() or more.min() < 0:
        return False
    own = [0] * 2 * rank
    if conv.attributes.get("auto_pad", "NOTSET") == "NOTSET":
        own = conv.attributes.get("pads") or own
    if len(own) != 2 * rank or any(amount < 0 for amount in own):
        return False  # which the run will say
    added = more[:, _BATCH_AND_CHANNELS:].reshape(-1).tolist()
    pads = [a + b for a, b in zip(own, added, strict=True)]
    conv.attributes = {**conv.attributes, "auto_pad": "NOTSET", "pads": pads}
    conv.inputs = [pad.inputs[0], *conv.inputs[1:]]
    return True


def _zeros_around(program: Program, pad: Node, axes: int) -> np.ndarray | None:
    """``[2, axes]``, before and after; None where it is not known or not zeros."""
    if pad.attributes.get("mode", "constant") != "constant":
        return None
    given = [program.constants.get(name) for name in pad.inputs[1:]]
    named = [bool(name) for name in pad.inputs[1:]]
    if any(known is None and there for known, there in zip(given, named, strict=True)):
        return None
    amounts, value, which = (*given, None, None, None)[:3]
    if amounts is None:  # before operator set 11
        amounts = np.array(pad.attributes.get("pads", pad.attributes.get("paddings", [])), np.int64)
    value = np.array(pad.attributes.get("value", 0.0)) if value is None else value
    if value.size != 1 or value.any():
        return None
    places = np.arange(axes) if which is None else which.reshape(-1)
    if amounts.size != 2 * places.size or not np.all((-axes <= places) & (places < axes)):
        return None
    if len(np.unique(places % axes)) != places.size:
        return None
    around = np.zeros((2, axes), np.int64)
    around[:, places] = amounts.reshape(2, -1)
    return around
