"""vledge: trained recurrent networks on small CPUs, on sequences of different lengths."""

from vledge._version import __version__
from vledge.errors import FormatError, MissingDependencyError, UnsupportedError, VledgeError

__all__ = [
    "FormatError",
    "MissingDependencyError",
    "UnsupportedError",
    "VledgeError",
    "__version__",
]
