"""`vledge bench --latency`: the table, the engines' agreement, the load, the picture."""

import json
import os
import sys
import time

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.streaming.test_layers import loaded
from vledge import nn
from vledge.cli import main
from vledge.cli.latency.engines import ENGINES
from vledge.cli.latency.measure import Latency, busy_cores, measure
from vledge.small_matrix import SmallMatrix


def bench(capsys, *arguments):
    status = main(["bench", "--latency", "--steps", "300", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_json(capsys):
    status, out, _ = bench(capsys, "--engines", "vledge", "--hidden-size", 16, "--json")
    assert status == 0
    report = json.loads(out)
    assert report["model"].startswith("LSTM 40 -> 16, 1 layer, batch 1, one thread, 300 steps")
    idle, busy = report["microseconds"]
    assert (idle, busy.endswith("busy")) == ("idle", True)
    for engines in report["microseconds"].values():
        latency = engines["vledge"]
        assert 0 < latency["p50"] <= latency["p99"] <= latency["p99_9"] <= latency["worst"]


def test_weights_from_a_file_and_a_picture(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    path, picture = tmp_path / "gru.npz", tmp_path / "latency.png"
    np.savez(path, **loaded(nn.GRU(3, 8, 2)).state_dict())
    options = ["--engines", "vledge", "--idle-only", "--histogram", picture]
    status, out, _ = bench(capsys, path, *options)
    assert status == 0
    assert "GRU 3 -> 8, 2 layers" in out
    assert "p99.9" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_error_names_the_extra(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    options = ["--engines", "vledge", "--idle-only", "--hidden-size", 8]
    status, _, err = bench(capsys, *options, "--histogram", tmp_path / "latency.png")
    assert status == 1
    assert "pip install 'vledge[plot]'" in err


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_engines_do_the_same_work(engine, kind):
    peer(engine)
    layer = loaded(getattr(nn, kind)(3, 8, 2))
    x = np.random.default_rng(2).normal(size=(1, 3)).astype(np.float32)
    ours, theirs = ENGINES["vledge"](layer, x), ENGINES[engine](layer, x)
    for _ in range(5):
        np.testing.assert_allclose(theirs(), ours(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engines", "tensorflow"], "'tensorflow' is none of"),
        (["--steps", "0"], "--steps must be at least 1"),
    ],
)
def test_wrong_arguments(capsys, arguments, message):
    status, _, err = bench(capsys, *arguments)
    assert status == 1
    assert message in err


def test_every_step_is_timed():
    calls = []

    def step():
        calls.append(1)
        if len(calls) == 40:
            time.sleep(0.02)

    times = measure(step, 20)
    assert len(calls) == 40
    latency = Latency.of(times)
    assert latency.worst > 15_000 > latency.p50


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
def test_busy_cores_are_busy_and_go_away():
    def children():
        path = f"/proc/self/task/{os.getpid()}/children"
        with open(path) as file:
            return set(file.read().split())

    before = children()
    with busy_cores(1) as count:
        assert count == 1
        (child,) = children() - before
        time.sleep(0.3)
        with open(f"/proc/{child}/stat") as file:
            used = int(file.read().rsplit(")", 1)[1].split()[11])
        assert used > 0
    assert children() == before


def test_engines_that_disagree_are_not_compared(capsys, monkeypatch):
    monkeypatch.setitem(ENGINES, "other", lambda layer, x: lambda: np.full((1, 128), 9.0))
    status, _, err = bench(capsys, "--engines", "vledge,other")
    assert status == 1
    assert "other and vledge differ" in err


def test_small_weights_are_compared_within_their_rounding(capsys, tmp_path):
    """Others have the floats that they stand for, and round no inputs to 8 bits."""
    peer("onnxruntime")
    weights = vledge.quantize(loaded(nn.LSTM(40, 64)).state_dict(), "int8-fast")
    dynamic = {
        name: SmallMatrix(one.values, one.scales[:, :1].copy(), "int8-dynamic-7")
        if isinstance(one, SmallMatrix)
        else one
        for name, one in weights.items()
    }
    for small in (weights, dynamic):
        vledge.save_weights(tmp_path / "small.safetensors", small)
        options = ["--engines", "vledge,onnxruntime", "--idle-only", "--steps", 20]
        status, out, err = bench(capsys, tmp_path / "small.safetensors", *options)
        assert (status, err) == (0, "")
        assert "onnxruntime" in out
