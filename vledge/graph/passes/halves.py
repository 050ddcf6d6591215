"""float16 computed in float32: rounded where a value leaves the computation, not at every node.

Nobody's CPU kernels compute in half precision; what a node of float16 costs is its conversions. So
what computes gets float32 twins of its inputs and makes a float32 twin of its outputs. Weights are
widened once, and a value is rounded to float16 only for who takes it as such: a caller, the body of
an If or a Loop, what moves elements of float16 that nobody has computed. A Cast reads the value as
computed. onnxruntime does the same on CPUs ("InsertedPrecisionFreeCast"), so these are its values.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vledge.graph.native.types import infer
from vledge.graph.passes.program import Program
from vledge.model.definition import INTERNAL_DOMAIN, Graph, Node
from vledge.model.element_types import NUMBERS

__all__ = ["widen_halves"]

_HALF, _SINGLE = np.dtype(np.float16), np.dtype(np.float32)

# What only moves elements, or looks at shapes: as wide as what it is given.
_MOVES: Final = frozenset(
    """
    Compress Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity Pad Reshape
    ReverseSequence Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze Where
    """.split()  # noqa: SIM905
)
# Whose types are not their inputs' or not the node's to choose.
_EXPLICIT: Final = frozenset(["CastLike", "If", "Loop", "Scan"])
_TYPE_ATTRIBUTES: Final = frozenset(["dtype", "output_dtype", "to", "stash_type", "precision"])
# Of the passes' own operators, what functions are made of.
_FUNCTIONS: Final = frozenset(["Gelu", "LayerNormalization", "RMSNormalization"])
_OF_CONTAINERS: Final = ("Sequence", "Optional")


def widen_halves(program: Program) -> bool:
    """Compute in float32 what float16 nodes do; whether there were any."""
    dtypes = infer(program.graph, program.constants, dict(program.dtypes))
    halves = {name for name, dtype in dtypes.items() if dtype == _HALF}
    halves.update(name for name, array in program.constants.items() if array.dtype == _HALF)
    return bool(halves) and _Walk(program, dtypes, halves).graph(program.graph, {})


class _Walk:
    def __init__(self, program: Program, dtypes: dict[str, np.dtype], halves: set[str]) -> None:
        self.program = program
        self.dtypes = dtypes
        self.halves = halves
        self.weights: dict[str, str] = {}  # constant → its float32 twin

    def graph(self, graph: Graph, outer: dict[str, str]) -> bool:
        """Whether a node has changed. ``outer``: value → twin, of the graphs around this one."""
        twins = dict(outer)
        changed = False
        nodes: list[Node] = []
        for node in graph.nodes:
            for inner in node.subgraphs():
                changed |= self.graph(inner, twins)
            if node.op_type == "Cast" and not node.domain:
                node.inputs = [twins.get(name, name) for name in node.inputs]
                nodes.append(node)
            elif self.widens(node, twins):
                changed = True
                node.inputs = [self.twin(name, twins, nodes) for name in node.inputs]
                nodes += [node, *self.rounded(node, twins)]
            else:
                nodes.append(node)
        graph.nodes = nodes
        return changed

    def widens(self, node: Node, twins: dict[str, str]) -> bool:
        """Whether the node shall read float32 where it reads float16."""
        own = [name for name in node.inputs if name in self.halves]
        known = not node.domain or (node.domain == INTERNAL_DOMAIN and node.op_type in _FUNCTIONS)
        if not own or not known or node.op_type in _EXPLICIT:
            return False
        if _TYPE_ATTRIBUTES & node.attributes.keys():
            return False
        if any(word in node.op_type for word in _OF_CONTAINERS):
            return False
        known = all(
            self.program.dtype_of(name) or self.dtypes.get(name)
            for name in (*node.inputs, *node.outputs)
            if name
        )
        return known and (node.op_type not in _MOVES or any(name in twins for name in own))

    def twin(self, name: str, twins: dict[str, str], nodes: list[Node]) -> str:
        """A value in float32; ``nodes`` gets what makes it, where nothing has yet."""
        if name not in self.halves:
            return name
        constant = self.program.constants.get(name)
        if constant is not None:
            if name not in self.weights:
                self.program.budget.take(2 * constant.nbytes, f"{name}, widened to float32,")
                self.weights[name] = self.program.fresh(name)
                self.program.set_constant(self.weights[name], constant.astype(_SINGLE))
            return self.weights[name]
        if name not in twins:
            twins[name] = self.named(name)
            nodes.append(_cast(name, twins[name], "float"))
        return twins[name]

    def rounded(self, node: Node, twins: dict[str, str]) -> list[Node]:
        """The node's float16 outputs become float32, and are rounded for whom it may concern."""
        casts = []
        for place, name in enumerate(node.outputs):
            if name in self.halves:
                twins[name] = node.outputs[place] = self.named(name)
                casts.append(_cast(twins[name], name, "float16"))
        return casts

    def named(self, name: str) -> str:
        """A name for a float32 twin."""
        twin = self.program.fresh(name)
        self.program.dtypes[twin] = self.dtypes[twin] = _SINGLE
        return twin


def _cast(source: str, target: str, to: str) -> Node:
    return Node("Cast", [source], [target], {"to": NUMBERS[to]}, target, "")
