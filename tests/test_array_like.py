"""Every door of Python that takes arrays, tried with the forms in which the same numbers come.

Byte order, alignment and strides are how numbers lie in memory: layers, cells, steps, streams,
sessions and the functions for lengths give the same for all of them. A list of sequences runs
packed, and is never stacked.
"""

import numpy as np
import pytest

import vledge
from tests.kernels.test_doors import doubled, moved
from tests.peers import peer
from vledge import lengths, nn
from vledge.array_like import array_of
from vledge.packing import PackedSequence

I, H, B, T = 4, 70, 3, 5  # noqa: E741 - the sizes' names of the field
LENGTHS = np.array([2, 5, 3])
KINDS = ["RNN", "LSTM", "GRU", "IndRNN"]
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3, "IndRNN": 1}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.3, 0.3, shape).astype(np.float32)


def layer(kind, **options):
    built = getattr(nn, kind)(I, H, **options)
    built.load_state_dict(
        {n: numbers(*d.shape, seed=i) for i, (n, d) in enumerate(built._declared.items())}
    )
    return built


def filled(module):
    module.load_state_dict({n: numbers(*d.shape) + 1 for n, _, _, d in module._named_declared()})
    return module


PADDED = numbers(T, B, I)
SEQUENCES = [PADDED[:n, b].copy() for b, n in enumerate(LENGTHS)]
PACKED = vledge.pack_sequence(SEQUENCES, enforce_sorted=False)
H_0 = numbers(1, B, H, seed=7)
MASK = np.arange(T) < LENGTHS[:, None]


def hx(kind, h):
    return (h, H_0) if kind == "LSTM" else h


def many(kind, sequences):
    return [tuple(one) for one in vledge.lengths.run_many(layer(kind), sequences)]


def streamed(module, x, **options):
    stream = module.stream(batch=x.shape[1 if x.ndim == 3 else 0], **options)
    return stream.push(x) if x.ndim == 3 else stream.step(x)


def with_state(h):
    stream = layer("GRU").stream(batch=B)
    stream.state = {"h": h}
    return stream.step(PADDED[0])


def fed(x):
    stream = layer("GRU", bidirectional=True).stream(batch=B, lookahead=1)
    return [stream.push(x), stream.step(x[0])]


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.fc = layer("GRU"), filled(nn.Linear(H, 2))

    def forward(self, x):
        return self.fc(self.gru(x)[0])


ELEMENTWISE = [nn.Tanh(), nn.ReLU(), nn.GELU(), nn.Softmax(-1), nn.LogSoftmax(-1), nn.PReLU()]

