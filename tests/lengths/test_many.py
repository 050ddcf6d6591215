"""run_many: sequences from an iterator, results in order and as they end, in few rows."""

import numpy as np
import pytest

import vledge
from tests.lengths.cases import alone, assert_same, each, make_layer, make_sequences, make_state
from vledge import nn
from vledge.shipped import japanese_vowels

LENGTHS = (5, 1, 9, 700, 3, 9, 2, 7, 1, 4, 30, 2)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("lanes", [1, 3, 32])
@pytest.mark.parametrize(
    ("kind", "bidirectional", "strategy"),
    [
        ("lstm", False, None),
        ("gru", False, "lanes"),
        ("gru", True, None),
        ("rnn_relu", False, "bucketed"),
    ],
)
def test_results_are_those_of_each_sequence_alone(kind, bidirectional, strategy, lanes, ordered):
    layer, sequences = make_layer(kind, 2, bidirectional), make_sequences(LENGTHS)
    hx = make_state(layer, len(LENGTHS))

    def own_state(place, sequence):
        assert sequence is sequences[place]
        return None if place == 4 else each(hx, lambda s: s[:, place : place + 1])

    for state in hx if isinstance(hx, tuple) else (hx,):
        state[:, 4] = 0
    outputs, states = alone(layer, sequences, hx)
    results = list(
        vledge.run_many(
            layer, iter(sequences), lanes=lanes, strategy=strategy, initial_state=own_state,
            ordered=ordered,
        )
    )  # fmt: skip
    places = [result.place for result in results]
    assert sorted(places) == list(range(len(LENGTHS)))
    if ordered:
        assert places == sorted(places)
    elif lanes == 3:
        assert places != sorted(places)
    for place, output, state in results:
        assert_same(output, outputs[place], 1e-6)
        assert_same(state, each(states, lambda s, b=place: s[:, b : b + 1]), 1e-6)


@pytest.mark.parametrize("strategy", ["lanes", "bucketed"])
def test_an_iterator_without_end_is_read_as_rows_become_free(strategy):
    layer = make_layer("gru")
    asked = 0

    def endless():
        nonlocal asked
        generator = np.random.default_rng(0)
        while True:
            asked += 1
            yield generator.standard_normal((int(generator.integers(1, 20)), 5)).astype("f4")

    results = vledge.run_many(layer, endless(), lanes=4, strategy=strategy, ordered=False)
    for done in range(100):
        next(results)
        read = done + 4 if strategy == "lanes" else done // 32 * 32 + 32
        assert asked <= read


def test_a_row_that_is_free_is_taken_by_the_next_sequence():
    """One long sequence, many short ones: they go through beside it, not after it."""
    layer = make_layer("gru")
    sequences = make_sequences((400, *(20,) * 30))
    ended = [r.place for r in vledge.run_many(layer, sequences, lanes=3, ordered=False)]
    assert ended.index(0) > 25


def test_rows_are_full():
    """While sequences come, more than three rows in four are busy at every step."""
    layer = make_layer("gru")
    generator = np.random.default_rng(4)
    sequences = make_sequences(generator.integers(5, 400, 200))
    sizes, full = [], []

    def model(packed, hx):
        sizes.extend(packed.batch_sizes.tolist())
        return layer(packed, hx)

    def coming():
        yield from sequences
        full.extend(sizes)

    done = list(vledge.run_many(model, coming(), lanes=16, strategy="lanes"))
    assert sum(sizes) == sum(map(len, sequences))
    assert len(done) == 200
    assert len(full) > 0.8 * len(sizes)
    assert min(full) > 12


def test_short_sequences_share_rounds():
    """Python's work is for each call of the model: twelve steps at least."""
    layer = make_layer("gru")
    sequences = make_sequences(np.random.default_rng(4).integers(1, 30, 200))
    steps = []

    def model(packed, hx):
        steps.append(len(packed.batch_sizes))
        return layer(packed, hx)

    results = list(vledge.run_many(model, sequences, lanes=16, strategy="lanes"))
    assert min(steps[:-1]) >= 12
    for (_, output, _), sequence in zip(results, sequences, strict=True):
        assert_same(output, layer(sequence)[0], 1e-6)


def test_a_module_of_whole_sequences():
    """The shipped classifier: bidirectional, a row of logits for each sequence."""
    model, test = japanese_vowels.load(), japanese_vowels.load_test_set()
    results = list(vledge.run_many(model, iter(test.series), lanes=16))
    assert all(result.state is None for result in results)
    logits = np.stack([result.output for result in results])
    np.testing.assert_allclose(logits, test.logits, rtol=0, atol=1e-5)


def test_a_module_that_carries_its_state():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = make_layer("lstm", 2)
            self.out = nn.Linear(7, 3)
            self.out.load_state_dict({"weight": np.eye(3, 7), "bias": np.arange(3)})

        def forward(self, packed, hx=None):
            output, hx = self.rnn(packed, hx)
            return output._replace(data=self.out(output.data)), hx

    tagger, sequences = Tagger(), make_sequences(LENGTHS)
    outputs, states = alone(tagger.rnn, sequences)
    for strategy in ("lanes", "bucketed"):
        for place, output, state in vledge.run_many(tagger, sequences, lanes=5, strategy=strategy):
            assert_same(output, outputs[place][:, :3] + np.arange(3, dtype="f4"), 1e-6)
            assert_same(state, tuple(s[:, place : place + 1] for s in states), 1e-6)


