"""``vledge plan`` and ``vledge calibrate`` as their user meets them."""

import io
import json

import numpy as np
import pytest

import vledge
from tests.cli.test_commands import run
from vledge.planning import cache_path, costs
from vledge.planning.defaults import DEFAULT
from vledge.shipped import japanese_vowels

LENGTHS = [7, 26, 9, 14, 400, 12]
MODEL = str(japanese_vowels.folder() / "model.safetensors")


@pytest.fixture(autouse=True)
def no_measured_constants(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "lengths.txt"
    path.write_text("7 26, 9\n14;400\n\n12\n")
    return str(path)


def planned(capsys, *arguments):
    status, out, err = run(capsys, "plan", *arguments, "--model", MODEL, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_the_table(capsys, text):
    status, out, _ = run(capsys, "plan", text, "--model", MODEL, "--threads", "1")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "6 sequences, 468 steps, longest 400: 80% of the padded batch is padding"
    assert lines[1] == "GRU 12 to 48, bidirectional; 1 thread, as list"
    names = [line.split()[0].rstrip(",") for line in lines[3:7]]
    best = vledge.plan(LENGTHS, japanese_vowels.load(), threads=1).best
    assert names[0] == best.strategy
    assert names[3] == "rectangle"
    assert sorted(names[:3]) == ["bucketed", "packed", "padded"]
    assert "80 % of the padded work is padding" in out
    assert "left out: lanes" in out
    assert "constants: built in" in lines[-1]


@pytest.mark.parametrize("form", ["npy", "csv", "named column", "numbered column", "stdin"])
def test_every_source_gives_the_same_plan(form, capsys, text, tmp_path, monkeypatch):
    want = planned(capsys, text)
    arguments = [str(tmp_path / "lengths.csv")]
    if form == "npy":
        arguments = [str(tmp_path / "lengths.npy")]
        np.save(arguments[0], np.array(LENGTHS, np.int32))
    elif form == "csv":
        (tmp_path / "lengths.csv").write_text("length\n" + "\n".join(map(str, LENGTHS)))
    elif form == "named column":
        lines = "".join(f"x,{n}\n" for n in LENGTHS)
        (tmp_path / "lengths.csv").write_text("name,frames\n" + lines)
        arguments += ["--column", "frames"]
    elif form == "numbered column":
        (tmp_path / "lengths.csv").write_text("".join(f"1,{n}\n" for n in LENGTHS))
        arguments += ["--column", "2"]
    else:
        arguments = ["-"]
        monkeypatch.setattr("sys.stdin", io.StringIO(" ".join(map(str, LENGTHS))))
    assert planned(capsys, *arguments) == want
    assert want["steps"] == sum(LENGTHS)


@pytest.mark.parametrize("converted", [False, True])
def test_the_nodes_of_a_graph(converted, capsys, text, tmp_path):
    pytest.importorskip("onnx")
    from tests.graph.test_session_strategy import two_nodes

    path = str(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(two_nodes()[0])
    if converted:
        assert run(capsys, "convert", path, str(tmp_path / "model.safetensors"))[0] == 0
        path = str(tmp_path / "model.safetensors")
    _, out, err = run(capsys, "plan", text, "--model", path, "--threads", "1")
    assert err == ""
    assert out.splitlines()[1].startswith("LSTM 6 to 9, bidirectional; GRU 9 to 9; 1 thread")
    _, out, _ = run(capsys, "plan", text, "--model", path, "--layer", "two", "--json")
    (layer,) = json.loads(out)["layers"]
    assert (layer["cell"], layer["hidden_size"], layer["bidirectional"]) == ("gru", 9, False)
    status, _, err = run(capsys, "plan", text, "--model", path, "--layer", "three")
    assert (status, err.count("\n")) == (1, 1)
    assert "recurrent layers that a plan is for: 'one', 'two'" in err


def test_json_has_what_the_plan_has(capsys, text):
    found = planned(capsys, text, "--threads", "2", "--form", "padded")
    made = vledge.plan(LENGTHS, japanese_vowels.load(), threads=2, form="padded")
    assert [one["strategy"] for one in found["ranking"]] == [p.strategy for p in made.ranking]
    assert found["ranking"][0]["seconds"] == made.best.seconds
    assert found["rectangle"]["wasted"] == made.rectangle.wasted
    assert found["layers"][0]["hidden_size"] == 48


def test_a_memory_limit(capsys, text):
    found = planned(capsys, text, "--memory-limit", "1.2MB")
    assert found["memory_limit"] == 1_200_000
    fits = {one["strategy"]: one["fits"] for one in found["ranking"]}
    assert fits["packed"]
    assert not fits["padded"]
    status, out, _ = run(capsys, "plan", text, "--model", MODEL, "--memory-limit", "1kB")
    assert status == 1
    assert out.endswith("no strategy stays within the memory limit\n")


def test_the_picture(capsys, text, tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / "out.png"
    status, _, err = run(capsys, "plan", text, "--model", MODEL, "--plot", str(target))
    assert (status, err) == (0, "")
    assert target.read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_the_plan():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from vledge.planning.picture import _histogram, _times, draw_shape

    made = vledge.plan(LENGTHS, japanese_vowels.load(), threads=1)
    histogram, shape, times = Figure().subplots(1, 3)
    _histogram(histogram, made)
    assert sum(bar.get_height() for bar in histogram.patches) == len(LENGTHS)
    draw_shape(shape, made)
    heights = [stairs.get_data().values.tolist() for stairs in shape.patches]
    assert heights == [[400] * 6, sorted(LENGTHS, reverse=True)]
    _times(times, made)
    drawn = [bar.get_width() for bar in times.patches]
    assert drawn == [p.seconds * 1e3 for p in (*made.ranking, made.rectangle)][::-1]


def test_without_matplotlib_the_error_names_it(capsys, text, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    target = tmp_path / "out.png"
    status, _, err = run(capsys, "plan", text, "--model", MODEL, "--plot", str(target))
    assert status == 1
    assert "pip install 'vledge[plot]'" in err
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "content", "arguments", "words"),
    [
        ("a.txt", "3\n4 x\n", [], "a.txt:2: 'x' is no whole number"),
        ("a.txt", "3\n2.5\n", [], "a.txt:2: '2.5' is no whole number"),
        ("a.txt", "9" * 30, [], "no whole number"),
        ("a.txt", "\n", [], "holds no lengths"),
        ("a.txt", "3 -1", [], "a length is -1"),
        ("a.txt", "3", ["--column", "1"], "--column goes with a .csv file"),
        ("a.txt", "3", ["--memory-limit", "much"], "'much' is no number of bytes"),
        ("a.txt", "3", ["--layer", "decoder"], "recurrent layers that a plan is for: 'rnn.'"),
        ("a.csv", "", [], "is empty"),
        ("a.csv", "a,b\n1,2\n", [], "--column; there are: a, b"),
        ("a.csv", "a,b\n1,2\n", ["--column", "c"], "--column; there are: a, b"),
        ("a.csv", "a,b\n1,2\n3\n", ["--column", "b"], "a.csv:3: has 1 columns, expected 2"),
        ("a.csv", "a,b\n1,x\n", ["--column", "b"], "a.csv:2: 'x' is no whole number"),
    ],
)
def test_wrong_input_is_told_with_its_place(name, content, arguments, words, capsys, tmp_path):
    (tmp_path / name).write_text(content)
    status, out, err = run(capsys, "plan", str(tmp_path / name), "--model", MODEL, *arguments)
    assert status == 1
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_an_array_of_fractions_is_refused(capsys, tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    status, _, err = run(capsys, "plan", str(tmp_path / "a.npy"), "--model", MODEL)
    assert status == 1
    assert "expected whole numbers in one dimension, got 1-D float64" in err


@pytest.mark.parametrize(
    ("text", "count"), [("500", 500), ("64MB", 64_000_000), ("1.5 kb", 1500), ("2KiB", 2048)]
)
def test_numbers_of_bytes(text, count):
    from vledge.cli.plan import nbytes

    assert nbytes(text) == count


def test_calibrate_writes_what_plans_use(capsys, text):
    assert not cache_path().exists()
    status, out, _ = run(capsys, "calibrate", "--seconds", "0")
    assert status == 0
    assert str(cache_path()) in out
    assert costs() is not DEFAULT
    assert planned(capsys, text)["constants"].startswith("measured on 2")
    status, _, err = run(capsys, "calibrate", "--seconds", "-1")
    assert status == 1
    assert "--seconds" in err
