"""What only moves dequantised bytes, or takes the greatest of some, does so to the bytes.

They are dequantised behind it: bytes are quicker to move, and often a QuantizeLinear with the same
scale follows, which takes both away. The numbers are the same: what is dequantised grows with the
byte, and quantising gives the byte back.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vledge.graph.passes.program import Program
from vledge.model.definition import Graph, Node

__all__ = ["move_bytes"]

_BYTES: Final = (np.dtype(np.uint8), np.dtype(np.int8))
_OLDEST: Final = 10  # DequantizeLinear's first
_MOVES: Final = frozenset(
    """
    Concat DepthToSpace Flatten Gather Identity MaxPool Reshape Slice SpaceToDepth Split Squeeze
    Transpose Unsqueeze
    """.split()  # noqa: SIM905
)
# Scales by which 255 steps are a number with all its digits, that divides back to them.
_LEAST, _MOST = np.finfo(np.float32).tiny * 2.0**24, np.finfo(np.float32).max / 256

_Key = tuple[float, int, np.dtype]  # scale, zero point, the bytes' type


def move_bytes(program: Program) -> None:
    """In the program's graph and every graph inside of it, in place."""
    if program.opsets.get("", 1) >= _OLDEST:
        _move(program, program.graph)


def _move(program: Program, graph: Graph) -> None:
    real: dict[str, tuple[Node, _Key]] = {}  # value -> the DequantizeLinear that makes it
    nodes: list[Node] = []
    for node in graph.nodes:
        for inner in node.subgraphs():
            _move(program, inner)
        key = _parameters(program, node)
        if key is not None and node.op_type == "DequantizeLinear":
            real[node.outputs[0]] = node, key
        elif key is not None and node.inputs[0] in real:
            source, own = real[node.inputs[0]]
            if own == key:
                node = Node("Identity", [source.inputs[0]], node.outputs, {}, node.name)
        elif node.op_type in _MOVES and not node.domain:
            nodes += _moved(program, node, real)
            continue
        nodes.append(node)
    graph.nodes = nodes


def _moved(program: Program, node: Node, real: dict[str, tuple[Node, _Key]]) -> list[Node]:
    """The node on bytes and a DequantizeLinear for each of its outputs, or the node as it is."""
    count = len(node.inputs) if node.op_type == "Concat" else 1
    sources = [real.get(name) for name in node.inputs[:count]]
    first = sources[0] if sources else None
    if first is None or any(s is None or s[1] != first[1] for s in sources):
        return [node]
    if node.op_type == "MaxPool" and any(node.outputs[1:]):  # where they were, as int64
        return [node]
    like, key = first
    names = [program.fresh(f"{name}_bytes") if name else "" for name in node.outputs]
    inputs = [s[0].inputs[0] for s in sources if s is not None] + node.inputs[count:]
    made = [Node(node.op_type, inputs, names, node.attributes, node.name, part_of=str(node))]
    for name, own in zip(node.outputs, names, strict=True):
        if name:
            program.dtypes[own] = key[2]
            behind = Node(
                like.op_type,
                [own, *like.inputs[1:]],
                [name],
                like.attributes,
                node.name,
                part_of=str(node),
            )
            real[name] = behind, key
            made.append(behind)
    return made


def _parameters(program: Program, node: Node) -> _Key | None:
    """What a DequantizeLinear of no constant, or a QuantizeLinear, goes by; None for other nodes
    and where it is not known, or one for each channel."""
    if node.domain or node.op_type not in ("DequantizeLinear", "QuantizeLinear"):
        return None
    if len(node.inputs) < 3 or node.inputs[0] in program.constants:
        return None
    if any(node.attributes.get(key, 0) for key in ("block_size", "output_dtype", "precision")):
        return None
    scale, zero = (program.constants.get(name) for name in node.inputs[1:3])
    if scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    if scale.ndim > 1 or zero.ndim > 1 or scale.dtype != np.float32 or zero.dtype not in _BYTES:
        return None
    number = float(scale.reshape(-1)[0])
    if not _LEAST <= number <= _MOST:
        return None
    return number, int(zero.reshape(-1)[0]), zero.dtype
