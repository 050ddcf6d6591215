"""The compiled modules land here; their sources are in the top-level folder ``ext/``."""

import sys

_has_gil = getattr(sys, "_is_gil_enabled", lambda: True)  # Python 3.13 and later ask
if not _has_gil():
    # Free-threaded Python turns the GIL on when it loads a module that has not said it can do
    # without, as ours have not; but not where it was told never to.
    from vledge._ext import arrays  # noqa: F401

    if not _has_gil():
        raise ImportError(
            "vledge needs the GIL, which PYTHON_GIL=0 or -X gil=0 keeps off: leave that out, and "
            "free-threaded Python turns it on when vledge is imported"
        )
