"""vledge: trained recurrent networks on small CPUs, on sequences of different lengths."""

from typing import Any

from vledge import nn, packing
from vledge._version import __version__
from vledge.errors import (
    FormatError,
    MissingDependencyError,
    ModelWarning,
    UnsupportedError,
    VledgeError,
)
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
from vledge.threads import get_num_threads, set_num_threads

__all__ = [
    "FormatError",
    "InferenceSession",
    "MissingDependencyError",
    "ModelWarning",
    "PackedSequence",
    "Stream",
    "UnsupportedError",
    "VledgeError",
    "__version__",
    "get_num_threads",
    "invert_permutation",
    "load_weights",
    "nn",
    "pack_padded_sequence",
    "pack_sequence",
    "packing",
    "pad_packed_sequence",
    "pad_sequence",
    "save_weights",
    "set_num_threads",
    "unpack_sequence",
    "unpad_sequence",
]

# Readers of files are imported when they are first used: a stream on a board needs none.
_LAZY = {
    "InferenceSession": "vledge.graph.session",
    "Stream": "vledge.streaming",
    "load_weights": "vledge.formats",
    "save_weights": "vledge.formats",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'vledge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
