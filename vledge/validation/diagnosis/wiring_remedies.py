"""Mistakes in what a node is given, and in what becomes of its result, undone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from vledge.model.definition import Node
from vledge.validation.diagnosis.constant_remedies import Site, with_constant
from vledge.validation.diagnosis.suspects import Variant

__all__ = [
    "absent_inputs",
    "activations",
    "order_of_inputs",
    "other_tensors",
    "results",
    "sums",
]

MOST_STATES = 12  # values that could be a layer's initial state
MOST_OTHERS = 40  # tensors of the same shape that are tried in a constant's or a value's place
_ACTIVATIONS: Final = (
    "Relu",
    "Tanh",
    "Sigmoid",
    "Softmax",
    "Gelu",
    "LeakyRelu",
    "Elu",
    "Softplus",
    "Sqrt",
    "Exp",
    "Log",
    "Neg",
)


def order_of_inputs(site: Site) -> Iterator[Variant]:
    node = site.node
    if len(node.inputs) < 2 or len(node.inputs) > 6:
        return
    for a, b in itertools.combinations(range(len(node.inputs)), 2):
        if node.inputs[a] and node.inputs[b] and node.inputs[a] != node.inputs[b]:
            inputs = [*node.inputs]
            inputs[a], inputs[b] = inputs[b], inputs[a]
            text = f"its inputs {a} and {b} are exchanged"
            yield Variant("order of inputs", text, [replace(node, inputs=inputs)])


def activations(site: Site) -> Iterator[Variant]:
    """An activation that is missing before the node or behind it."""
    node = site.node
    result = next(filter(None, node.outputs))
    for kind in _ACTIVATIONS:
        inner = f"{result}.bare"
        run = replace(node, outputs=[inner if name == result else name for name in node.outputs])
        text = f"{kind} behind it is missing"
        yield Variant("missing activation", text, [run, Node(kind, [inner], [result])])
        for place, name in enumerate(node.inputs):
            value = site.values.get(name)
            if name in site.constants or value is None or value.dtype.kind != "f":
                continue
            made = f"{result}.{place}.{kind}"
            inputs = [*node.inputs]
            inputs[place] = made
            text = f"{kind} of {name} before it is missing"
            run = replace(node, inputs=inputs)
            yield Variant("missing activation", text, [Node(kind, [name], [made]), run])


def other_tensors(site: Site) -> Iterator[Variant]:
    """Another tensor or value of the same shape in an input's place."""
    node = site.node
    alike = {(array.shape, array.dtype) for array in site.values.values()}
    for place, name in enumerate(node.inputs):
        value = site.values.get(name)
        if value is None:
            continue
        if name in site.constants:
            if value.size < 2:
                continue
            like = [n for n, a in site.tensors.items() if a.shape == value.shape and n != name]
            for other in like[:MOST_OTHERS]:
                array = site.tensors[other].astype(value.dtype)
                text = f"holds what {other} should hold"
                yield with_constant(site, place, "exchanged weights", text, array)
            continue
        like = [
            n
            for n, a in site.others.items()
            if (a.shape, a.dtype) in alike and n not in node.inputs
        ]
        for other in like[-MOST_OTHERS:]:
            inputs = [*node.inputs]
            inputs[place] = other
            text = f"it is given {name}, in the reference {other}"
            yield Variant("exchanged values", text, [replace(node, inputs=inputs)])
        if value.ndim > 1 and value.dtype.kind == "f" and value.ndim <= 4:
            for perm in itertools.permutations(range(value.ndim)):
                if list(perm) != sorted(perm):
                    made = f"{next(filter(None, node.outputs))}.{place}.turned"
                    inputs = [*node.inputs]
                    inputs[place] = made
                    turn = Node("Transpose", [name], [made], {"perm": list(perm)})
                    text = f"{name} is transposed (axes {', '.join(map(str, perm))})"
                    run = replace(node, inputs=inputs)
                    yield Variant("order of axes", text, [turn, run])


