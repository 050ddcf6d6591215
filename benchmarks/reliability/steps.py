"""A stream that runs for long: flat in memory, and every part of it can be replayed bit for bit."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.reliability.memory import resident
from vledge import nn

COUNT = 20_000_000
PARTS = 10
UNITS, FEATURES, SEED = 16, 4, 7


def layer() -> nn.LSTM:
    rng = np.random.default_rng(0)
    shapes = {
        "weight_ih_l0": (4 * UNITS, FEATURES),
        "weight_hh_l0": (4 * UNITS, UNITS),
        "bias_ih_l0": (4 * UNITS,),
        "bias_hh_l0": (4 * UNITS,),
    }
    weights = {n: rng.uniform(-0.5, 0.5, s).astype(np.float32) for n, s in shapes.items()}
    return nn.LSTM.from_weights(weights)


def measure(count: int) -> tuple[int, str]:
    """Faults, and what there is to say."""
    model = layer()
    stream = model.stream(batch=1)
    block = np.random.default_rng(SEED).standard_normal((1000, 1, FEATURES)).astype(np.float32)
    out = np.empty((1, UNITS), np.float32)
    step = stream.step
    for frame in block:
        step(frame, out)
    stream.reset()
    each = max(count // PARTS // len(block), 1)
    states, held = [stream.state], [resident()]
    begin = time.perf_counter()
    for _ in range(PARTS):
        for _ in range(each):
            for frame in block:
                step(frame, out)
        states.append(stream.state)
        held.append(resident())
    seconds = time.perf_counter() - begin
    different = 0
    for part in (0, PARTS // 2, PARTS - 1):  # by pushes, another way through the same kernels
        replay = model.stream(batch=1)
        replay.state = states[part]
        for _ in range(each):
            replay.push(block)
        after = replay.state
        different += any((after[name] != states[part + 1][name]).any() for name in after)
    done = PARTS * each * len(block)
    grown = held[-1] - held[1]
    line = (
        f"{done:,} steps of an LSTM of {UNITS} units in {seconds:.0f} s: {grown / 1024:+,.0f} kB "
        f"from a tenth of the way to the end; {different} of 3 parts replayed by pushes differ in "
        "a bit"
    )
    return different + (grown > 1 << 20), line