def test_progress_counts_what_has_ended():
    seen = []
    layer, sequences = make_layer("gru"), make_sequences(LENGTHS)
    for strategy in ("lanes", "bucketed"):
        seen.clear()
        list(vledge.run_many(layer, sequences, lanes=3, strategy=strategy, progress=seen.append))
        assert seen == list(range(1, len(LENGTHS) + 1))


def test_no_sequences():
    assert list(vledge.run_many(make_layer("gru"), [])) == []
    assert list(vledge.run_many(make_layer("gru"), [], strategy="bucketed")) == []


def test_wrong_arguments():
    layer, sequences = make_layer("gru"), make_sequences((3, 2))
    with pytest.raises(ValueError, match="lanes must be at least 1"):
        vledge.run_many(layer, sequences, lanes=0)
    with pytest.raises(ValueError, match="strategy is 'padded', expected \"lanes\""):
        vledge.run_many(layer, sequences, strategy="padded")
    with pytest.raises(ValueError, match="cannot run the backward direction"):
        vledge.run_many(make_layer("gru", bidirectional=True), sequences, strategy="lanes")
    for strategy in ("lanes", "bucketed"):
        for wrong, message in (
            (np.zeros((0, 5), "f4"), r"sequence 2 has shape \[0, 5\]"),
            (np.zeros(5, "f4"), r"sequence 2 has shape \[5\]"),
            (np.zeros((2, 4), "f4"), "sequence 2 has 4 features of float32, those before it 5"),
            (np.zeros((2, 5)), "sequence 2 has 5 features of float64"),
        ):
            with pytest.raises(ValueError, match=message):
                list(vledge.run_many(layer, [*sequences, wrong], strategy=strategy))
    with pytest.raises(TypeError, match="lanes need a model that gives"):
        list(vledge.run_many(lambda packed, hx: packed, sequences, strategy="lanes"))
    with pytest.raises(TypeError, match=r"an array \[1, 3\] for 2 sequences"):
        list(vledge.run_many(lambda packed: np.zeros((1, 3)), sequences))


# ---- what is moved as bytes must be numbers, and rows must stay as wide as they were


@pytest.mark.parametrize("strategy", ["lanes", "bucketed"])
@pytest.mark.parametrize(
    "sequence",
    [
        np.full((4, 5), 1.0, object),
        np.full((4, 5), None),
        np.array([["a"] * 5] * 4),
        np.zeros((4, 5), "V8"),
        np.zeros((4, 5), "M8[s]"),
        np.zeros((4, 5), [("a", "f4")]),
    ],
)
def test_sequences_of_what_is_no_number(strategy, sequence):
    layer, good = make_layer("gru"), make_sequences((3,))
    for sequences in ([sequence], [*good, sequence], [sequence] * 70):
        with pytest.raises((ValueError, TypeError), match="sequence"):
            list(vledge.run_many(layer, sequences, strategy=strategy))
        with pytest.raises((ValueError, TypeError), match="sequence"):
            list(vledge.run_many(lambda packed, hx=None: (packed, hx), sequences))


def changing(change):
    """A model whose output's rows are not in every round as they were."""
    rounds = 0

    def model(packed, hx):
        nonlocal rounds
        rounds += 1
        state = np.zeros((1, int(packed.batch_sizes[0]), 2), np.float32)
        return packed._replace(data=change(packed.data, rounds)), state

    return model


@pytest.mark.parametrize(
    "change",
    [
        lambda data, rounds: np.repeat(data, rounds, 1),
        lambda data, rounds: np.repeat(data, 3 - rounds, 1),
        lambda data, rounds: data.astype("f8" if rounds > 1 else "f4"),
        lambda data, rounds: data.astype("f4" if rounds > 1 else "f8"),
        lambda data, rounds: data if rounds == 1 else data[:, None],
        lambda data, rounds: data if rounds == 1 else data[:, 0],
        lambda data, rounds: data.astype(object),
        lambda data, rounds: np.full(data.shape, None),
        lambda data, rounds: data[:-1],
        lambda data, rounds: data.tolist(),
    ],
)
def test_models_whose_rows_change_from_round_to_round(change):
    sequences = make_sequences((400, 300, 5, 290))
    with pytest.raises((TypeError, ValueError, AttributeError)):
        list(vledge.run_many(changing(change), sequences, lanes=2, strategy="lanes"))


def test_rows_of_several_axes():
    """As convolutions and attention give them."""
    sequences = make_sequences((400, 300, 5, 290))
    model = changing(lambda data, rounds: np.stack([data, -data], 1))
    for place, output, _ in vledge.run_many(model, sequences, lanes=2, strategy="lanes"):
        np.testing.assert_array_equal(output[:, 0], sequences[place])
        np.testing.assert_array_equal(output[:, 1], -sequences[place])
