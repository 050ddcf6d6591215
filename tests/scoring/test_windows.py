"""How files are cut into windows, and that reading, computing and writing overlap."""

import threading

import numpy as np
import pytest

from tests.scoring.archives import layer, pa, pq, sequences, table, write_archive
from vledge.integrations.arrow import Scorer
from vledge.scoring import scorer as scorers
from vledge.scoring import windows
from vledge.scoring.files.fragments import Fragment, find_fragments
from vledge.scoring.files.manifest import Manifests
from vledge.scoring.files.result_file import GROUP_NBYTES, ResultFile
from vledge.scoring.models import batches
from vledge.scoring.models.batches import PackedBatches
from vledge.scoring.pipeline import Failed, Job, score
from vledge.scoring.windows import opened

PATIENCE = 30


def windows_of(path, scorer):
    with opened(Fragment(str(path), ""), scorer, None) as source:
        yield from source.windows(scorer)


def test_the_next_files_are_read_while_a_window_is_computed(tmp_path, monkeypatch):
    write_archive(tmp_path / "in", files=3)
    both, compute, batches_of = threading.Event(), Scorer.window, windows._parquet_batches
    read = []

    def noted(file, names, scorer):
        yield from batches_of(file, names, scorer)
        read.append(file)
        if len(read) == 2:
            both.set()

    def slow(self, *arguments):
        assert both.wait(PATIENCE), "the second file is not read while the first is computed"
        return compute(self, *arguments)

    monkeypatch.setattr(windows, "_parquet_batches", noted)
    monkeypatch.setattr(Scorer, "window", slow)
    scorer = Scorer(layer(), "frames")
    fragments = find_fragments([str(tmp_path / "in")], str(tmp_path / "out"))
    events = list(score(fragments, Job(scorer, Manifests(str(tmp_path / "out"), {}))))
    assert not [event for event in events if isinstance(event, Failed)], events


def test_windows_are_as_large_as_pays_and_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(scorers, "PAYING_NBYTES", 50_000)
    path = tmp_path / "in.parquet"
    whole = table(sequences(500))
    pq.write_table(whole, path)
    scorer = Scorer(layer(), "frames", threads=1)
    costs, rows = [], []
    for window in windows_of(path, scorer):
        costs.append(window.num_rows * scorer.row_cost(window))
        rows.append(window.num_rows)
    assert sum(rows) == 500
    assert len(rows) > 3
    assert min(rows) > 0.8 * max(rows)
    assert min(costs) > 25_000
    assert max(costs) < 75_000
    threads = Scorer(layer(), "frames", threads=4)
    assert len(list(windows_of(path, threads))) <= -(-len(rows) // 3)


def test_small_row_groups_are_put_together(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(table(sequences(100)), path, row_group_size=7)
    assert len(list(windows_of(path, Scorer(layer(), "frames")))) == 1


@pytest.mark.parametrize("name", ["frames", "of.frames"])
def test_a_large_row_group_is_read_piece_by_piece(tmp_path, name):
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(24_000_000, np.float32)), 3)
    offsets = pa.array(np.arange(0, 8_000_001, 800, dtype=np.int32))
    path = tmp_path / "in.parquet"
    column = pa.ListArray.from_arrays(offsets, flat)
    pq.write_table(pa.table({name: column}), path, use_dictionary=False, compression="none")
    nbytes = flat.nbytes
    del flat, column
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for window in windows_of(path, Scorer(layer(), name, threads=1)):
        rows += window.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 10_000
    assert most < nbytes / 3


def test_a_long_sequence_of_many_windows_is_put_together_once(tmp_path, monkeypatch):
    lengths = [3, 400, 1, 1, 250]
    ids = np.repeat(["a", "b", "c", "d", "e"], lengths)
    x = np.random.default_rng(0).standard_normal(len(ids)).astype(np.float32)
    path = tmp_path / "long.parquet"
    pq.write_table(pa.table({"who": ids, "x": x}), path)
    scorer = Scorer(layer(input_size=1), "x", id="who", memory=6 * 2_000)
    looked, firsts = [], type(scorer.long).firsts
    monkeypatch.setattr(
        type(scorer.long),
        "firsts",
        lambda self, table: looked.append(table.num_rows) or firsts(self, table),
    )
    with opened(Fragment(str(path), ""), scorer, None) as source:
        parts = list(source.whole_sequences(scorer))
    assert pa.concat_tables(parts).equals(pq.read_table(path))
    each = [part["who"].to_pylist() for part in parts]
    assert sorted(set().union(*each)) == ["a", "b", "c", "d", "e"]
    assert sum(len(set(part)) for part in each) == 5  # no id is in two parts
    assert len(looked) > 20
    assert sum(looked) < 3 * len(ids)


# ---- results


def test_results_of_small_windows_are_one_row_group(tmp_path):
    one = pa.table({"id": np.arange(10), "last": np.zeros(10, np.float32)})
    file = ResultFile(str(tmp_path / "out.parquet"), one.schema)
    for _ in range(100):
        file.write(one)
    file.commit()
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 1
    many = pa.concat_tables([one] * (GROUP_NBYTES // one.nbytes + 1))
    file = ResultFile(str(tmp_path / "out.parquet"), one.schema)
    for _ in range(3):
        file.write(many)
    file.commit()
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3


def test_only_values_that_come_again_have_a_dictionary(tmp_path):
    rows = pa.table({"id": np.arange(100), "site": ["a", "b"] * 50})
    file = ResultFile(str(tmp_path / "out.parquet"), rows.schema)
    file.write(rows)
    file.commit()
    group = pq.ParquetFile(tmp_path / "out.parquet").metadata.row_group(0)
    assert [group.column(i).has_dictionary_page for i in range(2)] == [False, True]


def test_a_file_without_rows_has_its_columns(tmp_path):
    schema = pa.schema([("id", pa.int64()), ("last", pa.list_(pa.float32(), 3))])
    file = ResultFile(str(tmp_path / "out.parquet"), schema)
    file.commit()
    assert pq.read_table(tmp_path / "out.parquet").equals(schema.empty_table())


# ---- batches


def test_batches_are_chosen_once_for_windows_alike(monkeypatch):
    chosen = []

    def choose(lengths, shape):
        chosen.append(len(lengths))
        return 64

    monkeypatch.setattr(batches, "rows_at_a_time", choose)
    batches_of = PackedBatches((layer().shape,))
    rng = np.random.default_rng(0)
    for count, longest in ((1000, 40), (1000, 40), (900, 40), (1000, 400)):
        lengths = rng.integers(1, longest, count)
        rows = np.flatnonzero(lengths % 5)
        places = np.concatenate(list(batches_of(lengths, rows, 1 << 30)))
        assert sorted(places.tolist()) == rows.tolist()
    assert len(chosen) == 2
