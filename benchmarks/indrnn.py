"""``python -m benchmarks.indrnn``: an IndRNN layer next to torch loops, and the memory's speed.

torch has no IndRNN: people run it as a Python loop over time, or the same loop scripted. The input
projection is one product before the loop, there as here. What is left of our time without that
product is the recurrence, which reads and writes as many bytes as a copy of the output
(torch.clone, on the same threads): the last columns compare the two. Times are medians of
interleaved rounds.
"""

from __future__ import annotations

import argparse
import os

import numpy as np

from benchmarks.measure import measured, median

SHAPES = (  # input_size, hidden_size, batch, time steps
    (1, 128, 32, 784),
    (1, 128, 1, 784),
    (1, 512, 8, 100),
    (64, 128, 1, 1000),
    (64, 128, 32, 500),
    (128, 512, 32, 500),
)
CHUNK_BYTES = 256 * 1024  # of projected input, as the layer's own


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.indrnn", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)

    import torch

    import vledge
    from vledge._ext.product import Product

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
        f"{'input':22}{'vledge':>10}{'torch loop':>18}{'scripted':>18}"
        f"{'recurrence':>14}{'copy':>12}"
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
        rows = x.reshape(-1, input_size)
        size = CHUNK_BYTES // (4 * hidden_size)
        chunks = [rows[i : i + size] for i in range(0, len(rows), size)]
        buffer = np.empty((size, hidden_size), np.float32)
        product = Product(layer.weight_ih_l0, layer.bias_ih_l0)

        def project(chunks=chunks, buffer=buffer, product=product) -> None:
            for chunk in chunks:
                product(chunk, out=buffer[: len(chunk)])

        with torch.inference_mode():
            output = loop(*given)
            np.testing.assert_allclose(layer(x)[0], output.numpy(), rtol=1e-4, atol=1e-4)
            times = measured(
                {
                    "vledge": lambda layer=layer, x=x: layer(x),
                    "loop": lambda given=given: loop(*given),
                    "scripted": lambda given=given: scripted(*given),
                    "projection": project,
                    "copy": lambda output=output: output.clone(),
                },
                arguments.rounds,
            )
        ours, plain, script, projection, copy = (
            median(samples) * 1e6 for samples in times.values()
        )
        moved = 2 * output.numel() * 4 / 1e3  # read and written; per microsecond: GB/s
        name = f"I{input_size} H{hidden_size} B{batch} T{time_steps}"
        print(
            f"{name:22}{ours:7.0f} us{plain:10.0f} {plain / ours:6.1f}x"
            f"{script:10.0f} {script / ours:6.1f}x"
            f"{moved / (ours - projection):9.1f} GB/s{moved / copy:7.1f} GB/s"
        )


if __name__ == "__main__":
    main()
