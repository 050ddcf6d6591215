"""ONNX files, read through the onnx package's protobuf classes into plain data.

Messages are translated and checked here, not interpreted: which operators can run is the session's
matter. Functions of the model are inlined by onnx. Source: onnx.proto and IR.md (IR 3 to 14).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np

from vledge.budget import Budget, Limits
from vledge.errors import FormatError, UnsupportedError, cut, import_failure, placed, quoted
from vledge.formats.onnx.expansion import charge_functions, charge_message
from vledge.formats.onnx.external_data import ExternalFiles
from vledge.formats.onnx.tensors import array_of
from vledge.model.charges import charge_edges, charge_nodes
from vledge.model.check import MAX_DEPTH, check_graph
from vledge.model.definition import Attribute, Graph, Model, Node, Opaque, ValueInfo
from vledge.model.element_types import NAMES
from vledge.model.order import put_in_order

if TYPE_CHECKING:
    from onnx import (
        AttributeProto,
        GraphProto,
        ModelProto,
        NodeProto,
        TensorProto,
        TypeProto,
        ValueInfoProto,
    )

__all__ = ["read", "read_proto"]

BYTES_OF_A_NUMBER: Final = 40  # in a list
MAX_BYTES: Final = (1 << 31) - 1  # of one protobuf message; larger models keep external data


def read(source: str | os.PathLike[str] | bytes, limits: Limits | None = None) -> Model:
    """Read a model from a path, or from the bytes of its file.

    Tensors in other files are read from the model's own folder only.

    Raises MissingDependencyError without the onnx package, FormatError for a file that is damaged
    or contradicts itself (naming node or tensor), UnsupportedError for what is valid and not read.
    """
    onnx = _onnx()
    if isinstance(source, bytes):
        data, folder = source, None
    else:
        size = os.stat(source).st_size
        if size > MAX_BYTES:
            raise FormatError(
                f"the file has {size:,} bytes, a protobuf message at most {MAX_BYTES:,}: such a "
                "model keeps its tensors in external data"
            )
        with open(source, "rb") as file:
            data = file.read()
        folder = os.path.dirname(os.path.abspath(os.fspath(source)))
    from google.protobuf.message import DecodeError

    budget = Budget(len(data), limits)
    charge_message(data, budget)
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise FormatError(f"not an ONNX model: {cut(str(error))}") from None
    return read_proto(proto, folder, budget)


def read_proto(proto: ModelProto, folder: str | None = None, budget: Budget | None = None) -> Model:
    """Translate a ModelProto whose external data, if any, lie in ``folder``.

    ``budget`` is the file's; that of the message where there is none.
    """
    if budget is None:
        budget = Budget(proto.ByteSize())
    if not proto.HasField("graph"):
        raise FormatError("not an ONNX model: it has no graph")
    if proto.training_info:
        raise UnsupportedError("the model has training_info, which is not supported")
    if proto.functions:
        proto = _inlined(proto, budget)
    opsets: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = _domain(entry.domain)
        if opsets.setdefault(domain, entry.version) != entry.version:
            raise FormatError(f"the operator set {domain or 'ai.onnx'!r} is imported twice")
    _check_texts(opsets, "the list of operator sets")
    graph = _Reader(ExternalFiles(folder, budget), budget).graph(proto.graph, 0)
    put_in_order(graph)
    check_graph(graph)
    return Model(
        graph,
        opsets,
        proto.ir_version,
        _shown(proto.producer_name),
        _shown(proto.producer_version),
        _shown(proto.domain),
        proto.model_version,
        _shown(proto.doc_string),
        {_shown(entry.key): _shown(entry.value) for entry in proto.metadata_props},
        budget,
    )


def _onnx() -> ModuleType:
    try:
        import onnx
    except ImportError as error:
        raise import_failure(
            error,
            "onnx",
            "reading ONNX files needs the onnx package: pip install 'vledge[onnx]'. A file made by "
            "`vledge convert` needs none.",
        ) from error
    return onnx


def _inlined(proto: ModelProto, budget: Budget) -> ModelProto:
    import onnx.inliner

    charge_functions(proto, budget)
    try:
        proto = onnx.inliner.inline_local_functions(proto)
    except Exception as error:  # the C++ inliner raises whatever it meets
        raise FormatError(
            f"the model's functions cannot be inlined: {cut(str(error), 300)}"
        ) from None
    if proto.functions:
        names = cut(", ".join(cut(function.name) for function in proto.functions[:100]), 1_000)
        raise UnsupportedError(f"the model has functions that cannot be inlined: {names}")
    return proto


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


class _Reader:
    """Translates the messages of one file."""

    def __init__(self, files: ExternalFiles, budget: Budget) -> None:
        self.files = files
        self.budget = budget

    def graph(self, proto: GraphProto, depth: int) -> Graph:
        if depth > MAX_DEPTH:
            raise FormatError(
                f"graph {quoted(proto.name)} is nested deeper than {MAX_DEPTH} graphs"
            )
        if proto.sparse_initializer:
            name = proto.sparse_initializer[0].values.name
            raise UnsupportedError(f"the sparse initializer {quoted(name)} is not supported")
        charge_nodes(self.budget, len(proto.node), 0 if depth else _characters(proto.node))
        charge_edges(self.budget, len(proto.input) + len(proto.output))
        own = [proto.name, *(info.name for info in (*proto.input, *proto.output))]
        _check_texts([*own, *(tensor.name for tensor in proto.initializer)], "a graph")
        initializers = {}
        for tensor in proto.initializer:
            if not tensor.name or tensor.name in initializers:
                raise FormatError(
                    f"graph {quoted(proto.name)} has two initializers named {quoted(tensor.name)}"
                )
            initializers[tensor.name] = self.tensor(tensor, f"initializer {quoted(tensor.name)}")
        return Graph(
            [self.node(node, depth) for node in proto.node],
            [_value_info(info) for info in proto.input],
            [_value_info(info) for info in proto.output],
            initializers,
            proto.name,
        )

    def node(self, proto: NodeProto, depth: int) -> Node:
        node = Node(
            proto.op_type,
            list(proto.input),
            list(proto.output),
            {},
            proto.name,
            _domain(proto.domain),
        )
        charge_edges(self.budget, len(node.inputs) + len(node.outputs) + len(proto.attribute))
        own = [attribute.name for attribute in proto.attribute]
        names = (node.op_type, node.name, node.domain, *node.inputs, *node.outputs, *own)
        _check_texts(names, node)
        for attribute in proto.attribute:
            if attribute.name in node.attributes:
                raise FormatError(f"{node}: the attribute {cut(attribute.name)} is given twice")
            node.attributes[attribute.name] = self.attribute(attribute, node, depth)
        return node

    def attribute(self, proto: AttributeProto, node: Node, depth: int) -> Attribute:
        where = f"{node}: attribute {cut(proto.name)}"
        if proto.ref_attr_name:
            raise FormatError(
                f"{where} refers to {cut(proto.ref_attr_name)!r} outside of a function"
            )
        kind = proto.AttributeType.Name(proto.type) if proto.type in range(15) else str(proto.type)
        match kind:
            case "FLOAT":
                return proto.f
            case "INT":
                return proto.i
            case "STRING":
                return _text(proto.s, where)
            case "TENSOR":
                return self.tensor(proto.t, where)
            case "GRAPH":
                return self.graph(proto.g, depth + 1)
            case "FLOATS":
                self.budget.take(BYTES_OF_A_NUMBER * len(proto.floats), where)
                return list(proto.floats)
            case "INTS":
                self.budget.take(BYTES_OF_A_NUMBER * len(proto.ints), where)
                return list(proto.ints)
            case "STRINGS":
                return [_text(item, where) for item in proto.strings]
            case "TENSORS":
                return [self.tensor(item, where) for item in proto.tensors]
            case "GRAPHS":
                return [self.graph(item, depth + 1) for item in proto.graphs]
            case "SPARSE_TENSOR" | "SPARSE_TENSORS" | "TYPE_PROTO" | "TYPE_PROTOS":
                return Opaque(kind.lower())
        raise FormatError(f"{where} has the unknown type {kind}")

    def tensor(self, proto: TensorProto, where: str) -> np.ndarray:
        try:
            return array_of(proto, self.files, self.budget)
        except FormatError as error:
            raise placed(error, where) from None
        except UnsupportedError as error:
            raise placed(error, where) from None


def _characters(nodes: Iterable[NodeProto]) -> int:
    """Of what names the nodes and their values."""
    return sum(
        len(node.name) + len(node.op_type) + sum(map(len, node.input)) + sum(map(len, node.output))
        for node in nodes
    )


def _check_texts(values: Iterable[str], where: object) -> None:
    """FormatError for what protobuf gives as bytes, because it is not UTF-8."""
    try:
        "".join(values)  # quicker than to look at each
    except TypeError:
        raise FormatError(f"{where} has a name that is not UTF-8 text") from None


def _shown(value: str | bytes) -> str:
    """What only people read, in whatever encoding they wrote it."""
    return value if isinstance(value, str) else value.decode(errors="backslashreplace")


def _text(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise FormatError(f"{where} is not UTF-8 text") from None


def _other_type(proto: TypeProto) -> str:
    """A type's name as onnxruntime writes it; only the kind where it is one that nothing runs."""
    kind = proto.WhichOneof("value") or ""
    if kind == "tensor_type":
        return f"tensor({NAMES.get(proto.tensor_type.elem_type, '')})"
    if kind == "sequence_type":
        inner = _other_type(proto.sequence_type.elem_type)
        return f"seq({inner})" if inner.startswith("tensor(") else "sequence"
    if kind == "optional_type":
        inner = _other_type(proto.optional_type.elem_type)
        return f"optional({inner})" if inner.startswith(("tensor(", "seq(")) else "optional"
    return kind.removesuffix("_type")


def _value_info(proto: ValueInfoProto) -> ValueInfo:
    kind = proto.type.WhichOneof("value")
    if kind is None:
        return ValueInfo(proto.name, "", None)
    if kind != "tensor_type":
        return ValueInfo(proto.name, _other_type(proto.type), None)
    tensor = proto.type.tensor_type
    shape: list[int | str | None] | None = None
    if tensor.HasField("shape"):
        shape = []
        for axis in tensor.shape.dim:
            match axis.WhichOneof("value"):
                case "dim_value":
                    # some exporters write -1 or 0 for "any"; onnxruntime takes only > 0 as fixed
                    shape.append(axis.dim_value if axis.dim_value >= 0 else None)
                case "dim_param":
                    shape.append(axis.dim_param or None)
                case _:
                    shape.append(None)
        symbols = [axis for axis in shape if axis is not None and not isinstance(axis, int)]
        _check_texts(symbols, f"the shape of {quoted(proto.name)}")
    return ValueInfo(
        proto.name, NAMES.get(tensor.elem_type, ""), None if shape is None else tuple(shape)
    )
