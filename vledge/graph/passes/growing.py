"""States that only grow, by an element a step: a sequence, or a value that is joined with the next.

torch's scripted loops collect their outputs so. Where the elements are known for all steps, the
state's end is those elements, and the loop need not carry it.
"""

from __future__ import annotations

from collections.abc import Mapping

from vledge.graph.passes.carried import LoopParts
from vledge.graph.passes.program import captured
from vledge.graph.passes.stacks import Stacked
from vledge.graph.passes.trips import Front
from vledge.model.definition import Graph, Node

__all__ = ["take_grown"]


def take_grown(
    front: Front, graph: Graph, parts: LoopParts, stacks: Mapping[str, Stacked]
) -> dict[int, list[Node]]:
    """By place the states that need not be carried, and the nodes behind the loop that end them."""
    makers = {name: node for node in parts.body.nodes for name in node.outputs if name}
    given = [info.name for info in (*parts.condition, *parts.next, *parts.columns)]
    taken: dict[int, list[Node]] = {}
    for place, (info, following) in enumerate(zip(parts.states, parts.next, strict=True)):
        node = makers.get(following.name)
        if node is None or node.domain or given.count(following.name) != 1:
            continue
        readers = [
            other
            for other in parts.body.nodes
            if info.name in other.inputs or any(info.name in captured(g) for g in other.subgraphs())
        ]
        alone = info.name not in given and all(other is node for other in readers)
        if not alone or any(following.name in other.inputs for other in parts.body.nodes):
            continue
        if node.op_type == "SequenceInsert" and node.inputs[1:2] and len(node.inputs) == 2:
            if _sequence(graph, parts, place, stacks.get(node.inputs[1])):
                taken[place] = []
        elif node.op_type == "Concat" and node.inputs[0] == info.name and len(node.inputs) == 2:
            made = _joined(front, parts, place, node, makers.get(node.inputs[1]), stacks)
            if made is not None:
                taken[place] = made
    return taken


def _sequence(graph: Graph, parts: LoopParts, place: int, stack: Stacked | None) -> bool:
    """Whether a sequence that began empty is only stacked in the end; its stacking is replaced."""
    if stack is None or stack.rank is None or parts.node.op_type != "Loop":
        return False
    begins = next((n for n in graph.nodes if parts.initial[place] in n.outputs), None)
    if begins is None or begins.op_type != "SequenceEmpty":
        return False
    final = parts.final[place]
    if any(info.name == final for info in graph.outputs) or any(
        final in captured(body) for node in graph.nodes for body in node.subgraphs()
    ):
        return False
    readers = [node for node in graph.nodes if final and final in node.inputs]
    for node in readers:
        axis = node.attributes.get("axis", 0)
        stacking = node.op_type == "ConcatFromSequence" and node.attributes.get("new_axis", 0) == 1
        if not stacking or not -stack.rank - 1 <= axis <= stack.rank:
            return False
    for node in readers:
        axis = node.attributes["axis"] % (stack.rank + 1)
        node.op_type, node.inputs = "Transpose", [stack.name]
        node.attributes = {"perm": _order(stack.rank, axis)}
    return True


def _joined(
    front: Front,
    parts: LoopParts,
    place: int,
    node: Node,
    element: Node | None,
    stacks: Mapping[str, Stacked],
) -> list[Node] | None:
    """What a value is in the end that each step joins with one more element along an axis."""
    if element is None or element.op_type != "Unsqueeze" or element.domain:
        return None
    stack = stacks.get(element.inputs[0])
    axes = element.attributes.get("axes")
    if axes is None and len(element.inputs) > 1:
        known = front.program.constants.get(element.inputs[1])
        axes = None if known is None else known.ravel().tolist()
    if stack is None or stack.rank is None or axes is None or len(axes) != 1:
        return None
    axis, own = (a + (stack.rank + 1) * (a < 0) for a in (node.attributes["axis"], axes[0]))
    if axis != own or not 0 <= axis <= stack.rank:
        return None
    if not parts.final[place]:
        return []
    name = parts.final[place]
    behind = Front(front.program, front.ranks)
    moved = stack.name
    if axis:
        order = _order(stack.rank, axis)
        moved = behind.add("Transpose", [moved], stack.rank + 1, name, perm=order)
    behind.nodes.append(Node("Concat", [parts.initial[place], moved], [name], {"axis": axis}))
    return behind.nodes


def _order(rank: int, axis: int) -> list[int]:
    """The axes of what is stacked along the first, with that one at another place."""
    order = list(range(1, rank + 1))
    order.insert(axis, 0)
    return order
