"""Layers with drawn weights and batches of the lengths that strategies must all agree on."""

import numpy as np

from vledge import nn

KINDS = (
    "lstm",
    "lstm_proj",
    "lstm_hard",
    "gru",
    "gru_reset_before",
    "gru_reset_before_hard",
    "rnn_tanh",
    "rnn_relu",
    "indrnn",
)

LENGTHS = {
    "drawn": (5, 1, 9, 3, 9, 2, 7),
    "length 1": (1, 1, 1, 1),
    "equal": (6, 6, 6, 6, 6),
    "one very long": (3, 1, 2, 120, 4, 1, 2, 3),
    "one sequence": (11,),
}


def make_layer(kind, num_layers=1, bidirectional=False, dtype="float32", batch_first=True, seed=0):
    """A layer of 5 inputs and 7 hidden units."""
    options = {
        "num_layers": num_layers,
        "bidirectional": bidirectional,
        "batch_first": batch_first,
        "dtype": dtype,
    }
    if kind.endswith("hard"):
        options["recurrent_activation"] = ("hard_sigmoid", 0.2, 0.5)
    if kind.startswith("rnn"):
        layer = nn.RNN(5, 7, nonlinearity=kind[4:], **options)
    elif kind.startswith("gru"):
        layer = nn.GRU(5, 7, reset_after="before" not in kind, **options)
    elif kind == "indrnn":
        layer = nn.IndRNN(5, 7, **options)
    else:
        layer = nn.LSTM(5, 7, proj_size=3 if kind.endswith("proj") else 0, **options)
    generator = np.random.default_rng(seed)
    layer.load_state_dict(
        {
            name: generator.uniform(-0.4, 0.4, declared.shape)
            for name, declared in layer._declared.items()
        }
    )
    return layer


def make_sequences(lengths, dtype="float32", seed=1):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal((n, 5)).astype(dtype) for n in lengths]


def make_state(layer, sequences, seed=2):
    generator = np.random.default_rng(seed)
    zero = layer.zero_state(sequences)
    arrays = zero if isinstance(zero, tuple) else (zero,)
    drawn = tuple(generator.uniform(-1, 1, a.shape).astype(a.dtype) for a in arrays)
    return drawn if len(drawn) > 1 else drawn[0]


def rectangle(sequences, batch_first=True, extra=2):
    """Padded with what must not matter, to more steps than the longest has."""
    steps = max(map(len, sequences)) + extra
    padded = np.full((len(sequences), steps, sequences[0].shape[1]), np.nan, sequences[0].dtype)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded if batch_first else np.ascontiguousarray(padded.swapaxes(0, 1))


def alone(layer, sequences, hx=None):
    """Each sequence in a batch of its own: (outputs, final state), the definition of all."""
    outputs, states = [], []
    for b, sequence in enumerate(sequences):
        own = None if hx is None else each(hx, lambda s, b=b: s[:, b : b + 1])
        x = sequence[None] if layer.batch_first else sequence[:, None]
        output, state = layer(x, own)
        outputs.append(output[0] if layer.batch_first else output[:, 0])
        states.append(state)
    return outputs, joined(states)


def joined(states):
    """States of one sequence each as one."""
    if isinstance(states[0], tuple):
        return tuple(np.concatenate(s, axis=1) for s in zip(*states, strict=True))
    return np.concatenate(states, axis=1)


def each(hx, function):
    return tuple(map(function, hx)) if isinstance(hx, tuple) else function(hx)


def assert_same(got, want, tolerance):
    """Lists, tuples and arrays."""
    if isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            assert_same(one, other, tolerance)
        return
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)
