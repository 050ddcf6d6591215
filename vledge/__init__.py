"""vledge: trained recurrent networks on small CPUs, on sequences of different lengths."""

from typing import Any

from vledge import nn, packing
from vledge._version import __version__
from vledge.errors import (
    FormatError,
    LimitError,
    MissingDependencyError,
    ModelWarning,
    UnsupportedError,
    VledgeError,
)
from vledge.machine.threads import get_num_threads, set_num_threads
from vledge.packing import (
    PackedSequence,
    invert_permutation,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)

__all__ = [
    "FormatError",
    "InferenceSession",
    "LimitError",
    "Limits",
    "MissingDependencyError",
    "ModelWarning",
    "PackedSequence",
    "SessionOptions",
    "Stream",
    "UnsupportedError",
    "VledgeError",
    "__version__",
    "export",
    "get_num_threads",
    "initial_state",
    "invert_permutation",
    "keep_states",
    "last_output",
    "load_weights",
    "max_over_steps",
    "mean_over_steps",
    "nn",
    "pack_padded_sequence",
    "pack_sequence",
    "packing",
    "pad_packed_sequence",
    "pad_sequence",
    "plan",
    "run_many",
    "save_weights",
    "set_num_threads",
    "truncate",
    "unpack_sequence",
    "unpad_sequence",
    "windows",
]

# Readers of files and the ways to handle lengths are imported when they are first used: a stream on
# a board needs none.
_LAZY = {
    "InferenceSession": "vledge.graph.session",
    "Limits": "vledge.budget",
    "SessionOptions": "vledge.graph.session_options",
    "Stream": "vledge.streaming",
    "export": "vledge.integrations.torch",
    "initial_state": "vledge.lengths",
    "keep_states": "vledge.lengths",
    "last_output": "vledge.lengths",
    "load_weights": "vledge.formats",
    "max_over_steps": "vledge.lengths",
    "mean_over_steps": "vledge.lengths",
    "plan": "vledge.planning",
    "run_many": "vledge.lengths",
    "save_weights": "vledge.formats",
    "truncate": "vledge.lengths",
    "windows": "vledge.lengths",
}

# What else programs take from onnxruntime's module: with `import vledge as onnxruntime` they run.
_OF_ONNXRUNTIME = {
    "vledge.graph.session": ("ModelMetadata", "NodeArg"),
    "vledge.graph.io_binding": ("IOBinding", "OrtValue"),
    "vledge.graph.session_options": (
        "ExecutionMode",
        "ExecutionOrder",
        "GraphOptimizationLevel",
        "RunOptions",
        "set_default_logger_severity",
        "set_default_logger_verbosity",
    ),
    "vledge.graph.providers": (
        "disable_telemetry_events",
        "enable_telemetry_events",
        "get_all_providers",
        "get_available_providers",
        "get_build_info",
        "get_device",
        "get_version_string",
        "preload_dlls",
    ),
}
_LAZY |= {name: module for module, names in _OF_ONNXRUNTIME.items() for name in names}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LAZY:
        found = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return found
    if not name.startswith("_"):  # `vledge.formats.read_checkpoint`, with no other import
        try:
            return import_module(f"vledge.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"vledge.{name}":
                raise
    raise AttributeError(f"module 'vledge' has no attribute {name!r}")


def __dir__() -> list[str]:
    from pkgutil import iter_modules

    modules = {module.name for module in iter_modules(__path__) if module.name[0] != "_"}
    return sorted({*globals(), *_LAZY, *modules})
