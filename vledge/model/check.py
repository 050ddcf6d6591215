"""What must hold of any graph before it is planned: names, whichever file it came from."""

from collections.abc import Iterable

from vledge.errors import FormatError
from vledge.model.definition import INTERNAL_DOMAIN, Graph

__all__ = ["MAX_DEPTH", "check_graph"]

MAX_DEPTH = 32  # graphs inside of graphs; real files nest four deep


def check_graph(graph: Graph, outer: Iterable[str] = (), depth: int = 0) -> None:
    """FormatError unless each name is made once, before it is used, and each output is made, and no
    node is of the domain that is not for files.

    ``outer`` are the names that the graphs around this one have made at this point.
    """
    if depth > MAX_DEPTH:
        raise FormatError(f"graph {graph.name!r} is nested deeper than {MAX_DEPTH} graphs")
    own = set(graph.initializers)
    for info in graph.inputs:
        if info.name in own and info.name not in graph.initializers:
            raise FormatError(f"graph {graph.name!r} has two inputs named {info.name!r}")
        own.add(info.name)
    outer = set(outer)
    for node in graph.nodes:
        if node.domain == INTERNAL_DOMAIN:
            raise FormatError(
                f"{node}: operators of the domain {INTERNAL_DOMAIN!r} are what vledge puts into a "
                "graph while it loads one, and may not stand in a file"
            )
        for name in node.inputs:
            if name and name not in own and name not in outer:
                raise FormatError(
                    f"{node}: its input {name!r} is made by no node before it, and is neither "
                    "input nor initializer"
                )
        for subgraph in node.subgraphs():
            check_graph(subgraph, outer | own, depth + 1)
        for name in node.outputs:
            if not name:
                continue
            if name in own:
                raise FormatError(f"{node}: its output {name!r} has been made before")
            own.add(name)
    for info in graph.outputs:
        if info.name not in own and info.name not in outer:
            raise FormatError(f"graph {graph.name!r}: no node makes its output {info.name!r}")
