"""vledge's own model file: a graph and its tensors in one safetensors file, read without protobuf.

The tensors are the file's tensors, those of the main graph under their own names, so that any
reader of safetensors sees the weights. The graph is JSON in the metadata under ``vledge.model``:
nodes, inputs and outputs as in `vledge.model.definition`, tensors named by ``{"tensor": name}``.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, Final

import numpy as np

from vledge.budget import Budget, Limits
from vledge.errors import FormatError, UnsupportedError, cut
from vledge.formats import safetensors_file
from vledge.formats.json_text import Json, JsonObject, parsed
from vledge.formats.source import Source, open_source
from vledge.formats.tensor_view import MAX_NAME_LENGTH
from vledge.model.charges import charge_edges, charge_nodes
from vledge.model.check import MAX_DEPTH, check_graph
from vledge.model.definition import Attribute, Graph, Model, Node, Opaque, ValueInfo
from vledge.model.element_types import NUMBERS, element_of
from vledge.model.order import put_in_order

__all__ = ["read", "write"]

VERSION: Final = 1
KEY: Final = "vledge.model"
_TYPES: Final = {*NUMBERS, "", "sequence", "optional", "map", "sparse_tensor"}


def write(path: str | os.PathLike[str], model: Model) -> None:
    """Write the model, whole or not at all.

    UnsupportedError for what the file cannot hold: tensors of complex numbers, opaque attributes.
    """
    writer = _Writer()
    description = {
        "version": VERSION,
        "opset_imports": model.opset_imports,
        "ir_version": model.ir_version,
        "producer_name": model.producer_name,
        "producer_version": model.producer_version,
        "domain": model.domain,
        "model_version": model.model_version,
        "doc_string": model.doc_string,
        "metadata": model.metadata,
        "graph": writer.graph(model.graph),
    }
    text = json.dumps(description, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    limit = safetensors_file.MAX_HEADER_BYTES
    if 2 * len(text) > limit:  # quotes are escaped once more in the header
        raise UnsupportedError(
            f"the graph takes {len(text):,} characters, of which a file can have {limit // 2:,}"
        )
    tensors = writer.tensors or {"vledge.empty": np.zeros(0, np.uint8)}  # no file without a tensor
    safetensors_file.write(path, tensors, {KEY: text})


def read(source: str | os.PathLike[str] | bytes, limits: Limits | None = None) -> Model:
    """Read a model that `write` wrote; every name, type and shape is checked.

    FormatError for a file that is damaged, contradicts itself, or holds weights alone.
    """
    if isinstance(source, bytes):
        opened = Source("", source, Budget(len(source), limits))
    else:
        opened = open_source(source, limits)
    tensors, _, metadata = safetensors_file.read_all(opened)
    if KEY not in metadata:
        raise FormatError(
            "the file holds weights but no graph: read it by vledge.load_weights, or convert the "
            "ONNX model by `vledge convert`"
        )
    description = parsed(metadata[KEY], opened.budget, "the graph's description")
    reader = _Reader(tensors, opened.budget)
    fields = reader.object(description, "the model")
    version = fields.get("version")
    if version != VERSION:
        raise FormatError(f"the file is of version {version!r}; this vledge reads {VERSION}")
    opsets = reader.object(fields.get("opset_imports"), "opset_imports")
    model = Model(
        reader.graph(fields.get("graph"), 0),
        {domain: reader.integer(number, domain) for domain, number in opsets.items()},
        reader.integer(fields.get("ir_version"), "ir_version"),
        reader.text(fields.get("producer_name"), "producer_name"),
        reader.text(fields.get("producer_version"), "producer_version"),
        reader.text(fields.get("domain"), "domain"),
        reader.integer(fields.get("model_version"), "model_version"),
        reader.text(fields.get("doc_string"), "doc_string"),
        {
            key: reader.text(value, key)
            for key, value in reader.object(fields.get("metadata"), "metadata").items()
        },
        opened.budget,
    )
    put_in_order(model.graph)
    check_graph(model.graph)
    return model


class _Writer:
    """Turns graphs into JSON values, and collects their tensors."""

    def __init__(self) -> None:
        self.tensors: dict[str, np.ndarray] = {}

    def graph(self, graph: Graph) -> JsonObject:
        return {
            "name": graph.name,
            "inputs": [self.value_info(info) for info in graph.inputs],
            "outputs": [self.value_info(info) for info in graph.outputs],
            "initializers": {
                name: self.tensor(array, name) for name, array in graph.initializers.items()
            },
            "nodes": [self.node(node) for node in graph.nodes],
        }

    def node(self, node: Node) -> JsonObject:
        described: JsonObject = {
            "op_type": node.op_type,
            "inputs": list(node.inputs),
            "outputs": list(node.outputs),
        }
        if node.name:
            described["name"] = node.name
        if node.domain:
            described["domain"] = node.domain
        if node.attributes:
            near = next((name for name in node.outputs if name), node.op_type)
            described["attributes"] = {
                key: self.attribute(value, f"{node}: attribute {key}", near)
                for key, value in node.attributes.items()
            }
        return described

    def attribute(self, value: Attribute, where: str, near: str) -> Json:
        if isinstance(value, Opaque):
            raise UnsupportedError(f"{where} is a {value.kind}, which the file cannot hold")
        if isinstance(value, list):
            return [self.attribute(item, where, near) for item in value]
        if isinstance(value, Graph):
            return {"graph": self.graph(value)}
        if isinstance(value, np.ndarray):
            return self.tensor(value, near)
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}
        return value

    def tensor(self, array: np.ndarray, name: str) -> JsonObject:
        if array.dtype == object:
            return {"strings": array.ravel().tolist(), "shape": list(array.shape)}
        if array.dtype.kind == "c":
            raise UnsupportedError(f"tensor {name!r} is {array.dtype}, which the file cannot hold")
        key = name
        if not name or not name.isprintable() or len(name) > MAX_NAME_LENGTH // 2:
            key = "tensor"
        elif name == safetensors_file.METADATA:
            key = f"{name}~"
        count = 1
        while key in self.tensors:
            count += 1
            key = f"{name[: MAX_NAME_LENGTH // 2]}~{count}" if name.isprintable() else f"~{count}"
        self.tensors[key] = array
        return {"tensor": key}

    @staticmethod
    def value_info(info: ValueInfo) -> list[Json]:
        return [info.name, info.type, None if info.shape is None else list(info.shape)]


def _characters(nodes: list[Any]) -> int:
    """Of what names the nodes and their values, whatever else stands there."""
    values = (value for node in nodes if isinstance(node, dict) for value in node.values())
    listed = (value if isinstance(value, list) else [value] for value in values)
    return sum(len(name) for names in listed for name in names if isinstance(name, str))


class _Reader:
    """Turns JSON values back into graphs; whatever is not as `_Writer` writes it is an error."""

    def __init__(self, tensors: dict[str, np.ndarray], budget: Budget) -> None:
        self.tensors = tensors
        self.budget = budget

    def object(self, value: Json, what: str) -> JsonObject:
        if not isinstance(value, dict):
            raise FormatError(f"{what} is {_shown(value)}, expected an object")
        return value

    def items(self, value: Json, what: str) -> list[Json]:
        if not isinstance(value, list):
            raise FormatError(f"{what} is {_shown(value)}, expected a list")
        return value

    def text(self, value: Json, what: str) -> str:
        if not isinstance(value, str):
            raise FormatError(f"{what} is {_shown(value)}, expected a string")
        return value

    def integer(self, value: Json, what: str) -> int:
        if type(value) is not int or not 0 <= value < 1 << 63:
            raise FormatError(f"{what} is {_shown(value)}, expected a number from 0")
        return value

    def graph(self, value: Json, depth: int) -> Graph:
        if depth > MAX_DEPTH:
            raise FormatError(f"graphs are nested deeper than {MAX_DEPTH}")
        fields = self.object(value, "a graph")
        nodes = self.items(fields.get("nodes"), "nodes")
        charge_nodes(self.budget, len(nodes), 0 if depth else _characters(nodes))
        initializers = {}
        for name, tensor in self.object(fields.get("initializers"), "initializers").items():
            initializers[name] = self.tensor(tensor, f"initializer {name!r}")
        return Graph(
            [self.node(item, depth) for item in nodes],
            [self.value_info(item) for item in self.items(fields.get("inputs"), "inputs")],
            [self.value_info(item) for item in self.items(fields.get("outputs"), "outputs")],
            initializers,
            self.text(fields.get("name"), "a graph's name"),
        )

    def node(self, value: Json, depth: int) -> Node:
        fields = self.object(value, "a node")
        node = Node(
            self.text(fields.get("op_type"), "a node's op_type"),
            [self.text(n, "an input") for n in self.items(fields.get("inputs"), "inputs")],
            [self.text(n, "an output") for n in self.items(fields.get("outputs"), "outputs")],
            {},
            self.text(fields.get("name", ""), "a node's name"),
            self.text(fields.get("domain", ""), "a node's domain"),
        )
        charge_edges(self.budget, len(node.inputs) + len(node.outputs))
        attributes = self.object(fields.get("attributes", {}), f"{node}: attributes")
        for key, item in attributes.items():
            node.attributes[key] = self.attribute(item, f"{node}: attribute {key}", depth)
        return node

    def attribute(self, value: Json, where: str, depth: int) -> Any:
        if isinstance(value, (str, float)) or type(value) is int:
            return value
        if isinstance(value, list):
            if any(isinstance(item, list) for item in value):
                raise FormatError(f"{where} has a list in a list")
            return [self.attribute(item, where, depth) for item in value]
        if isinstance(value, dict):
            if "graph" in value:
                return self.graph(value["graph"], depth + 1)
            if "float" in value:
                if value["float"] not in ("nan", "inf", "-inf"):
                    raise FormatError(
                        f"{where} is {_shown(value)}, expected 'nan', 'inf' or '-inf'"
                    )
                return float(value["float"])
            return self.tensor(value, where)
        raise FormatError(f"{where} is {_shown(value)}, which is no kind of attribute")

    def tensor(self, value: Json, where: str) -> np.ndarray:
        fields = self.object(value, where)
        if "strings" in fields:
            strings = [self.text(item, where) for item in self.items(fields["strings"], where)]
            shape = [self.integer(n, where) for n in self.items(fields.get("shape"), where)]
            if math.prod(shape) != len(strings):
                raise FormatError(f"{where} has {len(strings)} strings, its shape is {shape}")
            array = np.empty(len(strings), object)
            array[:] = strings
            return array.reshape(shape)
        name = self.text(fields.get("tensor"), where)
        if name not in self.tensors:
            raise FormatError(f"{where} is the tensor {name!r}, which the file does not have")
        return self.tensors[name]

    def value_info(self, value: Json) -> ValueInfo:
        fields = self.items(value, "an input or output")
        if len(fields) != 3:
            raise FormatError(
                f"an input or output is {_shown(value)}, expected its name, type and shape"
            )
        name, type_, shape = fields
        type_ = self.text(type_, "a type")
        if type_ not in _TYPES and element_of(type_) is None:
            raise FormatError(f"{name!r} has the unknown type {type_!r}")
        axes: tuple[int | str | None, ...] | None = None
        if shape is not None:
            axes = tuple(
                axis
                if axis is None or isinstance(axis, str)
                else self.integer(axis, f"an axis of {name!r}")
                for axis in self.items(shape, f"the shape of {name!r}")
            )
        return ValueInfo(self.text(name, "a name"), type_, axes)


def _shown(value: object) -> str:
    return cut(repr(value), 60)
