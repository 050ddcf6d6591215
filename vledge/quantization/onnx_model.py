"""ONNX models with int8 weights, as onnxruntime runs them, too.

Each product with known weights becomes one of integers: DynamicQuantizeLinear gives what it is
multiplied with 8 bits, by a scale of the whole array, and the sums are made real again. A weight
has one scale for each output::

    MatMul, Gemm -> MatMulInteger     Conv -> ConvInteger     LSTM -> DynamicQuantizeLSTM
    Gather of a table's rows -> Gather of bytes, times the rows' scales

Neither ONNX nor onnxruntime has integer forms of GRU and RNN. Their W and R are bytes with a scale
for each 32 in a row, which a Cast and a Mul make floats of: onnxruntime does so when it loads the
model, and runs floats; vledge multiplies the integers, as it does in layers with ``int8`` weights.

ConvTranspose and what is too small to gain stay as they are. Where onnxruntime adds two products in
16 bits (x86 without VNNI), weights of MatMul, Gemm and LSTM are such that they fit. Weights may
come through nodes that only move them: what is known before a run is a weight.
Source: Operators.md and ContribOperators.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import numpy as np

from vledge.errors import FormatError, UnsupportedError, import_failure
from vledge.formats import holds_graph
from vledge.formats.onnx.model import read
from vledge.formats.source import identified, looks_like_onnx, open_source
from vledge.graph.session import InferenceSession
from vledge.quantization.onnx_writer import DOMAIN, KINDS, SMALLEST, Writer, graphs_of, name_of
from vledge.quantization.report import Report

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["check_onnx", "quantize_onnx"]

_OLDEST: Final = 11  # DynamicQuantizeLinear's first


def quantize_onnx(
    source: str | os.PathLike[str] | bytes,
    *,
    layers: str | Sequence[str] = "*",
    keep: str | Sequence[str] = (),
    calibrate: Sequence[Mapping[str, np.ndarray]] = (),
) -> tuple[bytes, Report]:
    """The file of the same model with int8 weights, and what that did to each.

    Parameters
    ----------
    source : path, or bytes of a file
    layers, keep : str or sequence of str
        Names of nodes to be quantized and to be left, with ``*`` and ``?``; a node without a name
        goes by its first output.
    calibrate : sequence of dict of ndarray, optional
        Inputs of the model by their names, a dict a run. Weights of GRU and RNN are then rounded so
        that what these nodes make of them stays close; others are rounded to the nearest.

    Raises
    ------
    ValueError
        A name that fits no node with weights to quantize, or no such node at all; weights that are
        NaN or infinite.
    UnsupportedError
        A model of an operator set before 11.
    FormatError, MissingDependencyError
        A damaged file; no onnx package.
    """
    if not isinstance(source, bytes):
        check_onnx(source)
    opset = read(source).opset_imports  # which says, too, what is wrong with the file
    try:
        import onnx
    except ImportError as error:
        raise import_failure(error, "onnx", "writing ONNX needs the onnx package") from error
    model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
    if opset.get("", 0) < _OLDEST:
        raise UnsupportedError(
            f"the model is of operator set {opset.get('', 0)}; integers take {_OLDEST} and more: "
            "onnx.version_converter makes one of it"
        )
    for graph in graphs_of(model.graph):
        _lift_constants(graph)
    writer = Writer(onnx, model, source)
    writer.chosen = _chosen(
        [one for graph in graphs_of(model.graph) for one in writer.candidates(graph)],
        [layers] if isinstance(layers, str) else layers,
        [keep] if isinstance(keep, str) else keep,
    )
    if calibrate:
        writer.seen = _seen(source, writer.recurrent(), calibrate)
    for graph in reversed(
        list(graphs_of(model.graph))
    ):  # inner ones first: nodes put back are copies
        writer.rewrite(graph)
    writer.drop_unread()
    if writer.of_microsoft and DOMAIN not in opset:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return model.SerializeToString(), writer.report()


def check_onnx(path: str | os.PathLike[str]) -> None:
    """ValueError for the other files that one may have, with what is quantized of these."""
    source, name = open_source(path), os.fspath(path)
    if looks_like_onnx(source):
        return
    if holds_graph(path):
        raise ValueError(
            f"{name} was written by `vledge convert` or vledge.export: quantize the ONNX file of "
            "that model, and convert what comes of it"
        )
    try:
        identified(source)
    except FormatError:  # who reads ONNX says what is wrong with it
        return
    raise ValueError(
        f"{name} holds weights and no graph: quantize what vledge.load_weights gives of it, or a "
        "Module that has loaded them"
    )


def _seen(
    source: str | os.PathLike[str] | bytes,
    nodes: Sequence[NodeProto],
    feeds: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """What recurrent nodes read in these runs: inputs [rows, I], states before each step
    [D, rows, H]."""
    if not nodes:
        return {}
    seen: dict[str, list[tuple[np.ndarray, np.ndarray | None]]] = {name_of(n): [] for n in nodes}
    names = list(dict.fromkeys(n for node in nodes for n in (node.input[0], node.output[0]) if n))
    given = [n for n in names if any(n in feed for feed in feeds)]
    session = InferenceSession(source, outputs=[n for n in names if n not in given])
    for feed in feeds:
        wanted = {info.name for info in session.get_inputs()}
        results = session.run(None, {n: a for n, a in feed.items() if n in wanted})
        values = dict(feed)
        values.update(zip((info.name for info in session.get_outputs()), results, strict=True))
        for node in nodes:
            x, y = np.asarray(values[node.input[0]]), values.get(node.output[0])
            states = None if y is None else _states(np.asarray(y), node)
            seen[name_of(node)].append((x.reshape(-1, x.shape[-1]), states))
    return {
        name: (
            np.concatenate([x for x, _ in own]).astype(np.float64),
            None
            if any(h is None for _, h in own)
            else np.concatenate([h for _, h in own if h is not None], axis=1).astype(np.float64),
        )
        for name, own in seen.items()
        if own
    }


def _states(y: np.ndarray, node: NodeProto) -> np.ndarray:
    """Y ``[T, D, B, H]``, or with layout 1 ``[B, T, D, H]``, as ``[D, rows, H]``."""
    layout = next((a.i for a in node.attribute if a.name == "layout"), 0)
    by_direction = np.moveaxis(y, 2 if layout else 1, 0)
    return by_direction.reshape(len(by_direction), -1, y.shape[3])


def _lift_constants(graph: GraphProto) -> None:
    """Large tensors that nodes called Constant hold become initializers, which say the same."""
    kept = []
    for node in graph.node:
        held = [a.t for a in node.attribute if a.name == "value"]
        of_onnx = node.domain in ("", "ai.onnx") and node.op_type == "Constant"
        if of_onnx and held and int(np.prod(held[0].dims)) >= SMALLEST:
            graph.initializer.add().CopyFrom(held[0])
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _chosen(found: Sequence[str], layers: Iterable[str], keep: Iterable[str]) -> set[str]:
    if not found:
        raise ValueError(
            f"there is no node that could be quantized: of {', '.join(KINDS)} those with "
            f"{SMALLEST:,} float32 weights and more"
        )
    for pattern in (*layers, *keep):
        if not any(fnmatchcase(name, pattern) for name in found):
            raise ValueError(
                f"no node that could be quantized is called {pattern!r}; there are "
                + ", ".join(map(repr, found))
            )
    return {
        name
        for name in found
        if any(fnmatchcase(name, pattern) for pattern in layers)
        and not any(fnmatchcase(name, pattern) for pattern in keep)
    }
