"""Where our own time of a work goes: the kernels by themselves, beside the whole call.

A small C driver, compiled here and now, calls the kernels of the built extension as
``vledge/_ext/walk.pyx`` and ``vledge/_ext/streaming.pyx`` do, on one thread and memory of its
own: all of a work, its projections alone, and its steps with products of no terms, which leaves
the cell's equations. What the call takes beyond that is the rest: Python, tables, zeros in the
padding, cache misses on input and output, and on several threads what they wait for.
"""

from __future__ import annotations

import ctypes
import statistics
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.measuring.bounds import bytes_read, least
from benchmarks.measuring.limits import Limit, built, fma_limit, read_limit
from benchmarks.measuring.measure import pairs
from benchmarks.measuring.workloads import Workload
from benchmarks.peers import load
from vledge._ext.recurrent import chunk_rows
from vledge._ext.weights import Direction

__all__ = ["PARTS", "equations", "kernels", "measured"]

#: What a call consists of.
PARTS = ("projection", "recurrent products", "equations", "rest")

DRIVER = r"""
#include "recurrent/direction.h"

/* One direction of one layer over one work. */
typedef struct {
    const vl_direction *direction;
    ptrdiff_t steps, rows; /* rows: of the largest step */
    ptrdiff_t chunk_rows;  /* that are projected at once */
    int from_input; /* both products by turns, a group of panels at a time, as a single step does */
    const ptrdiff_t *live; /* rows of each step */
} walk;

static void *take(float *memory, size_t *used, size_t bytes)
{
    float *taken = memory ? memory + *used : 0;
    *used += (bytes + 63) / 64 * 16;
    return taken;
}

/* The kernels' arguments, in memory full of small numbers, which serve as input and state. Returns
 * how many floats it takes, without memory too. */
size_t lay_out(const walk *w, float *memory, vl_product *p, vl_step *k)
{
    const vl_direction *d = w->direction;
    const ptrdiff_t float_size = sizeof(float);
    size_t used = 0;
    ptrdiff_t *x_rows = take(memory, &used, w->chunk_rows * sizeof(ptrdiff_t));
    ptrdiff_t *out_rows = take(memory, &used, w->rows * sizeof(ptrdiff_t));
    *p = (vl_product){
        .depth = d->input_size,
        .vectors = d->vectors,
        .columns = d->vectors * d->kernels->lanes,
        .group = d->group,
        .x = take(memory, &used, w->chunk_rows * d->input_size * float_size),
        .x_rows = x_rows,
        .w = d->w_ih,
        .bias = d->bias,
        .out = take(memory, &used, w->chunk_rows * d->ld_pre * float_size),
        .ld_out = d->ld_pre,
    };
    *k = (vl_step){
        .depth = d->hidden_size,
        .last_panel = d->panels,
        .hidden_size = d->hidden_size,
        .w = d->w_hh,
        .bias_candidate = d->bias_candidate,
        .ld_pre = d->ld_pre,
        .ld_h = d->ld_h,
        .ld_h_next = d->ld_h,
        .ld_c = d->ld_c,
        .h = take(memory, &used, w->rows * d->ld_h * float_size),
        .h_next = take(memory, &used, w->rows * d->ld_h * float_size),
        .c = take(memory, &used, w->rows * d->ld_c * float_size),
        .out = take(memory, &used, w->rows * d->hidden_size * float_size),
        .out_rows = out_rows,
    };
    for (ptrdiff_t r = 0; memory && r < w->chunk_rows; r++)
        x_rows[r] = r * d->input_size;
    for (ptrdiff_t r = 0; memory && r < w->rows; r++)
        out_rows[r] = r * d->hidden_size;
    return used;
}

size_t floats(const walk *w)
{
    vl_product p;
    vl_step k;
    return lay_out(w, 0, &p, &k);
}

/* So many times: the projections, if they are wanted, and the steps, if they are, with products of
 * all terms or of none. */
void run(const walk *w, float *memory, int projections, int steps, int terms, long times)
{
    const vl_direction *d = w->direction;
    vl_product p;
    vl_step k;
    lay_out(w, memory, &p, &k);
    const ptrdiff_t at_once = w->from_input ? VL_GROUP : d->panels,
                    groups = (d->panels + at_once - 1) / at_once;
    float *const state[2] = {k.h_next, (float *)k.h};
    long walked = 0, chunks = 0; /* over all times: every other step and chunk is turned */
    if (!terms)
        k.depth = 0;
    for (; times; times--)
        for (ptrdiff_t t = 0, end; t < w->steps; t = end, chunks++) {
            p.rows = 0;
            for (end = t; end < w->steps && p.rows + w->live[end] <= w->chunk_rows; end++)
                p.rows += w->live[end];
            p.turned = chunks & 1;
            for (ptrdiff_t i = 0; i < groups; i++) {
                k.first_panel = at_once * (p.turned ? groups - 1 - i : i);
                k.last_panel =
                    k.first_panel + at_once < d->panels ? k.first_panel + at_once : d->panels;
                p.first = k.first_panel * d->gates;
                p.last = k.last_panel < d->panels ? k.last_panel * d->gates : p.vectors;
                if (projections)
                    d->run->product(&p);
                k.pre = p.out;
                for (ptrdiff_t s = t; steps && s < end; s++) {
                    k.turned = (walked + s - t) & 1;
                    k.h = state[k.turned];
                    k.h_next = state[!k.turned];
                    k.rows = w->live[s];
                    d->run->step(&k);
                    k.pre = (const float *)k.pre + k.rows * k.ld_pre;
                }
            }
            walked += end - t;
        }
}
"""

