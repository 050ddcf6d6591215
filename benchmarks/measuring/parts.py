"""Where our own time of a work goes: the kernels by themselves, beside the whole call.

A small C driver, compiled here and now, calls the kernels of the built extension as
``ext/recurrent.pyx`` and ``ext/streaming.pyx`` do, on one thread and memory of its own: all of a
work, its projections alone, and its steps with products of no terms, which leaves the cell's
equations. What the call takes beyond that is the rest: Python, tables, zeros in the padding, cache
misses on input and output, and on several threads what they wait for.
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
from vledge._ext import isa, recurrent
from vledge._ext.weights import vector_count

__all__ = ["PARTS", "equations", "measured"]

#: What a call consists of.
PARTS = ("projection", "recurrent products", "equations", "rest")

DRIVER = r"""
#include "simd/kernels.h"

/* One direction of one layer. */
typedef struct {
    const vl_kernels *kernels;
    ptrdiff_t gates;            /* 4: LSTM, 3: GRU */
    ptrdiff_t input_size, hidden_size;
    ptrdiff_t vectors;          /* of a row of all gates */
    ptrdiff_t steps, rows;      /* rows: of the largest step */
    ptrdiff_t chunk;            /* rows that are projected at once */
    ptrdiff_t panels_at_once;   /* that pass through both products, 0: all */
    const ptrdiff_t *live;      /* rows of each step */
} walk;

static ptrdiff_t row_stride(ptrdiff_t elements) /* ext/weights.pyx says why */
{
    return elements * sizeof(float) % 1024 ? elements : elements + 64 / sizeof(float);
}

static void *take(float *memory, size_t *used, size_t bytes)
{
    float *found = memory ? memory + *used : 0;
    *used += (bytes + 63) / 64 * 16;
    return found;
}

/* The only place that knows the kernels' layouts: their arguments, in memory full of small numbers,
 * which serve as weights, input and state. Returns how many floats it takes, without memory too. */
