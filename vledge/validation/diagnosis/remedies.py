"""The usual ways in which any node goes wrong on its way from one framework to another, undone.

Each remedy looks at a node, its constant inputs and the values about it, and offers variants:
nodes to put in its place, in which one particular mistake is undone. Recurrent nodes have remedies
of their own (``suspects``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from vledge.model.definition import Attribute, Attributes, Node
from vledge.validation.diagnosis.constant_remedies import EPSILONS, Site, numbers, rearranged
from vledge.validation.diagnosis.suspects import Variant
from vledge.validation.diagnosis.wiring_remedies import (
    absent_inputs,
    activations,
    order_of_inputs,
    other_tensors,
    results,
    sums,
)

__all__ = ["Site", "remedies"]

MOST_AXES = 5  # of which every order is tried

# operators that are taken for one another, each with its attributes
_ALIKE: Final[tuple[tuple[tuple[str, Attributes], ...], ...]] = (
    (
        ("Identity", {}),
        ("Relu", {}),
        ("Tanh", {}),
        ("Sigmoid", {}),
        ("LeakyRelu", {"alpha": 0.01}),
        ("LeakyRelu", {"alpha": 0.1}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {}),
        ("Selu", {}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 1 / 6}),
        ("HardSwish", {}),
        ("Exp", {}),
        ("Log", {}),
        ("Abs", {}),
        ("Neg", {}),
        ("Sqrt", {}),
        ("Reciprocal", {}),
        ("Erf", {}),
        ("Sin", {}),
        ("Cos", {}),
        ("Floor", {}),
        ("Ceil", {}),
        ("Round", {}),
    ),
    (("Softmax", {}), ("LogSoftmax", {}), ("Sigmoid", {}), ("Identity", {})),
    (("Add", {}), ("Sub", {}), ("Mul", {}), ("Div", {}), ("Max", {}), ("Min", {}), ("Pow", {})),
    (
        ("ReduceMean", {}),
        ("ReduceSum", {}),
        ("ReduceMax", {}),
        ("ReduceMin", {}),
        ("ReduceL2", {}),
        ("ReduceProd", {}),
    ),
    (("MaxPool", {}), ("AveragePool", {})),
    (("GlobalMaxPool", {}), ("GlobalAveragePool", {})),
    (("ArgMax", {}), ("ArgMin", {})),
    (("Less", {}), ("LessOrEqual", {}), ("Greater", {}), ("GreaterOrEqual", {}), ("Equal", {})),
    (("And", {}), ("Or", {}), ("Xor", {})),
    (("Floor", {}), ("Ceil", {}), ("Round", {})),
)
_AXIS: Final = ("axis", "axes", "split_axis", "batch_axis", "time_axis")
_DEFAULTS: Final[dict[str, Attributes]] = {  # what an attribute is where a node has none
    "ArgMax": {"axis": 0, "keepdims": 1, "select_last_index": 0},
    "ArgMin": {"axis": 0, "keepdims": 1, "select_last_index": 0},
    "AveragePool": {"count_include_pad": 0, "ceil_mode": 0},
    "BatchNormalization": {"epsilon": 1e-5},
    "CumSum": {"exclusive": 0, "reverse": 0},
    "Elu": {"alpha": 1.0},
    "Flatten": {"axis": 1},
    "Gather": {"axis": 0},
    "Gelu": {"approximate": "none"},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "InstanceNormalization": {"epsilon": 1e-5},
    "GroupNormalization": {"epsilon": 1e-5},
    "LayerNormalization": {"epsilon": 1e-5, "axis": -1},
    "LeakyRelu": {"alpha": 0.01},
    "LogSoftmax": {"axis": -1},
    "MaxPool": {"ceil_mode": 0},
    "Pad": {"mode": "constant"},
    "Softmax": {"axis": -1},
}
_WORDS: Final = {
    "mode": ("constant", "reflect", "edge", "wrap", "nearest", "linear", "cubic"),
    "approximate": ("none", "tanh"),
    "coordinate_transformation_mode": ("half_pixel", "asymmetric", "align_corners"),
    "nearest_mode": ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    "auto_pad": ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"),
}
_FLAGS: Final = (
    "ceil_mode",
    "count_include_pad",
    "exclusive",
    "keepdims",
    "largest",
    "reverse",
    "select_last_index",
    "transA",
    "transB",
)


def remedies(site: Site) -> Iterator[Variant]:
    """All variants, the commonest mistakes first."""
    for offer in (
        _attributes,
        _operator,
        order_of_inputs,
        numbers,
        rearranged,
        activations,
        absent_inputs,
        other_tensors,
        results,
        sums,
    ):
        yield from offer(site)


def _changed(node: Node, name: str, text: str, **attributes: Attribute) -> Variant:
    return Variant(name, text, [replace(node, attributes={**node.attributes, **attributes})])


def _attributes(site: Site) -> Iterator[Variant]:
    node = site.node
    own = {**_DEFAULTS.get(node.op_type, {}), **node.attributes}
    rank = max((a.ndim for a in site.values.values()), default=0)
    for key, now in own.items():
        if key in _AXIS and isinstance(now, int):
            for axis in range(rank):
                if axis not in (now, now + rank):
                    text = f"{key} is {now}, the reference has {axis}"
                    yield _changed(node, "axis", text, **{key: axis})
        elif key in _AXIS and isinstance(now, list) and len(now) == 1:
            for axis in range(rank + 1):
                if axis not in (now[0], now[0] + rank):
                    text = f"{key} is {now}, the reference has [{axis}]"
                    yield _changed(node, "axis", text, **{key: [axis]})
        elif key == "perm" and len(now) <= MOST_AXES:
            for perm in itertools.permutations(range(len(now))):
                if list(perm) != list(now):
                    text = f"perm is {list(now)}, the reference has {list(perm)}"
                    yield _changed(node, "order of axes", text, perm=list(perm))
        elif key == "epsilon":
            for epsilon in EPSILONS:
                if not np.isclose(epsilon, now, rtol=1e-3, atol=0):
                    text = f"epsilon is {now:.1g}, the reference has {epsilon:.1g}"
                    yield _changed(node, "epsilon", text, epsilon=epsilon)
        elif key in _FLAGS:
            text = f"{key} is {now}, the reference has {1 - now}"
            yield _changed(node, key, text, **{key: 1 - now})
        elif key in _WORDS:
            for word in _WORDS[key]:
                if word != now:
                    text = f"{key} is {now!r}, the reference has {word!r}"
                    yield _changed(node, key, text, **{key: word})
        elif key in ("alpha", "beta"):
            for value in (
                0.0,
                0.01,
                0.05,
                0.1,
                0.2,
                0.3,
                0.5,
                1.0,
                1 / 6,
                2.0,
                -now,
                1 / now if now else 1.0,
            ):
                if not np.isclose(value, now):
                    text = f"{key} is {now:.4g}, the reference has {value:.4g}"
                    yield _changed(node, key, text, **{key: float(np.float32(value))})
        elif key in ("dilations", "strides"):
            for value in (1, 2, 3, 4, 8):
                if list(now) != [value] * len(now):
                    text = f"{key} is {list(now)}, the reference has {[value] * len(now)}"
                    yield _changed(node, key, text, **{key: [value] * len(now)})
        elif key == "pads":
            for pads in _pads(list(now)):
                text = f"pads is {list(now)}, the reference has {pads}"
                yield _changed(node, "padding", text, pads=pads, auto_pad="NOTSET")
    if node.op_type in ("Conv", "MaxPool", "AveragePool") and "pads" not in own:
        count = max(rank - 2, 1)
        for total in (1, 2, 3, 4):
            text = f"there is no padding, the reference has {total} on each side"
            yield _changed(node, "padding", text, pads=[total] * 2 * count)
    if node.op_type == "Transpose" and "perm" not in own:
        for perm in itertools.permutations(range(rank)):
            text = f"perm is the reverse of the axes, the reference has {list(perm)}"
            yield _changed(node, "order of axes", text, perm=list(perm))


def _pads(now: list[int]) -> Iterator[list[int]]:
    half = len(now) // 2
    begin, end = now[:half], now[half:]
    total = [a + b for a, b in zip(begin, end, strict=True)]
    for pads in (
        end + begin,
        total + [0] * half,
        [0] * half + total,
        [(t + 1) // 2 for t in total] + [t // 2 for t in total],
        [t // 2 for t in total] + [(t + 1) // 2 for t in total],
    ):
        if pads != now:
            yield pads
    for shift in (1, -1):
        moved = [a - shift for a in begin] + [b + shift for b in end]
        if min(moved) >= 0:
            yield moved
    for size in (0, 1, 2, 3, 4):
        if now != [size] * len(now):
            yield [size] * len(now)
    for place, step in itertools.product(range(len(now)), (1, -1, 2, -2)):
        if now[place] + step >= 0:
            yield [*now[:place], now[place] + step, *now[place + 1 :]]


def _operator(site: Site) -> Iterator[Variant]:
    node = site.node
    if node.domain:
        return
    for group in _ALIKE:
        if node.op_type not in {name for name, _ in group}:
            continue
        if node.op_type in ("Add", "Sub", "Mul", "Div"):
            for name in node.inputs:
                text = f"{node.op_type} where the reference has {name} as it is"
                made = Node("Identity", [name], node.outputs, {}, node.name)
                yield Variant("superfluous node", text, [made])
        single = len(group) > 20  # of one input and no attributes but its own
        for name, attributes in group:
            own = {} if single else _common(node, name)
            new = {**own, **attributes}
            if name == node.op_type and (not attributes or new == node.attributes):
                continue
            inputs = node.inputs[:1] if single else [*node.inputs]
            constants: dict[str, np.ndarray] = {}
            if name.startswith("Reduce"):
                inputs, new, constants = _reducing(site, name, new)
            made = replace(node, op_type=name, attributes=new, inputs=inputs)
            if name == "Identity":
                text = f"{node.op_type} where the reference has none"
                yield Variant("superfluous node", text, [replace(made, inputs=inputs[:1])])
            elif node.op_type == "Identity":
                shown = f"{name}{_shown(attributes)}"
                yield Variant("missing activation", f"{shown} of the reference is missing", [made])
            else:
                shown = f"{name}{_shown(attributes)}"
                text = f"it is {node.op_type}, the reference has {shown}"
                yield Variant("other operator", text, [made], constants)


def _common(node: Node, name: str) -> Attributes:
    """The node's attributes that an operator like it has, too."""
    kept = {"axis", "axes", "keepdims", "noop_with_empty_axes"}
    if name in ("MaxPool", "AveragePool"):
        kept |= {"kernel_shape", "pads", "strides", "ceil_mode", "auto_pad"}
    if name == "Identity":
        kept = set()
    return {key: value for key, value in node.attributes.items() if key in kept}


def _reducing(
    site: Site, name: str, attributes: Attributes
) -> tuple[list[str], Attributes, dict[str, np.ndarray]]:
    """Inputs, attributes and constants of a reduction, whose axes moved from one to the other."""
    node, made = site.node, f"{site.node.outputs[0]}.axes"
    axes = attributes.pop("axes", None)
    if axes is None and len(node.inputs) > 1:
        given = site.input(1)
        axes = None if given is None else given.reshape(-1).tolist()
    if axes is None:
        return node.inputs[:1], attributes, {}
    if site.opset >= (13 if name == "ReduceSum" else 18):
        return [node.inputs[0], made], attributes, {made: np.array(axes, np.int64)}
    return node.inputs[:1], {**attributes, "axes": axes}, {}


def _shown(attributes: Attributes) -> str:
    inner = ", ".join(f"{key}={value:.3g}" for key, value in attributes.items())
    return f"({inner})" if inner else ""