# name -> (call with one array, an array that it takes)
DOORS = {
    **{f"{k} input": (layer(k), PADDED) for k in KINDS},
    **{f"{k} bidirectional": (layer(k, bidirectional=True), PADDED) for k in KINDS},
    **{f"{k} hx": (lambda a, k=k: layer(k)(PADDED, hx(k, a)), H_0) for k in KINDS},
    **{
        f"{k} packed": (lambda a, k=k: layer(k)(PACKED._replace(data=a)), PACKED.data)
        for k in KINDS
    },
    **{f"{k} lengths": (lambda a, k=k: layer(k)(a, lengths=LENGTHS), PADDED) for k in KINDS},
    **{f"{k} mask": (lambda a, k=k: layer(k)(a, mask=MASK), PADDED) for k in KINDS},
    **{
        f"GRU {s}": (lambda a, s=s, o=o: layer("GRU")(a, lengths=LENGTHS, strategy=s, **o), PADDED)
        for s in lengths.STRATEGIES
        for o in [{"window": 2} if s == "streaming" else {}]
    },
    "lengths": (lambda a: layer("GRU")(PADDED, lengths=a), LENGTHS),
    **{f"{k} list": (lambda a, k=k: layer(k)([a, *SEQUENCES]), SEQUENCES[1]) for k in KINDS},
    **{f"{k} step": (layer(k).step, PADDED[0]) for k in KINDS},
    **{f"{k} step state": (lambda a, k=k: layer(k).step(PADDED[0], hx(k, a)), H_0) for k in KINDS},
    **{
        f"{k} cell": (filled(getattr(nn, f"{k}Cell")(I, H)), PADDED[0])
        for k in ("RNN", "LSTM", "GRU")
    },
    "cell state": (lambda a: filled(nn.GRUCell(I, H))(PADDED[0], a), H_0[0]),
    **{f"{k} stream step": (lambda a, k=k: streamed(layer(k), a), PADDED[0]) for k in KINDS},
    **{f"{k} stream push": (lambda a, k=k: streamed(layer(k), a), PADDED) for k in KINDS},
    "stream batch first": (
        lambda a: layer("GRU", batch_first=True).stream(batch=T).push(a),
        PADDED,
    ),
    "stream state": (with_state, H_0),
    "stream lookahead": (fed, PADDED),
    "module stream step": (lambda a: streamed(Chain(), a), PADDED[0]),
    "module stream push": (lambda a: streamed(Chain(), a), PADDED),
    "convolution stream": (
        lambda a: filled(nn.Conv1d(B, 3, 2)).stream(batch=T).push(a),
        PADDED,
    ),
    **{f"{k} run_many": (lambda a, k=k: many(k, [a, *SEQUENCES]), SEQUENCES[1]) for k in KINDS},
    "run_many bucketed": (
        lambda a: [tuple(o) for o in lengths.run_many(layer("GRU"), [a], strategy="bucketed")],
        SEQUENCES[1],
    ),
    "initial_state": (lambda a: lengths.initial_state(layer("GRU"), given=a, sequences=B), H_0),
    "initial_state learned": (
        lambda a: lengths.initial_state(layer("GRU"), learned=a, sequences=B),
        H_0[:, 0],
    ),
    "plan": (lambda a: [p.strategy for p in vledge.plan(a, layer("GRU")).ranking], LENGTHS),
    "last_output": (lambda a: lengths.last_output(a, LENGTHS), PADDED),
    "mean_over_steps": (lambda a: lengths.mean_over_steps(a, LENGTHS), PADDED),
    "truncate": (lambda a: lengths.truncate(a, LENGTHS), PADDED),
    "windows": (lambda a: lengths.windows(a, 2), PADDED),
    "pack_padded_sequence": (
        lambda a: vledge.pack_padded_sequence(a, LENGTHS, enforce_sorted=False),
        PADDED,
    ),
    "pack_padded_sequence lengths": (
        lambda a: vledge.pack_padded_sequence(PADDED, a, enforce_sorted=False),
        LENGTHS,
    ),
    "pack_sequence": (vledge.pack_sequence, PADDED),
    "pad_sequence": (lambda a: vledge.pad_sequence([a, *SEQUENCES]), SEQUENCES[0]),
    "unpad_sequence": (lambda a: vledge.unpad_sequence(a, LENGTHS), PADDED),
    "pad_packed_sequence": (
        lambda a: vledge.pad_packed_sequence(PACKED._replace(data=a)),
        PACKED.data,
    ),
    "unpack_sequence": (lambda a: vledge.unpack_sequence(PACKED._replace(data=a)), PACKED.data),
    "invert_permutation": (vledge.invert_permutation, np.array([2, 0, 1])),
    "Linear": (filled(nn.Linear(I, 3)), PADDED),
    "LayerNorm": (filled(nn.LayerNorm(I)), PADDED),
    "BatchNorm1d": (filled(nn.BatchNorm1d(B)), PADDED),
    "Conv1d": (filled(nn.Conv1d(B, 4, 2)), PADDED),
    "Embedding": (filled(nn.Embedding(9, 2)), LENGTHS),
    "EmbeddingBag": (filled(nn.EmbeddingBag(9, 2)), LENGTHS[None]),
    "Flatten": (nn.Flatten(), PADDED),
    **{type(one).__name__: (filled(one) if one._declared else one, PADDED) for one in ELEMENTWISE},
    "load_state_dict": (
        lambda a: filled(nn.Linear(H, B)).load_state_dict({"weight": a, "bias": a[:, 0]}) and 1,
        numbers(B, H),
    ),
}
FORMS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder("S")),
    "big-endian, moved": lambda a: moved(a.astype(a.dtype.newbyteorder("S"))),
    "misaligned": moved,
    "strided": doubled,
    "Fortran order": np.asfortranarray,
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


def flat(result):
    """The arrays that a door gave, in their order."""
    if isinstance(result, (list, tuple)):
        return [array for one in result for array in flat(one)]
    return [] if result is None else [np.asarray(result)]


