"""Initial states of every source, carried ones, and what strategies make of them."""

import numpy as np
import pytest

import vledge
from tests.lengths.cases import alone, assert_same, make_layer, make_sequences, make_state


@pytest.mark.parametrize("kind", ["lstm", "lstm_proj", "gru"])
def test_zeros_are_what_none_is(kind):
    layer, sequences = make_layer(kind, 2), make_sequences((3, 5))
    zeros = vledge.initial_state(layer, 2)
    assert_same(layer(sequences, zeros, strategy="packed"), layer(sequences, strategy="packed"), 0)


def test_given_is_checked_converted_and_copied():
    layer = make_layer("lstm", dtype="float64")
    h, c = make_state(make_layer("lstm"), 3)
    state = vledge.initial_state(layer, 3, (h, c))
    assert state[0].dtype == state[1].dtype == np.float64
    state[0][:] = 0
    assert h.any()
    with pytest.raises(
        RuntimeError, match=r"Expected hidden\[0\] size \(1, 2, 7\), got \[1, 3, 7\]"
    ):
        vledge.initial_state(layer, 2, (h, c))
    with pytest.raises(TypeError, match="hx must be a tuple"):
        vledge.initial_state(layer, 3, h)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_learned_vector_begins_every_sequence(bidirectional):
    layer, sequences = make_layer("gru", 2, bidirectional), make_sequences((4, 1, 6))
    learned = make_state(layer, 1)[:, 0]
    outputs, states = alone(layer, sequences, np.repeat(learned[:, None], 3, axis=1))
    hx = vledge.initial_state(layer, 3, learned=learned)
    whole = {"padded": {}, "packed": {}, "bucketed": {"rows": 2}}
    forwards = {} if bidirectional else {"lanes": {"lanes": 2}, "streaming": {"window": 3}}
    for strategy, options in (whole | forwards).items():
        got, end = layer(sequences, hx, strategy=strategy, **options)
        assert_same(got, outputs, 1e-6)
        assert_same(end, states, 1e-6)
    one = vledge.initial_state(make_layer("gru"), 2, learned=learned[0])
    assert_same(one, np.stack([learned[:1], learned[:1]], axis=1), 0)
    with pytest.raises(ValueError, match=r"learned has shape \[3\], expected \[1, 7\]"):
        vledge.initial_state(make_layer("gru"), 2, learned=np.zeros(3))
    with pytest.raises(TypeError, match=r"learned has 1 array\(s\), the LSTM has 2"):
        vledge.initial_state(make_layer("lstm"), 2, learned=np.zeros(7))


def test_from_the_length():
    layer = make_layer("gru")
    state = vledge.initial_state(
        layer, from_length=lambda n: None if n == 2 else np.full(7, n), lengths=[3, 2, 8]
    )
    assert_same(state[0, :, 0], np.array([3, 0, 8], "f4"), 0)
    sequences = make_sequences([3, 2, 8])  # in the caller's order, though the longest runs first
    outputs, _ = alone(layer, sequences, state)
    assert_same(layer(sequences, state, strategy="packed")[0], outputs, 1e-6)


@pytest.mark.parametrize("strategy", ["padded", "packed", "bucketed", "lanes"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_streams_carried_by_their_ids(kind, strategy):
    """Pieces of three streams in other orders and company each time: as if never cut."""
    layer, streams = make_layer(kind, 2), dict(zip("abc", make_sequences((12, 9, 7)), strict=True))
    outputs, states = alone(layer, list(streams.values()))
    done = {name: [] for name in streams}
    carried = {}
    for ids, ends in (("ca", (4, 5)), ("abc", (6, 4, 7)), ("ba", (9, 12))):
        starts = [sum(map(len, done[name])) for name in ids]
        pieces = [streams[n][s:e] for n, s, e in zip(ids, starts, ends, strict=True)]
        hx = vledge.initial_state(layer, ids=ids, carried=carried)
        output, hx = layer(pieces, hx, strategy=strategy)
        vledge.keep_states(carried, ids, hx)
        for name, piece in zip(ids, output, strict=True):
            done[name].append(piece)
    assert_same([np.concatenate(parts) for parts in done.values()], outputs, 1e-6)
    end = vledge.initial_state(layer, ids="abc", carried=carried)
    assert_same(end, states, 1e-6)


def test_wrong_sources():
    layer = make_layer("gru")
    with pytest.raises(ValueError, match="given and learned are given: a state comes from one"):
        vledge.initial_state(layer, 2, make_state(layer, 2), learned=np.zeros(7))
    with pytest.raises(ValueError, match="from_length=function goes with lengths="):
        vledge.initial_state(layer, 2, ids=["a", "b"])
    with pytest.raises(ValueError, match="how many sequences"):
        vledge.initial_state(layer)
    with pytest.raises(ValueError, match="sequences is 3, but there are 2"):
        vledge.initial_state(layer, 3, ids=["a", "b"], carried={})
    with pytest.raises(ValueError, match="id 'a' is given twice"):
        vledge.initial_state(layer, ids=["a", "b", "a"], carried={})
    with pytest.raises(ValueError, match="3 ids for the states of 2 sequences"):
        vledge.keep_states({}, ["a", "b", "c"], make_state(layer, 2))
    with pytest.raises(ValueError, match="the state of sequence 1 has shape"):
        vledge.initial_state(layer, ids=["a", "b"], carried={"b": np.zeros((2, 7))})
