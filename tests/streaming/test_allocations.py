"""In steady state a step of a layer or a session allocates nothing and takes no lock: counted.

malloc's family and pthread_mutex_lock are counted by a library that is loaded before libc; Python's
own allocations, most of which never reach malloc, by tracemalloc.
"""

import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import vledge
from tests.streaming.test_layers import LAYERS, loaded

COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
static __thread long allocations, locks; /* the caller's: libraries may have threads of their own */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
long counted_allocations(void) { return allocations; }
long counted_locks(void) { return locks; }
void *malloc(size_t n) { allocations++; return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { allocations++; return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { allocations++; return __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { allocations++; return __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n)
{ allocations++; *p = __libc_memalign(a, n); return *p ? 0 : 12; }
int pthread_mutex_lock(pthread_mutex_t *m)
{
    static int (*real)(pthread_mutex_t *);
    if (!real) real = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
    locks++;
    return real(m);
}
"""


def streams(batch):
    """(name, stream, a frame) of layers and of sessions."""
    for name, make in LAYERS.items():
        yield name, loaded(make()).stream(batch=batch), np.ones((batch, 5), np.float32)
    for name, model, options in session_models():
        stream = vledge.InferenceSession(model).stream(batch=batch, **options)
        frame = {n: np.ones(shape, dtype) for n, (shape, dtype) in stream.frames.items()}
        yield name, stream, frame if len(frame) > 1 else next(iter(frame.values()))


def session_models():
    """(name, model, options), none where the packages that make models are not installed."""
    try:
        from tests.streaming.test_session_steps import MODELS
    except pytest.skip.Exception:
        return
    for name, (build, options, _) in MODELS.items():
        if name != "handed through":  # its batch is one
            yield f"session-{name.replace(' ', '-')}", build(), options


PROGRAM = """
import ctypes, os  # PyDLL keeps the GIL, whose release would count as locks
from tests.streaming.test_allocations import streams
counter = ctypes.PyDLL(os.environ["LD_PRELOAD"])
for batch in (1, 3):
    for name, stream, x in streams(batch):
        y = stream.step(x)
        step, steps = stream.step, range(10_000)
        for _ in range(100):
            step(x, y)
        allocations, locks = counter.counted_allocations(), counter.counted_locks()
        for _ in steps:
            step(x, y)
        print(name, batch, counter.counted_allocations() - allocations,
              counter.counted_locks() - locks)
before = (counter.counted_allocations(), counter.counted_locks())
kept = [bytearray(10_000) for _ in range(100)]
import numpy as np
from tests.streaming.test_layers import LAYERS, loaded
stream = loaded(LAYERS["gru"]()).stream(batch=3)
stream.push(np.ones((1, 3, 5), np.float32))  # lets the GIL go
print("control", counter.counted_allocations() - before[0], counter.counted_locks() - before[1])
"""


NAMES = [*LAYERS, *(name for name, _, _ in session_models())]


@pytest.mark.parametrize("name", NAMES)
def test_python_allocates_nothing(name):
    stream, x = next((stream, x) for found, stream, x in streams(2) if found == name)
    y = stream.step(x)
    repeats = [None] * 1000
    tracemalloc.start()
    try:
        for _ in repeats:
            stream.step(x, out=y)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()
        for _ in repeats:
            stream.step(x, out=y)
        after = tracemalloc.get_traced_memory()
        kept = stream.step(x)
        assert tracemalloc.get_traced_memory()[0] > after[0]  # the count does count
        del kept
    finally:
        tracemalloc.stop()
    assert after[0] == before[0]
    assert after[1] - before[0] <= 64  # the peak: no array, at most one passing Python object


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts by glibc's names")
def test_no_malloc_and_no_lock(tmp_path):
    compiler = shutil.which(os.environ.get("CC", "cc").split()[-1])
    assert compiler, "a C compiler, which the build needs too"
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "LD_PRELOAD": str(library)},
        cwd=Path(vledge.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *lines, control = (line.split() for line in done.stdout.splitlines())
    assert int(control[1]) >= 100
    assert int(control[2]) >= 1
    assert len(lines) == 2 * len(NAMES)
    for name, batch, allocations, locks in lines:
        assert (int(allocations), int(locks)) == (0, 0), (name, batch, allocations, locks)
