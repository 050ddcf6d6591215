"""Every strategy against every other on the same numbers, in every form of input."""

import itertools

import numpy as np
import pytest

import vledge
from tests.lengths.cases import (
    KINDS,
    LENGTHS,
    alone,
    assert_same,
    each,
    joined,
    make_layer,
    make_sequences,
    make_state,
    rectangle,
)
from vledge.lengths.strategies.bucketed import buckets, real_step_nbytes

TOLERANCE = {"float32": 1e-6, "float64": 1e-14}
BOTH_DIRECTIONS = {
    "padded": {},
    "packed": {},
    "bucketed": {},
    "bucketed, 2 rows": {"rows": 2},
    "bucketed, little memory": {"memory_limit": 500},
}
FORWARDS = {
    "lanes": {},
    "lanes, 1": {"lanes": 1},
    "lanes, 3": {"lanes": 3},
    "streaming, 1": {"window": 1},
    "streaming, 4": {"window": 4},
    "streaming, 1000": {"window": 1000},
}


def masked(layer, sequences, hx):
    """The sequences' steps at drawn places of an array, with what must not matter between them."""
    generator = np.random.default_rng(3)
    steps = 2 * max(map(len, sequences))
    mask = np.zeros((len(sequences), steps), bool)
    for row, sequence in zip(mask, sequences, strict=True):
        row[generator.choice(steps, len(sequence), replace=False)] = True
    x = np.full((*mask.shape, 5), np.nan, sequences[0].dtype)
    x[mask] = np.concatenate(sequences)
    output, state = layer(x, hx, mask=mask, strategy="masked")
    return [row[valid] for row, valid in zip(output, mask, strict=True)], state


