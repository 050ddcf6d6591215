"""`InferenceSession`: a whole model, loaded once and run many times, with onnxruntime's habits.

Arguments are checked here; the plan below trusts them.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vledge.errors import FormatError, ModelWarning, UnsupportedError
from vledge.graph.io_binding import IOBinding
from vledge.graph.part import part_for
from vledge.graph.plan import MemoryUse, Plan, owned
from vledge.graph.prepared import Fallback
from vledge.graph.profile import Profile, profile
from vledge.graph.providers import CPU, check_providers
from vledge.graph.session_options import RunOptions, SessionOptions, ignored, taken
from vledge.graph.strategy import with_strategy
from vledge.graph.values import TensorSequence, check_tensors_only
from vledge.machine.threads import using_threads
from vledge.model.definition import Graph, Model, Node, ValueInfo
from vledge.model.element_types import DTYPES, element_of
from vledge.out_arrays import misfit, shared

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
    outputs : sequence of str, optional
        The outputs that this session is for, in this order; they may be any values of the main
        graph. Nodes that these don't need are left out before anything is refused, and so are
        inputs, which a run may be given nevertheless. None: all that the file declares.
    fallback : None, "reference" or a function
        With "reference", nodes that vledge has no operator for are run by onnx's own reference
        evaluator, slowly; without it, a model that has such nodes is refused. A function
        ``fallback(node, opset)`` gives one that runs the node: it takes the node's inputs as
        arrays and returns its outputs; UnsupportedError if there is none.
    empty_state : "zero" or "initial"
        The final state of a sequence of length 0 in a recurrent node, which ONNX leaves open: zeros
        as onnxruntime has it, or its initial state.
    exact : bool
        True multiplies 3x3 convolutions as they are defined, not by Winograd's products, which are
        quicker, as close to the true result, and other bits. ``VLEDGE_WINOGRAD=0`` asks the same of
        all sessions of a process; Modules never use them.
    sess_options : SessionOptions, optional
        As onnxruntime takes it. ``intra_op_num_threads`` is the number of threads that this
        session's runs may use; what has no meaning here is named in a warning.
    providers, provider_options : optional
        Only there so that onnxruntime's calls work: all runs on the CPU, and a warning says so if
        "CPUExecutionProvider" is not among the providers.

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
        sess_options: SessionOptions | None = None,
        providers: Sequence[str | tuple[str, dict[str, Any]]] | None = None,
        provider_options: Sequence[dict[str, Any]] | None = None,
        *,
        outputs: Sequence[str] | None = None,
        fallback: str | Fallback | None = None,
        empty_state: str = "zero",
        exact: bool = False,
    ) -> None:
        self._session_options = taken(sess_options)
        self._threads = self._session_options.intra_op_num_threads
        note = ignored(self._session_options)
        if note:
            warnings.warn(note, stacklevel=2)
        check_providers(providers, provider_options)
        if not callable(fallback) and fallback not in (None, "reference"):
            raise ValueError(f"fallback must be None, 'reference' or a function, got {fallback!r}")
        if empty_state not in ("zero", "initial"):
            raise ValueError(f"empty_state must be 'zero' or 'initial', got {empty_state!r}")
        if not isinstance(exact, bool):
            raise ValueError(f"exact must be True or False, got {exact!r}")
        source = path_or_bytes
        self._where = "" if isinstance(source, (bytes, Model)) else f"{os.fspath(source)}: "
        self._options = {"empty_state": empty_state, "exact": exact}
        self._fallback: Fallback | None = None
        if fallback is not None:
            self._fallback = fallback if callable(fallback) else _reference_fallback()
        self._source = source
        self._asked = outputs if outputs is None or isinstance(outputs, str) else tuple(outputs)
        self._unneeded: frozenset[str] = frozenset()
        self._model = self._read()
        graph = self._model.graph
        defaults = graph.initializers
        self._inputs = {i.name: i for i in graph.inputs if i.name not in defaults}
        self._overridable = {}
        if self._model.ir_version >= 4:  # before, initializers had to be among the inputs
            self._overridable = {i.name: i for i in graph.inputs if i.name in defaults}
        self._outputs = {info.name: index for index, info in enumerate(graph.outputs)}
        self._checks = [_expected(info) for info in self._inputs.values()]
        self._expected = tuple(_as_declared(expected) for expected in self._checks)
        self._warn_of_wrong_grus()
        self._plan = self._planned(())
        self._lock = threading.Lock()
        self._overriding: dict[frozenset[str], Plan] = {}
        if not self._overridable:
            graph.initializers = {}  # the plan has what it needs of them

    # ---- copies

    def __copy__(self) -> InferenceSession:
        """Another session that shares all that runs do not change, the weights above all."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._lock, other._overriding = threading.Lock(), dict(self._overriding)
        return other

    def __deepcopy__(self, memo: object) -> InferenceSession:
        return self.__copy__()

    def __reduce__(self) -> str:
        raise TypeError(
            "an InferenceSession is not pickled: open its model where it is needed, by "
            "InferenceSession(path)"
        )

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

    # ---- what onnxruntime's sessions can be asked and told besides

    def get_providers(self) -> list[str]:
        """Always ``["CPUExecutionProvider"]``."""
        return [CPU]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """The CPU has none."""
        return {CPU: {}}

    def set_providers(self, providers: Any = None, provider_options: Any = None) -> None:
        """Checked as at the start; the session stays on the CPU."""
        check_providers(providers, provider_options)

    def get_session_options(self) -> SessionOptions:
        """The options that the session was given, or a default set."""
        return self._session_options

    def disable_fallback(self) -> None:
        """Nothing: a run that fails is never tried again on another device."""

    def enable_fallback(self) -> None:
        """Nothing: there is no other device to fall back to."""

    # ---- running

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
        *,
        out: Sequence[Any] | Mapping[str, Any] | None = None,
        strategy: str | None = None,
        **options: Any,
    ) -> list[Any]:
        """Run the model once.

        Parameters
        ----------
        output_names : names of outputs in the order wanted, or None (or none) for all
        input_feed : an array for each input, of its dtype, its number of axes and its fixed sizes;
            a list of arrays for one that is a sequence, None for an optional one that is absent
        run_options : taken as onnxruntime takes it; it changes nothing
        out : arrays to write the outputs to, in the order wanted, or a dict by name, optional
            None stands for a new array. They may be inputs, which the run reads first. Where one
            does not fit its output, nothing is written.
        strategy : "auto", or a name in ``vledge.lengths.STRATEGIES``, optional
            How RNN, GRU and LSTM nodes that are given sequence_lens run; all give the same numbers.
            "auto" makes a plan for each. Nodes without sequence_lens run as they always do. None:
            padded.
        options : the strategy's own, for example ``rows=32`` or ``memory_limit=64_000_000``

        Returns an array for each output, a new one for a name that is given twice; a list of arrays
        for a sequence, None for an optional value that is absent.

        Raises ValueError for an input that is missing, unknown or not as declared, for an ``out``
        of another shape or dtype, for a strategy that is unknown or has no node to run, and, naming
        the node, for inputs whose sizes do not go together and for a strategy that cannot run the
        node (lanes and streaming: a backward direction; all but padded: equations that no
        `vledge.nn` layer has). TypeError for options that are not the strategy's, MemoryError where
        "auto" finds none within ``memory_limit``.
        """
        if strategy is None and options:
            raise TypeError(f"{', '.join(options)}: options go with a strategy, and none is given")
        outs = None if out is None else self._places(output_names, out)
        if self._threads:
            with using_threads(self._threads):
                results = self._results(input_feed, strategy, options, outs)
        else:
            results = self._results(input_feed, strategy, options, outs)
        if outs is not None:
            self._write(results, outs)
        if output_names:
            unknown = [name for name in output_names if name not in self._outputs]
            if unknown:
                raise ValueError(f"no output named {unknown[0]!r}: there are {list(self._outputs)}")
            results = [results[self._outputs[name]] for name in output_names]
            if len(set(output_names)) < len(output_names):
                return _independent(results)
        return results

    def _results(
        self,
        input_feed: Mapping[str, Any],
        strategy: str | None,
        options: dict[str, Any],
        outs: list[Any] | None,
    ) -> list[Any]:
        """All outputs. Inputs that are arrays as declared need no more than a look."""
        plan = self._plan
        if strategy is None and type(input_feed) is dict:
            results = plan.run_feed(input_feed, self._expected, outs)
            if results is not None:
                return results
        plan, arrays = self._fed(input_feed)
        if strategy is None:
            return plan.run(*arrays, outs=outs)
        run = with_strategy(plan.function, self._model.graph, strategy, options)
        with np.errstate(all="ignore"):
            return owned(run(*arrays))

    def _fed(self, input_feed: Mapping[str, Any]) -> tuple[Plan, list[Any]]:
        """The plan for these inputs, and its arrays, checked."""
        arrays = []
        for expected in self._checks:
            if expected.name not in input_feed:
                raise ValueError(self._missing(input_feed))
            arrays.append(_checked(input_feed[expected.name], expected))
        if len(input_feed) != len(arrays):
            return self._override(input_feed, arrays)
        return self._plan, arrays

    def _own_threads(self) -> AbstractContextManager[None]:
        """As many threads as the session's options say."""
        return using_threads(self._threads) if self._threads else nullcontext()

    def profile(self, input_feed: Mapping[str, Any], runs: int = 20) -> Profile:
        """Where the time of a run goes, by instruction; what ran in Python, and why.

        The medians of so many runs on these inputs, which are as `run` takes them. Raises what
        `run` does, and UnsupportedError where ``VLEDGE_PROGRAM=0`` asks for no native program.
        """
        return profile(self, input_feed, runs)

    def memory(self) -> MemoryUse:
        """Bytes that the session keeps, and the most that one of its runs has needed so far."""
        with self._lock:
            plans = [self._plan, *self._overriding.values()]
        kept = [plan.memory() for plan in plans]
        return MemoryUse(
            constants=sum(each.constants for each in kept),
            packed=sum(each.packed for each in kept),
            held=sum(each.held for each in kept),
            peak=max(each.peak for each in kept),
        )

    def _places(
        self, output_names: Sequence[str] | None, out: Sequence[Any] | Mapping[str, Any]
    ) -> list[Any]:
        """Where each output is to be written, None where in a new array."""
        if not output_names and type(out) is list and len(out) == len(self._outputs):
            return self._different(out)
        names = list(output_names or self._outputs)
        if isinstance(out, np.ndarray) or not isinstance(out, (Sequence, Mapping)):
            raise TypeError(
                f"out is a {type(out).__name__}, expected a list of arrays or a dict of them by "
                "the outputs' names"
            )
        if isinstance(out, Mapping):
            named = dict(out)
        elif len(out) != len(names):
            raise ValueError(f"out has {len(out)} arrays for {len(names)} outputs")
        else:
            named = dict(zip(names, out, strict=True))
            if len(named) < len(names):
                raise ValueError(f"out is given for an output that is asked for twice: {names}")
        for name in named:
            if name not in names or name not in self._outputs:
                raise ValueError(f"no output named {name!r}: there are {names}")
        return self._different([named.get(name) for name in self._outputs])

    def _different(self, outs: list[Any]) -> list[Any]:
        """Arrays for several outputs, of which no two share memory."""
        if len(outs) > 1 and (problems := shared(dict(zip(self._outputs, outs, strict=True)))):
            raise ValueError(f"out: {'; '.join(problems)}")
        return outs

    def _write(self, results: list[Any], outs: list[Any]) -> None:
        """Put results where they are wanted, if the native program has not."""
        for result, given in zip(results, outs, strict=True):
            if given is not result and given is not None:
                break
        else:
            return
        left, problems = [], []
        for place, (name, given) in enumerate(zip(self._outputs, outs, strict=True)):
            result = results[place]
            if given is None or given is result:
                continue
            left.append(place)
            if isinstance(result, np.ndarray):
                wanted = {f"out for {name!r}": (result.dtype, result.shape)}
                problem = misfit(wanted, {f"out for {name!r}": given})
                problems += [problem] if problem else []
            else:
                problems.append(f"output {name!r} is no array, and cannot be written to out")
        if problems:
            raise ValueError("; ".join(problems))
        for place in left:
            outs[place][...] = results[place]
            results[place] = outs[place]

    def io_binding(self) -> IOBinding:
        """Inputs and outputs to be bound to arrays for several runs, by onnxruntime's names."""
        return IOBinding(self)

    def run_with_iobinding(
        self, iobinding: IOBinding, run_options: RunOptions | None = None
    ) -> None:
        """Run the model on what is bound; ``iobinding.get_outputs()`` has the results."""
        iobinding.run(run_options)

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

        What the graph remembers inside becomes the stream's state: of recurrent layers, of Scan and
        Loop, sums over time, and the frames that stand in front of causal convolutions. A trial run
        at the start compares frames with the whole run. The file is read again.

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
            The frame-by-frame results are not those of the whole run (the message names the node at
            which they part), or they are, and there is nothing to remember.
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
        check_tensors_only(model.graph, "a stream")
        return stream(model, self._where, self._options, batch, time_axis, states, fixed)

    def _read(self) -> Model:
        """The model, whole: a session lets go of its graph's constants, but not of the caller's."""
        if isinstance(self._source, Model):
            model = replace(self._source, graph=replace(self._source.graph))
        else:
            model = read_model(self._source)
        if self._asked is None:
            return model
        part = part_for(model, self._asked)
        self._unneeded = frozenset(
            {info.name for info in model.graph.inputs} - {info.name for info in part.graph.inputs}
        )
        return part

    def _missing(self, input_feed: Mapping[str, Any]) -> str:
        missing = [name for name in self._inputs if name not in input_feed]
        return f"Required inputs ({missing}) are missing from input feed ({list(input_feed)})."

    def _override(
        self, input_feed: Mapping[str, Any], arrays: list[np.ndarray]
    ) -> tuple[Plan, list[np.ndarray]]:
        """The plan in which the initializers that the feed replaces are inputs, and its arrays."""
        extra = [
            name for name in input_feed if name not in self._inputs and name not in self._unneeded
        ]
        for name in extra:
            if name not in self._overridable:
                raise ValueError(
                    f"the model has no input named {name!r}: there are {list(self._inputs)}"
                )
        if not extra:
            return self._plan, arrays
        with self._lock:
            key = frozenset(extra)
            if key not in self._overriding:
                self._overriding[key] = self._planned(key)
            plan = self._overriding[key]
        given = dict(zip(self._inputs, arrays, strict=True))
        for name in extra:
            info = self._overridable[name]
            given[name] = _checked(input_feed[name], _expected(info))
        return plan, [given[name] for name in plan.inputs]

    def _planned(self, variable: Sequence[str] | frozenset[str]) -> Plan:
        try:
            return Plan(self._model, self._options, self._fallback, variable, self._where)
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


