"""`InferenceSession`: a whole model, loaded once and run many times, with onnxruntime's habits.

Arguments are checked here; the plan below trusts them. It has more than 400 lines because a public
class is documented where it stands: a third of them are docstrings.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from vledge.budget import Budget, Limits
from vledge.errors import UnsupportedError, reading
from vledge.graph.described import (
    ModelMetadata,
    NodeArg,
    describe_input,
    describe_model,
    shown_session,
)
from vledge.graph.inputs import as_declared, check_run_arguments, checked_input, expected_of
from vledge.graph.io_binding import IOBinding
from vledge.graph.onnxruntime_habits import OnnxruntimeHabits
from vledge.graph.outs import independent, places_of, write_outputs
from vledge.graph.part import part_for
from vledge.graph.plan import MemoryUse, Plan, owned
from vledge.graph.prepared import Fallback
from vledge.graph.profile import Profile, profile
from vledge.graph.providers import check_providers
from vledge.graph.read import read_model, warn_of_wrong_grus
from vledge.graph.reference_fallback import reference_function
from vledge.graph.registry import SessionSettings
from vledge.graph.session_options import RunOptions, SessionOptions, check_made_of, ignored, taken
from vledge.graph.strategy import with_strategy
from vledge.graph.values import Result, Value, check_tensors_only
from vledge.machine.threads import using_threads
from vledge.model.definition import Model

if TYPE_CHECKING:
    from vledge.graph.native.emit import Emitted
    from vledge.streaming import Stream

__all__ = ["InferenceSession", "ModelMetadata", "NodeArg", "describe_input", "read_model"]


class InferenceSession(OnnxruntimeHabits):
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
    limits : Limits, optional
        What reading and preparing the file may cost: by default 64 MiB and ten times the file's
        size, and about five seconds. ``VLEDGE_LIMITS`` sets the same for a process.
    sess_options : SessionOptions, optional
        As onnxruntime takes it. ``intra_op_num_threads`` is the number of threads that this
        session's runs may use; what has no meaning here is named in a warning.
    providers, provider_options, disabled_optimizers : optional
        Only there so that onnxruntime's calls work: all runs on the CPU, and a warning says so if
        "CPUExecutionProvider" is not among the providers; and all graphs are simplified alike.

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
        providers: Sequence[str | tuple[str, dict[str, object]]] | None = None,
        provider_options: Sequence[dict[str, object]] | None = None,
        *,
        outputs: Sequence[str] | None = None,
        fallback: str | Fallback | None = None,
        empty_state: str = "zero",
        exact: bool = False,
        limits: Limits | None = None,
        disabled_optimizers: object = None,
    ) -> None:
        check_made_of(path_or_bytes, fallback, empty_state, exact)
        self._session_options = taken(sess_options)
        self._threads = self._session_options.intra_op_num_threads
        note = ignored(self._session_options)
        if note:
            warnings.warn(note, stacklevel=2)
        check_providers(providers, provider_options)
        source = path_or_bytes
        self._where = "" if isinstance(source, (bytes, Model)) else f"{os.fspath(source)}: "
        self._options = SessionSettings(empty_state=empty_state, exact=exact)
        self._fallback: Fallback | None = None
        if fallback is not None:
            self._fallback = fallback if callable(fallback) else reference_function
        self._source, self._limits = source, limits
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
        self._checks = [expected_of(info) for info in self._inputs.values()]
        self._expected = tuple(as_declared(expected) for expected in self._checks)
        warn_of_wrong_grus(self._model, self._where)
        self._plan = self._planned(())
        self._lock = threading.Lock()
        self._overriding: dict[frozenset[str], Plan] = {}
        if not self._overridable:
            graph.initializers = {}  # the plan has what it needs of them

    def __repr__(self) -> str:
        return shown_session(self._where, self.get_inputs(), self.get_outputs())

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
        return describe_model(self._model)

    def get_session_options(self) -> SessionOptions:
        """The options that the session was given, or a default set."""
        return self._session_options

    # ---- running

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, ArrayLike],
        run_options: RunOptions | None = None,
        *,
        out: Sequence[np.ndarray | None] | Mapping[str, np.ndarray | None] | None = None,
        strategy: str | None = None,
        **options: object,
    ) -> list[Result]:
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
        if isinstance(output_names, str) or type(input_feed) is not dict:
            check_run_arguments(output_names, input_feed, self._inputs)
        if strategy is None and options:
            raise TypeError(f"{', '.join(options)}: options go with a strategy, and none is given")
        outs = None if out is None else places_of(self._outputs, output_names, out)
        if self._threads:
            with using_threads(self._threads):
                results = self._results(input_feed, strategy, options, outs)
        else:
            results = self._results(input_feed, strategy, options, outs)
        if outs is not None:
            write_outputs(self._outputs, results, outs)
        if output_names:
            unknown = [name for name in output_names if name not in self._outputs]
            if unknown:
                raise ValueError(f"no output named {unknown[0]!r}: there are {list(self._outputs)}")
            results = [results[self._outputs[name]] for name in output_names]
            if len(set(output_names)) < len(output_names):
                return independent(results)
        return results

    def _results(
        self,
        input_feed: Mapping[str, ArrayLike],
        strategy: str | None,
        options: Mapping[str, object],
        outs: list[np.ndarray | None] | None,
    ) -> list[Result]:
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

    def _fed(self, input_feed: Mapping[str, ArrayLike]) -> tuple[Plan, list[Value]]:
        """The plan for these inputs, and its arrays, checked."""
        arrays = []
        for expected in self._checks:
            if expected.name not in input_feed:
                raise ValueError(self._missing(input_feed))
            arrays.append(checked_input(input_feed[expected.name], expected))
        if len(input_feed) != len(arrays):
            return self._override(input_feed, arrays)
        return self._plan, arrays

    def _own_threads(self) -> AbstractContextManager[None]:
        """As many threads as the session's options say."""
        return using_threads(self._threads) if self._threads else nullcontext()

    def profile(self, input_feed: Mapping[str, ArrayLike], runs: int = 20) -> Profile:
        """Where the time of a run goes, by instruction; what ran in Python, and why.

        The medians of so many runs on these inputs, which are as `run` takes them. Raises what
        `run` does, and UnsupportedError where ``VLEDGE_PROGRAM=0`` asks for no native program.
        """
        with self._own_threads():
            plan, arrays = self._fed(input_feed)
            return profile(plan, arrays, runs)

    @property
    def native(self) -> Emitted | None:
        """The native program; None where it is switched off by VLEDGE_PROGRAM=0."""
        return self._plan.native

    def memory(self) -> MemoryUse:
        """Bytes that the session keeps, and the most that one of its runs has needed so far."""
        with self._lock:
            plans = [self._plan, *self._overriding.values()]
        return MemoryUse.of_all([plan.memory() for plan in plans])

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
        fixed: Mapping[str, ArrayLike] | None = None,
        hop: int | None = None,
        context: int | None = None,
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
            Not needed where an input has one axis whose size the file leaves open, or names one
            like "time"; else those that are open are tried, the second one first.
        states : dict, optional
            Inputs that are states already, each with the output that is its next value. Without it,
            those are taken that names, shapes and types tell: "state" and "stateN", "h_0" and
            "h_n"; ``{}`` takes none.
        fixed : dict, optional
            Inputs that are the same at every frame.
        hop, context : int, optional
            For a model that takes samples: each call gets the next ``hop`` of them, with the last
            ``context`` before them in front (0), so that a frame is ``hop`` samples. Nothing is
            compared with a whole run, which such a model has none of; states are those above.
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
        return stream(
            model, self._where, self._options, batch, time_axis, states, fixed, hop, context
        )

    def _read(self) -> Model:
        """The model, whole: a session lets go of its graph's constants, but not of the caller's."""
        if isinstance(self._source, Model):
            model = replace(self._source, graph=replace(self._source.graph))
            if self._limits is not None:
                used = Budget(model.nbytes) if model.budget is None else model.budget
                model.budget = used.copy(self._limits)
        else:
            model = read_model(self._source, self._limits)
        if self._asked is None:
            return model
        part = part_for(model, self._asked)
        self._unneeded = frozenset(
            {info.name for info in model.graph.inputs} - {info.name for info in part.graph.inputs}
        )
        return part

    def _missing(self, input_feed: Mapping[str, object]) -> str:
        missing = [name for name in self._inputs if name not in input_feed]
        return f"Required inputs ({missing}) are missing from input feed ({list(input_feed)})."

    def _override(
        self, input_feed: Mapping[str, ArrayLike], arrays: list[Value]
    ) -> tuple[Plan, list[Value]]:
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
            given[name] = checked_input(input_feed[name], expected_of(info))
        return plan, [given[name] for name in plan.inputs]

    def _planned(self, variable: Sequence[str] | frozenset[str]) -> Plan:
        with reading(self._where.removesuffix(": ")):
            return Plan(self._model, self._options, self._fallback, variable, self._where)
