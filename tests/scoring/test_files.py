"""``vledge score``: files of every kind into one result each, whatever is wrong with some."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import vledge
from tests.scoring.archives import (
    FEATURES,
    layer,
    numbers,
    pa,
    pq,
    sequences,
    table,
    weights,
    write_archive,
)
from tests.scoring.models import save_model
from vledge.integrations.arrow import Scorer
from vledge.scoring.files.fragments import Fragment, find_fragments
from vledge.scoring.files.manifest import Manifests
from vledge.scoring.pipeline import Finished, Job, Written, score

ROOT = Path(vledge.__file__).parents[1]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    vledge.save_weights(path, weights())
    return path


def in_a_process(*arguments, **options):
    """The command, started in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "vledge", "score", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options,
    )  # fmt: skip


def left_behind(folder):
    """Scratch files."""
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def check_results(sources, out, names=("last",), **options):
    for source in sources:
        want = Scorer(layer(), "frames", list(names), **options)(pq.read_table(source))
        assert pq.read_table(out / source.name).equals(want), source


def test_each_file_becomes_one_and_keeps_its_columns(vledge_command, tmp_path, model):
    sources = write_archive(tmp_path / "in")
    out = tmp_path / "out"
    status, printed, said = vledge_command(
        "score", tmp_path / "in" / "*.parquet", "--model", model, "--input", "x=frames",
        "--output-column", "last", "--output-column", "every=output", "--output", out,
    )  # fmt: skip
    assert status == 0, said
    assert "3 scored" in printed
    assert "150 in" in printed
    for source in sources:
        want = Scorer(layer(), "frames", {"last": "last", "every": "output"})(pq.read_table(source))
        assert pq.read_table(out / source.name).equals(want)
    assert not left_behind(out)


@pytest.mark.parametrize("memory", ["10kB", "200KB", "512MB"])
@pytest.mark.parametrize("group", [7, 1000])
def test_windows_of_any_size_give_the_same(vledge_command, tmp_path, model, memory, group):
    sources = write_archive(tmp_path / "in", row_group_size=group)
    out = tmp_path / "out"
    status, _, said = vledge_command(
        "score", tmp_path / "in", "--model", model, "--output", out, "--memory", memory,
        "--keep", "id",
    )  # fmt: skip
    assert status == 0, said
    for source in sources:
        found, whole = pq.read_table(out / source.name), Scorer(layer())(pq.read_table(source))
        assert found.equals(whole.drop(["frames"]))


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_files(vledge_command, tmp_path, model, kind):
    frames = table(sequences(60))
    path = tmp_path / "in.arrow"
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(str(path), frames.schema) as writer:
        writer.write_table(frames, max_chunksize=13)
    status, _, said = vledge_command("score", path, "--model", model, "--output", tmp_path / "out")
    assert status == 0, said
    assert pq.read_table(tmp_path / "out" / "in.parquet").equals(Scorer(layer())(frames))


def test_npz_files_are_a_row_for_each_array(vledge_command, tmp_path, model):
    arrays = sequences(9)
    np.savez(tmp_path / "in.npz", **{f"s{i}": a.astype(np.float64) for i, a in enumerate(arrays)})
    for memory in ("1kB", "1GB"):
        out = tmp_path / memory
        status, _, said = vledge_command(
            "score", tmp_path / "in.npz", "--model", model, "--output", out, "--keep", "name",
            "--memory", memory,
        )  # fmt: skip
        assert status == 0, said
        found = pq.read_table(out / "in.parquet")
        assert found["name"].to_pylist() == [f"s{i}" for i in range(9)]
        want = Scorer(layer())(table(arrays))
        np.testing.assert_array_equal(numbers(found["last"]), numbers(want["last"]))


def test_a_long_table_whose_sequences_lie_across_windows(vledge_command, tmp_path, model):
    arrays = sequences(50)
    ids = np.repeat([f"device {i}" for i in range(50)], [len(a) for a in arrays])
    flat = np.concatenate(arrays)
    columns = {"device": ids, **{name: flat[:, i] for i, name in enumerate("xyz")}}
    path = tmp_path / "long.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=17)
    for memory in ("2kB", "1GB"):
        out = tmp_path / memory
        status, _, said = vledge_command(
            "score", path, "--model", model, "--id", "device", "--input", "x,y,z",
            "--memory", memory, "--output", out,
        )  # fmt: skip
        assert status == 0, said
        found = pq.read_table(out / "long.parquet")
        want = Scorer(layer())(table(arrays))
        assert found["device"].to_pylist() == [f"device {i}" for i in range(50)]
        np.testing.assert_array_equal(numbers(found["last"]), numbers(want["last"]))