def sums(site: Site) -> Iterator[Variant]:
    """Another value that the reference adds to the node's result or input: a path past layers."""
    node = site.node
    result = next(filter(None, node.outputs))
    inner = f"{result}.bare"
    run = replace(node, outputs=[inner if name == result else name for name in node.outputs])
    shapes = {name: array.shape for name, array in site.values.items() if array.dtype.kind == "f"}
    for other in [*site.others][-MOST_OTHERS:]:
        array = site.others[other]
        if array.ndim < 2 or array.dtype.kind != "f":
            continue
        text = f"the sum with {other} behind it is missing"
        yield Variant("missing sum", text, [run, Node("Add", [inner, other], [result])])
        for place, name in enumerate(node.inputs):
            if name in site.constants or name == other or shapes.get(name) != array.shape:
                continue
            made = f"{result}.{place}.sum"
            inputs = [*node.inputs]
            inputs[place] = made
            text = f"the sum of {name} with {other} before it is missing"
            nodes = [Node("Add", [name, other], [made]), replace(node, inputs=inputs)]
            yield Variant("missing sum", text, nodes)


def absent_inputs(site: Site) -> Iterator[Variant]:
    """A recurrent node's lengths and initial states, that the reference was given."""
    node = site.node
    if node.op_type not in ("LSTM", "GRU", "RNN"):
        return
    inputs = [*node.inputs, *[""] * (7 - len(node.inputs))]
    x, r = site.input(0), site.input(2)
    if x is None or r is None or x.ndim != 3:
        return
    batch = x.shape[0 if node.attributes.get("layout", 0) else 1]
    if not inputs[4]:
        for name, array in site.others.items():
            if array.shape == (batch,) and array.dtype.kind in "iu":
                made = f"{name}.lengths"
                run = replace(node, inputs=[*inputs[:4], made, *inputs[5:]])
                text = f"the lengths {name} are not used: the layer runs on through the padding"
                cast = Node("Cast", [name], [made], {"to": 6})
                yield Variant("padding run through", text, [cast, run])
    count = 2 if node.op_type == "LSTM" else 1
    if not any(inputs[5 : 5 + count]):
        shape = (len(r), batch, r.shape[2])
        like = [n for n, a in site.others.items() if a.shape == shape and a.dtype == x.dtype]
        for states in itertools.permutations(like[:MOST_STATES], count):
            run = replace(node, inputs=[*inputs[:5], *states, *inputs[5 + count :]])
            text = f"the initial state {' and '.join(states)} is not used"
            yield Variant("initial state", text, [run])


def results(site: Site) -> Iterator[Variant]:
    """The node's result in another order of an axis, or a step too early or too late."""
    node = site.node
    result = next(filter(None, node.outputs))
    rank = max((a.ndim for a in site.values.values()), default=0)
    inner = f"{result}.bare"
    run = replace(node, outputs=[inner if name == result else name for name in node.outputs])
    for axis in range(rank):
        constants = {
            f"{result}.last": np.array([-1]),
            f"{result}.end": np.array([-(2**31)]),
            f"{result}.axis": np.array([axis]),
        }
        flip = Node("Slice", [inner, *constants, f"{result}.last"], [result])
        text = f"its result is reversed along axis {axis}"
        yield Variant("reversed", text, [run, flip], constants)
        for shift in (1, -1):
            parts = {
                f"{result}.zero": np.array([0]),
                f"{result}.cut": np.array([-shift]),
                f"{result}.most": np.array([2**31 - 1]),
                f"{result}.axis": np.array([axis]),
            }
            zero, cut, most, along = parts
            nodes = [
                run,
                Node("Slice", [inner, cut, most, along], [f"{result}.a"]),
                Node("Slice", [inner, zero, cut, along], [f"{result}.b"]),
                Node("Concat", [f"{result}.a", f"{result}.b"], [result], {"axis": axis}),
            ]
            text = f"its result is shifted by {shift} along axis {axis}: off by one"
            yield Variant("off by one", text, nodes, parts)
