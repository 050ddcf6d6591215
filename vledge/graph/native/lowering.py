"""How a node becomes an instruction: what a lowering is told, what it answers, and the registry.

A lowering is a function of a node's `Site`, beside the name of the operator::

    @lowering("Transpose")
    def transpose(site):
        return Lowered("transpose", ints=site.attribute("perm", []))

It names a handler of ``ext/program/`` and gives the parameters that the comment above that handler
asks for. None leaves the node to its Python operator. A lowering need not look for what a handler
declines when it runs (dtypes, sizes); it says None where an attribute has no handler.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

import numpy as np

from vledge.errors import FormatError
from vledge.graph.prepared import Prepared, blamed
from vledge.graph.registry import SessionSettings
from vledge.model.definition import Node

__all__ = ["Joint", "Lowered", "Site", "is_lowered", "lowered", "lowering"]


@dataclass(frozen=True)
class Lowered:
    """An instruction, but for its slots.

    ``inputs`` and ``outputs`` are values' names, "" for none, where they are not the node's own:
    a lowering leaves out constants that ``objects`` hold, and may name outputs that the node does
    not. ``objects`` are arrays, or have an ``address``; the program keeps them.
    """

    handler: str
    ints: Sequence[int] = ()
    floats: Sequence[float] = ()
    objects: Sequence[object] = ()
    inputs: Sequence[str] | None = None
    outputs: Sequence[str] | None = None


@dataclass(frozen=True)
class Site:
    """A node where it stands: what is known of it before a run."""

    node: Node
    opset: int
    prepared: Prepared  #: its Python operator, which may hold packed weights
    constants: Mapping[str, np.ndarray]
    dtypes: Mapping[str, np.dtype]  #: of values, where they are certain
    options: SessionSettings = field(default_factory=SessionSettings)  #: the session's

    def attribute(self, name: str, default: object = None) -> Any:
        """The attribute's value, or what the specification takes without it."""
        return self.node.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Whether the node names its input of this index."""
        return index < len(self.node.inputs) and self.node.inputs[index] != ""

    def constant(self, index: int) -> np.ndarray | None:
        """The input's value where it is known before a run."""
        return self.constants.get(self.node.inputs[index]) if self.has(index) else None

    def dtype(self, index: int) -> np.dtype | None:
        """The input's element type where it is certain."""
        if not self.has(index):
            return None
        known = self.constant(index)
        return self.dtypes.get(self.node.inputs[index]) if known is None else known.dtype

    def without(self, *indices: int) -> list[str]:
        """The node's inputs, those of these indices left out."""
        return ["" if k in indices else name for k, name in enumerate(self.node.inputs)]


@dataclass(frozen=True)
class Joint:
    """Places of nodes in their graph that run together, in order, and their instruction."""

    places: list[int]
    lowered: Lowered


Lowering = Callable[[Site], Lowered | None]
_registry: dict[tuple[str, str], Lowering] = {}


def lowering(*op_types: str, domain: str = "") -> Callable[[Lowering], Lowering]:
    """Register a function as the lowering of these operators."""

    def register(function: Lowering) -> Lowering:
        for op_type in op_types:
            if (domain, op_type) in _registry:
                raise ValueError(f"{domain}.{op_type} is lowered twice")
            _registry[domain, op_type] = function
        return function

    return register


def lowered(site: Site) -> Lowered | None:
    """The node's instruction, or None where its Python operator stays.

    Raises FormatError naming the node for whatever a constant of it makes the lowering raise.
    """
    _import_families()
    function = _registry.get((site.node.domain, site.node.op_type))
    try:
        return None if function is None else function(site)
    except Exception as error:
        raise blamed(error, site.node, FormatError) from error


def is_lowered(node: Node) -> bool:
    """Whether the operator has a handler, for some attributes, types and weights at least."""
    _import_families()
    key = (node.domain, node.op_type)
    return key in _registry or key in _CONTROL


# `emit` lowers these by itself: their bodies are instructions of the same program.
_CONTROL: Final = frozenset([("", "If"), ("", "Loop"), ("", "Scan")])


@lru_cache(maxsize=1)
def _import_families() -> None:
    from vledge.graph.native import families

    for module in pkgutil.iter_modules(families.__path__):
        import_module(f"{families.__name__}.{module.name}")
