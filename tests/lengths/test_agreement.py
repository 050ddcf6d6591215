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
    make_layer,
    make_sequences,
    make_state,
    rectangle,
)

TOLERANCE = {"float32": 1e-6, "float64": 1e-14}
BOTH_DIRECTIONS = {
    "padded": {},
    "packed": {},
}
FORWARDS = {}


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
    for (one, got), (other, want) in itertools.combinations(results.items(), 2):
        try:
            assert_same(got, want, TOLERANCE[dtype])
        except AssertionError as error:
            raise AssertionError(f"{one} and {other}: {error}") from error


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("given_state", [False, True])
@pytest.mark.parametrize("strategy", [*BOTH_DIRECTIONS, *FORWARDS])
def test_forms_of_input(strategy, given_state, bidirectional, batch_first):
    """A rectangle with lengths or a mask, a PackedSequence and a list: the output in the same."""
    if bidirectional and strategy in FORWARDS:
        pytest.skip("forwards only: test_backward_direction_is_refused")
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