def test_an_id_that_comes_again_in_a_later_window_is_an_error(vledge_command, tmp_path, model):
    ids = np.repeat([1, 2, 3, 1], 30)
    columns = {"device": ids, **{name: np.ones(120, np.float32) for name in "xyz"}}
    pq.write_table(pa.table(columns), tmp_path / "long.parquet", row_group_size=10)
    status, _, said = vledge_command(
        "score", tmp_path / "long.parquet", "--model", model, "--id", "device", "--input", "x,y,z",
        "--memory", "1kB", "--output", tmp_path / "out",
    )  # fmt: skip
    assert status == 1
    assert "long.parquet: row 90: device 1 comes again" in said


def test_a_whole_model(vledge_command, tmp_path):
    path = save_model(tmp_path / "model.onnx")
    sources = write_archive(tmp_path / "in")
    status, _, said = vledge_command(
        "score", tmp_path / "in", "--model", path, "--input", "x=frames", "--output-column",
        "score=logits", "--output", tmp_path / "out", "--keep", "id",
    )  # fmt: skip
    assert status == 0, said
    for source in sources:
        want = Scorer(path, "frames", {"score": "logits"})(pq.read_table(source)).drop(["frames"])
        assert pq.read_table(tmp_path / "out" / source.name).equals(want)


# ---- what is wrong with some


def test_no_column_that_fits_is_said_with_the_types_that_there_are(vledge_command, tmp_path, model):
    pq.write_table(pa.table({"frames": ["text"], "n": [1]}), tmp_path / "a.parquet")
    status, _, said = vledge_command(
        "score", tmp_path / "a.parquet", "--model", model, "--output", tmp_path / "out"
    )
    assert status == 1
    assert (
        "a.parquet: which column is the input 'x' read from? There are 'frames' (string), " in said
    )
    assert "'n' (int64)" in said
    assert "--input column, names it" in said


def test_a_damaged_file_among_many_fails_alone(vledge_command, tmp_path, model):
    sources = write_archive(tmp_path / "in", files=6)
    whole = sources[1].read_bytes()
    sources[1].write_bytes(whole[: len(whole) // 2])
    changed = bytearray(sources[3].read_bytes())
    changed[200:900] = os.urandom(700)
    sources[3].write_bytes(changed)
    sources[4].write_bytes(b"")
    out = tmp_path / "out"
    status, printed, said = vledge_command(
        "score", tmp_path / "in", "--model", model, "--output", out
    )
    assert status == 1
    assert "3 scored" in printed
    for bad in (1, 3, 4):
        assert f"part-{bad}.parquet: " in said
        assert not (out / sources[bad].name).exists()
    check_results([sources[i] for i in (0, 2, 5)], out)
    assert not left_behind(out)


def test_a_schema_that_does_not_fit_names_file_column_type_and_what_was_expected(
    vledge_command, tmp_path, model
):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"frames": ["text"]}), tmp_path / "in" / "a.parquet")
    status, _, said = vledge_command(
        "score",
        tmp_path / "in",
        "--model",
        model,
        "--input",
        "frames",
        "--output",
        tmp_path / "out",
    )
    assert status == 1
    assert "a.parquet: column 'frames' is string" in said
    assert "expected 3 features a step" in said


def test_bad_rows_are_counted_and_placed(vledge_command, tmp_path, model):
    arrays = sequences(30)
    arrays[4] = None
    arrays[17] = np.full((2, FEATURES), np.inf, np.float32)
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "a.parquet"
    pq.write_table(table(arrays), source, row_group_size=5)
    out = tmp_path / "out"
    options = ("--model", model, "--output", out, "--memory", "10kB")
    status, _, said = vledge_command("score", source, *options)
    assert status == 1
    assert "a.parquet: row 4 (null)" in said
    assert not (out / "a.parquet").exists()
    for on_bad, rows in (("null", 30), ("skip", 28)):
        status, printed, said = vledge_command("score", source, *options, "--on-bad", on_bad)
        assert status == 0, said
        assert "row 4 (null), row 17 (NaN or infinity)" in printed
        check_results([source], out, on_bad=on_bad)
        assert pq.read_table(out / "a.parquet").num_rows == rows
        told = json.loads((out / "_vledge" / "a.parquet.json").read_text())
        assert told["bad"]["counts"] == {"null": 1, "NaN or infinity": 1}
        assert told["bad"]["places"] == [[4, "null"], [17, "NaN or infinity"]]


