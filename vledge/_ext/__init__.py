"""The compiled modules land here; their sources are in the top-level folder ``ext/``."""

import sys

if not getattr(sys, "_is_gil_enabled", lambda: True)():
    # Free-threaded Python turns the GIL on when it loads a module that has not said it can do
    # without, as ours have not; but not where it was told never to.
    from vledge._ext import arrays  # noqa: F401

    if not sys._is_gil_enabled():
        raise ImportError(
            "vledge needs the GIL, which PYTHON_GIL=0 or -X gil=0 keeps off: leave that out, and "
            "free-threaded Python turns it on when vledge is imported"
        )
