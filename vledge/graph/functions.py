"""Operators that are made of others: ONNX's functions, and what onnxruntime's optimizer joins.

Such an operator is written once, as the nodes that it stands for. Its function gets a `Writer`, the
names of the node's inputs ("" for one that is absent) and its attributes, adds nodes, and returns
the name of its result, or of each of its results::

    @function("BiasGelu", since=1, domain="com.microsoft")
    def bias_gelu(to: Writer, x: str, bias: str) -> str:
        return to.gelu(to.add("Add", [x, bias]))

A pass puts the nodes in the place of the node, and so they run natively, join chains and are known
to every other pass (`passes/functions.py`). Where that cannot be, since types or numbers of axes
that the function asks for are not certain, the node's own function runs them one by one: there
they are those of the arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Concatenate, Final, ParamSpec

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.graph.prepared import Prepared, prepare
from vledge.graph.registry import Context, written_operator
from vledge.graph.values import Value
from vledge.model.definition import INTERNAL_DOMAIN, Node
from vledge.model.element_types import DTYPES, NUMBERS
from vledge.model.names import Names
from vledge.shown import counted

__all__ = ["Function", "NotCertain", "Writer", "function"]

P = ParamSpec("P")
_Written = Callable[Concatenate["Writer", P], "str | tuple[str, ...]"]
# The operator sets in which a function by itself writes its nodes: any that has all of them.
_OPSETS: Final = {"": 23, "com.microsoft": 1}
_NAMES: Final = {dtype: name for name, dtype in reversed(DTYPES.items())}  # not bfloat16
_FIRST_WITH_NORMS: Final = {"LayerNormalization": 17, "RMSNormalization": 23}


class NotCertain(Exception):
    """A function has asked for a type or a number of axes that is not known before a run."""


class Writer:
    """What a function adds its nodes to, and what it may know of the values around them."""

    def __init__(
        self,
        node: Node,
        opsets: Mapping[str, int],
        fresh: Callable[[str], str],
        dtype: Callable[[str], np.dtype | None],
        rank: Callable[[str], int | None],
    ) -> None:
        self.node = node
        self.opset = opsets.get("", 1)
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self._new_name, self._dtype, self._rank = fresh, dtype, rank

    def wants(self, index: int) -> bool:
        """Whether the node names its output of this index."""
        return index < len(self.node.outputs) and self.node.outputs[index] != ""

    def dtype(self, name: str) -> np.dtype:
        """A value's dtype; NotCertain where it is not known."""
        known = self.constants.get(name)
        found = self._dtype(name) if known is None else known.dtype
        if found is None:
            raise NotCertain
        return found

    def rank(self, name: str) -> int:
        """How many axes a value of the node's has; NotCertain where that is not known."""
        found = self._rank(name)
        if found is None:
            raise NotCertain
        return found

    def add(self, op_type: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """A further node; the name of its result."""
        return self.add_several(op_type, inputs, 1, domain, **attributes)[0]

    def add_several(
        self, op_type: str, inputs: Sequence[str], count: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """As `add`, of a node with several results."""
        results = [self._fresh("part") for _ in range(count)]
        own = self.node
        attributes = {key: value for key, value in attributes.items() if value is not None}
        node = Node(op_type, list(inputs), results, attributes, own.name, domain, str(own))
        self.nodes.append(node)
        return list(results)

    def constant(self, value: object, dtype: Any) -> str:
        """A value that is known."""
        name = self._fresh("constant")
        self.constants[name] = np.asarray(value, dtype)
        return name

    def number(self, value: float, like: str) -> str:
        """A number of a value's type."""
        return self.constant(value, self.dtype(like))

    def whole(self, *values: int) -> str:
        """A vector of whole numbers: a shape, axes, places."""
        return self.constant(values, np.int64)

    def scaled(self, x: str, factor: float) -> str:
        """x times a number; x itself times one."""
        return x if factor == 1 else self.add("Mul", [x, self.number(factor, x)])

    def reshaped(self, x: str, *sizes: int) -> str:
        """Of these sizes: 0 stands for x's own at that place, -1 for what is left."""
        return self.add("Reshape", [x, self.whole(*sizes)])

    def transposed(self, x: str, *order: int) -> str:
        return self.add("Transpose", [x], perm=list(order))

    def unsqueezed(self, x: str, axes: Sequence[int]) -> str:
        return self._with_axes("Unsqueeze", x, axes)

    def squeezed(self, x: str, axes: Sequence[int]) -> str:
        return self._with_axes("Squeeze", x, axes)

    def _with_axes(self, op_type: str, x: str, axes: Sequence[int]) -> str:
        if self.opset < 13:
            return self.add(op_type, [x], axes=list(axes))
        return self.add(op_type, [x, self.whole(*axes)])

    def sliced(self, x: str, axis: int, start: int, end: int) -> str:
        """From one place of an axis to another."""
        if self.opset < 10:
            return self.add("Slice", [x], axes=[axis], starts=[start], ends=[end])
        return self.between(x, axis, self.whole(start), self.whole(end))

    def between(self, x: str, axis: int, start: str, end: str) -> str:
        """The same, of places that are vectors of one number."""
        if self.opset < 10:
            raise NotCertain  # Slice has attributes
        return self.add("Slice", [x, start, end, self.whole(axis)])

    def reduced(self, op_type: str, x: str, axis: int) -> str:
        """Over an axis, which stays as one."""
        if self.opset < 18:
            return self.add(op_type, [x], axes=[axis], keepdims=1)
        return self.add(op_type, [x, self.whole(axis)], keepdims=1)

    def size(self, x: str, axis: int) -> str:
        """The size of an axis, a vector of one number."""
        return self.add("Gather", [self.add("Shape", [x]), self.whole(axis)])

    def places(self, count: str) -> str:
        """0, 1, 2 … below a count, which is a vector of one number."""
        if self.opset < 11:
            raise NotCertain  # there is no Range
        zero, one = self.constant(0, np.int64), self.constant(1, np.int64)
        end = self.add("Reshape", [count, self.constant([], np.int64)])
        return self.add("Range", [zero, end, one])

    def gelu(self, x: str, approximate: str = "none") -> str:
        return self.add("Gelu", [x], INTERNAL_DOMAIN, approximate=approximate)

    def norm(
        self, op_type: str, inputs: Sequence[str], epsilon: float, axis: int = -1, count: int = 1
    ) -> list[str]:
        """A LayerNormalization or RMSNormalization, in operator sets without it as well."""
        domain = "" if self.opset >= _FIRST_WITH_NORMS[op_type] else INTERNAL_DOMAIN
        given = [name for name in inputs if name]
        return self.add_several(op_type, given, count, domain, axis=axis, epsilon=epsilon)

    def cast(self, x: str, dtype: Any) -> str:
        return self.add("Cast", [x], to=NUMBERS[_NAMES[np.dtype(dtype)]])

    def activated(self, x: str, activation: str, parameters: Sequence[float]) -> str:
        """An activation that is named in an attribute, as onnxruntime's fusions have it."""
        names = _PARAMETERS.get(activation)
        if names is None:
            known = ", ".join(_PARAMETERS)
            raise UnsupportedError(f"activation={activation} is not supported (known: {known})")
        if activation == "Clip" and self.opset >= 11:
            bounds = [self.number(bound, self.node.inputs[0]) for bound in parameters]
            return self.add("Clip", [x, *bounds])
        given: dict[str, Any] = dict(zip(names, parameters, strict=False))
        return self.add(activation, [x], **given)

    def _fresh(self, what: str) -> str:
        made = next((output for output in self.node.outputs if output), "nothing")
        return self._new_name(f"{made}_{what}")


_PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "Clip": ("min", "max"),
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Selu": ("alpha", "gamma"),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}


class Function:
    """The factory that is registered: of a node's own function, and what a pass expands."""

    def __init__(self, written: Callable[..., str | tuple[str, ...]]) -> None:
        functools.update_wrapper(self, written)
        self._written = written

    def __call__(self, context: Context, **attributes: Any) -> Callable[..., list[Value]]:
        alone = _Alone(self, context.node, attributes)
        alone.check()
        return alone

    def expanded(self, to: Writer, attributes: Mapping[str, Any]) -> list[Node]:
        """The nodes that make what the writer's node makes; NotCertain where they are not known."""
        results = self._written(to, *to.node.inputs, **attributes)
        results = (results,) if isinstance(results, str) else results
        if any(to.node.outputs[len(results) :]):
            raise FormatError(
                f"the node has {counted(len(to.node.outputs), 'output')}, the operator "
                f"{len(results)}"
            )
        made = {name: node for node in to.nodes for name in node.outputs}
        for name, output in zip(results, to.node.outputs, strict=False):
            node = made.pop(name, None)
            if output and not name:
                raise UnsupportedError(f"the output {output!r} is not supported")
            if output and node is not None:
                _rename(to.nodes, name, output)
            elif output:  # an input, a constant, or the same as another result
                named = zip(to.node.outputs, results, strict=False)
                source = next((own for own, result in named if result == name and own), name)
                source = source if source != output else name
                to.nodes.append(Node("Identity", [source], [output], {}, "", "", str(to.node)))
        return to.nodes


def function(
    op_type: str, *, since: int, until: int | None = None, domain: str = ""
) -> Callable[[_Written[P]], _Written[P]]:
    """Register a function that writes the nodes of an operator; may be stacked."""

    def register(written: _Written[P]) -> _Written[P]:
        written_operator(op_type, since=since, until=until, domain=domain)(Function(written))
        return written

    return register


def _rename(nodes: Sequence[Node], name: str, new: str) -> None:
    for node in nodes:
        node.inputs = [new if own == name else own for own in node.inputs]
        node.outputs = [new if own == name else own for own in node.outputs]


class _Alone:
    """A node's function, where no pass has expanded it: its nodes, one by one."""

    def __init__(self, of: Function, node: Node, attributes: Mapping[str, Any]) -> None:
        inputs = [f"x{k}" if name else "" for k, name in enumerate(node.inputs)]
        outputs = [f"y{k}" if name else "" for k, name in enumerate(node.outputs)]
        self.node = Node(node.op_type, inputs, outputs, {}, node.name, node.domain, str(node))
        self.of, self.attributes = of, attributes
        self.steps: dict[object, tuple[dict[str, np.ndarray], list[tuple[Node, Prepared]]]] = {}

    def __call__(self, *arrays: np.ndarray | None) -> list[Value]:
        key = tuple(None if x is None else (x.ndim, x.dtype) for x in arrays)
        if key not in self.steps:
            self.steps[key] = self.prepared(arrays)
        constants, steps = self.steps[key]
        values: dict[str, Any] = {"": None, **constants}
        values.update(zip(self.node.inputs, arrays, strict=False))
        values[""] = None
        for node, step in steps:
            results = step.call(*[values[name] for name in node.inputs])
            values.update(zip(node.outputs, results, strict=True))
        return [values[name] for name in self.node.outputs]

    def check(self) -> None:
        """Raise what the attributes are wrong in, as far as that can be said before a run."""
        with suppress(NotCertain):
            self.ready(lambda name: np.dtype(np.float32), lambda name: None)

    def prepared(
        self, arrays: Sequence[np.ndarray | None]
    ) -> tuple[dict[str, np.ndarray], list[tuple[Node, Prepared]]]:
        known = {n: x for n, x in zip(self.node.inputs, arrays, strict=False) if x is not None}
        try:
            return self.ready(
                lambda name: known[name].dtype if name in known else None,
                lambda name: known[name].ndim if name in known else None,
            )
        except NotCertain:
            raise ValueError("the types of what it is made of are not known") from None

    def ready(
        self, dtype: Callable[[str], np.dtype | None], rank: Callable[[str], int | None]
    ) -> tuple[dict[str, np.ndarray], list[tuple[Node, Prepared]]]:
        names = Names([*self.node.inputs, *self.node.outputs])
        to = Writer(self.node, _OPSETS, names.fresh, dtype, rank)
        nodes = self.of.expanded(to, self.attributes)
        return to.constants, [(n, prepare(n, _OPSETS, to.constants, options={})) for n in nodes]