def test_a_full_disk_ends_the_run_and_leaves_what_is_finished(tmp_path, model):
    """The system refuses to let files grow beyond a size, as a full disk does."""
    (tmp_path / "in").mkdir()
    for name, rows in (("a", 20), ("b", 20_000), ("c", 20)):
        pq.write_table(table(sequences(rows, longest=4)), tmp_path / "in" / f"{name}.parquet")
    out = tmp_path / "out"
    most = 200_000
    done = in_a_process(
        tmp_path / "in", "--model", model, "--output", out,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )  # fmt: skip
    _, said = done.communicate(timeout=120)
    assert done.returncode == 1
    assert "b.parquet: cannot be written: " in said
    check_results([tmp_path / "in" / "a.parquet"], out)
    assert not (out / "b.parquet").exists()
    assert not left_behind(out)


# ---- going on


def test_a_run_goes_on_where_it_was(vledge_command, tmp_path, model):
    sources = write_archive(tmp_path / "in", files=4)
    out = tmp_path / "out"
    command = ("score", tmp_path / "in", "--model", model, "--output", out)
    assert vledge_command(*command)[0] == 0
    times = {source.name: (out / source.name).stat().st_mtime_ns for source in sources}
    pq.write_table(table(sequences(9, seed=99)), sources[0])
    (out / sources[1].name).unlink()
    (out / "_vledge" / f"{sources[2].name}.json").write_text("{half of a mani")
    status, printed, _ = vledge_command(*command)
    assert status == 0
    assert "3 scored, 1 were done before" in printed
    check_results(sources, out)
    assert (out / sources[3].name).stat().st_mtime_ns == times[sources[3].name]
    assert "0 scored, 4 were done before" in vledge_command(*command)[1]
    assert "4 scored" in vledge_command(*command, "--no-resume")[1]


def test_what_a_killed_run_has_left_is_removed_by_the_next_one(vledge_command, tmp_path, model):
    """Beside files that are done, too: another worker may have finished them."""
    write_archive(tmp_path / "in", files=2)
    out = tmp_path / "out"
    command = ("score", tmp_path / "in", "--model", model, "--output", out)
    assert vledge_command(*command)[0] == 0
    (out / ".part-1.parquet.0123abcd.tmp").write_bytes(b"PAR1")
    (out / "_vledge" / ".part-0.parquet.json.0123abcd.tmp").write_bytes(b"{")
    (out / ".another.parquet.0123abcd.tmp").write_bytes(b"of another run")
    assert "0 scored, 2 were done before" in vledge_command(*command)[1]
    assert [path.name for path in left_behind(out)] == [".another.parquet.0123abcd.tmp"]


def test_the_output_folder_is_not_listed_for_each_file(
    vledge_command, tmp_path, model, monkeypatch
):
    """Listing takes as long as the folder is large: over 100,000 files it took most of the time."""
    write_archive(tmp_path / "in", files=12, rows=5)
    listed = []

    def listdir(folder, real=os.listdir):
        listed.append(folder)
        return real(folder)

    monkeypatch.setattr("vledge.machine.atomic_file.os.listdir", listdir)
    command = ("score", tmp_path / "in", "--model", model, "--output", tmp_path / "out")
    assert "12 scored" in vledge_command(*command)[1]
    assert len([folder for folder in listed if str(tmp_path / "out") in str(folder)]) <= 2


def test_a_run_that_is_told_to_stop_leaves_nothing_half_done(tmp_path, model):
    (source,) = write_archive(tmp_path / "in", files=1, rows=2000)
    out = tmp_path / "out"
    stop = threading.Event()
    job = Job(Scorer(model, "frames", memory=100_000), Manifests(str(out), {}))
    fragment = Fragment(str(source), str(out / source.name))
    assert any(isinstance(event, Finished) for event in score([fragment], job, stop))
    assert not stop.is_set()  # which is for the caller to set
    shutil.rmtree(out)
    events = score([fragment], job, stop)
    assert isinstance(next(events), Written)
    stop.set()
    assert not any(isinstance(event, Finished) for event in events)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("change", ["model", "outputs", "on_bad", "keep"])