size_t lay_out(const walk *w, float *memory, vl_product *p, vl_step *k)
{
    const ptrdiff_t lanes = w->kernels->lanes, panels = (w->hidden_size + lanes - 1) / lanes;
    const ptrdiff_t columns = w->vectors * lanes, float_size = sizeof(float);
    const ptrdiff_t ld = row_stride(panels * lanes), ld_pre = row_stride(panels * w->gates * lanes);
    size_t used = 0;
    ptrdiff_t *x_rows = take(memory, &used, w->chunk * sizeof(ptrdiff_t));
    ptrdiff_t *out_rows = take(memory, &used, w->rows * sizeof(ptrdiff_t));
    *p = (vl_product){
        .depth = w->input_size,
        .vectors = w->vectors, .columns = columns, .group = w->gates,
        .x = take(memory, &used, w->chunk * w->input_size * float_size), .x_rows = x_rows,
        .w = take(memory, &used, columns * w->input_size * float_size),
        .bias = take(memory, &used, columns * float_size),
        .out = take(memory, &used, w->chunk * ld_pre * float_size), .ld_out = ld_pre,
    };
    *k = (vl_step){
        .depth = w->hidden_size, .last_panel = panels, .hidden_size = w->hidden_size,
        .w = take(memory, &used, columns * w->hidden_size * float_size),
        .bias_candidate = /* the last panel's may be of three vectors */
            w->gates == 3 ? take(memory, &used, (panels + 2) * lanes * float_size) : 0,
        .ld_pre = ld_pre, .ld_h = ld, .ld_h_next = ld, .ld_c = ld,
        .h = take(memory, &used, w->rows * ld * float_size),
        .h_next = take(memory, &used, w->rows * ld * float_size),
        .c = take(memory, &used, w->rows * ld * float_size),
        .out = take(memory, &used, w->rows * w->hidden_size * float_size), .out_rows = out_rows,
    };
    for (ptrdiff_t r = 0; memory && r < w->chunk; r++)
        x_rows[r] = r * w->input_size;
    for (ptrdiff_t r = 0; memory && r < w->rows; r++)
        out_rows[r] = r * w->hidden_size;
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
    void (*const cell)(const vl_step *) = w->gates == 4 ? w->kernels->lstm : w->kernels->gru;
    vl_product p;
    vl_step k;
    lay_out(w, memory, &p, &k);
    const ptrdiff_t panels = k.last_panel, at_once = w->panels_at_once ? w->panels_at_once : panels;
    const ptrdiff_t groups = (panels + at_once - 1) / at_once;
    float *const state[2] = {k.h_next, (float *)k.h};
    long walked = 0, chunks = 0; /* over all times: every other step and chunk is turned */
    if (!terms)
        k.depth = 0;
    for (; times; times--)
        for (ptrdiff_t t = 0, end; t < w->steps; t = end, chunks++) {
            p.rows = 0;
            for (end = t; end < w->steps && p.rows + w->live[end] <= w->chunk; end++)
                p.rows += w->live[end];
            p.turned = chunks & 1;
            for (ptrdiff_t i = 0; i < groups; i++) {
                k.first_panel = at_once * (p.turned ? groups - 1 - i : i);
                k.last_panel = k.first_panel + at_once < panels ? k.first_panel + at_once : panels;
                p.first = k.first_panel * w->gates;
                p.last = k.last_panel < panels ? k.last_panel * w->gates : p.vectors;
                if (projections)
                    w->kernels->product(&p);
                k.pre = p.out;
                for (ptrdiff_t s = t; steps && s < end; s++) {
                    k.turned = (walked + s - t) & 1;
                    k.h = state[k.turned];
                    k.h_next = state[!k.turned];
                    k.rows = w->live[s];
                    cell(&k);
                    k.pre = (const float *)k.pre + k.rows * k.ld_pre;
                }
            }
            walked += end - t;
        }
}
"""

# As in ext/recurrent.pyx: what a chunk holds at most where W_ih is large, and the panels that pass
# through both products of a single step.
MOST_CHUNK_BYTES, PANELS_AT_ONCE = 2 << 20, 4
# Floating-point operations of one run of the driver, some 0.1 ms: a call from Python takes 1 us.
RUN_FLOPS = 10_000_000
# Works up to so many, some 10 ms, have more rounds: they last as long as what disturbs them.
SHORT_FLOPS, SHORT_ROUNDS = 1_000_000_000, 3


class Walk(ctypes.Structure):
    """The driver's ``walk``, with the memory that it runs in."""

    _fields_ = [
        ("kernels", ctypes.c_void_p),
        ("gates", ctypes.c_ssize_t),
        ("input_size", ctypes.c_ssize_t),
        ("hidden_size", ctypes.c_ssize_t),
        ("vectors", ctypes.c_ssize_t),
        ("steps", ctypes.c_ssize_t),
        ("rows", ctypes.c_ssize_t),
        ("chunk", ctypes.c_ssize_t),
        ("panels_at_once", ctypes.c_ssize_t),
        ("live", ctypes.c_void_p),
    ]

    def __init__(self, workload: Workload, layer: int) -> None:
        table = ctypes.CDLL(isa.__file__).vl_runnable
        table.restype = ctypes.c_void_p
        lengths = np.array(workload.lengths)
        self.sizes = (lengths > np.arange(workload.time_steps)[:, None]).sum(1).astype(np.intp)
        super().__init__(
            table(isa.runnable().index(isa.selected()), 0),
            workload.gates,
            workload.layer_input_size(layer),
            workload.hidden_size,
            _vectors(workload),
            workload.time_steps,
            workload.batch,
            1 if workload.streaming else _chunk_rows(workload, layer),
            PANELS_AT_ONCE if workload.streaming else 0,
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
        "kernels": _way(workload, projections=True, steps=True, terms=True),
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


def _vectors(workload: Workload) -> int:
    return vector_count(workload.gates, workload.hidden_size, isa.lanes(np.float32))


def _chunk_rows(workload: Workload, layer: int) -> int:
    """Rows of a chunk, as ``chunk_rows`` of ext/recurrent.pyx counts them."""
    row_bytes = 4 * isa.lanes(np.float32) * _vectors(workload)
    half = row_bytes * workload.layer_input_size(layer) // 2
    most = max(recurrent.limits()["chunk_bytes"], min(half, MOST_CHUNK_BYTES))
    return min(max(most // row_bytes, workload.batch), workload.real_steps)


@cache
def _driver() -> ctypes.CDLL:
    library = built(DRIVER, "-O2", "-I", str(Path(__file__).resolve().parents[2] / "ext"))
    walk = ctypes.POINTER(Walk)
    library.floats.argtypes, library.floats.restype = [walk], ctypes.c_size_t
    library.run.argtypes = [walk, ctypes.c_void_p, *[ctypes.c_int] * 3, ctypes.c_long]
    library.run.restype = None
    return library
