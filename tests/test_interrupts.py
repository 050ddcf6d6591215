"""Ctrl-C in the midst of every kind of long run, in a process of its own each."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks.reliability import calls, hearing, operators
from benchmarks.reliability.interrupts import RUNS
from tests.graph.models import node, session
from vledge.model.definition import INTERNAL_DOMAIN

# The promise is a tenth of a second, measured by `python -m benchmarks.reliability ctrl-c` on a
# quiet machine; without heed these runs last many seconds more. Here others may want the cores.
BUSY = 2.0


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", RUNS)
def test_ctrl_c(name, threads):
    code = "import sys\nfrom benchmarks.reliability.interrupts import trial\n"
    code += f"print(*trial({name!r}, {threads}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    late, usable = done.stdout.split()
    assert usable == "True"
    assert float(late) < BUSY


def test_every_operator_is_measured():
    """`python -m benchmarks.reliability operators` has a large input for every operator."""
    assert list(operators.names())


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("domain", "name", "number"),
    [
        ("", "Compress", 0),
        ("", "EyeLike", 0),
        ("", "OneHot", 0),
        (INTERNAL_DOMAIN, "TreeScores", 1),
    ],
)
def test_an_operator_looks_for_signals(domain, name, number):
    """By the thread's processor time, whatever else runs."""
    row = operators.measured(domain, name, number, "f4", native=True)
    assert not row.error
    assert row.heard.deaf < hearing.PROMISED


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["Range", "Det", "TopK", "DFT", "NonZero", "Compress"])
def test_an_operator_in_python_looks_for_signals(name):
    """The last of its large cases: a long row, a large matrix."""
    number = len(operators.CASES["", name]) - 1
    row = operators.measured("", name, number, operators.KINDS["", name].split()[0], native=False)
    assert not row.error
    assert row.heard.deaf < hearing.PROMISED


# Of each kind of work one; `python -m benchmarks.reliability calls` has all.
HEARD = [
    "nn.Softplus",
    "nn.Softmax of one row",
    "nn.MaxPool1d of one row",
    "pad_packed_sequence",
    "quantize a layer to int8",
    "quantize an ONNX model",
    "vledge quantize weights",
    "save_weights, turned",
]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", HEARD)
def test_a_call_looks_for_signals(name):
    heard, error = hearing.apart(calls.listened, name)
    assert not error
    assert heard.deaf < hearing.PROMISED, heard


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("op_type", ["GatherElements", "ScatterElements"])
def test_the_loops_around_one_that_has_heard_end_too(op_type):
    """Rows in rows: the inner loop hears, and all of them end."""
    heard = []

    def stop(number, frame):
        heard.append(time.process_time())
        raise KeyboardInterrupt

    x = np.random.default_rng(0).random((1000, 4000), np.float32)
    feed = {"x": x, "i": np.random.default_rng(1).integers(0, 1000, x.shape)}
    inputs = ["x", "i", *(["x"] if op_type == "ScatterElements" else [])]
    run = session([node(op_type, inputs, ["y"], axis=0)], feed, ["y"]).run
    run(None, feed)
    begin = time.process_time()
    run(None, feed)
    whole = time.process_time() - begin
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, whole / 4)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(None, feed)
        assert time.process_time() - heard[0] < whole / 4
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
