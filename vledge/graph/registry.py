"""Which function runs which operator: the decorators that register one, and the lookup by version.

An operator is a function over arrays. Its positional parameters are ONNX's inputs in their order
(one that may be absent has ``None`` as its default, a variadic one is ``*args``), its keyword-only
parameters are ONNX's attributes with the defaults of the specification (one without a default is
required); it returns an array, or a tuple of arrays for several outputs::

    @operator("Add", since=7)
    def add(a, b):
        return a + b

    @operator("Softmax", since=13)
    def softmax(x, *, axis=-1): ...

    @operator("Squeeze", since=1, until=12)        # axes as an attribute
    def squeeze_by_attribute(x, *, axes=None): ...

    @operator("Squeeze", since=13)                 # axes as an input
    def squeeze(x, axes=None): ...

Inputs are ndarrays (0-d for scalars) that must not be changed in place; an output may be a view of
an input, and a NumPy scalar is taken for a 0-d array. Attributes come as int, float, str, ndarray
or a list of these. A graph attribute (``then_branch``, ``body``) comes as a function that runs the
graph: called with the arrays of its inputs it returns the list of its outputs. A sequence comes as
a `TensorSequence`, an optional value that is absent as None; an input that is neither declared
``| None`` nor has None as its default cannot be absent.

A keyword-only parameter named ``context`` is no attribute: it receives the node's `Context` (its
opset, how many outputs are wanted, which inputs are constant).

An operator that gains from work at load time is registered by its factory, which gets the context
and the attributes once and returns the function that runs the node::

    @prepared_operator("Conv", since=1)
    def conv(context, *, group=1, ...):
        weight = context.constants[1]              # None where it is not a constant
        ...
        def run(x, w, b=None): ...
        return run

A factory raises UnsupportedError for attribute values that it does not run and FormatError for
ones that are wrong; messages need not name the node, which the caller adds.

An operator that is made of others is a function over names (`graph/functions.py`).
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any, Final, NamedTuple, TypeAlias, TypedDict, TypeVar

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.graph.arity import inputs_of, outputs_of
from vledge.model.definition import Attributes, Graph, Node, Opaque
from vledge.shown import counted

__all__ = [
    "Context",
    "NodeFunction",
    "Operator",
    "Pointwise",
    "SessionSettings",
    "find",
    "known_operators",
    "operator",
    "pointwise_operators",
    "prepared_operator",
    "written_operator",
]

#: What runs a node: arrays in the order of its inputs -> an array, or a tuple of several.
NodeFunction: TypeAlias = Callable[..., object]


class SessionSettings(TypedDict, total=False):
    """What a session was made with that operators heed."""

    empty_state: str  #: "zero" or "initial": a sequence of no steps
    exact: bool  #: no kernels whose results are others than those of plain products


F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True)
class Context:
    """What an operator may know about the node that it runs."""

    node: Node
    opset: int
    constants: tuple[np.ndarray | None, ...] = ()
    options: SessionSettings = field(
        default_factory=SessionSettings
    )  #: the session's, for example empty_state
    released: set[int] = field(default_factory=set)

    def release(self, index: int) -> None:
        """Say that a factory has taken what it needs of a constant input: runs get None for it."""
        self.released.add(index)

    @property
    def outputs_wanted(self) -> int:
        """Outputs up to the last one that the node names."""
        return max((i + 1 for i, name in enumerate(self.node.outputs) if name), default=0)

    def wants(self, index: int) -> bool:
        """Whether the node names its output of this index."""
        return index < len(self.node.outputs) and self.node.outputs[index] != ""


@dataclass(frozen=True)
class Operator:
    """A registered operator, for the opsets from ``since`` to ``until``."""

    op_type: str
    domain: str
    since: int
    until: int | None
    function: Callable[..., Any]
    is_factory: bool
    foldable: bool  #: the same inputs give the same outputs
    pointwise: bool  #: an element of the result is made of those at its place in the inputs
    wants_context: bool
    attributes: Attributes  #: name → default, inspect.Parameter.empty where it is required
    kinds: dict[str, str]  #: name → the parameter's annotation without "| None"
    inputs: tuple[int, int | None]  #: fewest and most
    may_be_absent: tuple[bool, ...]  #: by input; the last is that of every further one, too
    outputs: int | None  #: at most; None for any number

    def bind(self, node: Node) -> Attributes:
        """The node's attributes, checked: UnsupportedError or FormatError for what does not fit."""
        unknown = [name for name in node.attributes if name not in self.attributes]
        if unknown:
            known = ", ".join(self.attributes) or "none"
            raise UnsupportedError(
                f"attribute {unknown[0]}={_shown(node.attributes[unknown[0]])} is not supported "
                f"(known: {known})"
            )
        for name, value in node.attributes.items():
            if isinstance(value, Opaque) and self.kinds[name] != "Opaque":
                raise UnsupportedError(
                    f"attribute {name} is a {value.kind}, which is not supported"
                )
            if not _is_of_kind(value, self.kinds[name]):
                raise FormatError(
                    f"attribute {name} is {_shown(value)}, expected {self.kinds[name]}"
                )
        for name in _AXES:
            given = node.attributes.get(name, 0)
            for axis in given if isinstance(given, list) else [given]:
                if isinstance(axis, int) and not -MOST_AXES <= axis <= MOST_AXES:
                    raise FormatError(f"attribute {name} is {axis}: no array has so many axes")
        for name, default in self.attributes.items():
            if default is inspect.Parameter.empty and name not in node.attributes:
                raise FormatError(f"the attribute {name} is missing")
        fewest, most = self.inputs
        count = len(node.inputs)
        if count < fewest or (most is not None and count > most):
            wanted = (
                f"{fewest}"
                if fewest == most
                else f"{fewest} to {most}"
                if most
                else f"{fewest} or more"
            )
            raise FormatError(f"the node has {counted(count, 'input')}, the operator {wanted}")
        if self.outputs is not None and any(node.outputs[self.outputs :]):
            raise FormatError(
                f"the node has {counted(len(node.outputs), 'output')}, the operator {self.outputs}"
            )
        for index, name in enumerate(node.inputs):
            if not name and not self.may_be_absent[min(index, len(self.may_be_absent) - 1)]:
                raise FormatError(
                    f"input {index}, counted from 0, is absent: the operator needs it"
                )
        return dict(node.attributes)


