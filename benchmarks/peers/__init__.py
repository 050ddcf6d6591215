"""One module per runtime, each a ``Peer``; this file finds those that are installed, here or in an
environment of their own.
"""

import importlib
from types import ModuleType
from typing import cast

from benchmarks.peers.apart import ENVIRONMENTS
from benchmarks.peers.contestant import Contestant, Outputs, Peer
from benchmarks.peers.elsewhere import Elsewhere, RunElsewhere

__all__ = ["PEERS", "Contestant", "Outputs", "Peer", "RunElsewhere", "load"]

PEERS = ("torch", "onnxruntime", "openvino", "ncnn", "numpy", *ENVIRONMENTS)


def load(name: str) -> Peer:
    """The peer's module; the runtime itself is imported only by ``version()`` and later."""
    if name not in (*PEERS, "vledge"):
        raise ValueError(f"no peer named {name!r}; there are {', '.join(PEERS)}")
    if name in ENVIRONMENTS:
        return Elsewhere(name)
    module: ModuleType = importlib.import_module(f"benchmarks.peers.{name}_peer")
    return cast(Peer, module)
