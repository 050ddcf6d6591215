"""A BatchNormalization that alone reads a convolution becomes part of its weights, and so does the
sum with a vector of channels.

With constant statistics the first is x times a vector of channels plus another; the products are
made in double precision and rounded once.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from vledge.graph.passes.program import Program, captured
from vledge.model.definition import Graph, Node

__all__ = ["fold_batch_norms"]


def fold_batch_norms(program: Program) -> None:
    """Fold in the program's graph and every graph inside of it, in place."""
    _fold(program, program.graph)


def _fold(program: Program, graph: Graph) -> None:
    readers = Counter(name for node in graph.nodes for name in node.inputs if name)
    readers.update(info.name for info in graph.outputs)
    for node in graph.nodes:
        for inner in node.subgraphs():
            readers.update(captured(inner))
            _fold(program, inner)
    producers: dict[str, int] = {}  # value -> place of the convolution that makes it
    kept: list[Node] = []
    for node in graph.nodes:
        fold_in = {"BatchNormalization": _normalised, "Add": _shifted}.get(node.op_type)
        if fold_in is not None and not node.domain:
            place = next((producers[name] for name in node.inputs if name in producers), None)
            folded = None if place is None else fold_in(program, kept[place], node)
            if place is not None and folded is not None:
                kept[place] = folded
                if readers[folded.outputs[0]] == 1:
                    producers[folded.outputs[0]] = place
                continue
        if (
            node.op_type in ("Conv", "ConvTranspose")
            and not node.domain
            and readers[node.outputs[0]] == 1
        ):
            producers[node.outputs[0]] = len(kept)
        kept.append(node)
    graph.nodes = kept


def _shifted(program: Program, conv: Node, add: Node) -> Node | None:
    """The convolution with a sum in its bias, or None where that is not one number a channel."""
    if len(add.inputs) != 2:
        return None
    weight = program.constants.get(conv.inputs[1])
    shift = program.constants.get(add.inputs[add.inputs[0] == conv.outputs[0]])
    has_bias = len(conv.inputs) > 2 and conv.inputs[2] != ""
    bias = program.constants.get(conv.inputs[2]) if has_bias else None
    if weight is None or weight.dtype.kind != "f" or weight.ndim < 3 or shift is None:
        return None
    group = conv.attributes.get("group", 1)
    channels = weight.shape[1] * group if conv.op_type == "ConvTranspose" else weight.shape[0]
    shape = (1,) * (weight.ndim - shift.ndim) + shift.shape
    if len(shape) != weight.ndim or shape[1] not in (1, channels) or shift.size != shape[1]:
        return None
    if shift.dtype != weight.dtype or (has_bias and (bias is None or bias.shape != (channels,))):
        return None
    total = np.zeros(channels) if bias is None else bias.astype(np.float64)
    name = program.fresh(f"{add.outputs[0]}~bias")
    total = total + shift.reshape(-1).astype(np.float64)
    program.set_constant(name, total.astype(weight.dtype))
    inputs = [conv.inputs[0], conv.inputs[1], name]
    return Node(conv.op_type, inputs, add.outputs, conv.attributes, conv.name, conv.domain)


def _normalised(program: Program, conv: Node, norm: Node) -> Node | None:
    """The convolution with the normalisation in it, or None where something is not known."""
    weight = program.constants.get(conv.inputs[1])
    has_bias = len(conv.inputs) > 2 and conv.inputs[2] != ""
    bias = program.constants.get(conv.inputs[2]) if has_bias else None
    given = [program.constants.get(name) for name in norm.inputs[1:5]]
    known = [a for a in given if a is not None]
    if weight is None or weight.dtype.kind != "f" or weight.ndim < 3 or len(known) != 4:
        return None
    if (has_bias and bias is None) or any(norm.outputs[1:]):
        return None
    if norm.attributes.get("training_mode", 0) or not norm.attributes.get("spatial", 1):
        return None
    group = conv.attributes.get("group", 1)
    transposed = conv.op_type == "ConvTranspose"
    channels = weight.shape[1] * group if transposed else weight.shape[0]
    vectors = [*known] if bias is None else [*known, bias]
    if group < 1 or weight.shape[0] % group or any(a.shape != (channels,) for a in vectors):
        return None
    scale, offset, mean, variance = (a.astype(np.float64) for a in known)
    factor = scale / np.sqrt(variance + norm.attributes.get("epsilon", 1e-5))
    offset += ((0.0 if bias is None else bias.astype(np.float64)) - mean) * factor
    wide = weight.astype(np.float64)
    if transposed:  # [inputs, outputs of a group, ...]
        parts = wide.reshape(group, weight.shape[0] // group, *weight.shape[1:])
        parts *= factor.reshape(group, 1, weight.shape[1], *[1] * (weight.ndim - 2))
    else:
        wide *= factor.reshape(-1, *[1] * (weight.ndim - 1))
    names = [conv.inputs[0]]
    for name, array in (("weight", wide), ("bias", offset)):
        names.append(program.fresh(f"{norm.outputs[0]}~{name}"))
        program.set_constant(names[-1], array.astype(weight.dtype))
    return Node(conv.op_type, names, norm.outputs, conv.attributes, conv.name, conv.domain)