MOST_AXES: Final = 64  # of NumPy's arrays
_AXES: Final = ("axis", "axes", "batch_dims", "perm", "scan_input_axes", "scan_output_axes")

_registry: dict[tuple[str, str], list[Operator]] = {}


def operator(
    op_type: str,
    *,
    since: int,
    until: int | None = None,
    domain: str = "",
    foldable: bool = True,
    pointwise: bool = False,
) -> Callable[[F], F]:
    """Register a function as an operator for opsets ``since`` to ``until``; may be stacked.

    ``foldable=False`` says that the result is not a function of the inputs (random numbers).
    ``pointwise=True`` says that the result has one element for each of the inputs', broadcast, made
    of those at its place and of nothing else: passes and the validation ask `pointwise_operators`.
    """
    return _registering(op_type, domain, since, until, foldable, pointwise, is_factory=False)


def prepared_operator(
    op_type: str,
    *,
    since: int,
    until: int | None = None,
    domain: str = "",
    foldable: bool = True,
    pointwise: bool = False,
) -> Callable[[F], F]:
    """Register a factory ``(context, *, attributes) -> function of inputs``; may be stacked."""
    return _registering(op_type, domain, since, until, foldable, pointwise, is_factory=True)


def written_operator(
    op_type: str, *, since: int, until: int | None = None, domain: str = ""
) -> Callable[[F], F]:
    """Register a factory whose signature has, behind its first parameter, the node's inputs.

    What it is made of is folded, when that stands in its place: halves are then computed as floats.
    """
    return _registering(
        op_type, domain, since, until, False, False, is_factory=True, has_inputs=True
    )


