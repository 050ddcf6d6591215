"""What must hold of any graph before it is planned: names, whichever file it came from."""

from collections.abc import Container

from vledge.errors import FormatError, quoted
from vledge.model.definition import INTERNAL_DOMAIN, Graph

__all__ = ["MAX_DEPTH", "check_graph"]

MAX_DEPTH = 32  # graphs inside of graphs; real files nest four deep


def check_graph(graph: Graph, outer: tuple[Container[str], ...] = ()) -> None:
    """FormatError unless each name is made once, before it is used, and each output is made, and no
    node is of the domain that is not for files.

    ``outer`` has the names that each of the graphs around this one has made at this point.
    """
    if len(outer) > MAX_DEPTH:
        raise FormatError(f"graph {quoted(graph.name)} is nested deeper than {MAX_DEPTH} graphs")
    own = set(graph.initializers)
    for info in graph.inputs:
        if info.name in own and info.name not in graph.initializers:
            raise FormatError(
                f"graph {quoted(graph.name)} has two inputs named {quoted(info.name)}"
            )
        own.add(info.name)
    for node in graph.nodes:
        if node.domain == INTERNAL_DOMAIN:
            raise FormatError(
                f"{node}: operators of the domain {INTERNAL_DOMAIN!r} are what vledge puts into a "
                "graph while it loads one, and may not stand in a file"
            )
        for name in node.inputs:
            if name and name not in own and not any(name in around for around in outer):
                raise FormatError(
                    f"{node}: its input {quoted(name)} is made by no node before it, and is "
                    "neither input nor initializer"
                )
        for subgraph in node.subgraphs():
            check_graph(subgraph, (*outer, own))
        for name in node.outputs:
            if not name:
                continue
            if name in own:
                raise FormatError(f"{node}: its output {quoted(name)} has been made before")
            own.add(name)
    for info in graph.outputs:
        if info.name not in own and not any(info.name in around for around in outer):
            raise FormatError(
                f"graph {quoted(graph.name)}: no node makes its output {quoted(info.name)}"
            )
