"""A model's graph as plain data, whatever file it came from: what readers make and sessions run.

Names and structure are ONNX's; nothing here depends on the onnx package, and nothing is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from vledge.errors import cut, quoted

if TYPE_CHECKING:
    from vledge.budget import Budget

__all__ = [
    "INTERNAL_DOMAIN",
    "Attribute",
    "Attributes",
    "Graph",
    "Model",
    "Node",
    "Opaque",
    "ValueInfo",
    "captured",
]


#: The domain of nodes that passes put into a graph. Their operators trust what the passes have
#: checked, so a file may not name it.
INTERNAL_DOMAIN: Final = "vledge"


@dataclass(slots=True)
class ValueInfo:
    """An input or output of a graph, as declared.

    ``type`` is an element type's name as in ``element_types`` ("float", "int64", …), "" where the
    file does not say; "seq(tensor(float))", "optional(tensor(float))" and
    "optional(seq(tensor(float)))" as onnxruntime writes them, and "sequence", "optional" or "map"
    for what is none of these. ``shape`` has an int, a symbol's name or None for each axis, or is
    None where the file does not say how many there are.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, slots=True)
class Opaque:
    """An attribute value of a kind that no operator here takes: a sparse tensor, a type."""

    kind: str


#: What an attribute may be.
Attribute: TypeAlias = (
    "int | float | str | np.ndarray | Graph | Opaque | "
    "list[int] | list[float] | list[str] | list[np.ndarray] | list[Graph]"
)
#: Attributes by name. Of which kind each is, its operator's signature says (`graph.registry`), and
#: is checked there; the union would have every reader check it again.
Attributes: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Node:
    """One application of an operator. An input or output named ``""`` is absent.

    ``domain`` is "" for ONNX's own operators (never "ai.onnx"). ``part_of`` is what messages call a
    node that a pass has put in the place of the file's: the file's own.
    """

    op_type: str
    inputs: list[str]
    outputs: list[str]
    attributes: Attributes = field(default_factory=dict)
    name: str = ""
    domain: str = ""
    part_of: str = ""

    def __str__(self) -> str:
        """How messages name the node: ``node 'lstm_2' (LSTM)``; by its output if it has no name."""
        if self.part_of:
            return self.part_of
        domain = f"{cut(self.domain)}." if self.domain else ""
        operator = f"{domain}{cut(self.op_type)}"
        if self.name:
            return f"node {quoted(self.name)} ({operator})"
        made = next((output for output in self.outputs if output), "nothing")
        return f"the {operator} node that makes {quoted(made)}"

    def subgraphs(self) -> Iterator[Graph]:
        """The graphs among the attributes: an If's branches, a Loop's body."""
        for value in self.attributes.values():
            if isinstance(value, Graph):
                yield value
            elif isinstance(value, list) and value and isinstance(value[0], Graph):
                yield from value  # all are of one kind; of numbers there may be millions


@dataclass(slots=True)
class Graph:
    """Nodes in an order in which they can run, between inputs and outputs.

    ``initializers`` are constants by name; one that is also named among ``inputs`` is that input's
    default. A subgraph may name values of the graphs around it.
    """

    nodes: list[Node]
    inputs: list[ValueInfo]
    outputs: list[ValueInfo]
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    name: str = ""


@dataclass(slots=True)
class Model:
    """A graph, and which version of each operator set it is written in (``{"": 18}``).

    ``budget`` is what reading has left of its file's; None where it is of no file.
    """

    graph: Graph
    opset_imports: dict[str, int]
    ir_version: int = 0
    producer_name: str = ""
    producer_version: str = ""
    domain: str = ""
    model_version: int = 0
    doc_string: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    budget: Budget | None = None

    @property
    def nbytes(self) -> int:
        """Of its initializers; those of branches and loops are not among them."""
        return sum(array.nbytes for array in self.graph.initializers.values())


def captured(graph: Graph) -> list[str]:
    """The values of outer graphs that a graph uses, in the order in which it does."""
    own = {info.name for info in graph.inputs} | set(graph.initializers)
    outer: dict[str, None] = {}
    for node in graph.nodes:
        for name in (*node.inputs, *(n for inner in node.subgraphs() for n in captured(inner))):
            if name and name not in own:
                outer[name] = None
        own.update(node.outputs)
    for info in graph.outputs:
        if info.name not in own:
            outer[info.name] = None
    return list(outer)