def assert_same(got, expected):
    for one, other in zip(flat(got), flat(expected), strict=True):
        assert one.dtype.isnative
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("door", "form"), [(door, form) for door in DOORS for form in FORMS])
def test_the_same_numbers_lying_otherwise(door, form):
    call, good = DOORS[door]
    expected = call(good)
    assert flat(expected)
    assert_same(call(FORMS[form](good)), expected)


LOOK_AT_NO_NUMBER = ("Flatten", "windows", "truncate", "last_output")


@pytest.mark.parametrize("door", [door for door in DOORS if door not in LOOK_AT_NO_NUMBER])
def test_objects_are_refused(door):
    call, good = DOORS[door]
    for wrong in (good.astype(object), np.full(good.shape, None, object), good.astype("S4")):
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            call(wrong)


def test_sessions_take_any_byte_order(tmp_path):
    from vledge.model.definition import Graph, Model, Node, ValueInfo

    infos = [ValueInfo(name, "float", ("b", I)) for name in "xy"]
    model = Model(Graph([Node("Exp", ["x"], ["y"])], infos[:1], infos[1:]), {"": 18})
    session = vledge.InferenceSession(model)
    (expected,) = session.run(None, {"x": PADDED[0]})
    for form in FORMS.values():
        np.testing.assert_array_equal(session.run(None, {"x": form(PADDED[0])})[0], expected)


# ---- lists of sequences


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_list_runs_packed(kind, bidirectional, batch_first, equal):
    built = layer(kind, batch_first=batch_first, bidirectional=bidirectional)
    sequences = [PADDED[:, b] for b in range(B)] if equal else SEQUENCES
    alone = [built(s[None] if batch_first else s[:, None]) for s in sequences]
    ways = [built, built.forward, lambda s: built(tuple(s)), lambda s: built(s, strategy="padded")]
    for way in ways:
        output, state = way(sequences)
        assert isinstance(output, list)
        for b, (y, s) in enumerate(alone):
            np.testing.assert_allclose(output[b], y.reshape(len(sequences[b]), -1), atol=1e-6)
            for got, expected in zip(flat(state), flat(s), strict=True):
                np.testing.assert_allclose(got[:, b : b + 1], expected, atol=1e-6)


def test_a_list_begins_with_its_states():
    built = layer("GRU")
    output, h_n = built(SEQUENCES, H_0)
    for b, sequence in enumerate(SEQUENCES):
        y, h = built(sequence, H_0[:, b])
        np.testing.assert_allclose(output[b], y, atol=1e-6)
        np.testing.assert_allclose(h_n[:, b], h, atol=1e-6)


@pytest.mark.parametrize("equal", [False, True])
def test_a_list_through_a_chain_of_layers(equal):
    """Embedding, recurrent layer, norm, activation, Linear: a list stays a list on the way."""
    tokens = [np.arange(n) % 7 for n in ([4, 4, 4] if equal else [2, 5, 3])]
    chain = nn.Sequential(filled(nn.Embedding(7, I)), nn.Tanh(), nn.Dropout(), nn.Identity())
    after = nn.Sequential(
        filled(nn.LayerNorm(H)), nn.ReLU(), filled(nn.Linear(H, 2)), nn.Softmax(-1)
    )
    gru = layer("GRU")
    got = after(gru(chain(tokens))[0])
    assert isinstance(got, list)
    for one, sequence in zip(got, tokens, strict=True):
        expected = after(gru(chain(sequence)[:, None])[0][:, 0])
        np.testing.assert_allclose(one, expected, atol=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: filled(nn.Conv1d(T, 2, 1))(x),
        lambda x: filled(nn.BatchNorm1d(T))(x),
        lambda x: nn.Flatten()(x),
        lambda x: vledge.pack_padded_sequence(x, [T] * len(x)),
        lambda x: vledge.unpad_sequence(x, [T] * len(x)),
        lambda x: lengths.last_output(np.zeros((2, 2, 2)), [x, x]),
        lambda x: layer("GRU", batch_first=True).stream(batch=len(x)).push(x),
        lambda x: Chain().stream(batch=len(x)).push(x),
        lambda x: layer("GRU")(np.zeros((5, 2, I), np.float32), lengths=[x, x]),
    ],
)
def test_other_doors_stack_no_list(call):
    with pytest.raises((TypeError, ValueError)) as refusal:
        call([PADDED[:, 0], PADDED[:, 1]])
    assert "inhomogeneous" not in str(refusal.value)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([], "empty list of sequences"),
        ([SEQUENCES[0], SEQUENCES[1][:, :3]], r"input_size. Expected 4, got 3"),
        ([SEQUENCES[0], SEQUENCES[1].astype(np.float64)], r"input\[1\] is float64"),
        ([SEQUENCES[0], SEQUENCES[1][:0]], "empty|Length of all samples"),
        ([SEQUENCES[0][0], SEQUENCES[1][0]], r"input\[0\] has the shape \[4\], expected \[L, 4\]"),
        ([PADDED, PADDED], r"input\[0\] has the shape \[5, 3, 4\]"),
        ([SEQUENCES[0], None], r"input\[1\]"),
        ([SEQUENCES[0], np.full((2, I), None)], r"input\[1\] is object"),
        ([[0.0, 1.0, 2.0, 3.0]], r"input\[0\] has the shape \[4\]"),
    ],
)
def test_lists_that_are_no_sequences(sequences, message):
    for run in (layer("GRU"), lambda s: layer("GRU")(s, strategy="packed")):
        with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
            run(sequences)


