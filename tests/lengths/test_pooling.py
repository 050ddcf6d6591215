"""Last outputs, means, maxima, cuts and windows, in every form of output."""

import numpy as np
import pytest

import vledge
from tests.lengths.cases import assert_same, make_layer, make_sequences, rectangle

LENGTHS = (5, 1, 9, 3, 9)


def forms(sequences):
    """(output, keywords) of the same sequences: padded both ways, packed both ways, a list."""
    lengths = [len(s) for s in sequences]
    for batch_first in (True, False):
        yield rectangle(sequences, batch_first), {"lengths": lengths, "batch_first": batch_first}
    yield vledge.pack_sequence(sequences, enforce_sorted=False), {}
    yield sequences, {}


def test_last_mean_and_max_in_every_form():
    sequences = make_sequences(LENGTHS)
    for output, named in forms(sequences):
        for function, want in (
            (vledge.last_output, [s[-1] for s in sequences]),
            (vledge.mean_over_steps, [s.mean(axis=0) for s in sequences]),
            (vledge.max_over_steps, [s.max(axis=0) for s in sequences]),
        ):
            assert_same(function(output, **named), np.stack(want), 1e-6)
    packed = vledge.pack_sequence(sorted(sequences, key=len)[::-1])
    want = np.stack([s[-1] for s in sorted(sequences, key=len)[::-1]])
    assert_same(vledge.last_output(packed), want, 0)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_last_output_of_two_directions_is_h_n(kind, layers):
    layer, sequences = make_layer(kind, layers, bidirectional=True), make_sequences(LENGTHS)
    outputs, state = layer(sequences, strategy="packed")
    h_n = state[0] if kind == "lstm" else state
    want = np.concatenate((h_n[-2], h_n[-1]), axis=1)
    for output, named in forms(outputs):
        assert_same(vledge.last_output(output, **named, bidirectional=True), want, 0)
    with pytest.raises(ValueError, match="5 features are not those of two directions"):
        vledge.last_output(sequences, bidirectional=True)


def test_pooling_of_nothing_is_refused():
    x = np.zeros((2, 3, 4), "f4")
    for function in (vledge.last_output, vledge.mean_over_steps, vledge.max_over_steps):
        with pytest.raises(ValueError, match="sequence 1 has no step to take"):
            function(x, [3, 0], batch_first=True)
        with pytest.raises(ValueError, match="needs lengths"):
            function(x)


def test_pooling_does_not_write_to_its_argument():
    sequences = make_sequences(LENGTHS)
    for output, named in forms(sequences):
        before = np.copy(output.data if isinstance(output, vledge.PackedSequence) else output[0])
        vledge.mean_over_steps(output, **named)
        vledge.last_output(output, **named)
        after = output.data if isinstance(output, vledge.PackedSequence) else output[0]
        np.testing.assert_array_equal(after, before)


def test_truncate():
    sequences, ends = make_sequences(LENGTHS), (4, 1, 2, 3, 7)
    cut = [s[:n] for s, n in zip(sequences, ends, strict=True)]
    for output, named in forms(sequences):
        got = vledge.truncate(output, ends, batch_first=named.get("batch_first", False))
        if isinstance(got, vledge.PackedSequence):
            got = vledge.unpack_sequence(got)
        elif isinstance(got, np.ndarray):
            rows = got if named["batch_first"] else got.swapaxes(0, 1)
            assert rows.shape[:2] == (5, 7)
            assert all(not row[n:].any() for row, n in zip(rows, ends, strict=True))
            got = [row[:n] for row, n in zip(rows, ends, strict=True)]
        assert_same(got, cut, 0)
    for wrong, message in (((5, 1, 10, 3, 9), r"lengths\[2\] is 10"), ((1,), "1 lengths for 5")):
        with pytest.raises(ValueError, match=message):
            vledge.truncate(sequences, wrong)


@pytest.mark.parametrize("hop", [None, 1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 3, 4, 20])
@pytest.mark.parametrize("steps", [0, 1, 3, 7, 8])
def test_windows(steps, size, hop):
    x = np.arange(2 * steps).reshape(steps, 2)
    whole = vledge.windows(x, size, hop, tail="drop")
    step = hop or size
    starts = [s for s in range(0, steps, step) if s + size <= steps]
    assert_same(whole, [x[s : s + size] for s in starts], 0)
    assert all(w.base is x or w.base is x.base for w in whole)
    kept = vledge.windows(x, size, hop)
    assert_same(kept[: len(whole)], whole, 0)
    if step <= size:  # every step is in some window
        seen = {v for w in kept for v in w.ravel().tolist()}
        assert seen == set(x.ravel().tolist())
    assert len(kept) - len(whole) in (0, 1)


def test_windows_run_as_sequences():
    layer, (x,) = make_layer("gru"), make_sequences((11,))
    got, _ = layer(vledge.windows(x, 4, 3), strategy="packed")
    assert_same(
        got, [layer(x[None, s : s + 4])[0][0] for s in (0, 3, 6)] + [layer(x[None, 9:])[0][0]], 1e-6
    )


def test_windows_wrong_arguments():
    for arguments in ((0,), (2, 0), (2, -1)):
        with pytest.raises(ValueError, match="size and hop must be at least 1"):
            vledge.windows(np.arange(4), *arguments)
    with pytest.raises(ValueError, match="tail is 'pad'"):
        vledge.windows(np.arange(4), 2, tail="pad")
    with pytest.raises(ValueError, match="no dimensions"):
        vledge.windows(3, 2)
