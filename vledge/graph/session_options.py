"""What programs written for onnxruntime tell a session before it runs: its options, as here.

The thread count and the log's severity are heeded. Most other options say how onnxruntime is to
work inside, and hold or have no meaning here; one that asks for what will not happen is named in a
warning, and one without which results would be others is refused.
Source: onnxruntime's Python API, class SessionOptions and class RunOptions.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from typing import Any

from vledge.errors import UnsupportedError
from vledge.shown import listed

__all__ = [
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "RunOptions",
    "SessionOptions",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
]

WARNING = 2  # of onnxruntime's severities: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal
_default_severity = WARNING


class GraphOptimizationLevel(enum.IntEnum):
    """How far onnxruntime rewrites a graph; here every graph is rewritten as far as it can be."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(enum.IntEnum):
    """Whether nodes run one after another, as they do here, or side by side."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(enum.IntEnum):
    """In which order onnxruntime takes nodes that are ready; here it is the file's."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


# Option → its default, the values that come true here (None: all), and what happens instead.
_OPTIONS: dict[str, tuple[Any, tuple[object, ...] | None, str]] = {
    "enable_cpu_mem_arena": (True, None, ""),
    "enable_mem_pattern": (True, None, ""),
    "enable_mem_reuse": (True, None, ""),
    "enable_profiling": (False, (False,), "nothing is profiled, and no profile is written"),
    "execution_mode": (
        ExecutionMode.ORT_SEQUENTIAL,
        (ExecutionMode.ORT_SEQUENTIAL,),
        "nodes run one after another",
    ),
    "execution_order": (
        ExecutionOrder.DEFAULT,
        (ExecutionOrder.DEFAULT,),
        "nodes run in the order of the file",
    ),
    "graph_optimization_level": (
        GraphOptimizationLevel.ORT_ENABLE_ALL,
        (GraphOptimizationLevel.ORT_ENABLE_ALL,),
        "every graph is simplified in the same way",
    ),
    "inter_op_num_threads": (0, (0, 1), "nodes run one after another"),
    "intra_op_num_threads": (0, None, ""),
    "log_severity_level": (-1, None, ""),
    "log_verbosity_level": (0, (0,), "nothing is logged"),
    "logid": ("", None, ""),
    "optimized_model_filepath": ("", ("",), "no file is written"),
    "profile_file_prefix": ("onnxruntime_profile_", None, ""),
    "use_deterministic_compute": (False, None, ""),  # results never depend on threads
    "use_per_session_threads": (True, None, ""),
}


class SessionOptions:
    """onnxruntime's SessionOptions, for ``InferenceSession(path, sess_options)``.

    ``intra_op_num_threads`` is how many threads vledge's kernels may use in a run, 0 (the default)
    as many as `vledge.get_num_threads` says; the BLAS of NumPy, which multiplies matrices that are
    not known before, has its own setting (OPENBLAS_NUM_THREADS). With ``log_severity_level`` above
    2 a session gives no notes of what it ignores. All other options are kept and can be read again;
    those that ask for something that vledge does not do are named in a warning when a session is
    made.

    Raises AttributeError for an option that onnxruntime does not have, and UnsupportedError where
    the model could not run as meant: libraries of operators, initializers from elsewhere.

    >>> options = SessionOptions()
    >>> options.intra_op_num_threads = 1
    >>> session = InferenceSession("model.onnx", options)  # doctest: +SKIP
    """

    enable_cpu_mem_arena: bool
    enable_mem_pattern: bool
    enable_mem_reuse: bool
    enable_profiling: bool
    execution_mode: ExecutionMode
    execution_order: ExecutionOrder
    graph_optimization_level: GraphOptimizationLevel
    inter_op_num_threads: int
    intra_op_num_threads: int
    log_severity_level: int
    log_verbosity_level: int
    logid: str
    optimized_model_filepath: str
    profile_file_prefix: str
    use_deterministic_compute: bool
    use_per_session_threads: bool

    __slots__ = (*_OPTIONS, "_entries", "_overrides")

    def __init__(self) -> None:
        for name, (default, _, _) in _OPTIONS.items():
            setattr(self, name, default)
        self._entries: dict[str, str] = {}
        self._overrides: list[str] = []

    def __repr__(self) -> str:
        return _shown(self, SessionOptions())

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Keep an entry of onnxruntime's own configuration; none has a meaning here."""
        self._entries[str(key)] = str(value)

    def get_session_config_entry(self, key: str) -> str:
        """The entry's value; RuntimeError if there is none, as onnxruntime has it."""
        if key not in self._entries:
            raise RuntimeError(f"SessionOptions does not have configuration with key: {key}")
        return self._entries[key]

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Keep a size for an axis that the model leaves open; runs take any size here."""
        self._overrides.append(name)

    def add_free_dimension_override_by_denotation(self, denotation: str, size: int) -> None:
        """Keep a size for axes that the model leaves open; runs take any size here."""
        self._overrides.append(denotation)

    def add_provider(self, name: str, options: dict[str, str]) -> None:
        """Add an execution provider: there is only the CPU's."""
        if name != "CPUExecutionProvider":
            raise UnsupportedError(f"vledge has only CPUExecutionProvider, not {name!r}")

    def has_providers(self) -> bool:
        """Whether providers were added: never, the CPU is always there."""
        return False

    def register_custom_ops_library(self, path: str | os.PathLike[str]) -> None:
        """Refused: such a library is compiled for onnxruntime."""
        raise UnsupportedError(
            f"{os.fspath(path)} holds operators compiled for onnxruntime, which vledge cannot "
            "load; InferenceSession(path, fallback=...) takes operators as Python functions"
        )

    def add_initializer(self, name: str, value: object) -> None:
        """Refused: the model's weights are those of its file."""
        self._refuse_initializers(name)

    def add_external_initializers(self, names: list[str], values: object) -> None:
        """Refused: the model's weights are those of its file."""
        self._refuse_initializers(*names)

    def _refuse_initializers(self, *names: str) -> None:
        raise UnsupportedError(
            f"weights from elsewhere ({', '.join(names)}) cannot be put into a model: save the "
            "model with them. An initializer that is among the inputs can be given to run()"
        )


