"""`InferenceSession`: a whole model, loaded once and run many times, with onnxruntime's habits.

Arguments are checked here; the plan below trusts them.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vledge.errors import FormatError, ModelWarning, UnsupportedError, VledgeError
from vledge.formats.element_types import DTYPES
from vledge.formats.graph_definition import Graph, Model, Node, ValueInfo
from vledge.graph.plan import Plan, failed_node, owned
from vledge.graph.prepared import Fallback
from vledge.graph.strategy import with_strategy

if TYPE_CHECKING:
    from vledge.streaming import Stream

__all__ = ["InferenceSession", "ModelMetadata", "NodeArg", "describe_input", "read_model"]


@dataclass(frozen=True)
class NodeArg:
    """An input or output: its name, its type as ``tensor(float)``, and its shape.

    An axis of the shape is an int, the name of a symbol, or None where the file does not say.
    """

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True)
class ModelMetadata:
    """What the file says of itself."""

    producer_name: str
    producer_version: str
    graph_name: str
    domain: str
    description: str
    version: int
    opset_imports: dict[str, int]
    custom_metadata_map: dict[str, str] = field(default_factory=dict)


class InferenceSession:
    """Runs an ONNX model, or one that ``vledge convert`` wrote.

    Parameters
    ----------
    path_or_bytes : str, PathLike or bytes, or a Model that `read_model` read
        A file, told by its content, or the content itself. ONNX files need the onnx package, files
        by ``vledge convert`` do not.
    fallback : None, "reference" or a function
        With "reference", nodes that vledge has no operator for are run by onnx's own reference
        evaluator, slowly; without it, a model that has such nodes is refused. A function
        ``fallback(node, opset)`` gives one that runs the node: it takes the node's inputs as
        arrays and returns its outputs; UnsupportedError if there is none.
    empty_state : "zero" or "initial"
        The final state of a sequence of length 0 in a recurrent node, which ONNX leaves open: zeros
        as onnxruntime has it, or its initial state.
    providers : sequence of str, optional
        Only there so that onnxruntime's calls work; must name "CPUExecutionProvider" if given.

    Raises
    ------
    FormatError
        The file is damaged or contradicts itself; the message names the node or tensor.
    UnsupportedError
        Nodes cannot run here: the message lists all of them. No run ever stops at such a node.
    MissingDependencyError
        The onnx package is needed and not there.

    A session may be used by several threads at a time. Arrays given to `run` are not changed, and
    arrays that it returns are the caller's.

    >>> session = InferenceSession("model.onnx")  # doctest: +SKIP
    >>> (logits,) = session.run(None, {"x": x, "lengths": lengths})  # doctest: +SKIP
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes | Model,
        sess_options: None = None,
        providers: Sequence[str] | None = None,
        *,
        fallback: str | Fallback | None = None,
        empty_state: str = "zero",
    ) -> None:
        if sess_options is not None:
            raise TypeError(
                "vledge has no session options: set threads by vledge.set_num_threads, and leave "
                "sess_options out"
            )
        if providers is not None and "CPUExecutionProvider" not in providers:
            raise ValueError(
                f"providers is {list(providers)}: vledge has only CPUExecutionProvider"
            )
        if not callable(fallback) and fallback not in (None, "reference"):
            raise ValueError(f"fallback must be None, 'reference' or a function, got {fallback!r}")
        if empty_state not in ("zero", "initial"):
            raise ValueError(f"empty_state must be 'zero' or 'initial', got {empty_state!r}")
        source = path_or_bytes
        self._where = "" if isinstance(source, (bytes, Model)) else f"{os.fspath(source)}: "
        self._options = {"empty_state": empty_state}
        self._fallback: Fallback | None = None
        if fallback is not None:
            self._fallback = fallback if callable(fallback) else _reference_fallback()
        self._source = source
        self._model = self._read()
        graph = self._model.graph
        defaults = graph.initializers
        self._inputs = {i.name: i for i in graph.inputs if i.name not in defaults}
        self._overridable = {}
        if self._model.ir_version >= 4:  # before, initializers had to be among the inputs
            self._overridable = {i.name: i for i in graph.inputs if i.name in defaults}
        self._outputs = {info.name: index for index, info in enumerate(graph.outputs)}
        self._checks = [(name, *_expected(info)) for name, info in self._inputs.items()]
        self._expected = tuple(_as_declared(name, *rest) for name, *rest in self._checks)
        self._warn_of_wrong_grus()
        self._plan = self._planned(())
        self._lock = threading.Lock()
        self._overriding: dict[frozenset[str], Plan] = {}
        if not self._overridable:
            graph.initializers = {}  # the plan has what it needs of them

    # ---- what the model says

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that a run needs."""
        return [describe_input(info) for info in self._inputs.values()]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs that a run can give."""
        return [describe_input(info) for info in self._model.graph.outputs]

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The inputs that have a default, which a run may replace."""
        return [describe_input(info) for info in self._overridable.values()]

    def get_modelmeta(self) -> ModelMetadata:
        """Who made the model, with which tools and operator sets."""
        model = self._model
        return ModelMetadata(
            model.producer_name,
            model.producer_version,
            model.graph.name,
            model.domain,
            model.doc_string,
            model.model_version,
            dict(model.opset_imports),
            dict(model.metadata),
        )

    def get_providers(self) -> list[str]:
        """Always ``["CPUExecutionProvider"]``."""
        return ["CPUExecutionProvider"]

    # ---- running

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        *,
        strategy: str | None = None,
        **options: Any,
    ) -> list[np.ndarray]:
        """Run the model once.

        Parameters
        ----------
        output_names : names of outputs in the order wanted, or None for all
        input_feed : an array for each input, of its dtype, its number of axes and its fixed sizes
        strategy : "auto", or a name in ``vledge.lengths.STRATEGIES``, optional
            How RNN, GRU and LSTM nodes that are given sequence_lens run; all give the same numbers.
            "auto" makes a plan for each. Nodes without sequence_lens run as they always do. None:
            padded.
        options : the strategy's own, for example ``rows=32`` or ``memory_limit=64_000_000``

        Raises ValueError for an input that is missing, unknown or not as declared, for a strategy
        that is unknown or has no node to run, and, naming the node, for inputs whose sizes do not
        go together and for a strategy that cannot run the node (lanes and streaming: a backward
        direction; all but padded: equations that no `vledge.nn` layer has). TypeError for options
        that are not the strategy's, MemoryError where "auto" finds none within ``memory_limit``.
        """
        if strategy is None and options:
            raise TypeError(f"{', '.join(options)}: options go with a strategy, and none is given")
        try:
            results = None
            if strategy is None and self._plan.native is not None and type(input_feed) is dict:
                # Inputs that are as declared need no more than a look.
                results = self._plan.native.program.run_feed(input_feed, self._expected)
            if results is None:
                results = self._run_checked(input_feed, strategy, options)
        except MemoryError:
            raise
        except Exception as error:
            node = failed_node(error.__traceback__)
            if node is None:
                raise
            kind = type(error) if isinstance(error, VledgeError) else ValueError
            raise kind(f"{self._where}{node}: {error}") from error
        if output_names is not None:
            unknown = [name for name in output_names if name not in self._outputs]
            if unknown:
                raise ValueError(f"no output named {unknown[0]!r}: there are {list(self._outputs)}")
            results = [results[self._outputs[name]] for name in output_names]
        return results

    def _run_checked(
        self, input_feed: Mapping[str, Any], strategy: str | None, options: dict[str, Any]
    ) -> list[np.ndarray]:
        plan = self._plan
        arrays = []
        for name, type_, dtype, shape in self._checks:
            if name not in input_feed:
                raise ValueError(self._missing(input_feed))
            arrays.append(_checked(input_feed[name], name, type_, dtype, shape))
        if len(input_feed) != len(arrays):
            plan, arrays = self._override(input_feed, arrays)
        if strategy is None:
            return plan.run(*arrays)
        run = with_strategy(plan.function, self._model.graph, strategy, options)
        with np.errstate(all="ignore"):
            return owned(run(*arrays))

    def stream(
        self,
        batch: int = 1,
        *,
        time_axis: int | Mapping[str, int] | None = None,
        states: Mapping[str, str] | None = None,
        fixed: Mapping[str, Any] | None = None,
        lookahead: int | None = None,
    ) -> Stream:
        """Run the model frame by frame; what it remembers goes from call to call.

        Recurrent layers whose initial state is made inside the graph, and zeros that the graph puts
        in front of its causal convolutions, become the stream's state. A trial run at the start
        compares frames with the whole run. The file is read again.

        Parameters
        ----------
        batch : int
            How many independent streams run side by side: the size of every free axis but time.
        time_axis : int or dict of int by input name, optional
            Not needed where an input has one axis whose size the file leaves open.
        states : dict, optional
            Inputs that are states already, each with the output that is its next value.
        fixed : dict, optional
            Inputs that are the same at every frame.
        lookahead : int, optional
            As layers and Modules take it, and always refused: the message says why, and what to do.

        Raises
        ------
        UnsupportedError
            The model looks ahead, or its frame-by-frame results are not those of the whole run.
        """
        # Streams stand above sessions and are imported only by who has one.
        from vledge.streaming.sessions import stream

        if self._fallback is not None:
            raise UnsupportedError("a session with fallback='reference' cannot be streamed")
        if lookahead is not None:
            raise UnsupportedError(
                f"{self._where}lookahead= is for layers and Modules: a recurrent node tells its "
                "state at the end of what it has run, not where the frames ahead begin. "
                "nn.LSTM.from_onnx (GRU, RNN) takes a layer out of a graph"
            )
        model = self._read()
        return stream(model, self._where, self._options, batch, time_axis, states, fixed)

    def _read(self) -> Model:
        """The model, whole: a session lets go of its graph's constants, but not of the caller's."""
        if isinstance(self._source, Model):
            return replace(self._source, graph=replace(self._source.graph))
        return read_model(self._source)

    def _missing(self, input_feed: Mapping[str, Any]) -> str:
        missing = [name for name in self._inputs if name not in input_feed]
        return f"Required inputs ({missing}) are missing from input feed ({list(input_feed)})."

    def _override(
        self, input_feed: Mapping[str, Any], arrays: list[np.ndarray]
    ) -> tuple[Plan, list[np.ndarray]]:
        """The plan in which the initializers that the feed replaces are inputs, and its arrays."""
        extra = [name for name in input_feed if name not in self._inputs]
        for name in extra:
            if name not in self._overridable:
                raise ValueError(
                    f"the model has no input named {name!r}: there are {list(self._inputs)}"
                )
        with self._lock:
            key = frozenset(extra)
            if key not in self._overriding:
                self._overriding[key] = self._planned(key)
            plan = self._overriding[key]
        given = dict(zip(self._inputs, arrays, strict=True))
        for name in extra:
            info = self._overridable[name]
            given[name] = _checked(input_feed[name], name, *_expected(info))
        return plan, [given[name] for name in plan.inputs]

    def _planned(self, variable: Sequence[str] | frozenset[str]) -> Plan:
        try:
            return Plan(self._model, self._options, self._fallback, variable)
        except (FormatError, UnsupportedError) as error:
            raise type(error)(f"{self._where}{error}") from error.__cause__

    def _warn_of_wrong_grus(self) -> None:
        if self._model.producer_name != "pytorch":
            return
        for node in _nodes(self._model.graph):
            if node.op_type == "GRU" and not node.attributes.get("linear_before_reset", 0):
                warnings.warn(
                    f"{self._where}{node} has linear_before_reset=0, which torch's GRU never "
                    "means: onnxscript 0.5.7 to 0.7.0 wrote it by mistake, and results are wrong "
                    "by about 0.1. Export the model again with a newer onnxscript (the file is by "
                    f"torch {self._model.producer_version or 'of an unknown version'})",
                    ModelWarning,
                    stacklevel=3,
                )
                return


def read_model(source: str | os.PathLike[str] | bytes) -> Model:
    """Read a model from an ONNX file or one that ``vledge convert`` wrote, told by its bytes."""
    where = "" if isinstance(source, bytes) else f"{os.fspath(source)}: "
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    if isinstance(source, bytes):
        start = source[:9]
    else:
        with open(source, "rb") as file:
            start = file.read(9)
    try:
        if start[8:9] == b"{":
            from vledge.formats import vledge_model

            return vledge_model.read(source)
        from vledge.formats import onnx_model

        return onnx_model.read(source)
    except (FormatError, UnsupportedError) as error:
        raise type(error)(f"{where}{error}") from error.__cause__


def _reference_fallback() -> Callable[[Node, int], Callable[..., Any]]:
    from vledge.graph.reference_fallback import reference_function

    return reference_function


def _nodes(graph: Graph) -> list[Node]:
    inner = (n for node in graph.nodes for body in node.subgraphs() for n in _nodes(body))
    return [*graph.nodes, *inner]


def describe_input(info: ValueInfo) -> NodeArg:
    """An input or output as onnxruntime describes it."""
    kind = f"tensor({info.type})" if info.type in DTYPES else info.type
    return NodeArg(info.name, kind, list(info.shape or ()))


_Shape = tuple[int | str | None, ...] | None


def _expected(info: ValueInfo) -> tuple[str, np.dtype | None, _Shape]:
    return info.type, DTYPES.get(info.type), info.shape


def _as_declared(
    name: str, type_: str, dtype: np.dtype | None, shape: _Shape
) -> tuple[str, int, tuple[int, ...] | None]:
    """What `Program.run_feed` compares with; what it cannot say is -1, which no array is of."""
    number = -1 if dtype is None or dtype.kind == "O" else dtype.num
    sizes = None if shape is None else tuple(s if type(s) is int else -1 for s in shape)
    return name, number, sizes


def _checked(
    value: Any, name: str, type_: str, dtype: np.dtype | None, shape: _Shape
) -> np.ndarray:
    """A read-only view of an input, or ValueError if it is not as the model declares it."""
    if not isinstance(value, np.ndarray):
        value = np.asarray(value, dtype)
    array: np.ndarray = value.view()
    if dtype is not None and array.dtype != dtype:
        if dtype.kind == "O" and array.dtype.kind in "SU":
            array = array.astype(object)
        elif array.dtype.newbyteorder("=") == dtype:
            array = array.astype(dtype)
        else:
            raise ValueError(
                f"input {name!r} has the dtype {array.dtype}, expected tensor({type_}), "
                f"which is {dtype}"
            )
    if shape is not None:
        if array.ndim != len(shape):
            raise ValueError(
                f"input {name!r} has the shape {array.shape}, expected {len(shape)} axes: "
                f"{_shown(shape)}"
            )
        for axis, wanted in enumerate(shape):
            if type(wanted) is int and array.shape[axis] != wanted:
                raise ValueError(
                    f"input {name!r} has the shape {array.shape}, expected {wanted} on axis "
                    f"{axis}: {_shown(shape)}"
                )
    array.flags.writeable = False
    return array


def _shown(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
