"""A table in, the same rows with a model's outputs out: layers, whole models, long tables."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import vledge
from tests.scoring.archives import FEATURES, layer, numbers, pa, sequences, table, weights
from tests.scoring.models import save_model
from vledge.integrations.arrow import Scorer
from vledge.scoring.models.batches import ROWS, padded_batches, rows_at_a_time
from vledge.scoring.tables.long_table import SeenIds

LAYERS = [
    ("GRU", {}),
    ("LSTM", {"layers": 2}),
    ("GRU", {"directions": 2}),
    ("LSTM", {"layers": 2, "directions": 2}),
    ("RNN", {}),
]


@pytest.mark.parametrize(("cell", "sizes"), LAYERS, ids=str)
def test_a_layers_outputs_are_its_own_bit_for_bit(cell, sizes):
    model = layer(cell, **sizes)
    arrays = sequences(300)
    wanted = ["last", "output", "h_n"] + (["c_n"] if cell == "LSTM" else [])
    found = Scorer(model, "frames", wanted)(table(arrays))
    assert found.column_names == ["id", "frames", *wanted]
    assert found["id"].to_pylist() == list(range(300))
    outputs, state = model(arrays)
    states = dict(zip(("h_n", "c_n"), state if cell == "LSTM" else (state,), strict=False))
    for name, array in states.items():
        np.testing.assert_array_equal(numbers(found[name]), array.swapaxes(0, 1))
    directions = sizes.get("directions", 1)
    last = states["h_n"][-directions:].swapaxes(0, 1).reshape(300, -1)
    np.testing.assert_array_equal(numbers(found["last"]), last)
    for got, want in zip(found["output"].to_pylist(), outputs, strict=True):
        np.testing.assert_array_equal(np.array(got, np.float32), want)


def test_bits_depend_neither_on_memory_nor_on_threads():
    arrays = sequences(400, longest=90)
    frames = table(arrays)
    model = layer("LSTM", hidden_size=48, directions=2)
    usual = Scorer(model, outputs=["last", "output"])(frames)
    for memory, threads in ((1, 1), (100_000, 2), (3_000_000, 1), (50_000_000, 2)):
        other = Scorer(model, outputs=["last", "output"], memory=memory, threads=threads)(frames)
        assert other.combine_chunks().equals(usual.combine_chunks()), (memory, threads)


def test_a_file_of_weights_and_the_one_column_that_fits(tmp_path):
    path = tmp_path / "model.safetensors"
    vledge.save_weights(path, weights())
    frames = table(sequences(7))
    assert Scorer(path)(frames).equals(Scorer(layer(), "frames")(frames))
    two = frames.append_column("more", frames["frames"])
    with pytest.raises(ValueError, match="which column is the input 'x' read from"):
        Scorer(path)(two)


def test_a_keras_stack_gives_its_output_and_its_last():
    stack = vledge.nn.RecurrentStack(layer(), layer("LSTM", input_size=16, hidden_size=5, seed=3))
    arrays = sequences(20)
    found = Scorer(stack, outputs=["last", "output"])(table(arrays))
    for row, array in enumerate(arrays):
        output, _ = stack([array])
        np.testing.assert_allclose(np.array(found["output"][row].as_py()), output[0], atol=1e-6)
        np.testing.assert_allclose(np.array(found["last"][row].as_py()), output[0][-1], atol=1e-6)


def test_no_rows():
    found = Scorer(layer(), "frames", ["last", "output"])(table([]))
    assert found.num_rows == 0
    assert found.schema.equals(
        Scorer(layer(), "frames", ["last", "output"]).schema(table([]).schema)
    )


def test_the_schema_is_told_before():
    for outputs in ("last", ["output", "h_n"], {"a": "last"}):
        score = Scorer(layer(), "frames", outputs)
        frames = table(sequences(5))
        assert score(frames).schema.equals(score.schema(frames.schema))


def test_a_pickled_scorer_needs_no_file(tmp_path):
    weights_path = tmp_path / "model.safetensors"
    vledge.save_weights(weights_path, weights())
    onnx_path = save_model(tmp_path / "model.onnx")
    frames = table(sequences(9))
    for path in (weights_path, onnx_path):
        score = Scorer(path, "frames")
        sent = tmp_path / "scorer.pickle"
        sent.write_bytes(pickle.dumps((score, frames, score(frames))))
        path.unlink()
        code = (
            f"import pickle; score, frames, want = pickle.load(open({str(sent)!r}, 'rb'))\n"
            "assert score(frames).equals(want)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


# ---- bad rows


def bad_table():
    arrays = sequences(6)
    arrays[2] = None
    arrays[4] = np.full((3, FEATURES), np.nan, np.float32)
    return table(arrays), arrays


def test_a_bad_row_is_an_error_that_says_where():
    frames, _ = bad_table()
    with pytest.raises(ValueError, match=r"row 2 \(null\), row 4 \(NaN or infinity\)"):
        Scorer(layer(), "frames")(frames)


def test_a_bad_rows_outputs_are_null():
    frames, arrays = bad_table()
    found = Scorer(layer(), "frames", ["last", "output", "h_n"], on_bad="null")(frames)
    assert found.num_rows == 6
    for name in ("last", "output", "h_n"):
        assert [v is None for v in found[name].to_pylist()] == [
            False,
            False,
            True,
            False,
            True,
            False,
        ]
    good = [0, 1, 3, 5]
    alone = Scorer(layer(), "frames", ["last", "output", "h_n"])(table([arrays[i] for i in good]))
    for name in ("last", "output", "h_n"):
        assert found[name].take(good).to_pylist() == alone[name].to_pylist()


def test_a_bad_row_is_left_out():
    frames, arrays = bad_table()
    found = Scorer(layer(), "frames", on_bad="skip")(frames)
    assert found["id"].to_pylist() == [0, 1, 3, 5]
    alone = Scorer(layer(), "frames")(table([arrays[i] for i in (0, 1, 3, 5)]))
    assert found["last"].to_pylist() == alone["last"].to_pylist()


@pytest.mark.parametrize(
    "kind", ["string_view()", "binary_view()", "list_(pa.string_view())"], ids=str
)
def test_rows_are_left_out_of_columns_that_arrow_takes_none_of(kind):
    kind = eval(f"pa.{kind}", {"pa": pa})
    arrays = [*sequences(3), np.zeros((0, FEATURES), np.float32), *sequences(2)]
    names = [f"name {i} that is no short one" for i in range(6)]
    if pa.types.is_list(kind):
        names = [[name] for name in names]
    frames = table(arrays).append_column("name", pa.array(names, kind))
    found = Scorer(layer(), "frames", on_bad="skip")(frames)
    assert found.schema.field("name").type == kind
    if not str(kind).startswith("binary"):
        assert found["name"].to_pylist() == names[:3] + names[4:]


@pytest.mark.parametrize("output", ["last", "output"])
def test_a_long_tables_ids_may_be_views(output):
    ids = [f"someone with a long name, {i // 4}" for i in range(12)]
    features = {f"f{i}": np.ones(12, np.float32) for i in range(FEATURES)}
    features["f0"][5] = np.nan
    options = {"id": "who", "on_bad": "skip"}
    scorer = Scorer(layer(), list(features), output, **options)
    views = scorer(pa.table({"who": pa.array(ids, pa.string_view()), **features}))
    texts = scorer(pa.table({"who": pa.array(ids), **features}))
    assert views.schema.field("who").type == pa.string_view()
    assert views.to_pylist() == texts.to_pylist()
    assert len(views) == (2 if output == "last" else 8)


def test_nothing_but_bad_rows():
    frames = table([None, np.zeros((0, FEATURES), np.float32)])
    assert Scorer(layer(), "frames", on_bad="null")(frames)["last"].to_pylist() == [None, None]
    assert Scorer(layer(), "frames", on_bad="skip")(frames).num_rows == 0


# ---- whole models


@pytest.mark.parametrize("lengths", [True, False])
def test_a_whole_models_outputs_are_those_of_each_sequence_alone(tmp_path, lengths):
    """With an input of lengths they run padded, without one only where padding does not show."""
    path = save_model(tmp_path / "model.onnx", lengths=lengths)
    session = vledge.InferenceSession(path)
    arrays = sequences(40, longest=12)
    names = ["logits", "frames_out", "frames_out:last"]
    score = Scorer(path, "frames", names)
    found = score(table(arrays))
    for row, array in enumerate(arrays):
        feed = {"x": array[np.newaxis]}
        if lengths:
            feed["lengths"] = np.array([len(array)], np.int64)
        logits, frames = session.run(["logits", "frames_out"], feed)
        np.testing.assert_allclose(found["logits"][row].as_py(), logits[0], atol=1e-6)
        np.testing.assert_allclose(np.array(found["frames_out"][row].as_py()), frames[0], atol=1e-6)
        np.testing.assert_allclose(found["frames_out:last"][row].as_py(), frames[0, -1], atol=1e-6)
    assert score.runner.pads(["logits"]) is lengths
    assert score.runner.pads(["frames_out"])


def test_a_whole_model_of_one_number_a_row_gives_a_column_of_numbers(tmp_path):
    path = save_model(tmp_path / "model.onnx", classes=1)
    found = Scorer(path, {"x": "frames"}, {"score": "logits"})(table(sequences(5)))
    assert found.schema.field("score").type == pa.float32()


def test_a_model_whose_batch_is_one(tmp_path):
    path = save_model(tmp_path / "model.onnx", lengths=False, batch=1)
    other = save_model(tmp_path / "other.onnx", lengths=False)
    arrays = sequences(8)
    found, want = (Scorer(p, "frames", "logits")(table(arrays)) for p in (path, other))
    np.testing.assert_allclose(numbers(found["logits"]), numbers(want["logits"]), atol=1e-6)


def test_a_model_whose_steps_are_fixed_takes_rows_of_as_many(tmp_path):
    path = save_model(tmp_path / "model.onnx", lengths=False, steps=6)
    arrays = [np.ones((n, FEATURES), np.float32) for n in (6, 5, 6)]
    found = Scorer(path, "frames", "logits", on_bad="null")(table(arrays))
    assert [v is None for v in found["logits"].to_pylist()] == [False, True, False]


def test_a_states_number_is_the_same_for_all(tmp_path):
    path = save_model(tmp_path / "model.onnx", state=True)
    frames = table(sequences(5))
    with pytest.raises(ValueError, match="h0"):
        Scorer(path, {"x": "frames"})
    zeros, halves = (Scorer(path, {"x": "frames"}, fixed={"h0": n})(frames) for n in (0, 0.5))
    assert zeros["logits"].to_pylist() != halves["logits"].to_pylist()
    plain = Scorer(save_model(tmp_path / "plain.onnx"), "frames")(frames)
    np.testing.assert_allclose(numbers(zeros["logits"]), numbers(plain["logits"]), atol=1e-6)


def test_steps_that_a_model_halves_are_lists_of_their_own(tmp_path):
    path = save_model(tmp_path / "model.onnx", lengths=False, halves=True)
    arrays = sequences(9, longest=20)
    arrays = [a for a in arrays if len(a) >= 2]
    found = Scorer(path, "frames", "frames_out")(table(arrays))
    assert [len(v) for v in found["frames_out"].to_pylist()] == [len(a) // 2 for a in arrays]


# ---- long tables


def long_table(arrays, order=None):
    ids = np.repeat(np.arange(len(arrays)), [len(a) for a in arrays])
    times = np.concatenate([np.arange(len(a)) for a in arrays])
    flat = np.concatenate(arrays)
    order = np.arange(len(ids)) if order is None else order
    columns = {name: flat[order, i] for i, name in enumerate("xyz")}
    return pa.table({"device": ids[order], "t": times[order], **columns})


def test_a_long_table_becomes_a_row_for_each_id():
    arrays = sequences(20)
    found = Scorer(layer(), list("xyz"), id="device", time="t")(long_table(arrays))
    assert found.column_names == ["device", "last"]
    want = Scorer(layer(), "frames")(table(arrays))
    assert found["last"].to_pylist() == want["last"].to_pylist()


def test_steps_of_a_long_table_are_in_the_order_of_time_and_their_results_in_their_rows():
    arrays = sequences(20)
    rng = np.random.default_rng(0)
    ends = np.cumsum([len(a) for a in arrays])
    order = np.concatenate(
        [end - len(a) + rng.permutation(len(a)) for a, end in zip(arrays, ends, strict=True)]
    )
    found = Scorer(layer(), list("xyz"), "output", id="device", time="t")(long_table(arrays, order))
    outputs, _ = layer()(arrays)
    np.testing.assert_array_equal(numbers(found["output"]), np.concatenate(outputs)[order])
    assert found["t"].to_pylist() == long_table(arrays, order)["t"].to_pylist()


@pytest.mark.parametrize("outputs", ["last", "output"])
def test_a_bad_step_of_a_long_table_makes_its_sequence_bad(outputs):
    arrays = sequences(4)
    arrays[2][-1, 1] = np.nan
    frames = long_table(arrays)
    score = Scorer(layer(), list("xyz"), outputs, id="device", on_bad="null")
    found = score(frames)
    nulls = [v is None for v in found[outputs].to_pylist()]
    each = [i == 2 for i in range(4)]
    assert nulls == (each if outputs == "last" else list(np.repeat(each, [len(a) for a in arrays])))
    skipped = Scorer(layer(), list("xyz"), outputs, id="device", on_bad="skip")(frames)
    assert 2 not in skipped["device"].to_pylist()
    assert skipped[outputs].to_pylist() == [v for v in found[outputs].to_pylist() if v is not None]
    with pytest.raises(ValueError, match=rf"row {sum(map(len, arrays[:2]))} \(NaN or infinity\)"):
        Scorer(layer(), list("xyz"), outputs, id="device")(frames)


def test_columns_of_a_long_table_are_numbers():
    frames = long_table(sequences(3)).append_column(
        "name", pa.array(["a"] * len(long_table(sequences(3))))
    )
    with pytest.raises(ValueError, match="column 'name' is string"):
        Scorer(layer(), ["x", "y", "name"], id="device")(frames)
    with pytest.raises(ValueError, match="2 column"):
        Scorer(layer(), ["x", "y"], id="device")(frames)


# ---- what is asked for


def test_names_that_are_not_there():
    frames = table(sequences(3))
    with pytest.raises(ValueError, match="no output 'logits': it has"):
        Scorer(layer(), "frames", "logits")
    with pytest.raises(ValueError, match="there is no column 'signal'"):
        Scorer(layer(), "signal")(frames)
    with pytest.raises(ValueError, match="there is a column 'id' already"):
        Scorer(layer(), "frames", {"id": "last"})(frames)
    with pytest.raises(ValueError, match="input is named 'x', and not 'y'"):
        Scorer(layer(), {"y": "frames"})
    with pytest.raises(ValueError, match="on_bad is 'ignore'"):
        Scorer(layer(), on_bad="ignore")
    with pytest.raises(ValueError, match="memory must be at least 1"):
        Scorer(layer(), memory=0)
    with pytest.raises(ValueError, match="give id="):
        Scorer(layer(), time="t")
    with pytest.raises(TypeError, match="model is a dict"):
        Scorer({})


@pytest.mark.parametrize("kind", ["ns", "dictionary", "date"])
def test_ids_and_times_of_any_type_that_compares(kind):
    ids = np.repeat([3, 1, 2], [2, 4, 3])
    times = np.array([1, 0, 3, 1, 0, 2, 0, 2, 1])
    x = np.arange(9, dtype=np.float32)
    make = {
        "ns": lambda a: pa.array(a + 1_000_000_001, pa.timestamp("ns")),
        "dictionary": lambda a: pa.array([f"n{one}" for one in a]).dictionary_encode(),
        "date": lambda a: pa.array(a.astype(np.int32), pa.date32()),
    }[kind]
    scorer = Scorer(layer(input_size=1), "x", id="who", time="when")
    plain = scorer(pa.table({"who": ids, "when": times, "x": x}))
    found = scorer(pa.table({"who": make(ids), "when": make(times), "x": x}))
    assert found["last"].equals(plain["last"])
    path = SeenIds("who")
    path.add(pa.chunked_array([make(np.array([3, 1]))]), np.arange(2), 0)
    with pytest.raises(ValueError, match=r"row 7: who .* comes again"):
        path.add(pa.chunked_array([make(np.array([1]))]), np.arange(1), 7)


@pytest.mark.parametrize(("column", "said"), [("who", "cannot be compared"), ("when", "no order")])
def test_an_id_or_time_of_another_type_is_named(column, said):
    rows = {"who": [1, 1], "when": [0, 1], "x": [0.5, 1.5]}
    rows[column] = pa.array([[0], [1]])
    with pytest.raises(ValueError, match=rf"column '{column}' is list<.*{said}"):
        Scorer(layer(input_size=1), "x", id="who", time="when")(pa.table(rows))


def test_missing_pyarrow_names_what_to_install():
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from vledge.integrations.arrow import Scorer\n"
        "try:\n    Scorer('model.pt')\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'vledge[arrow]'" in done.stdout


# ---- which rows run together


def test_more_rows_run_together_where_the_planner_says_that_they_cost_less():
    shape = layer(hidden_size=16).shape
    chosen = {rows_at_a_time(np.full(5_000, n), shape) for n in (3, 300)}
    assert chosen <= set(ROWS)
    assert len(chosen) == 2


def test_padded_batches_hold_every_row_once_and_little_padding():
    lengths = np.random.default_rng(0).integers(1, 300, 500)
    rows = np.flatnonzero(lengths % 7)
    seen = []
    for batch in padded_batches(lengths, rows, 8, 100_000):
        seen += batch.tolist()
        assert lengths[batch].min() >= 0.9 * lengths[batch[0]]
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] * 8 <= 100_000
    assert sorted(seen) == rows.tolist()