def _shown(options: SessionOptions | RunOptions, untouched: object) -> str:
    """What was set, by its name."""
    names = [name for name in options.__slots__ if not name.startswith("_")]
    values = ((name, getattr(options, name)) for name in names)
    told = [f"{name}={value!r}" for name, value in values if value != getattr(untouched, name)]
    told += [f"{key!r}: {value!r}" for key, value in options._entries.items()]
    return f"{type(options).__name__}({listed(told)})"


def check_made_of(source: object, fallback: object, empty_state: str, exact: object) -> None:
    """TypeError or ValueError for arguments of a session that are of another kind."""
    if isinstance(source, Mapping):
        raise TypeError(
            f"expected a model's path or bytes, got a {type(source).__name__}: weights "
            "have no graph; nn.LSTM.from_weights(weights) makes a layer of them"
        )
    if not callable(fallback) and fallback not in (None, "reference"):
        raise ValueError(f"fallback must be None, 'reference' or a function, got {fallback!r}")
    if empty_state not in ("zero", "initial"):
        raise ValueError(f"empty_state must be 'zero' or 'initial', got {empty_state!r}")
    if not isinstance(exact, bool):
        raise ValueError(f"exact must be True or False, got {exact!r}")


def taken(given: object) -> SessionOptions:
    """Options of ours, or another runtime's object of the same attributes; TypeError else."""
    if given is None:
        return SessionOptions()
    if isinstance(given, SessionOptions):
        options = given
    elif hasattr(given, "intra_op_num_threads"):
        options = SessionOptions()
        for name, (default, _, _) in _OPTIONS.items():
            value = getattr(given, name, default)
            known = isinstance(default, enum.Enum)  # another runtime's members are its own
            setattr(options, name, type(default)(int(value)) if known else value)
    else:
        raise TypeError(
            f"sess_options must be a vledge.SessionOptions or None, got {type(given).__name__}"
        )
    for name in ("intra_op_num_threads", "inter_op_num_threads"):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be a whole number from 0, got {value!r}")
    return options


def ignored(options: SessionOptions) -> str:
    """A sentence on what was asked for and does not happen; empty if there is nothing."""
    severity = options.log_severity_level
    if (_default_severity if severity == -1 else severity) > WARNING:
        return ""
    asked = [
        f"{name} ({instead})"
        for name, (_, true_here, instead) in _OPTIONS.items()
        if true_here is not None and getattr(options, name) not in true_here
    ]
    asked += [f"the entry {key!r} (onnxruntime's own)" for key in options._entries]
    asked += [f"the size of {name!r} (runs take any size)" for name in options._overrides]
    return f"session options without effect in vledge: {', '.join(asked)}" if asked else ""


class RunOptions:
    """onnxruntime's RunOptions, for ``session.run(names, feed, options)``; they change nothing."""

    __slots__ = (
        "_entries",
        "log_severity_level",
        "log_verbosity_level",
        "logid",
        "only_execute_path_to_fetches",
        "terminate",
    )

    def __init__(self) -> None:
        self.log_severity_level = -1
        self.log_verbosity_level = 0
        self.logid = ""
        self.only_execute_path_to_fetches = False
        self.terminate = False
        self._entries: dict[str, str] = {}

    def __repr__(self) -> str:
        return _shown(self, RunOptions())

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Keep an entry of onnxruntime's own configuration; none has a meaning here."""
        self._entries[str(key)] = str(value)

    def get_run_config_entry(self, key: str) -> str:
        """The entry's value; RuntimeError if there is none, as onnxruntime has it."""
        if key not in self._entries:
            raise RuntimeError(f"RunOptions does not have configuration with key: {key}")
        return self._entries[key]


def set_default_logger_severity(level: int) -> None:
    """From which severity on sessions speak, where their options do not say: 3 makes them quiet."""
    global _default_severity
    if level not in range(5):
        raise ValueError(f"level must be one of 0 to 4, got {level!r}")
    _default_severity = level


def set_default_logger_verbosity(level: int) -> None:
    """Nothing: vledge keeps no log."""