def _independent(results: list[Any]) -> list[Any]:
    """Results of which some are one object, as objects of their own."""
    known: set[int] = set()
    made = []
    for result in results:
        again = id(result) in known
        known.add(id(result))
        made.append(deepcopy(result) if again else result)
    return made


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
        from vledge.formats.onnx import model as onnx_model

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


class _Expected(NamedTuple):
    """An input as the model declares it."""

    name: str
    type: str
    dtype: np.dtype | None
    shape: tuple[int | str | None, ...] | None
    fixed: tuple[tuple[int, int], ...]  #: axis and size, of those that are no symbols


def _expected(info: ValueInfo) -> _Expected:
    sizes = enumerate(info.shape or ())
    fixed = tuple((axis, size) for axis, size in sizes if isinstance(size, int))
    return _Expected(info.name, info.type, element_of(info.type), info.shape, fixed)


def _as_declared(expected: _Expected) -> tuple[str, int, tuple[int, ...] | None]:
    """What `Plan.run_feed` compares with; what it cannot say is -1, which no array is of."""
    dtype, shape = expected.dtype, expected.shape
    usual = dtype is not None and dtype.kind != "O" and expected.type in DTYPES
    number = dtype.num if dtype is not None and usual else -1
    sizes = None if shape is None else tuple(s if type(s) is int else -1 for s in shape)
    return expected.name, number, sizes