# Floating-point operations of one run of the driver, some 0.1 ms: a call from Python takes 1 us.
RUN_FLOPS = 10_000_000
# Works up to so many, some 10 ms, have more rounds: they last as long as what disturbs them.
SHORT_FLOPS, SHORT_ROUNDS = 1_000_000_000, 3


class Walk(ctypes.Structure):
    """The driver's ``walk``, with the memory that it runs in."""

    _fields_ = [
        ("direction", ctypes.c_void_p),
        ("steps", ctypes.c_ssize_t),
        ("rows", ctypes.c_ssize_t),
        ("chunk_rows", ctypes.c_ssize_t),
        ("from_input", ctypes.c_int),
        ("live", ctypes.c_void_p),
    ]

    def __init__(self, workload: Workload, layer: int) -> None:
        lengths = np.array(workload.lengths)
        self.sizes = (lengths > np.arange(workload.time_steps)[:, None]).sum(1).astype(np.intp)
        self.weights = _direction(workload, layer)
        batch = workload.batch
        super().__init__(
            self.weights.address,
            workload.time_steps,
            batch,
            1 if workload.streaming else chunk_rows(self.weights, batch, workload.real_steps),
            workload.streaming,
            self.sizes.ctypes.data,
        )
        count = _driver().floats(self)
        numbers = np.random.default_rng(0).uniform(-0.1, 0.1, count + 16).astype(np.float32)
        self.memory = numbers[-numbers.ctypes.data % 64 // 4 :]

    def run(self, projections: bool, steps: bool, terms: bool, times: int) -> None:
        _driver().run(self, self.memory.ctypes.data, projections, steps, terms, times)


def measured(workload: Workload, threads: int, rounds: int) -> dict[str, float]:
    """How much each of `PARTS` takes of our call, and what the products would take at the limits.

    All are shares of the call's time: ``products at the limits`` is
    `benchmarks.measuring.bounds.least`, and ``reading`` of it where reading the weights is the
    limit. Each way and each limit has its turn next to the call: medians of such pairs. Kernels and
    limits are one thread's, divided by ``threads``.
    """
    contestants = load("vledge").prepare(workload, workload.weights(), workload.inputs(), threads)
    ours = next(c.run for c in contestants if c.name == "vledge")
    ways = {
        "projection": _way(workload, projections=True, steps=False, terms=False),
        "equations": equations(workload),
        "kernels": kernels(workload),
        "FMA": fma_limit(),
        "byte": read_limit(bytes_read(workload, threads)),
    }
    rounds *= SHORT_ROUNDS if workload.flops < SHORT_FLOPS else 1
    runs = {name: way.run for name, way in ways.items()}
    times, beside = pairs(ours, runs, rounds, naps=False)
    share = {
        name: statistics.median(a / b for a, b in zip(times[name], beside[name], strict=True))
        / way.amount
        for name, way in ways.items()
    }
    products = share["kernels"] - share["equations"]
    projection = share["projection"]
    if workload.streaming:  # both matrices are read as one, and each alone would stay in the cache
        inner = sum(map(workload.layer_input_size, range(workload.num_layers)))
        projection = products * inner / (inner + workload.num_layers * workload.hidden_size)
    bound = least(workload, share["FMA"], share["byte"], threads)
    return {
        "projection": projection / threads,
        "recurrent products": (products - projection) / threads,
        "equations": share["equations"] / threads,
        "rest": 1 - share["kernels"] / threads,
        "products at the limits": bound.time,
        "reading": bound.reading,
    }


def equations(workload: Workload) -> Limit:
    """The steps without their products; its amount is in calls of the work."""
    return _way(workload, projections=False, steps=True, terms=False)


def kernels(workload: Workload) -> Limit:
    """Everything but the call; its amount is in calls of the work."""
    return _way(workload, projections=True, steps=True, terms=True)


def _way(workload: Workload, projections: bool, steps: bool, terms: bool) -> Limit:
    walks = [
        Walk(workload, layer)
        for layer in range(workload.num_layers)
        for _ in range(workload.directions)
    ]
    times = max(1, RUN_FLOPS // workload.flops)

    def run() -> None:
        for walk in walks:
            walk.run(projections, steps, terms, times)

    return Limit(run, times)


def _direction(workload: Workload, layer: int) -> Direction:
    """Small weights in the layout of one of its layers."""
    rng = np.random.default_rng(0)
    rows = workload.gates * workload.hidden_size
    columns = (workload.layer_input_size(layer), workload.hidden_size)
    weights = (rng.uniform(-0.1, 0.1, (rows, n)).astype(np.float32) for n in columns)
    biases = (rng.uniform(-0.1, 0.1, rows).astype(np.float32) for _ in columns)
    return Direction(workload.cell.lower(), *weights, *biases)


@cache
def _driver() -> ctypes.CDLL:
    library = built(DRIVER, "-O2", "-I", str(Path(__file__).resolve().parents[2] / "ext"))
    walk = ctypes.POINTER(Walk)
    library.floats.argtypes, library.floats.restype = [walk], ctypes.c_size_t
    library.run.argtypes = [walk, ctypes.c_void_p, *[ctypes.c_int] * 3, ctypes.c_long]
    library.run.restype = None
    return library