def test_another_model_or_option_scores_again(vledge_command, tmp_path, model, change):
    write_archive(tmp_path / "in", files=2)
    command = ["score", tmp_path / "in", "--model", model, "--output", tmp_path / "out"]
    assert vledge_command(*command)[0] == 0
    if change == "model":
        vledge.save_weights(model, weights(seed=5))
    else:
        command += {
            "outputs": ["--output-column", "last", "--output-column", "h_n"],
            "on_bad": ["--on-bad", "skip"],
            "keep": ["--keep", "id"],
        }[change]
    assert "2 scored" in vledge_command(*command)[1]


def test_a_checksum_knows_a_file_that_was_copied(vledge_command, tmp_path, model):
    (source,) = write_archive(tmp_path / "in", files=1)
    command = ("score", source, "--model", model, "--output", tmp_path / "out", "--checksum")
    assert vledge_command(*command)[0] == 0
    os.utime(source, (1, 1))
    assert "0 scored, 1 were done before" in vledge_command(*command)[1]
    changed = bytearray(source.read_bytes())
    about = source.stat()
    changed[300] ^= 1
    source.write_bytes(changed)
    os.utime(source, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert "were done before" not in vledge_command(*command)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_whole_files_and_goes_on(tmp_path, number):
    model = tmp_path / "model.safetensors"
    vledge.save_weights(model, weights("LSTM", hidden_size=256))
    sources = write_archive(tmp_path / "in", files=12, rows=400)
    out = tmp_path / "out"
    run = in_a_process(tmp_path / "in", "--model", model, "--output", out, "--keep", "id")
    while not list(out.glob("_vledge/*.json")):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.01)
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    done = list(out.glob("_vledge/*.json"))
    assert 0 < len(done) < len(sources)
    if number == signal.SIGINT:
        assert "the same command goes on" in said
        assert "Traceback" not in said
        assert not left_behind(out)
    again = in_a_process(tmp_path / "in", "--model", model, "--output", out, "--keep", "id")
    printed, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert "were done before" in printed
    score = Scorer(model)
    for source in sources:
        want = score(pq.read_table(source)).drop(["frames"])
        assert pq.read_table(out / source.name).equals(want)
    assert not left_behind(out)


def test_ctrl_c_does_not_wait_for_a_batch(tmp_path):
    """One whose run takes many seconds."""
    model = tmp_path / "model.safetensors"
    vledge.save_weights(model, weights("LSTM", hidden_size=1024))
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "a.parquet"
    pq.write_table(table([np.ones((4_000, FEATURES), np.float32)] * 64), source)
    out = tmp_path / "out"
    run = in_a_process(source, "--model", model, "--output", out)
    while not left_behind(out):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.01)
    time.sleep(0.5)
    start = time.monotonic()
    run.send_signal(signal.SIGINT)
    run.wait(timeout=60)
    took = time.monotonic() - start
    assert run.returncode == 130
    assert not left_behind(out)
    assert took < 1, took  # 0.1 s where nothing else runs


# ---- which files