def _checked(value: Any, expected: _Expected) -> Any:
    """A read-only view of an input, or ValueError if it is not as the model declares it."""
    name, type_, dtype, shape, fixed = expected
    if type(value) is np.ndarray and value.dtype is dtype and type_ in DTYPES:
        array = value.view()  # the usual case, without another look
    elif dtype is None or type_ in DTYPES:
        array = _as_array(value, expected)
    else:
        return _checked_other(value, expected)
    if shape is not None:
        if array.ndim != len(shape):
            raise ValueError(
                f"input {name!r} has the shape {array.shape}, expected {len(shape)} axes: "
                f"{_shown(shape)}"
            )
        for axis, wanted in fixed:
            if array.shape[axis] != wanted:
                raise ValueError(
                    f"input {name!r} has the shape {array.shape}, expected {wanted} on axis "
                    f"{axis}: {_shown(shape)}"
                )
    array.flags.writeable = False
    return array


def _as_array(value: Any, expected: _Expected) -> np.ndarray:
    """An array of the dtype that is declared, where the value is or may become one."""
    dtype = expected.dtype
    if not isinstance(value, np.ndarray):
        value = np.asarray(value, dtype)
    array: np.ndarray = value.view()
    if dtype is None or array.dtype == dtype:
        return array
    if dtype.kind == "O" and array.dtype.kind in "SU":
        return array.astype(object)
    if array.dtype.newbyteorder("=") == dtype:
        return array.astype(dtype)
    raise ValueError(
        f"input {expected.name!r} has the dtype {array.dtype}, expected tensor({expected.type}), "
        f"which is {dtype}"
    )


def _checked_other(value: Any, expected: _Expected) -> Any:
    """An input that is a list of arrays, or may be None."""
    name, type_, dtype = expected[:3]
    assert dtype is not None
    if type_.startswith("optional("):
        if value is None:
            return None
        type_ = type_[len("optional(") : -1]
    if type_.startswith("tensor("):
        return _checked(value, _Expected(name, type_[len("tensor(") : -1], dtype, None, ()))
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"input {name!r} is a {type(value).__name__}, expected a list: {type_}")
    element = type_[len("seq(tensor(") : -len("))")]
    arrays = (
        _checked(item, _Expected(f"{name}[{place}]", element, dtype, None, ()))
        for place, item in enumerate(value)
    )
    return TensorSequence(tuple(arrays), dtype)


def _shown(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
