"""A model from a file or from bytes: ONNX, or what ``vledge convert`` wrote."""

from __future__ import annotations

import os
import warnings

from vledge.budget import Limits
from vledge.errors import FormatError, ModelWarning, reading
from vledge.formats import holds_graph
from vledge.formats.source import identified, open_source
from vledge.model.definition import Graph, Model, Node

__all__ = ["read_model", "warn_of_wrong_grus"]


def read_model(source: str | os.PathLike[str] | bytes, limits: Limits | None = None) -> Model:
    """Read a model from an ONNX file or one that ``vledge convert`` wrote, told by its bytes."""
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    if isinstance(source, bytes):
        start = source[:9]
    else:
        with open(source, "rb") as file:
            start = file.read(9)
    with reading("" if isinstance(source, bytes) else os.fspath(source)):
        if start[8:9] != b"{" and not isinstance(source, bytes) and not holds_graph(source):
            raise FormatError(_no_graph(source))
        if start[8:9] == b"{":
            from vledge.formats import vledge_model

            return vledge_model.read(source, limits)
        from vledge.formats.onnx import model as onnx_model

        return onnx_model.read(source, limits)


def _no_graph(path: str | os.PathLike[str]) -> str:
    """What a file is that is no model, and what runs it."""
    try:
        kind = identified(open_source(path))[0].format
    except FormatError as error:
        return f"not an ONNX model, and none by `vledge convert`: {error}"
    told = (
        f"{kind} holds weights and no graph. Its recurrent layers are vledge.nn.LSTM, GRU and RNN: "
    )
    if "Keras" in kind:
        return (
            f"{told}nn.LSTM.from_keras(path, name of the layer); a whole Keras model becomes one "
            'by model.export("model.onnx", format="onnx") or tf2onnx, on the TensorFlow backend'
        )
    return (
        f"{told}nn.LSTM.from_weights(vledge.load_weights(path)); a whole torch module becomes a "
        "model by vledge.export, where torch is"
    )


def warn_of_wrong_grus(model: Model, where: str) -> None:
    """Warn if the model's exporter is known to have written a GRU that torch does not mean."""
    if model.producer_name != "pytorch":
        return
    for node in _nodes(model.graph):
        if node.op_type == "GRU" and not node.attributes.get("linear_before_reset", 0):
            warnings.warn(
                f"{where}{node} has linear_before_reset=0, which torch's GRU never "
                "means: onnxscript 0.5.7 to 0.7.0 wrote it by mistake, and results are wrong "
                "by about 0.1. Export the model again with a newer onnxscript (the file is by "
                f"torch {model.producer_version or 'of an unknown version'})",
                ModelWarning,
                stacklevel=3,  # whoever makes the session
            )
            return


def _nodes(graph: Graph) -> list[Node]:
    inner = (n for node in graph.nodes for body in node.subgraphs() for n in _nodes(body))
    return [*graph.nodes, *inner]
