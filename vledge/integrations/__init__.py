"""Other people's tools: torch's export, onnx's backend, Arrow's tables. Modules come when used."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

__all__: list[str] = []


def __getattr__(name: str) -> ModuleType:
    if not name.startswith("_") and name in __dir__():
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(module.name for module in iter_modules(__path__))})
