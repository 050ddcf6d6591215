"""Measured constants: kept for this machine, whole or not at all, and never trusted blindly."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import vledge
from vledge import nn
from vledge.planning import cache_path, calibrate, costs, save
from vledge.planning.calibration import _nonnegative
from vledge.planning.costs import Costs
from vledge.planning.defaults import DEFAULT
from vledge.small_matrix import FORMS


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def slower(factor=10.0):
    fields = DEFAULT.as_dict()
    fields["multiply_add"] *= factor
    return Costs.from_dict({**fields, "source": "a test"})


def test_the_file_is_in_the_platforms_cache_folder(cache_home, monkeypatch):
    assert cache_path().parent == cache_home / "vledge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cache_path().parent) == "/home/someone/.cache/vledge"


def test_without_a_file_the_built_in_constants_stand_in_silently():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert costs() is DEFAULT


def test_what_is_saved_is_read_and_used():
    before = vledge.plan([50] * 8, nn.LSTM(512, 16), threads=1)
    path = save(slower())
    assert [path.name] == os.listdir(path.parent), "a temporary file is left"
    after = vledge.plan([50] * 8, nn.LSTM(512, 16), threads=1)
    assert costs() == slower()
    assert after.best.seconds > 3 * before.best.seconds
    assert after.source == "a test"


def test_another_process_reads_it():
    save(slower())
    done = subprocess.run(
        [sys.executable, "-c", "from vledge.planning import costs; print(costs().source)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "a test"


def test_the_key_holds_the_instruction_set_and_the_version(monkeypatch):
    here = cache_path()
    monkeypatch.setattr("vledge.planning.store.__version__", "99")
    other_version = cache_path()
    monkeypatch.undo()
    monkeypatch.setattr("vledge.planning.store.isa.selected", lambda: "none")
    assert len({here.name, other_version.name, cache_path().name}) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "null",
        lambda text: "\udcff\udcfe",
        lambda text: text.replace('"cpu"', '"gpu"'),
        lambda text: changed(text, "multiply_add", -1.0),
        lambda text: changed(text, "multiply_add", "fast"),
        lambda text: changed(text, "multiply_add", float("nan")),
        lambda text: changed(text, "kernels", {}),
        lambda text: changed(text, "kernels", {"lstm": [1]}),
        lambda text: changed(text, "overheads", {}),
        lambda text: with_kernels(text, 0, hidden_size=float("inf")),
        lambda text: with_kernels(text, 0, hidden_size=16.5),
        lambda text: with_kernels(text, 1, hidden_size=16),  # as the first one
        lambda text: with_kernels(text, 0, step=5e-324, row=5e-324),
        lambda text: with_kernels(text, 0, step=1e308),
    ],
)
def test_a_damaged_file_warns_and_the_built_in_constants_stand_in(damage):
    path = save(slower())
    text = damage(path.read_text())
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.warns(UserWarning, match=r"built-in constants until `vledge calibrate`"):
        assert costs() is DEFAULT
    vledge.plan([3], nn.LSTM(2, 3))
    save(slower())
    assert costs() == slower()


def with_kernels(text, place, **constants):
    stored = json.loads(text)
    stored["costs"]["kernels"]["lstm"][place].update(constants)
    return json.dumps(stored)


def changed(text, name, value):
    stored = json.loads(text)
    stored["costs"][name] = value
    return json.dumps(stored)


def test_a_write_that_fails_leaves_the_old_file(monkeypatch):
    path = save(slower())

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("vledge.planning.store.os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        save(slower(2.0))
    assert os.listdir(path.parent) == [path.name]
    assert costs() == slower()


def test_calibration_measures_all_that_plans_need():
    measured = calibrate(seconds=0.0)
    assert set(measured.kernels) == set(DEFAULT.kernels)
    assert set(measured.overheads) == set(DEFAULT.overheads)
    assert set(measured.small) == set(DEFAULT.small) == set(FORMS)
    assert Costs.from_dict(json.loads(json.dumps(measured.as_dict()))) == measured
    for table in measured.kernels.values():
        assert table[-1].row > 3 * table[0].row, "512 hidden units take more than 16"


def test_the_fit_finds_constants_and_drops_what_would_be_negative():
    terms = np.array([[1, 2, 5], [1, 40, 3], [1, 7, 90], [1, 300, 400], [1, 1, 1]], float)
    np.testing.assert_allclose(_nonnegative(terms, terms @ [3, 0.5, 2], np.ones(5)), [3, 0.5, 2])
    fitted = _nonnegative(terms, terms @ [3, -0.01, 2], np.ones(5))
    assert fitted[1] == 0
    np.testing.assert_allclose(fitted, [3, 0, 2], rtol=0.1)


def test_a_calibration_counts_its_figures():
    """Before each of them, and once at the end, where all are done."""
    from vledge.planning import calibrate

    seen = []
    calibrate(0, lambda done, total: seen.append((done, total)))
    total = seen[-1][1]
    assert seen == [(done, total) for done in range(total + 1)]


def test_what_threads_were_found_to_take_is_in_force_once_there_are_several():
    measured = Costs.from_dict(
        {**DEFAULT.as_dict(), "source": "a test", "sharing": {"meeting_nanoseconds": 321}}
    )
    save(measured)
    code = (
        "import numpy as np, vledge\n"
        "from vledge import nn\n"
        "from vledge._ext.recurrent import limits\n"
        "weights = {'weight_ih_l0': (32, 4), 'weight_hh_l0': (32, 8)}\n"
        "layer = nn.LSTM.from_weights({n: np.zeros(s, np.float32) for n, s in weights.items()})\n"
        "for count in (1, 2):\n"
        "    vledge.set_num_threads(count)\n"
        "    layer(np.zeros((3, 4, 4), np.float32))\n"
        "    print(limits()['meeting_nanoseconds'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.split() == ["100", "321"]


@pytest.mark.parametrize("sharing", [{"cores": 3}, {"meeting_nanoseconds": 0}, {"meeting": 1}])
def test_what_no_limit_of_sharing_is_is_refused(sharing):
    with pytest.raises(ValueError, match="which no limit of sharing is"):
        Costs.from_dict({**DEFAULT.as_dict(), "sharing": sharing})
