"""Takes out of loops what need not be carried through them.

A state that the body hands on unchanged is a value of the graph around (tf2onnx carries weights
so), a state that only makes itself anew is nobody's, and a column that no one reads need not be
collected. What is left names its states as before.
"""

from __future__ import annotations

from vledge.graph.passes.program import Program, captured
from vledge.model.definition import Graph, Node, ValueInfo

__all__ = ["LoopParts", "replace_values", "simplify_carried"]


class LoopParts:
    """A Loop's or a Scan's inputs and outputs by what they are.

    ``states`` are the body's inputs, ``initial`` the values that they begin with, ``next`` the
    body's outputs that follow them and ``final`` the node's; ``columns`` are the body's outputs
    that are collected, ``collected`` the node's. ``sequences`` and ``elements`` are a Scan's.
    """

    def __init__(self, node: Node, body: Graph) -> None:
        self.node, self.body = node, body
        self.is_loop = node.op_type == "Loop"
        leading = 2 if self.is_loop else 0
        scanned = 0 if self.is_loop else node.attributes["num_scan_inputs"]
        count = len(node.inputs) - leading - scanned
        self.lead_inputs, self.lead_states = node.inputs[:leading], body.inputs[:leading]
        self.states = body.inputs[leading : leading + count]
        self.initial = node.inputs[leading : leading + count]
        self.elements, self.sequences = body.inputs[leading + count :], node.inputs[count:]
        if self.is_loop:
            self.sequences = []
        ends = body.outputs[1:] if self.is_loop else body.outputs
        self.condition = body.outputs[:1] if self.is_loop else []
        self.next, self.columns = ends[:count], ends[count:]
        outputs = [*node.outputs, *[""] * (len(ends) - len(node.outputs))]
        self.final, self.collected = outputs[:count], outputs[count:]

    @classmethod
    def of(cls, program: Program, node: Node) -> LoopParts | None:
        """None where the node is no loop, or a wrong one, which running it will say."""
        body = node.attributes.get("body")
        if node.domain or node.op_type not in ("Loop", "Scan") or not isinstance(body, Graph):
            return None
        if node.op_type == "Loop":
            states = len(node.inputs) - 2
            inputs, ends = 2 + states, len(body.outputs) - 1
        else:
            scanned = node.attributes.get("num_scan_inputs", 0)
            states = len(node.inputs) - scanned
            inputs, ends = len(node.inputs), len(body.outputs)
            if program.opsets.get("", 1) < 9 or scanned < 1:
                return None
        sound = 0 <= states <= ends and len(body.inputs) == inputs and len(node.outputs) <= ends
        given = node.inputs[2:] if node.op_type == "Loop" else node.inputs
        return cls(node, body) if sound and all(given) else None

    def store(self) -> None:
        """Write what is left of the parts into the node and its body."""
        node, body = self.node, self.body
        node.inputs = [*self.lead_inputs, *self.initial, *self.sequences]
        body.inputs = [*self.lead_states, *self.states, *self.elements]
        body.outputs = [*self.condition, *self.next, *self.columns]
        node.outputs = [*self.final, *self.collected]

    def drop_states(self, places: set[int]) -> None:
        for key in ("states", "initial", "next", "final"):
            kept = [v for k, v in enumerate(getattr(self, key)) if k not in places]
            setattr(self, key, kept)

    def drop_columns(self, places: set[int]) -> None:
        count = len(self.columns)
        for key in ("columns", "collected"):
            kept = [v for k, v in enumerate(getattr(self, key)) if k not in places]
            setattr(self, key, kept)
        for key in ("scan_output_axes", "scan_output_directions"):
            values = self.node.attributes.get(key)
            if values is not None and len(values) == count:
                self.node.attributes[key] = [v for k, v in enumerate(values) if k not in places]


def simplify_carried(program: Program) -> bool:
    """Mend every Loop and Scan, in place; whether anything changed."""
    return _in_graph(program, program.graph)


def _in_graph(program: Program, graph: Graph) -> bool:
    changed = False
    needed = {name for node in graph.nodes for name in node.inputs}
    needed |= {name for node in graph.nodes for g in node.subgraphs() for name in captured(g)}
    needed |= {info.name for info in graph.outputs}
    kept: list[Node] = []
    for node in graph.nodes:
        for inner in node.subgraphs():
            changed |= _in_graph(program, inner)
        parts = LoopParts.of(program, node)
        if parts is not None:
            count = len(parts.states)
            kept += _hand_out_unchanged(parts)
            dead = _drop_dead(parts, needed)
            if dead or len(parts.states) < count:
                parts.store()
                changed = True
        kept.append(node)
    graph.nodes = kept
    return changed


def _hand_out_unchanged(parts: LoopParts) -> list[Node]:
    """Make the states that never change captured values; what names their final values now."""
    same = {
        place
        for place, (state, following) in enumerate(zip(parts.states, parts.next, strict=True))
        if state.name == following.name
    }
    if not same:
        return []
    outer = {parts.states[place].name: parts.initial[place] for place in same}
    aliases = [
        Node("Identity", [parts.initial[place]], [parts.final[place]])
        for place in sorted(same)
        if parts.final[place]
    ]
    parts.drop_states(same)
    replace_values(parts.body, outer)
    parts.columns = [_renamed(info, outer) for info in parts.columns]
    parts.next = [_renamed(info, outer) for info in parts.next]
    parts.condition = [_renamed(info, outer) for info in parts.condition]
    return aliases


def _drop_dead(parts: LoopParts, needed: set[str]) -> bool:
    """Drop columns that no one reads, and states that no one reads but for their own next."""
    columns = {place for place, name in enumerate(parts.collected) if name not in needed}
    parts.drop_columns(columns)
    makers = {name: node for node in parts.body.nodes for name in node.outputs if name}
    live: set[str] = set()
    states = {info.name: place for place, info in enumerate(parts.states)}

    def mark(name: str) -> None:
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name in live:
                continue
            live.add(name)
            node = makers.get(name)
            if node is not None:
                waiting += [*node.inputs, *(n for g in node.subgraphs() for n in captured(g))]
            elif name in states:
                waiting.append(parts.next[states[name]].name)

    for info in (*parts.condition, *parts.columns):
        mark(info.name)
    for place, name in enumerate(parts.final):
        if name in needed:
            mark(parts.states[place].name)
            mark(parts.next[place].name)
    dead = {place for name, place in states.items() if name not in live}
    dead = {place for place in dead if parts.final[place] not in needed}
    parts.drop_states(dead)
    return bool(columns or dead)


def replace_values(graph: Graph, names: dict[str, str]) -> None:
    """Give values of a graph, and of graphs inside, other names where they are read."""
    for node in graph.nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        for inner in node.subgraphs():
            replace_values(inner, names)
    graph.outputs = [_renamed(info, names) for info in graph.outputs]


def _renamed(info: ValueInfo, names: dict[str, str]) -> ValueInfo:
    return ValueInfo(names.get(info.name, info.name), info.type, info.shape)