# ---- other libraries' arrays, without importing them


class Foreign:
    """What reads as an array and is none."""

    def __init__(self, array):
        self.array = array
        self.shape, self.ndim, self.dtype = array.shape, array.ndim, array.dtype

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)

    def __len__(self):
        return len(self.array)


NO_ARRAY = ("load_state_dict", "pack_sequence", "stream lookahead", "pad_packed_sequence")


@pytest.mark.parametrize(
    "door", [d for d in DOORS if d not in NO_ARRAY and "packed" not in d and "unpack" not in d]
)
def test_what_reads_as_an_array_is_read(door):
    call, good = DOORS[door]
    expected = call(good)
    assert_same(call(Foreign(good)), expected)


def test_torchs_tensors_and_packed_sequences():
    torch = peer("torch")
    from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

    tensors = [torch.from_numpy(s) for s in SEQUENCES]
    trained = [t.clone().requires_grad_() for t in tensors]
    for kind in KINDS:
        built = layer(kind)
        expected, state = built(PACKED)
        for given in (tensors, trained):
            theirs = pack_sequence(given, enforce_sorted=False)
            output, got = built(theirs)
            assert isinstance(output, PackedSequence)
            assert_same((output.data, got), (expected.data, state))
            assert_same(built(theirs, strategy="bucketed")[0].data, expected.data)
            assert_same(built(given), built(SEQUENCES))
        x = torch.from_numpy(PADDED)
        assert_same(built(x), built(PADDED))
        assert_same(built(x, hx(kind, torch.from_numpy(H_0))), built(PADDED, hx(kind, H_0)))
        assert_same(built(x, lengths=torch.from_numpy(LENGTHS)), built(PADDED, lengths=LENGTHS))
        assert_same(built.step(x[0]), built.step(PADDED[0]))
    theirs = pack_sequence(tensors, enforce_sorted=False)
    assert_same(vledge.pad_packed_sequence(theirs), pad_packed_sequence(theirs))
    assert_same(vledge.unpack_sequence(theirs), SEQUENCES)


def test_tensors_that_cannot_be_read_say_why():
    torch = peer("torch")
    built = layer("GRU")
    with pytest.raises(TypeError, match="input is a Tensor that cannot be read as an array: "):
        built(torch.zeros(T, B, I, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="input is float16 but the layer's weights are float32"):
        built(torch.zeros(T, B, I, dtype=torch.float16))
    with pytest.raises(TypeError, match="cannot be read as an array"):
        built(torch.zeros(T, B, I, device="meta"))


@pytest.mark.parametrize("given", [{"x": PADDED}, {1.0}, object(), (x for x in PADDED)])
def test_what_is_no_array_is_not_told_to_be_cast(given):
    """NumPy makes one object of it, which has no astype."""
    for call in (layer("GRU"), filled(nn.Linear(I, 2))):
        with pytest.raises(TypeError, match=r"input is a .* cannot be read as an array of numbers"):
            call(given)


def test_named_tuples_are_no_arrays():
    with pytest.raises(TypeError, match="input is a PackedSequence, expected an array"):
        filled(nn.Linear(I, 2))(PACKED)


def test_native_arrays_are_not_copied():
    for array in (PADDED, PADDED[::2], PADDED.T):
        assert np.shares_memory(array_of(array, "x"), array)
