"""The nodes of an ONNX model, made anew for weights of bytes: what `onnx_model` writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vledge.errors import VledgeError
from vledge.graph.passes.folding import fold
from vledge.graph.passes.small_weights import keep_small_weights
from vledge.graph.plan import copied
from vledge.graph.read import read_model
from vledge.pieces import in_pieces
from vledge.quantization.calibration import rounded_for
from vledge.quantization.columns import rounded_columns
from vledge.quantization.report import Entry, Report, rounding_errors
from vledge.small_matrix import FORMS, SmallTensor, rounded

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["DOMAIN", "KINDS", "SMALLEST", "Writer", "graphs_of", "name_of"]

SMALLEST: Final = 1024  # weights of a node, below which the nodes around it cost what it gains
DOMAIN: Final = "com.microsoft"
#: What is quantized: operator -> how many inputs it needs.
KINDS: Final = {"MatMul": 2, "Gemm": 2, "Conv": 2, "LSTM": 3, "GRU": 3, "RNN": 3, "Gather": 2}
_BLOCK: Final = FORMS["int8"].block


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.output:
                    yield from graphs_of(inner)


def name_of(node: NodeProto) -> str:
    return str(node.name or node.output[0])


def _constants(source: str | os.PathLike[str] | bytes) -> dict[str, np.ndarray]:
    """What nodes of the outermost graph make of constants, but for what they make of bytes."""
    program = copied(read_model(source))
    try:
        keep_small_weights(program)
        names = fold(program, real_weights=False)
    except VledgeError:  # a session says what is wrong with the graph
        return {}
    known = {n: a for n, a in program.constants.items() if not isinstance(a, SmallTensor)}
    return known | {name: known[source] for name, source in names.items() if source in known}


class Writer:
    """The nodes of a model, made anew."""

    def __init__(
        self, onnx: Any, model: ModelProto, source: str | os.PathLike[str] | bytes
    ) -> None:
        self.onnx = onnx
        self.model = model
        self.tensors: dict[str, TensorProto] = {
            tensor.name: tensor for graph in graphs_of(model.graph) for tensor in graph.initializer
        }
        own: list[str] = [t.name for g in graphs_of(model.graph) for t in g.initializer]
        inputs = {info.name for graph in graphs_of(model.graph) for info in graph.input}
        # a name that two graphs have is left alone; that of an input is a weight, as files before
        # IR version 4 have to list them
        self.known = {name for name in self.tensors if own.count(name) == 1}
        self.names = {n for g in graphs_of(model.graph) for node in g.node for n in node.output}
        self.names |= set(self.tensors) | inputs
        self.chosen: set[str] = set()
        self.entries: dict[str, Entry] = {}
        self.quantised: dict[str, tuple[str, str, str]] = {}  # of each value: bytes, scale, zero
        self.in_blocks: dict[str, str] = {}  # of weights that nodes share: what is made of bytes
        self.of_microsoft = False
        #: Of a recurrent node what it was given, [rows, I], and its states, [D, rows, H].
        self.seen: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        self.gone: set[str] = set()  # names that nothing reads any more
        made = {name for node in model.graph.node for name in node.output}
        self.computed = {n: a for n, a in _constants(source).items() if n in made}

    # ---- what there is

    def weight(self, name: str) -> np.ndarray | None:
        """Known float32 numbers."""
        if name in self.computed and self.computed[name].dtype == np.float32:
            return self.computed[name]
        if name not in self.known or self.tensors[name].data_type != self.onnx.TensorProto.FLOAT:
            return None
        array: np.ndarray = self.onnx.numpy_helper.to_array(self.tensors[name])
        return array

    def candidates(self, graph: GraphProto) -> list[str]:
        """The names of nodes whose weights can be rounded."""
        return [name_of(node) for node in graph.node if self.can(node)]

    def can(self, node: NodeProto) -> bool:
        if node.domain not in ("", "ai.onnx") or node.op_type not in KINDS:
            return False
        fewest = KINDS[node.op_type]
        if len(node.input) < fewest or not all(node.input[:fewest]) or not any(node.output):
            return False  # a session says what is wrong with it
        given = self.attributes(node)
        if node.op_type in ("GRU", "RNN"):
            weights = [self.weight(name) for name in node.input[1:3]]
            return all(w is not None and w.ndim == 3 and w.size for w in weights) and (
                sum(w.size for w in weights if w is not None) >= SMALLEST
            )
        if node.op_type == "LSTM":
            peepholes = len(node.input) > 7 and bool(node.input[7])
            weights = [self.weight(name) for name in node.input[1:4] if name]
            return not (
                peepholes
                or given.get("layout", 0)
                or given.get("input_forget", 0)
                or any(w is None for w in weights)
                or any(w is not None and (w.ndim != 3 or not w.size) for w in weights[:2])
                or sum(w.size for w in weights if w is not None) < SMALLEST
            )
        w = self.weight(node.input[0 if node.op_type == "Gather" else 1])
        if w is None or w.size < SMALLEST:
            return False
        if node.op_type == "Gather":
            return w.ndim == 2 and given.get("axis", 0) == 0
        if node.op_type == "Gemm":
            ones = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1
            bias = self.weight(node.input[2]) if len(node.input) > 2 and node.input[2] else 0
            return w.ndim == 2 and ones and not given.get("transA", 0) and bias is not None
        return w.ndim in (3, 4, 5) if node.op_type == "Conv" else w.ndim == 2

    def attributes(self, node: NodeProto) -> dict[str, Any]:
        return {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}

    # ---- what is made

    def rewrite(self, graph: GraphProto) -> None:
        """Every chosen node of a graph, in place."""
        made: list[NodeProto] = []
        self.quantised, self.in_blocks = {}, {}
        for node in graph.node:
            if self.can(node) and name_of(node) in self.chosen:
                self.nodes, self.name = made, name_of(node)
                getattr(self, f"{node.op_type.lower()}_")(node)
            else:
                made.append(node)
        del graph.node[:]
        graph.node.extend(made)

    def fresh(self, what: str) -> str:
        name, number = f"{self.name}_{what}", 0
        while name in self.names:
            number += 1
            name = f"{self.name}_{what}{number}"
        self.names.add(name)
        return name

    def add(self, op_type: str, inputs: Sequence[str], output: str = "", **options: Any) -> str:
        """A node with one output, whose name it gives."""
        output = output or self.fresh(op_type.lower())
        made = self.onnx.helper.make_node(op_type, list(inputs), [output], **options)
        made.name = self.fresh("node")
        self.nodes.append(made)
        return output

    def constant(self, what: str, array: np.ndarray) -> str:
        name = self.fresh(what)
        tensor = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        self.model.graph.initializer.append(tensor)
        return name

    def small(self, name: str, w: np.ndarray, pairs: bool) -> tuple[np.ndarray, np.ndarray]:
        """``w [K, N]`` rounded, and an entry for the report."""
        try:
            values, scale = rounded_columns(w, pairs)
        except ValueError as error:
            raise ValueError(f"node {self.name!r}: {name}: {error}") from None
        nbytes = values.nbytes + scale.nbytes
        self.note(name, w, in_pieces(np.multiply)(values, scale), nbytes)
        return values, scale

    def note(self, name: str, w: np.ndarray, real: np.ndarray, nbytes: int) -> None:
        """An entry for the report: what stands for ``w`` now."""
        rms, largest = rounding_errors(w, real)
        known = self.tensors.get(name)
        shape = w.shape if known is None else tuple(known.dims)
        self.entries[name] = Entry(name, "int8", shape, w.nbytes, nbytes, rms, largest)

    def bytes_of(self, x: str) -> tuple[str, str, str]:
        """x as bytes, its scale and its zero point: once for all who read it."""
        if x not in self.quantised:
            parts = self.fresh("bytes"), self.fresh("scale"), self.fresh("zero")
            made = self.onnx.helper.make_node("DynamicQuantizeLinear", [x], list(parts))
            made.name = self.fresh("node")
            self.nodes.append(made)
            self.quantised[x] = parts
        return self.quantised[x]

    def real(
        self, sums: str, x_scale: str, scale: np.ndarray, bias: np.ndarray | None, result: str
    ) -> None:
        """Sums of integers as numbers."""
        whole = self.add("Mul", [x_scale, self.constant("scale", scale)])
        real = self.add("Cast", [sums], to=self.onnx.TensorProto.FLOAT)
        if bias is None:
            self.add("Mul", [real, whole], result)
        else:
            product = self.add("Mul", [real, whole])
            self.add("Add", [product, self.constant("bias", bias)], result)

    def matmul_(self, node: NodeProto) -> None:
        self.product(node, turned=False, bias=None)

    def gemm_(self, node: NodeProto) -> None:
        bias = self.weight(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        self.product(node, bool(self.attributes(node).get("transB", 0)), bias)

    def product(self, node: NodeProto, turned: bool, bias: np.ndarray | None) -> None:
        w = self.weight(node.input[1])
        assert w is not None
        values, scale = self.small(node.input[1], w.T if turned else w, pairs=True)
        x, x_scale, zero = self.bytes_of(node.input[0])
        sums = self.add("MatMulInteger", [x, self.constant("weight", values), zero])
        self.real(sums, x_scale, scale, bias, node.output[0])

    def conv_(self, node: NodeProto) -> None:
        w = self.weight(node.input[1])
        assert w is not None
        values, scale = self.small(node.input[1], w.reshape(len(w), -1).T, pairs=False)
        x, x_scale, zero = self.bytes_of(node.input[0])
        weight = self.constant("weight", values.T.reshape(w.shape))
        sums = self.fresh("sums")
        made = self.onnx.helper.make_node(
            "ConvInteger", [x, weight, zero], [sums], self.fresh("node"), **self.attributes(node)
        )
        self.nodes.append(made)
        over = (-1, *(1,) * (w.ndim - 2))
        bias_name = node.input[2] if len(node.input) > 2 else ""
        bias = self.weight(bias_name) if bias_name else None
        if bias_name and bias is None:  # of another node's making
            inner = self.fresh("real")
            self.real(sums, x_scale, scale.reshape(over), None, inner)
            shape = self.constant("shape", np.array([1, *over]))
            self.add("Add", [inner, self.add("Reshape", [bias_name, shape])], node.output[0])
            return
        column = None if bias is None else bias.reshape(over)
        self.real(sums, x_scale, scale.reshape(over), column, node.output[0])

    def gather_(self, node: NodeProto) -> None:
        table = self.weight(node.input[0])
        assert table is not None
        values, scale = self.small(node.input[0], table.T, pairs=False)
        rows = self.add("Gather", [self.constant("rows", values.T), node.input[1]])
        scales = self.add("Gather", [self.constant("scales", scale[:, None]), node.input[1]])
        real = self.add("Cast", [rows], to=self.onnx.TensorProto.FLOAT)
        self.add("Mul", [real, scales], node.output[0])

    def lstm_(self, node: NodeProto) -> None:
        self.of_microsoft = True
        parts: list[str] = []
        for name in node.input[1:3]:
            w = self.weight(name)
            assert w is not None
            directions, gates, depth = w.shape
            turned = w.transpose(2, 0, 1).reshape(depth, -1)
            values, scale = self.small(name, turned, pairs=True)
            values = values.reshape(depth, directions, gates).transpose(1, 0, 2)
            parts.append(self.constant("weight", values))
            scales = self.constant("scales", scale.reshape(directions, gates))
            zeros = self.constant("zeros", np.zeros((directions, gates), np.int8))
            parts += [scales, zeros]
        rest = [*node.input[3:7], *[""] * (7 - len(node.input))]
        inputs = [node.input[0], parts[0], parts[3], *rest, "", *parts[1:3], *parts[4:6]]
        given = {k: v for k, v in self.attributes(node).items() if k not in ("layout",)}
        made = self.onnx.helper.make_node(
            "DynamicQuantizeLSTM", inputs, list(node.output), node.name, domain=DOMAIN, **given
        )
        self.nodes.append(made)

    def gru_(self, node: NodeProto) -> None:
        made = self.onnx.NodeProto()
        made.CopyFrom(node)
        given, states = self.seen.get(self.name, (None, None))
        for place, rows in ((1, given), (2, states)):
            made.input[place] = self.blocks(node.input[place], rows)
        self.nodes.append(made)

    rnn_ = gru_

    def blocks(self, name: str, rows: np.ndarray | None) -> str:
        """``w [D, G, K]`` as bytes and a scale for each block of K: the value that they make."""
        if rows is None and name in self.in_blocks:
            return self.in_blocks[name]
        w = self.weight(name)
        assert w is not None
        matrices = []
        for direction, matrix in enumerate(w):
            own = rows if rows is None or rows.ndim == 2 else rows[direction]
            try:
                matrices.append(
                    rounded(matrix, "int8")
                    if own is None
                    else rounded_for(matrix.astype(np.float64), own, "int8")
                )
            except ValueError as error:
                raise ValueError(f"node {self.name!r}: {name}: {error}") from None
        directions, gates, depth = w.shape
        block, count = min(_BLOCK, depth), matrices[0].scales.shape[1]
        values = np.zeros((directions, gates, count * block), np.int8)
        values[..., :depth] = [one.values for one in matrices]
        scales = np.array([one.scales for one in matrices])[..., None]
        self.note(name, w, np.array([np.asarray(one) for one in matrices]),
                  values.nbytes + scales.nbytes)  # fmt: skip
        whole = self.constant("weight", values.reshape(directions, gates, count, block))
        real = self.add("Cast", [whole], to=self.onnx.TensorProto.FLOAT)
        product = self.add("Mul", [real, self.constant("scales", scales)])
        shape = self.constant("shape", np.array(values.shape))
        real = self.add("Reshape", [product, shape])
        if values.shape[2] > depth:
            ends = [self.constant(what, np.array([n])) for what, n in (("from", 0), ("to", depth))]
            real = self.add("Slice", [real, *ends, self.constant("axis", np.array([2]))])
        if rows is None:
            self.in_blocks[name] = real
        return real

    def recurrent(self) -> list[NodeProto]:
        """The chosen ones of the outermost graph, whose values a session can show."""
        return [
            node
            for node in self.model.graph.node
            if node.op_type in ("GRU", "RNN") and self.can(node) and name_of(node) in self.chosen
        ]

    # ---- what is left

    def drop_unread(self) -> None:
        """Initializers, and nodes that move these, which no node reads any more."""
        graph, gone = self.model.graph, {name for name in self.entries if name in self.computed}
        while True:
            read_ = {n for g in graphs_of(graph) for node in g.node for n in node.input}
            read_ |= {info.name for g in graphs_of(graph) for info in g.output}
            idle = [n for n in graph.node if gone & {*n.output} and not read_ & {*n.output}]
            if not idle:
                break
            for node in idle:
                gone |= {*node.input}
                graph.node.remove(node)
        gone |= self.entries.keys()
        self.gone = gone
        read_ = {n for g in graphs_of(self.model.graph) for node in g.node for n in node.input}
        read_ |= {info.name for g in graphs_of(self.model.graph) for info in g.output}
        for graph in graphs_of(self.model.graph):
            for listed in (graph.initializer, graph.input):
                kept = [one for one in listed if one.name in read_ or one.name not in gone]
                del listed[:]
                listed.extend(kept)

    def report(self) -> Report:
        """What became of the model's own weights."""
        entries = []
        for name, tensor in self.tensors.items():
            if name in self.gone and name not in self.entries:
                continue  # its parts have entries
            size = int(np.prod(tensor.dims, dtype=np.int64))
            item = self.onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            held = Entry(name, str(item), tuple(tensor.dims), size * item.itemsize,
                         size * item.itemsize, 0.0, 0.0)  # fmt: skip
            entries.append(self.entries.pop(name, held))
        return Report([*entries, *self.entries.values()])
