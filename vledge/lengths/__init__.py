"""Every way of handling sequences of different lengths, with one answer."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vledge.lengths.initial import initial_state, keep_states
    from vledge.lengths.many import run_many
    from vledge.lengths.pooling import last_output, max_over_steps, mean_over_steps, truncate
    from vledge.lengths.running import run
    from vledge.lengths.semantics import PRESETS, Semantics
    from vledge.lengths.strategies import STRATEGIES
    from vledge.lengths.window_views import windows

__all__ = [
    "PRESETS",
    "STRATEGIES",
    "Semantics",
    "initial_state",
    "keep_states",
    "last_output",
    "max_over_steps",
    "mean_over_steps",
    "run",
    "run_many",
    "truncate",
    "windows",
]

# Where each is: layers import a module of this package, and most have no lengths. No module has one
# of these names, or the import system would put it in the name's place.
_HOMES = {
    "initial": ("initial_state", "keep_states"),
    "many": ("run_many",),
    "pooling": ("last_output", "max_over_steps", "mean_over_steps", "truncate"),
    "running": ("run",),
    "semantics": ("PRESETS", "Semantics"),
    "strategies": ("STRATEGIES",),
    "window_views": ("windows",),
}


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'vledge.lengths' has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(f"vledge.lengths.{home}"), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
