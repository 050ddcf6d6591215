"""What an ONNX file becomes when it is parsed and its functions are inlined, told before either.

The messages of protobuf are made here by nobody: `charge_message` walks the bytes, as a parser
would, and counts what each field will take. An empty message is two bytes in a file and two hundred
in memory. Functions that call the one before twice double with each: `charge_functions` adds up
what each becomes, once, from the innermost on.
Source: protobuf's "Encoding"; onnx.proto; FunctionProto in IR.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from vledge.budget import Budget
from vledge.errors import FormatError, cut
from vledge.model.check import MAX_DEPTH

if TYPE_CHECKING:
    from onnx import FunctionProto, ModelProto, NodeProto

__all__ = ["charge_functions", "charge_message"]

# What protobuf's C implementation takes for a message, and for a place in a repeated field.
BYTES_OF_A_MESSAGE: Final = 100
BYTES_OF_LARGE_ONES: Final = {"Node": 160, "Graph": 180, "Attribute": 260, "Tensor": 260}
LARGEST: Final = max(BYTES_OF_LARGE_ONES.values())
BYTES_OF_A_VALUE: Final = 32
BYTES_OF_A_NUMBER: Final = 16  # packed: 64 bits, in an array that doubles
MAX_FUNCTION_DEPTH: Final = 100  # the inliner recurses

#: No message smaller than this can take what every file may.
UNCOUNTED: Final = (32 << 20) // LARGEST

# message -> field -> the message in it. Strings, bytes and numbers are not listed.
_MESSAGES: Final[dict[str, dict[int, str]]] = {
    "Model": {7: "Graph", 8: "Opset", 14: "Entry", 20: "Training", 25: "Function", 26: "Entry"},
    "Graph": {
        1: "Node",
        5: "Tensor",
        11: "ValueInfo",
        12: "ValueInfo",
        13: "ValueInfo",
        14: "Annotation",
        15: "Sparse",
        16: "Entry",
    },
    "Node": {5: "Attribute", 9: "Entry", 10: "Devices"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        14: "Type",
        15: "Type",
        22: "Sparse",
        23: "Sparse",
    },
    "Tensor": {3: "Entry", 13: "Entry", 16: "Entry"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "ValueInfo": {2: "Type", 4: "Entry"},
    "Type": {1: "TensorType", 4: "Nested", 5: "Nested", 7: "Entry", 8: "TensorType", 9: "Nested"},
    "TensorType": {2: "Shape"},
    "Nested": {1: "Type", 2: "Type"},
    "Shape": {1: "Entry"},
    "Function": {7: "Node", 9: "Opset", 11: "Attribute", 12: "ValueInfo", 14: "Entry"},
    "Training": {1: "Graph", 2: "Graph", 3: "Entry", 4: "Entry"},
    "Annotation": {2: "Entry"},
    "Devices": {2: "Sharding"},
    "Opset": {},
    "Entry": {},  # and other messages of strings and numbers alone
}
# Packed numbers: message -> fields whose bytes are one varint after the other.
_PACKED: Final = {"Tensor": {1, 5, 7, 11}, "Attribute": {8}}


def charge_message(data: bytes, budget: Budget) -> None:
    """Charge what parsing a ModelProto takes; what is wrong in it is left to the parser to say."""
    if len(data) <= UNCOUNTED:
        return
    waiting: list[tuple[str, int, int]] = [("Model", 0, len(data))]
    while waiting:
        message, position, end = waiting.pop()
        inner, packed = _MESSAGES[message], _PACKED.get(message, ())
        count = taken = 0
        while position < end:
            key, position = _varint(data, position, end)
            count += 1
            kind, field = key & 7, key >> 3
            if kind == 0:
                _, position = _varint(data, position, end)
                taken += BYTES_OF_A_NUMBER
            elif kind in (1, 5):
                position += 8 if kind == 1 else 4
                taken += BYTES_OF_A_NUMBER
            elif kind == 2:
                length, position = _varint(data, position, end)
                if length > end - position:
                    return
                if inner.get(field) == "Sharding":  # of many kinds: each byte pair may be a message
                    taken += LARGEST * (1 + length // 2)
                elif field in inner:
                    taken += BYTES_OF_LARGE_ONES.get(inner[field], BYTES_OF_A_MESSAGE)
                    if length:
                        waiting.append((inner[field], position, position + length))
                elif field in packed:
                    taken += BYTES_OF_A_NUMBER * length
                else:
                    taken += BYTES_OF_A_VALUE + length
                position += length
            else:
                return  # groups, which the parser refuses
            if count % 1024 == 0:
                budget.step(1024, "the fields of its messages")
                budget.take(taken + 16 * len(waiting), "its messages, parsed,")
                taken = 0
        budget.step(count % 1024, "the fields of its messages")
        budget.take(taken, "its messages, parsed,")


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """(value, the place behind it); the value of what is cut short is 0."""
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            break
    return 0, end


def charge_functions(proto: ModelProto, budget: Budget) -> None:
    """Charge what a ModelProto becomes when its functions stand in the place of their calls.

    FormatError where a function calls itself, directly or not, or calls go too deep.
    """
    functions = {(f.domain, f.name): f for f in proto.functions}
    sizes: dict[tuple[str, str], tuple[int, int]] = {}  # nodes, bytes
    calls = {key: list(_called(f.node, functions, budget)) for key, f in functions.items()}
    depths: dict[tuple[str, str], int] = {}
    for first in functions:
        waiting = [(first, False)]
        open_: set[tuple[str, str]] = set()
        while waiting:
            key, done = waiting.pop()
            if done:
                open_.discard(key)
                own = functions[key]
                nodes = len(own.node) + sum(sizes[one][0] for one in calls[key])
                nbytes = own.ByteSize() + sum(sizes[one][1] for one in calls[key])
                sizes[key] = nodes, nbytes
                depths[key] = 1 + max((depths[one] for one in calls[key]), default=0)
                if depths[key] > MAX_FUNCTION_DEPTH:
                    raise FormatError(
                        f"functions that call one another more than {MAX_FUNCTION_DEPTH} deep"
                    )
                continue
            if key in sizes:
                continue
            if key in open_:
                raise FormatError(f"the function {cut(key[1])!r} calls itself")
            open_.add(key)
            waiting.append((key, True))
            waiting += [(one, False) for one in dict.fromkeys(calls[key]) if one not in sizes]
    expanded = list(_called(proto.graph.node, functions, budget))
    nodes = sum(sizes[key][0] for key in expanded)
    nbytes = sum(sizes[key][1] for key in expanded)
    budget.step(STEPS_OF_AN_INLINED_NODE * nodes, f"functions that become {_shown(nodes)} nodes")
    budget.take(
        LARGEST * nodes + TIMES_INLINED * nbytes,
        f"functions that become {_shown(nodes)} nodes",
    )


# The inliner writes the model, parses it in C++, and hands it back in the same way.
STEPS_OF_AN_INLINED_NODE: Final = 30
TIMES_INLINED: Final = 6


def _called(
    nodes: Sequence[NodeProto], functions: Mapping[tuple[str, str], FunctionProto], budget: Budget
) -> Iterator[tuple[str, str]]:
    """The functions that nodes, and those of the graphs inside of them, call; each as often."""
    waiting = [(nodes, 0)]
    while waiting:
        some, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise FormatError(f"graphs nested deeper than {MAX_DEPTH}")
        budget.step(STEPS_OF_AN_INLINED_NODE * len(some), "the calls of functions")
        for node in some:
            key = (node.domain, node.op_type)
            if key in functions:
                yield key
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append((attribute.g.node, depth + 1))
                waiting += [(graph.node, depth + 1) for graph in attribute.graphs]


def _shown(count: int) -> str:
    return f"{count:,}" if count < 10**12 else "more than 10^12"
