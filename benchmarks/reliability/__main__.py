"""``python -m benchmarks.reliability WHAT``: writers killed, long streams, many loads, Ctrl-C.

kills   writers of weights, stream states, models and measured constants are killed (`kill -9`) at
        random moments; after each the file must be whole
steps   a stream is stepped and its memory read; then a part of it is replayed from saved states,
        and must come out bit for bit
loads   a file of weights and a model are loaded, run and dropped; memory must stay
ctrl-c  the signal in the midst of each kind of long run: how long until KeyboardInterrupt, and
        whether the object then still gives what it gave before
operators  every operator on a large array: how long at most it does not look for the signal
calls   the same of layers, streams, sequences, files and commands on something large
work    what published models compute, for each element of what they are given

Without --count each takes some minutes; figures are printed as a line of a table.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.reliability import calls, interrupts, kills, loads, operators, steps, work

WAYS = {
    "kills": kills,
    "steps": steps,
    "loads": loads,
    "ctrl-c": interrupts,
    "operators": operators,
    "calls": calls,
    "work": work,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reliability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=[*WAYS, "all"])
    parser.add_argument("--count", type=int, help="kills, steps, loads, or trials of each run")
    arguments = parser.parse_args()
    wrong = 0
    for name in WAYS if arguments.what == "all" else [arguments.what]:
        way = WAYS[name]
        faults, line = way.measure(arguments.count or way.COUNT)
        print(f"| {name} | {line} |", flush=True)
        wrong += faults
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