def strategies(bidirectional):
    return BOTH_DIRECTIONS if bidirectional else BOTH_DIRECTIONS | FORWARDS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(
    ("layers", "bidirectional"), [(1, False), (1, True), (2, False), (3, True)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_agrees(kind, layers, bidirectional, lengths, dtype):
    layer = make_layer(kind, layers, bidirectional, dtype)
    sequences = make_sequences(lengths, dtype)
    hx = make_state(layer, len(lengths))
    results = {"alone": alone(layer, sequences, hx)}
    for name, options in strategies(bidirectional).items():
        results[name] = layer(sequences, hx, strategy=name.split(",")[0], **options)
    results["masked"] = masked(layer, sequences, hx)
    for (one, got), (other, want) in itertools.combinations(results.items(), 2):
        try:
            assert_same(got, want, TOLERANCE[dtype])
        except AssertionError as error:
            raise AssertionError(f"{one} and {other}: {error}") from error


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("given_state", [False, True])
@pytest.mark.parametrize(
    ("strategy", "bidirectional"),
    [(name, two) for two in (False, True) for name in strategies(two)],
)
def test_forms_of_input(strategy, given_state, bidirectional, batch_first):
    """A rectangle with lengths or a mask, a PackedSequence and a list: the output in the same."""
    options = {"strategy": strategy.split(",")[0], **strategies(False)[strategy]}
    layer = make_layer("lstm", 2, bidirectional, batch_first=batch_first)
    lengths = LENGTHS["drawn"]
    sequences = make_sequences(lengths)
    hx = make_state(layer, len(lengths)) if given_state else None
    outputs, state = alone(layer, sequences, hx)

    x = rectangle(sequences, batch_first)
    got, end = layer(x, hx, lengths=lengths, semantics="onnx", **options)
    rows = got if batch_first else got.swapaxes(0, 1)
    assert got.shape[:2] == x.shape[:2]
    assert_same([row[:n] for row, n in zip(rows, lengths, strict=True)], outputs, 1e-6)
    assert all(not row[n:].any() for row, n in zip(rows, lengths, strict=True))
    assert_same(end, state, 1e-6)

    mask = np.arange(max(lengths) + 2) < np.array(lengths)[:, None]
    masked, end = layer(x, hx, mask=mask, semantics="onnx", **options)
    np.testing.assert_allclose(masked, got, rtol=0, atol=1e-6)
    assert_same(end, state, 1e-6)

    for enforce_sorted in (False, True):
        order = np.argsort(lengths)[::-1] if enforce_sorted else np.arange(len(lengths))
        packed = vledge.pack_sequence([sequences[i] for i in order], enforce_sorted=enforce_sorted)
        own = None
        if hx is not None:
            own = tuple(np.ascontiguousarray(s[:, order]) for s in hx)
        got, end = layer(packed, own, **options)
        assert got.batch_sizes is packed.batch_sizes
        assert got.sorted_indices is packed.sorted_indices
        assert_same(vledge.unpack_sequence(got), [outputs[i] for i in order], 1e-6)
        assert_same(end, tuple(s[:, order] for s in state), 1e-6)

    got, end = layer(sequences, hx, **options)
    assert_same(got, outputs, 1e-6)
    assert_same(end, state, 1e-6)


@pytest.mark.parametrize("strategy", ["lanes", "streaming"])
def test_backward_direction_is_refused(strategy):
    layer = make_layer("gru", bidirectional=True)
    options = {"window": 4} if strategy == "streaming" else {}
    with pytest.raises(ValueError, match=f'"{strategy}".*cannot run the backward direction'):
        layer(make_sequences((3, 2)), strategy=strategy, **options)


def test_carried_windows_must_not_overlap():
    layer, sequences = make_layer("gru"), make_sequences((9, 4))
    with pytest.raises(ValueError, match="carry=False is for windows that overlap"):
        layer(sequences, strategy="streaming", window=4, hop=2)
    for window, hop in ((0, None), (4, 5), (4, 0)):
        with pytest.raises(ValueError, match="expected 1 <= hop <= window"):
            layer(sequences, strategy="streaming", window=window, hop=hop)


@pytest.mark.parametrize(("window", "hop"), [(4, 4), (4, 1), (5, 3), (1, 1), (20, 7)])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_windows_that_begin_anew(kind, window, hop):
    """Each step's output is that of the window that was the first to hold it."""
    layer, lengths = make_layer(kind, 2), (13, 1, 4, 9, 5)
    sequences, hx = make_sequences(lengths), make_state(layer, len(lengths))
    outputs, states = [], []
    for b, sequence in enumerate(sequences):
        own = each(hx, lambda s, b=b: s[:, b : b + 1])
        parts, start, done = [], 0, 0
        while done < len(sequence):
            output, state = layer(sequence[None, start : start + window], own)
            parts.append(output[0, done - start :])
            done = min(start + window, len(sequence))
            start += hop
        outputs.append(np.concatenate(parts))
        states.append(state)
    want = joined(states)
    got, end = layer(sequences, hx, strategy="streaming", window=window, hop=hop, carry=False)
    assert_same(got, outputs, 1e-6)
    assert_same(end, want, 1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_drawn_lengths_rows_and_windows(seed):
    generator = np.random.default_rng(seed)
    lengths = np.minimum(generator.lognormal(2, 1, generator.integers(1, 80)).astype(int) + 1, 300)
    layer = make_layer(KINDS[seed % len(KINDS)], 2)
    sequences, hx = make_sequences(lengths), make_state(layer, len(lengths))
    want = layer(sequences, hx, strategy="packed")
    for strategy, options in (
        ("padded", {}),
        ("bucketed", {"rows": int(generator.integers(1, 20))}),
        ("bucketed", {"memory_limit": int(generator.integers(1, 20_000))}),
        ("lanes", {"lanes": int(generator.integers(1, 20))}),
        ("streaming", {"window": int(generator.integers(1, 100))}),
    ):
        assert_same(layer(sequences, hx, strategy=strategy, **options), want, 1e-6)


def test_buckets_keep_their_budget():
    layer, lengths = make_layer("gru", 2), np.array([5, 1, 9, 3, 9, 2, 7, 40], np.int64)
    nbytes = real_step_nbytes(layer.shape)
    assert nbytes == 4 * (7 + 7)
    for rows, steps in ((2, None), (None, 12), (3, 20), (1, 100), (None, 1)):
        limit = None if steps is None else steps * nbytes
        found = list(buckets(lengths, rows, limit, nbytes))
        assert sorted(np.concatenate(found)) == list(range(8))
        for bucket in found:
            assert len(bucket) == 1 or rows is None or len(bucket) <= rows
            assert len(bucket) == 1 or steps is None or lengths[bucket].sum() <= steps
        # similar lengths together: no bucket reaches into another one
        ends = [(lengths[bucket].max(), lengths[bucket].min()) for bucket in found]
        assert all(a[1] >= b[0] for a, b in itertools.pairwise(ends))
    with pytest.raises(ValueError, match="rows must be at least 1"):
        layer(make_sequences((3, 2)), strategy="bucketed", rows=0)
    with pytest.raises(ValueError, match="memory_limit must be at least 1"):
        layer(make_sequences((3, 2)), strategy="bucketed", memory_limit=0)