def test_folders_keep_their_subfolders_and_hidden_files_are_left_out(tmp_path):
    for name in ("in/day=1/a.parquet", "in/day=2/a.parquet", "in/_old/b.parquet", "in/.c.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_fragments([str(tmp_path / "in")], "out")
    assert [f.target for f in found] == ["out/day=1/a.parquet", "out/day=2/a.parquet"]
    found = find_fragments([str(tmp_path / "in" / "*" / "a.parquet")], "out")
    assert [f.target for f in found] == ["out/day=1/a.parquet", "out/day=2/a.parquet"]


def test_files_that_would_be_lost_are_refused(tmp_path):
    for name in ("a.parquet", "a.npz", "b.csv"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="would both be written to"):
        find_fragments([str(tmp_path)], "out")
    with pytest.raises(ValueError, match="would be written over"):
        find_fragments([str(tmp_path / "a.parquet")], str(tmp_path))
    with pytest.raises(ValueError, match="ends in"):
        find_fragments([str(tmp_path / "b.csv")], "out")
    with pytest.raises(ValueError, match="there is no file"):
        find_fragments([str(tmp_path / "*.pq")], "out")


@pytest.mark.parametrize("kind", ["month_day_nano_interval", "run_end_encoded"])
def test_a_column_that_parquet_does_not_hold_fails_its_file_alone(
    vledge_command, tmp_path, model, kind
):
    write_archive(tmp_path / "in", files=1, rows=5)
    odd = {
        "month_day_nano_interval": lambda: pa.array([pa.MonthDayNano([1, 2, 3])] * 5),
        "run_end_encoded": lambda: pa.RunEndEncodedArray.from_arrays(pa.array([5]), pa.array([1])),
    }[kind]()
    rows = table(sequences(5), when=odd)
    with pa.ipc.new_file(str(tmp_path / "in" / "a.arrow"), rows.schema) as writer:
        writer.write_table(rows)
    command = ("score", tmp_path / "in", "--model", model, "--output", tmp_path / "out")
    status, _, said = vledge_command(*command)
    assert status == 1
    assert f"a.arrow: column 'when' is {kind}" in said
    assert "--keep" in said
    assert pq.read_table(tmp_path / "out" / "part-0.parquet").num_rows == 5
    status, _, said = vledge_command(*command, "--keep", "id")
    assert status == 0, said


def test_columns_of_one_name_are_an_error_that_says_so(vledge_command, tmp_path, model):
    whole = table(sequences(5))
    twice = pa.Table.from_arrays([*whole.columns, whole["id"]], names=["id", "frames", "id"])
    pq.write_table(twice, tmp_path / "in.parquet")
    command = (
        "score", tmp_path / "in.parquet", "--model", model, "--output", tmp_path / "out",
    )  # fmt: skip
    status, _, said = vledge_command(*command)
    assert status == 1
    assert "there are 2 columns 'id'" in said
    status, _, said = vledge_command(*command, "--keep", "frames")
    assert status == 0, said
    frames = pa.Table.from_arrays([whole["frames"]] * 2, names=["frames"] * 2)
    with pytest.raises(ValueError, match="there are 2 columns 'frames'"):
        Scorer(layer(), "frames")(frames)


# ---- memory


def test_memory_is_bounded_whatever_the_files_size(tmp_path, model):
    """One row group of 300 MB of values, in 40 MB."""
    rows, steps = 250_000, 100
    values = pa.array(np.tile(np.arange(300, dtype=np.float32), rows))
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * steps)
    frames = pa.ListArray.from_arrays(offsets, pa.FixedSizeListArray.from_arrays(values, FEATURES))
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"frames": frames}), source, row_group_size=rows)
    peaks = {}
    for name, files in (("few", rows // 100), ("all", rows)):
        pq.write_table(pa.table({"frames": frames.slice(0, files)}), source, row_group_size=rows)
        code = (
            "import sys; from vledge.cli import main\n"
            f"status = main(['score', {str(source)!r}, '--model', {str(model)!r}, '--output', "
            f"{str(tmp_path / name)!r}, '--memory', '40MB', '--keep', 'frames'])\n"
            # not ru_maxrss, which begins with that of the process that started this one
            "held = open('/proc/self/status').read().partition('VmHWM:')[2]\n"
            "print('peak', int(held.split()[0]) * 1024)\n"
            "sys.exit(status)"
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        peaks[name] = int(done.stdout.split("peak")[1])
    assert peaks["all"] - peaks["few"] < 60e6, peaks


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bad", {"counts": True, "places": []}),
        ("bad", {"counts": {"null": {}}, "places": []}),
        ("bad", {"counts": {}, "places": [5]}),
        ("bad", {"counts": {}, "places": [["a", "b"]]}),
        ("bad", []),
        ("rows", "many"),
        ("written", None),
    ],
)
def test_a_manifest_of_other_types_is_none(vledge_command, tmp_path, model, field, value):
    write_archive(tmp_path / "in", files=1)
    out = tmp_path / "out"
    command = ["score", tmp_path / "in", "--model", model, "--output", out, "--input", "frames"]
    status, _, said = vledge_command(*command)
    assert status == 0, said
    path = out / "_vledge" / "part-0.parquet.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    status, printed, said = vledge_command(*command)
    assert status == 0, said
    assert "1 scored" in printed


def test_many_files_are_each_looked_up_once(tmp_path, monkeypatch):
    for i in range(200):
        (tmp_path / f"{i:03}.parquet").touch()
    asked = []
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: asked.append(path) or real(path))
    assert len(find_fragments([str(tmp_path)], str(tmp_path / "out"))) == 200
    assert len(asked) <= 400
