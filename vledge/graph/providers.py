"""onnxruntime's questions about devices and the build, with the answers that hold here: a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from vledge._version import __version__

__all__ = [
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "preload_dlls",
]

CPU = "CPUExecutionProvider"


def get_available_providers() -> list[str]:
    """Always ``["CPUExecutionProvider"]``."""
    return [CPU]


get_all_providers = get_available_providers


def get_device() -> str:
    """Always ``"CPU"``."""
    return "CPU"


def get_version_string() -> str:
    """vledge's version."""
    return __version__


def get_build_info() -> str:
    """That this is vledge, and which version."""
    return f"vledge {__version__}"


def preload_dlls(*args: object, **options: object) -> None:
    """Nothing: there are no libraries of a GPU to load."""


def disable_telemetry_events() -> None:
    """Nothing: vledge sends none."""


def enable_telemetry_events() -> None:
    """Nothing: vledge sends none."""


def check_providers(
    providers: Sequence[object] | None, provider_options: Sequence[object] | None
) -> None:
    """As onnxruntime takes them: names, or (name, options); what is not here runs on the CPU.

    Raises ValueError for what is neither, and warns of providers other than the CPU's where that is
    not among those given.
    """
    if provider_options is not None and (
        providers is None
        or len(provider_options) != len(providers)
        or not all(isinstance(options, Mapping) for options in provider_options)
    ):
        raise ValueError("provider_options must hold a dict for each of providers")
    if providers is None:
        return
    if isinstance(providers, str) or not isinstance(providers, Sequence):
        raise ValueError(f"providers must be a list of names, got {providers!r}")
    names = [one[0] if isinstance(one, (tuple, list)) and one else one for one in providers]
    for name in names:
        if not isinstance(name, str):
            raise ValueError(
                f"providers must hold names or pairs of a name and a dict, got {name!r}"
            )
    if names and CPU not in names:
        warnings.warn(
            f"providers is {names}: vledge has only {CPU}, and the model runs on that",
            stacklevel=3,
        )
