"""The benchmark of archives: scripts that are stopped, files of each kind, memory that stays."""

from dataclasses import replace

import pytest

from tests.peers import peer

pa = peer("pyarrow")
peer("onnx")

from benchmarks.score import __main__ as measured  # noqa: E402
from benchmarks.score import archive, many  # noqa: E402

CASE = replace(archive.CASES[0], rows=200)


def test_a_script_that_is_stopped_is_judged_by_the_steps_that_it_has_run(tmp_path):
    peer("torch")
    files = archive.write_archive(tmp_path / "in", CASE, 2)
    archive.save_model(tmp_path, CASE)
    stopped = measured.turn("torch", CASE, tmp_path, files, (1, 1), limit=0)
    assert 0 < stopped.share < 1
    assert stopped.rate(200) == pytest.approx(200 * stopped.share / stopped.seconds)
    whole = measured.turn("torch", CASE, tmp_path, files, (1, 1), limit=100)
    assert whole.share == 1


def test_the_table_marks_what_was_stopped():
    done, half = measured.Turn(2.0, 1.0, 1.0), measured.Turn(2.0, 2.0, 0.5)
    times = {
        (engine, way): half if engine == "torch" else done
        for engine in measured.ENGINES
        for way in measured.WAYS
    }
    told = measured.table(CASE, times, 10**6)
    assert "| 1 x 1 | 100 | 100 | 50* | 100 | 1.00; CPU 1.00 | 200, 50, 200 |" in told
    assert "having run 50% of all steps or more" in told
    assert measured.best([half, measured.Turn(3.0, 1.0, 1.0)]) == measured.Turn(3.0, 1.0, 1.0)


def test_the_same_sequences_in_a_file_of_each_kind(monkeypatch):
    monkeypatch.setattr(measured, "KIND_ROWS", 50)
    lines = measured.kinds([CASE], rounds=1).splitlines()
    assert lines[3] == "| case | rows | .parquet | .arrow | .npz |"
    assert lines[5].startswith("| many short ones | 50 | ")


def test_memory_stays_where_it_is_however_many_sequences(monkeypatch):
    """`python -m benchmarks.score.many` does it with ten million."""
    monkeypatch.setattr(many, "EACH", 25_000)
    line, well = many.many(0.25, memory=30_000_000)
    assert well, line
    assert line.startswith("250,000 sequences of 2 to 12 steps in ")
