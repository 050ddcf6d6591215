"""The engines that tests compare with: skipped where they are not installed, but never in CI."""

import importlib
import os
from typing import Any

import pytest

__all__ = ["peer"]


def peer(name: str) -> Any:
    """Import a module for the calling test module, which is skipped where it is missing.

    With VLEDGE_REQUIRE_PEERS=1, which CI sets, a missing one is an error.

    >>> torch = peer("torch")  # doctest: +SKIP
    """
    if os.environ.get("VLEDGE_REQUIRE_PEERS") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)
