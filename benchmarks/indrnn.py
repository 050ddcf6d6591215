"""``python -m benchmarks.indrnn``: an IndRNN layer next to torch loops, and the memory's speed.

torch has no IndRNN: people run it as a Python loop over time, or the same loop scripted. The input
projection is one product before the loop, there as here. Times are medians of interleaved rounds.

The second table is the recurrence by itself, on one thread: its kernel, compiled here and now, on
projected input in chunks as large as the layer's, next to memcpy of as many bytes. Quickest rounds:
these are limits, not averages.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measuring.measure import measured, median

SHAPES = (  # input_size, hidden_size, batch, time steps
    (1, 128, 32, 784),
    (1, 128, 1, 784),
    (1, 512, 8, 100),
    (64, 128, 1, 1000),
    (64, 128, 32, 500),
    (128, 512, 32, 500),
)
KERNEL = r"""
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define VL_F64 0
#include "isa_ISA.h"
#include "kernels.h"
#include "vec.h"
#include "vecmath.h"
#include "tile.h"
#include "independent.h"
#ifdef VL_CLANG_TARGET
#pragma clang attribute pop
#endif
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}
/* Quickest seconds of relu, tanh and memcpy over steps x rows x units, units in whole vectors. */
void quickest(ptrdiff_t units, ptrdiff_t rows, ptrdiff_t steps, int rounds, double *seconds)
{
    ptrdiff_t step = rows * units, chunk = 65536 / step < 1 ? 1 : 65536 / step;
    float *pre = aligned_alloc(64, chunk * step * 4), *h = aligned_alloc(64, step * 4);
    float *w = aligned_alloc(64, units * 4);
    float *source = aligned_alloc(64, steps * step * 4), *out = aligned_alloc(64, steps * step * 4);
    ptrdiff_t *index = malloc((3 * steps + rows) * sizeof *index);
    memset(pre, 0, chunk * step * 4);
    memset(h, 0, step * 4);
    memset(w, 0, units * 4);
    memset(source, 0, steps * step * 4);
    for (ptrdiff_t i = 0; i < steps; i++) {
        index[i] = rows;
        index[steps + i] = i % chunk * step;
        index[2 * steps + i] = i * step;
    }
    for (ptrdiff_t r = 0; r < rows; r++)
        index[3 * steps + r] = r * units;
    vl_independent s = {.rows = rows, .last_panel = units / L, .hidden_size = units, .w = w,
                        .out_rows = index + 3 * steps, .pre = pre, .ld_pre = units, .h = h,
                        .ld_h = units, .out = out};
    for (int way = 0; way < 3; way++)
        seconds[way] = 1e9;
    for (int i = 0; i < 3 * rounds; i++) {
        double start = now(), taken;
        if (i % 3 == 2)
            memcpy(out, source, steps * step * 4);
        else
            for (ptrdiff_t t = 0; t < steps; t += chunk) {
                s.steps = steps - t < chunk ? steps - t : chunk;
                s.live = index + t;
                s.pre_steps = index + steps + t;
                s.out_steps = index + 2 * steps + t;
                (i % 3 ? vl_kernel_indrnn_tanh : vl_kernel_indrnn_relu)(&s);
            }
        taken = now() - start;
        if (taken < seconds[i % 3])
            seconds[i % 3] = taken;
    }
    free(pre), free(h), free(w), free(source), free(out), free(index);
}
"""


def kernel_library(isa: str) -> ctypes.CDLL:
    """The recurrence's kernel for float32 of one instruction set, compiled by this machine's cc."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "kernel.c", Path(folder) / "kernel.so"
        header = isa if isa in ("avx2", "avx512", "neon") else "baseline"
        source.write_text(KERNEL.replace("isa_ISA.h", f"isa_{header}.h"))
        simd = Path(__file__).resolve().parent.parent / "ext" / "simd"
        flags = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math"]
        flags += ["-ffp-contract=off", "-shared", "-fPIC", f"-I{simd}"]
        subprocess.run(["cc", *flags, "-o", library, source, "-lm"], check=True)
        loaded = ctypes.CDLL(str(library))
    sizes = [ctypes.c_ssize_t] * 3
    loaded.quickest.argtypes = [*sizes, ctypes.c_int, ctypes.POINTER(ctypes.c_double)]
    loaded.quickest.restype = None
    return loaded


def print_kernel(rounds: int) -> None:
    """The second table."""
    from vledge._ext import isa

    library = kernel_library(isa.selected())
    print(f"\nrecurrence by itself, {isa.selected()}, read and written, quickest rounds")
    print(f"{'size':22}{'MB':>7}{'relu':>13}{'tanh':>13}{'memcpy':>13}")
    for units, rows, steps in ((128, 1, 784), (128, 32, 50), (512, 8, 100), (128, 32, 784)):
        seconds = (ctypes.c_double * 3)()
        library.quickest(units, rows, steps, 20 * rounds, seconds)
        moved = 8 * units * rows * steps
        speeds = "".join(f"{moved / s / 1e9:8.1f} GB/s" for s in seconds)
        print(f"{f'H{units} B{rows} T{steps}':22}{moved / 1e6:7.1f}{speeds}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.indrnn", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
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
    print(f"{'input':22}{'vledge':>10}{'torch loop':>18}{'scripted':>18}")
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
        with torch.inference_mode():
            want = loop(*given).numpy()
            np.testing.assert_allclose(layer(x)[0], want, rtol=1e-4, atol=1e-4)
            times = measured(
                {
                    "vledge": lambda layer=layer, x=x: layer(x),
                    "loop": lambda given=given: loop(*given),
                    "scripted": lambda given=given: scripted(*given),
                },
                arguments.rounds,
            )
        ours, plain, script = (median(times[way]) * 1e6 for way in ("vledge", "loop", "scripted"))
        name = f"I{input_size} H{hidden_size} B{batch} T{time_steps}"
        line = f"{name:22}{ours:7.0f} us{plain:10.0f} {plain / ours:6.1f}x"
        line += f"{script:10.0f} {script / ours:6.1f}x"
        print(line)
    print_kernel(arguments.rounds)


if __name__ == "__main__":
    main()
