"""Watch a vibrating machine live: an anomaly score for each sample of a sensor, in the terminal.

    python examples/sensor_anomaly.py             # 60 seconds at 100 samples a second, live
    python examples/sensor_anomaly.py --fast      # the same at once

The sensor is synthetic: three axes of an accelerometer on a motor whose speed wanders. It fails
three times: a shock, a loose mount (one axis rings), a stuck axis. The model has seen good minutes
only. It is an echo-state network, a GRU with random weights of which only a linear readout is
fitted, here, to predict the next sample; the score is how far the sample is from the prediction, in
units of what is usual. No file is needed, and any trained layer or model takes the GRU's place:
`stream` is the same.
"""

import argparse
import io
import sys
import time

import numpy as np

import vledge
from vledge import nn

RATE = 100  # samples a second
UNITS = 96
WARM_UP = 2 * RATE  # samples until the GRU's state has forgotten how it began
ALARM = 6.0  # times the usual error
FAULTS = {"shock": (15.0, 15.2), "loose mount": (30.0, 33.0), "stuck axis": (45.0, 48.0)}


def sensor(seconds: float, seed: int, faults: bool) -> np.ndarray:
    """Acceleration of three axes: float32 [samples, 3]."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    speed = 3 + 0.4 * np.sin(2 * np.pi * t / 17 + rng.uniform(0, 6))
    angle = 2 * np.pi * np.cumsum(speed) / RATE
    axes = [np.sin(angle), 0.7 * np.sin(angle + 1) + 0.3 * np.sin(2 * angle), 0.5 * np.cos(angle)]
    x = np.stack(axes, 1) + rng.normal(0, 0.03, (len(t), 3))
    if faults:
        shock, loose, stuck = ((t >= a) & (t < b) for a, b in FAULTS.values())
        x[shock] += rng.normal(0, 1.0, (shock.sum(), 3))
        x[loose, 1] += 0.6 * np.sin(2 * np.pi * 23 * t[loose])
        x[stuck, 2] = 0.2
    return x.astype(np.float32)


def random_gru(seed: int) -> nn.GRU:
    """Weights at random, scaled so that the state neither dies away nor saturates."""
    layer, rng = nn.GRU(3, UNITS), np.random.default_rng(seed)
    layer.load_state_dict(
        {
            "weight_ih_l0": rng.normal(0, 0.8, (3 * UNITS, 3)),
            "weight_hh_l0": rng.normal(0, 0.9 / np.sqrt(UNITS), (3 * UNITS, UNITS)),
            "bias_ih_l0": rng.normal(0, 0.3, 3 * UNITS),
            "bias_hh_l0": np.zeros(3 * UNITS),
        }
    )
    return layer


def fitted(layer: nn.GRU, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Readout [UNITS + 1, 3] by ridge regression, and the mean and deviation of its usual error."""
    states, _ = layer(x)
    known = np.hstack([states[WARM_UP:-1], np.ones((len(x) - WARM_UP - 1, 1))])
    target = x[WARM_UP + 1 :]
    gram = known.T @ known + 1e-3 * np.eye(UNITS + 1)
    readout = np.linalg.solve(gram, known.T @ target)
    usual = float(np.sqrt(np.mean((known @ readout - target) ** 2) * 3))
    return readout[:-1].astype(np.float32), readout[-1].astype(np.float32), usual


def bar(score: float, width: int = 50) -> str:
    """A bar of the score's size, of which full width is three alarms; the alarm is a mark in it."""
    filled = round(min(score / (3 * ALARM), 1) * width)
    cells = ["█"] * filled + [" "] * (width - filled)
    mark = width // 3
    cells[mark] = "┃" if filled > mark else "│"
    return "".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long to watch (60)")
    parser.add_argument("--fast", action="store_true", help="do not wait for the samples' time")
    arguments = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    layer = random_gru(0)
    weights, bias, usual = fitted(layer, sensor(180, 1, faults=False))

    stream = layer.stream(batch=1)
    state = np.empty((1, UNITS), np.float32)  # where each step writes: nothing is allocated
    prediction, worst, busy = None, 0.0, 0
    alarms: list[float] = []
    quiet_since = -RATE  # the last sample that was an alarm; a second later the next one is new
    begin = time.perf_counter()
    for i, sample in enumerate(sensor(arguments.seconds, 2, faults=True)):
        if not arguments.fast:
            time.sleep(max(0.0, begin + i / RATE - time.perf_counter()))
        if prediction is not None and i > WARM_UP:
            score = float(np.linalg.norm(sample - prediction)) / usual
            worst = max(worst, score)
            if score > ALARM:
                if i - quiet_since >= RATE:
                    alarms.append(i / RATE)
                quiet_since = i
        start = time.perf_counter_ns()
        stream.step(sample[None], out=state)
        busy += time.perf_counter_ns() - start
        prediction = state[0] @ weights + bias
        if i % (RATE // 2) == RATE // 2 - 1:
            flag = "  ALARM" if worst > ALARM else ""
            print(f"{(i + 1) / RATE:6.1f} s {worst:6.1f} {bar(worst)}{flag}", flush=True)
            worst = 0.0
    print(f"alarms at {', '.join(f'{t:.2f}' for t in alarms) or 'no time'} s")
    print(f"{busy / (i + 1) / 1000:.1f} microseconds a step, vledge {vledge.__version__}")


if __name__ == "__main__":
    main()
