"""``python -m benchmarks.indrnn``: an IndRNN layer next to torch loops, and the memory's speed.

torch has no IndRNN: people run it as a Python loop over time, or the same loop scripted. The input
projection is one product before the loop, there as here. A layer of input size 1 is nearly all
recurrence: what it writes is compared with one elementwise NumPy call (maximum) that reads and
writes as many bytes, into a new array as the layer does.
"""

from __future__ import annotations

import argparse
import os

import numpy as np

from benchmarks.measure import measured, median

SHAPES = (  # input_size, hidden_size, batch, time steps
    (1, 128, 32, 500),
    (1, 512, 32, 500),
    (64, 128, 1, 1000),
    (64, 128, 32, 500),
    (128, 512, 32, 500),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.indrnn", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)

    import torch

    import vledge

    torch.set_num_threads(arguments.threads)
    vledge.set_num_threads(arguments.threads)

    def loop(
        x: torch.Tensor, weight: torch.Tensor, u: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        steps = torch.nn.functional.linear(x, weight, bias)
        h = torch.zeros_like(steps[0])
        outputs = []
        for t in range(steps.shape[0]):
            h = torch.relu(steps[t] + u * h)
            outputs.append(h)
        return torch.stack(outputs)

    scripted = torch.jit.script(loop)
    print(f"{arguments.threads} thread(s), torch {torch.__version__}, medians")
    print(
        f"{'':28} {'vledge':>10} {'torch loop':>12} {'scripted':>12}   written, of maximum's speed"
    )
    for input_size, hidden_size, batch, time_steps in SHAPES:
        rng = np.random.default_rng(0)
        layer = vledge.nn.IndRNN(input_size, hidden_size)
        weights = {
            "weight_ih_l0": rng.standard_normal((hidden_size, input_size)) / input_size**0.5,
            "weight_hh_l0": rng.uniform(-1, 1, hidden_size),
            "bias_ih_l0": rng.uniform(-1, 1, hidden_size),
        }
        layer.load_state_dict({name: a.astype(np.float32) for name, a in weights.items()})
        x = rng.standard_normal((time_steps, batch, input_size)).astype(np.float32)
        given = [torch.from_numpy(a) for a in (x, *layer.state_dict().values())]
        source = np.zeros((time_steps, batch, hidden_size), np.float32)
        with torch.inference_mode():
            want = loop(*given).numpy()
            np.testing.assert_allclose(layer(x)[0], want, rtol=1e-4, atol=1e-4)
            times = measured(
                {
                    "vledge": lambda layer=layer, x=x: layer(x),
                    "loop": lambda given=given: loop(*given),
                    "scripted": lambda given=given: scripted(*given),
                    "maximum": lambda source=source: np.maximum(source, 0),
                },
                arguments.rounds,
            )
        ours, plain, script, limit = (median(samples) * 1e6 for samples in times.values())
        name = f"I{input_size} H{hidden_size} B{batch} T{time_steps}"
        print(
            f"{name:28}{ours:8.0f} us {plain:7.0f} {plain / ours:4.1f}x"
            f" {script:7.0f} {script / ours:4.1f}x"
            f"   {source.nbytes / ours / 1e3:5.1f} GB/s, {limit / ours:.0%}"
        )


if __name__ == "__main__":
    main()
