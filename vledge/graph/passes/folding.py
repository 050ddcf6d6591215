"""One walk forward that computes what is constant and skips what does nothing.

Nodes with constant inputs are run once, an If with a constant condition becomes the branch it
takes, and Identity, Dropout and casts to the type a value has anyway give way to their input.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from vledge._ext.room import Room
from vledge.errors import FormatError, UnsupportedError
from vledge.graph.native.types import as_first_input
from vledge.graph.passes.program import Program, captured
from vledge.graph.prepared import blamed
from vledge.model.definition import Graph, Node, ValueInfo
from vledge.model.element_types import NUMBERS, dtype_of

__all__ = ["compute_constants", "fold"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A result beyond this size is made at each run rather than held: an Expand of a scalar, a Range.
MAX_GROWTH_BYTES: Final = 1 << 20

# While it is computed nothing is larger than this, and so many times the inputs: an Expand to
# gigabytes is left to the run before it is made.
_ROOM_FOR_ONE: Final = 8 << 20
_ROOM_TIMES: Final = 16
_MOST_TRIPS: Final = 10_000
# What a step does: elements that are moved, elements of which something is computed (a tangent
# takes 20 ns), products that are added up by BLAS, and of integers, which BLAS has not.
_MOVED_IN_A_STEP: Final = 500
_COMPUTED_IN_A_STEP: Final = 50
_PRODUCTS_OF_A_STEP: Final = 20_000
_INTEGER_PRODUCTS_OF_A_STEP: Final = 500
_MOVES: Final = _names(
    """
    BitCast Cast CastLike Concat Constant ConstantOfShape DepthToSpace DequantizeLinear Expand
    Flatten Gather Identity Pad Range Reshape Slice SpaceToDepth Split Squeeze Tile Transpose
    Unsqueeze
    """
)
_PRODUCTS: Final = _names(
    """
    DynamicQuantizeMatMul Gemm MatMul MatMulInteger MatMulIntegerToFloat QGemm QLinearMatMul
    """
)
# Their work is no matter of how much they take and make (windows, sums over all pairs, sorting),
# and nobody's model has them of constants alone.
_LEFT_TO_RUNS: Final = _names(
    """
    AveragePool Col2Im Conv ConvInteger ConvTranspose Det DynamicQuantizeLSTM Einsum GRU LRN LSTM
    LpPool MaxPool QLinearAveragePool QLinearConv RNN TopK Unique
    """
)

_DTYPES_OF: Final = {"Shape": np.dtype(np.int64), "Size": np.dtype(np.int64)}


def fold(program: Program, real_weights: bool = True) -> dict[str, str]:
    """Fold the program's graph and every graph inside of it, in place.

    Without ``real_weights`` every DequantizeLinear stays. Gives the values that are gone because
    they are others by another name, with those.
    """
    folder = _Folder(program, real_weights=real_weights)
    folder.graph(program.graph, top=True)
    return folder.aliases


def compute_constants(program: Program) -> None:
    """Fold, but leave every If as it is: what is constant is known in both of its branches."""
    _Folder(program, takes_branches=False).graph(program.graph, top=True)


class _Folder:
    def __init__(
        self, program: Program, takes_branches: bool = True, real_weights: bool = True
    ) -> None:
        self.program = program
        self.takes_branches = takes_branches
        self.real_weights = real_weights
        self.aliases: dict[str, str] = {}  # value → the value that it equals

    def graph(self, graph: Graph, top: bool) -> None:
        kept = []
        outputs = {info.name for info in graph.outputs} if top else set()
        waiting = deque(graph.nodes)
        while waiting:
            node = waiting.popleft()
            node.inputs = [self.aliases.get(name, name) for name in node.inputs]
            branch = self.branch_taken(node)
            if branch is not None:
                waiting.extendleft(reversed(_spliced(node, branch)))
            elif self.is_no_op(node) and self.bypassed(node, outputs):
                pass
            elif not self.computed(node, top):
                for inner in node.subgraphs():
                    self.graph(inner, top=False)
                self.note_dtype(node)
                kept.append(node)
        graph.nodes = kept
        if not top:
            graph.outputs = [
                ValueInfo(self.aliases.get(info.name, info.name), info.type, info.shape)
                for info in graph.outputs
            ]

    def branch_taken(self, node: Node) -> Graph | None:
        if node.op_type != "If" or node.domain or len(node.inputs) != 1 or not self.takes_branches:
            return None
        condition = self.program.constants.get(node.inputs[0])
        if condition is None or condition.size != 1:
            return None
        branch = node.attributes.get("then_branch" if condition.item() else "else_branch")
        if (
            not isinstance(branch, Graph)
            or branch.inputs
            or len(branch.outputs) < len(node.outputs)
        ):
            return None  # wrong, which preparing the node will say
        return branch

    def is_no_op(self, node: Node) -> bool:
        most = {"Identity": 1, "Cast": 1, "Dropout": 3}.get(node.op_type, 0)
        if node.domain or not 1 <= len(node.inputs) <= most or not node.inputs[0]:
            return False
        if any(node.outputs[1:]):
            return False  # a mask, or one output more than there is
        if node.op_type == "Identity":
            return True
        if node.op_type == "Dropout":
            training = node.inputs[2] if len(node.inputs) > 2 else ""
            known = self.program.constants.get(training) if training else None
            inference = not training or (known is not None and not known.any())
            return inference and node.attributes.get("is_test", 1) == 1
        if node.op_type == "Cast":
            to = node.attributes.get("to")
            known_dtype = self.program.dtype_of(node.inputs[0])
            return (
                known_dtype is not None
                and isinstance(to, int)
                and known_dtype == dtype_of(to)
                and to != NUMBERS["bfloat16"]  # which rounds, though it is held as float32
            )
        return False

    def bypassed(self, node: Node, graph_outputs: set[str]) -> bool:
        """Make the node's output another name of its input, unless the caller asks for the name."""
        source, output = node.inputs[0], node.outputs[0]
        if output in graph_outputs:
            return False
        self.aliases[output] = source
        return True

    def computed(self, node: Node, top: bool) -> bool:
        """Run the node now, if all that it needs is known."""
        if node.op_type == "DequantizeLinear" and not self.real_weights:
            return False
        if node.op_type in _LEFT_TO_RUNS:
            return False
        constants = self.program.constants
        needed = [name for name in node.inputs if name]
        inner = [name for graph in node.subgraphs() for name in captured(graph)]
        if inner or any(node.subgraphs()) or any(name not in constants for name in needed):
            return False
        arguments = [constants[name] if name else None for name in node.inputs]
        before = [array for array in arguments if array is not None]
        before += [value for value in node.attributes.values() if isinstance(value, np.ndarray)]
        try:
            prepared = self.program.prepared(node)
        except UnsupportedError:
            return False  # reported with every other such node
        except (FormatError, MemoryError):
            if not top:
                return False  # in a branch that may never be taken
            raise
        if not prepared.foldable:
            return False
        most = _ROOM_FOR_ONE + _ROOM_TIMES * _bytes(before)
        left = max(_ROOM_FOR_ONE, self.program.budget.bytes_left)
        room = Room(min(most, left), _MOST_TRIPS)
        try:
            with room:
                results = prepared.call(*arguments)
        except Exception as error:
            if room.refused or room.left < 0 or not top:
                return False
            raise blamed(error, node, FormatError) from error
        if not all(isinstance(result, np.ndarray) for result in results):
            return False  # a sequence, or an optional value that is absent
        self.program.budget.step(_work(node, before, results), f"{node}, computed at load,")
        growth = _bytes(results) - _bytes(before)
        # weights that a DequantizeLinear or a Cast makes wider are not made at each run
        more = sum(array.size for array in results) > sum(array.size for array in before)
        if more and growth > MAX_GROWTH_BYTES:
            return False
        made = [a for a in results if not any(np.may_share_memory(a, b) for b in before)]
        self.program.budget.take(_bytes(made), f"{node}, computed at load,")
        for name, array in zip(node.outputs, results, strict=True):
            if name:
                self.program.set_constant(name, array)
        return True

    def note_dtype(self, node: Node) -> None:
        if node.domain or not node.outputs:
            return
        dtype: np.dtype | None = None
        if node.op_type == "Cast":
            to = node.attributes.get("to")
            dtype = dtype_of(to) if isinstance(to, int) else None
        elif as_first_input(node.op_type) and node.inputs:
            dtype = self.program.dtype_of(node.inputs[0])
        else:
            dtype = _DTYPES_OF.get(node.op_type)
        if dtype is not None:
            self.program.dtypes[node.outputs[0]] = dtype


def _bytes(arrays: Sequence[np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays)


def _work(node: Node, before: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> int:
    """Steps of an operator: M x K by K x N has M K N products, the root of the sizes' product."""
    each = _MOVED_IN_A_STEP if node.op_type in _MOVES else _COMPUTED_IN_A_STEP
    steps = 5 + sum(array.size for array in (*before, *results)) // each
    if node.op_type in _PRODUCTS:
        real = results[0].dtype.kind == "f" and all(array.dtype.kind == "f" for array in before)
        factors = sorted(array.size for array in before)[-2:]  # beside scales and zero points
        products = math.isqrt(math.prod(factors) * results[0].size)
        steps += products // (_PRODUCTS_OF_A_STEP if real else _INTEGER_PRODUCTS_OF_A_STEP)
    return steps


def _spliced(node: Node, branch: Graph) -> list[Node]:
    """The branch's nodes, and what gives its outputs the names that the If gave them."""
    ends = [
        Node("Identity", [info.name], [output], {}, node.name)
        for info, output in zip(branch.outputs, node.outputs, strict=False)
        if output
    ]
    return branch.nodes + ends