def _registering(
    op_type: str,
    domain: str,
    since: int,
    until: int | None,
    foldable: bool,
    pointwise: bool,
    is_factory: bool,
    has_inputs: bool = False,
) -> Callable[[F], F]:
    def register(function: F) -> F:
        parameters = list(inspect.signature(function).parameters.values())[int(has_inputs) :]
        attributes = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        wants_context = not is_factory and attributes.pop("context", parameters) is not parameters
        kinds = {p.name: str(p.annotation) for p in parameters if p.kind is p.KEYWORD_ONLY}
        positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        inputs: tuple[int, int | None] = (
            sum(p.default is p.empty for p in positional),
            None if variadic else len(positional),
        )
        may_be_absent = _may_be_absent(parameters)
        if is_factory and not has_inputs:
            inputs = inputs_of(op_type, since)
            may_be_absent = (*[False] * inputs[0], True)
        entry = Operator(
            op_type,
            domain,
            since,
            until,
            function,
            is_factory,
            foldable,
            pointwise,
            wants_context,
            attributes,
            {name: kind.removesuffix(" | None") for name, kind in kinds.items()},
            inputs,
            may_be_absent,
            None if domain else outputs_of(op_type),
        )
        versions = _registry.setdefault((domain, op_type), [])
        if any(other.since == since for other in versions):
            raise ValueError(f"{domain}.{op_type} since {since} is registered twice")
        versions.append(entry)
        versions.sort(key=lambda o: o.since)
        return function

    return register


def _may_be_absent(parameters: list[inspect.Parameter]) -> tuple[bool, ...]:
    inputs = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    return tuple(
        p.default is None or p.default == "" or "None" in str(p.annotation) for p in inputs
    ) or (True,)


def find(op_type: str, domain: str, opset: int) -> Operator | None:
    """The newest registration that began at or before ``opset`` and still holds; None if none."""
    _import_families()
    for entry in reversed(_registry.get((domain, op_type), ())):
        if entry.since <= opset:
            return entry if entry.until is None or opset <= entry.until else None
    return None


def known_operators() -> dict[tuple[str, str], list[Operator]]:
    """Every registration by (domain, op_type), oldest first."""
    _import_families()
    return dict(_registry)


class Pointwise(NamedTuple):
    """ONNX's element-wise operators, by how many values they are made of."""

    of_one: frozenset[str]  #: further inputs, such as Clip's bounds, are parameters
    of_several: frozenset[str]  #: which are broadcast


@lru_cache(maxsize=1)
def pointwise_operators() -> Pointwise:
    """The operators of ONNX's own domain that are registered with ``pointwise=True``."""
    of_one: set[str] = set()
    of_several: set[str] = set()
    for (domain, op_type), versions in known_operators().items():
        if not domain and all(entry.pointwise for entry in versions):
            fewest, most = versions[-1].inputs
            (of_one if fewest == 1 and most is not None else of_several).add(op_type)
    return Pointwise(frozenset(of_one), frozenset(of_several))


@lru_cache(maxsize=1)
def _import_families() -> None:
    from vledge.graph import operators

    for module in pkgutil.iter_modules(operators.__path__):
        import_module(f"{operators.__name__}.{module.name}")


# What attributes may be, by annotation; the operator itself looks at those of other annotations.
_KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    "int": int,
    "float": (float, int),
    "str": str,
    "np.ndarray": np.ndarray,
}


def _is_of_kind(value: object, kind: str) -> bool:
    if kind.startswith("list["):
        wanted = _KINDS.get(kind[len("list[") : -1], object)
        if not isinstance(value, list):
            return False
        return all(issubclass(own, wanted) for own in set(map(type, value)))
    return kind not in _KINDS or isinstance(value, _KINDS[kind])


def _shown(value: object) -> str:
    if isinstance(value, (Graph, np.ndarray)):
        return f"<{type(value).__name__}>"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
