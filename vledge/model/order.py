"""Nodes put in an order in which they can run, where a file has them in another.

ONNX asks for the order; onnxruntime's float16 converter appends its Casts at the end, and every
runtime sorts. A graph whose order will do is left as it is.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Sequence

from vledge.errors import FormatError
from vledge.model.definition import Graph, Node, captured

__all__ = ["put_in_order"]

SHOWN = 5  # nodes of a cycle that an error lists


def put_in_order(graph: Graph, outer: tuple[Container[str], ...] = ()) -> None:
    """Sort the nodes of the graph, and of every graph inside of it, in place.

    Stable: of the nodes that could come next, the one that the file has first does. ``outer`` has
    the names in each of the graphs around this one. FormatError names the nodes of a cycle.
    """
    makers: dict[str, int] = {}
    for place, node in enumerate(graph.nodes):
        for name in node.outputs:
            if name:
                makers.setdefault(name, place)
    given = {info.name for info in graph.inputs} | set(graph.initializers)
    for node in graph.nodes:
        for inner in node.subgraphs():
            put_in_order(inner, (*outer, given, makers))
    needs = [
        {
            makers[name]
            for name in _read(node)
            # one that the graph around has too is read from there until this graph makes its own
            if name in makers
            and name not in given
            and (makers[name] < place or not any(name in around for around in outer))
        }
        for place, node in enumerate(graph.nodes)
    ]
    if all(place > max(before, default=-1) for place, before in enumerate(needs)):
        return
    followers: list[list[int]] = [[] for _ in needs]
    for place, before in enumerate(needs):
        for maker in before:
            followers[maker].append(place)
    waiting = [len(before) for before in needs]
    ready = [place for place, count in enumerate(waiting) if not count]
    order = []
    while ready:
        place = heapq.heappop(ready)
        order.append(place)
        for follower in followers[place]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(needs):
        raise FormatError(_cycle(graph.nodes, needs, waiting))
    graph.nodes = [graph.nodes[place] for place in order]


def _read(node: Node) -> Iterator[str]:
    """What a node and the graphs inside of it need to be made before."""
    yield from (name for name in node.inputs if name)
    for inner in node.subgraphs():
        yield from captured(inner)


def _cycle(nodes: Sequence[Node], needs: Sequence[Iterable[int]], waiting: Sequence[int]) -> str:
    """The first cycle, followed back from the first node that waits for ever."""
    place = next(place for place, count in enumerate(waiting) if count)
    path: dict[int, int] = {}
    while place not in path:
        path[place] = len(path)
        place = min(before for before in needs[place] if waiting[before])
    cycle = list(path)[path[place] :]
    shown = ", ".join(str(nodes[place]) for place in cycle[:SHOWN])
    more = f" and {len(cycle) - SHOWN} more" if len(cycle) > SHOWN else ""
    if len(cycle) == 1:
        return f"{shown}: it needs its own output"
    return f"nodes need one another in a circle: {shown}{more}"
