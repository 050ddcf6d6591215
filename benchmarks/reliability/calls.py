"""Everything but operators on something large: how long it computes before it looks for Ctrl-C.

Layers, streams, ways through lengths, readers and writers of files, sessions, and the commands.
`VLEDGE_SWEEP=load` takes those alone whose names hold the word.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import vledge
from benchmarks.reliability.calls_of_commands import COMMANDS
from benchmarks.reliability.calls_of_files import FILES
from benchmarks.reliability.calls_of_layers import LAYERS
from benchmarks.reliability.hearing import HEARD_NOTHING, PROMISED, Heard, apart, listen

COUNT: Final = 1
CALLS: Final = {**LAYERS, **FILES, **COMMANDS}


def listened(name: str) -> Heard:
    vledge.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        os.environ["VLEDGE_LIMITS"] = "memory=64GB steps=1e12 run_memory=64GB"
        prepare, call = CALLS[name]
        given = prepare(Path(folder))
        return listen(lambda: call(given))


def measure(count: int) -> tuple[int, str]:
    """Faults, and what there is to say."""
    late, broken, done = {}, 0, 0
    for name in CALLS:
        if os.environ.get("VLEDGE_SWEEP", "") not in name:
            continue
        heard, error = apart(listened, name)
        print(f"{name}: {heard} {error}", file=sys.stderr, flush=True)
        done += 1
        broken += bool(error and error != HEARD_NOTHING)
        if heard.deaf > PROMISED:
            late[name] = heard.deaf
    worst = sorted(late, key=lambda name: -late[name])
    shown = ", ".join(f"{name} {late[name] * 1e3:.0f} ms" for name in worst)
    line = (
        f"{done} calls on something large: {len(late)} heard nothing for longer than "
        f"{PROMISED * 1e3:.0f} ms: {shown or 'none'}"
    )
    return len(late) + broken, line
