"""Peers in an interpreter of their own: asked over a pipe, timed there."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.measuring import agreement
from benchmarks.measuring.measure import run_workload
from benchmarks.measuring.workloads import Workload
from benchmarks.peers import ways
from benchmarks.peers.contestant import Outputs
from benchmarks.peers.elsewhere import Elsewhere, PeerError
from benchmarks.reports import layers as report
from vledge import nn

HERE = Path(sys.executable)
FULL = Workload("LSTM full", "other", "full", "LSTM", 4, 8, (5, 5))
VAR = Workload("LSTM var", "other", "var", "LSTM", 4, 8, (2, 7, 1, 5, 3))
STEPS = Workload("GRU loop", "other", "loop", "GRU", 4, 8, (3,))


def numpy_elsewhere(workload):
    """numpy, in another process of this interpreter."""
    return Elsewhere("numpy", HERE).prepare(workload, workload.weights(), workload.inputs(), 1)


def test_a_contestant_elsewhere_is_compared_and_timed_by_a_clock_there():
    (contestant,) = numpy_elsewhere(FULL)
    outputs = contestant.outputs(contestant.run())
    expected = agreement.reference(FULL, FULL.inputs())
    assert agreement.largest_error("numpy", outputs, expected, FULL.inputs()) < 1e-5
    started = time.process_time()
    taken = contestant.run.seconds(300, time.process_time)
    assert taken > time.process_time() - started  # this process has waited
    assert taken > 0.001


def test_what_is_raised_there_is_told_here_and_the_process_goes_on():
    peer = Elsewhere("numpy", HERE)
    wrong = {name: value[:-1] for name, value in FULL.weights().items()}
    with pytest.raises(PeerError, match=r"\w+Error: "):
        [contestant.run() for contestant in peer.prepare(FULL, wrong, FULL.inputs(), 1)]
    (contestant,) = numpy_elsewhere(FULL)
    assert contestant.run() is None


def test_a_process_that_ends_is_named_and_another_one_started():
    (contestant,) = numpy_elsewhere(FULL)
    contestant.run._process._process.kill()
    with pytest.raises(PeerError, match="numpy's process ended with -9 while asked run"):
        contestant.run()
    (again,) = numpy_elsewhere(FULL)
    assert again.run() is None


def test_an_environment_that_was_not_set_up_is_no_peer(tmp_path):
    assert Elsewhere("mnn", tmp_path / "python").version() is None


def test_runtimes_without_lengths_get_them_padded_and_in_buckets():
    inputs, layer = VAR.inputs(), nn.LSTM.from_weights(VAR.weights())

    def equal(part):
        def run(x):
            assert x.shape == (part.time_steps, part.batch, part.input_size)
            y, state = layer(x)
            return Outputs(y, *state)

        return run

    contestants = ways.batches("it", VAR, inputs, equal)
    assert [contestant.name for contestant in contestants] == ["it", "it buckets"]
    expected = agreement.reference(VAR, inputs)
    for contestant in contestants:
        outputs = contestant.outputs(contestant.run())
        assert agreement.largest_error(contestant.name, outputs, expected, inputs) < 1e-5


def test_steps_hand_the_state_on():
    inputs = STEPS.inputs()
    layer = nn.GRU.from_weights(STEPS.weights())

    def step(x, state):
        y, h = layer(x, state[0])
        return y, [h]

    contestant = ways.stepped("it", inputs, step, [inputs.h_0])
    outputs = contestant.outputs(contestant.run())
    expected = agreement.reference(STEPS, inputs)
    assert agreement.largest_error("it", outputs, expected, inputs) < 1e-5


def test_the_page_shows_the_better_way_losses_and_what_was_left_out():
    record = {
        "name": VAR.name,
        "group": VAR.group,
        "threads": 1,
        "flops": VAR.flops,
        "microseconds": {"vledge": [10.0], "mnn": [8.0], "jax": [40.0], "jax buckets": [20.0]},
        "ratios": {"mnn": [0.8], "jax": [4.0], "jax buckets": [2.0]},
        "counted": ["vledge", "mnn", "jax", "jax buckets"],
        "failures": {"tract": "PeerError: no", "torch": "not one of these"},
    }
    page = report.boards([record], {"CPU": "test"})
    assert "| LSTM var | 10.0 | - | 0.80 | - | 2.00 buckets | - |" in page
    assert page.endswith("- LSTM var: tract: PeerError: no")


@pytest.mark.parametrize("name", ["litert", "mnn", "tract", "jax", "executorch"])
def test_peers_with_an_environment_agree(name, monkeypatch):
    if Elsewhere(name).version() is None:
        pytest.skip(f"{name} has no environment: python -m benchmarks.peers.environments {name}")
    monkeypatch.setattr("benchmarks.measuring.measure.SAMPLE_SECONDS", 0)
    record = run_workload(STEPS, [name], 1, rounds=1)
    assert not record["failures"]
    assert record["largest_error"][name] < 1e-5


def test_environments_are_set_up_by_a_command_without_warnings():
    """runpy warns where a package has imported already what is to run."""
    command = [sys.executable, "-W", "error", "-m", "benchmarks.peers.environments", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
