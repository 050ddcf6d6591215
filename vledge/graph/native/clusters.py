"""Which nodes of a graph run as one instruction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vledge.formats.graph_definition import Graph, Node
from vledge.graph.native.lowering import Lowered, Site, lowered

__all__ = ["Cluster", "clusters"]


@dataclass(frozen=True)
class Cluster:
    """Nodes in the order in which they run, and the instruction that they are; None: Python's."""

    nodes: Sequence[Node]
    lowered: Lowered | None


def clusters(graph: Graph, site: Callable[[Node], Site]) -> list[Cluster]:
    """The graph's nodes, in order, each in one cluster. If, Loop and Scan are nobody's to join."""
    return [Cluster([node], lowered(site(node))) for node in graph.nodes]
