"""vledge: trained recurrent networks on small CPUs, on sequences of different lengths."""

from typing import TYPE_CHECKING

from vledge import nn, packing
from vledge._version import __version__
from vledge.errors import (
    FormatError,
    LimitError,
    MissingDependencyError,
    MissingWeightError,
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

if TYPE_CHECKING:  # what editors and type checkers see of the names that come when first used
    from vledge import formats as formats
    from vledge import graph as graph
    from vledge import integrations as integrations
    from vledge import lengths as lengths
    from vledge import planning as planning
    from vledge import quantization as quantization
    from vledge import streaming as streaming
    from vledge import validation as validation
    from vledge.budget import Limits
    from vledge.formats import load_weights, save_weights
    from vledge.graph.io_binding import IOBinding, OrtValue
    from vledge.graph.providers import (
        disable_telemetry_events,
        enable_telemetry_events,
        get_all_providers,
        get_available_providers,
        get_build_info,
        get_device,
        get_version_string,
        preload_dlls,
    )
    from vledge.graph.session import InferenceSession, ModelMetadata, NodeArg
    from vledge.graph.session_options import (
        ExecutionMode,
        ExecutionOrder,
        GraphOptimizationLevel,
        RunOptions,
        SessionOptions,
        set_default_logger_severity,
        set_default_logger_verbosity,
    )
    from vledge.integrations.torch import export
    from vledge.lengths import (
        initial_state,
        keep_states,
        last_output,
        max_over_steps,
        mean_over_steps,
        run_many,
        truncate,
    )
    from vledge.lengths.window_views import windows
    from vledge.planning import plan
    from vledge.quantization import quantize
    from vledge.streaming import Stream

__all__ = [
    "ExecutionMode",
    "ExecutionOrder",
    "FormatError",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "LimitError",
    "Limits",
    "MissingDependencyError",
    "MissingWeightError",
    "ModelMetadata",
    "ModelWarning",
    "NodeArg",
    "OrtValue",
    "PackedSequence",
    "RunOptions",
    "SessionOptions",
    "Stream",
    "UnsupportedError",
    "VledgeError",
    "__version__",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "export",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_num_threads",
    "get_version_string",
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
    "preload_dlls",
    "quantize",
    "run_many",
    "save_weights",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
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
    "quantize": "vledge.quantization",
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
# Where a name may be that is looked for here.
_HOMES = (
    "nn",
    "formats",
    "validation",
    "quantization",
    "planning",
    "lengths",
    "streaming",
    "integrations.arrow",
)
_LAZY |= {name: module for module, names in _OF_ONNXRUNTIME.items() for name in names}
# What torch has under a name, said in our words.
_OF_TORCH = {
    "load": "weights are read by vledge.load_weights(path)",
    "save": "weights are written by vledge.save_weights(path, weights)",
    "no_grad": "it is not needed, for nothing here is trained",
    "inference_mode": "it is not needed, for nothing here is trained",
    **dict.fromkeys(
        ("tensor", "from_numpy", "as_tensor", "zeros", "ones", "cat", "stack", "arange"),
        "arrays are NumPy's, and so is what works on them",
    ),
}


if not TYPE_CHECKING:  # to a type checker, a name that is not above is a mistake

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in _LAZY:
            attribute = globals()[name] = getattr(import_module(_LAZY[name]), name)
            return attribute
        if not name.startswith("_"):  # `vledge.formats.read_checkpoint`, with no other import
            try:
                return import_module(f"vledge.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"vledge.{name}":
                    raise
        told = f"module 'vledge' has no attribute {name!r}"
        if name in _OF_TORCH:
            raise AttributeError(f"{told}, a name of torch's: {_OF_TORCH[name]}")
        for home in () if name.startswith("_") else _HOMES:
            if name in import_module(f"vledge.{home}").__all__:
                raise AttributeError(f"{told}: it is vledge.{home}.{name}")
        raise AttributeError(told)


def __dir__() -> list[str]:
    from pkgutil import iter_modules

    modules = {module.name for module in iter_modules(__path__) if module.name[0] != "_"}
    return sorted({*globals(), *_LAZY, *modules})
