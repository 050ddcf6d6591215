"""RNN, LSTM and GRU against torch, live, and against the float64 definition."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vledge
from tests import reference
from vledge import nn

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN, "rnn_relu": nn.RNN}


def options_of(kind, **options):
    if kind.startswith("rnn_"):
        options["nonlinearity"] = kind[4:]
    return options


def as_numpy(state):
    return {name: tensor.numpy() for name, tensor in state.items()}


def make_pair(torch, kind, input_size, hidden_size, dtype="float32", **options):
    """(torch's module, ours with its weights)"""
    torch.manual_seed(hidden_size)
    options = options_of(kind, **options)
    name = KINDS[kind].__name__
    theirs = getattr(torch.nn, name)(
        input_size, hidden_size, **options, dtype=getattr(torch, dtype)
    )
    ours = KINDS[kind](input_size, hidden_size, **options, dtype=dtype)
    ours.load_state_dict(as_numpy(theirs.state_dict()))
    return theirs.eval(), ours


def states_of(torch, module, sequences, dtype, batched=True):
    count = module.num_layers * (2 if module.bidirectional else 1)
    rows = (sequences,) if batched else ()
    width = getattr(module, "proj_size", 0) or module.hidden_size
    h = torch.rand(count, *rows, width, dtype=getattr(torch, dtype)) - 0.5
    c = torch.rand(count, *rows, module.hidden_size, dtype=getattr(torch, dtype)) - 0.5
    return (h, c) if isinstance(module, torch.nn.LSTM) else h


def both(value, function):
    return tuple(function(v) for v in value) if isinstance(value, tuple) else function(value)


def assert_agree(got, want, dtype="float32"):
    """Arrays, packed sequences and tuples of them."""
    if hasattr(want, "batch_sizes"):
        for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
            a, b = getattr(got, field), getattr(want, field)
            assert (a is None) == (b is None)
            assert a is None or np.array_equal(a, b.numpy())
        got, want = got.data, want.data
    if isinstance(want, tuple):
        assert isinstance(got, tuple)
        for one, other in zip(got, want, strict=True):
            assert_agree(one, other, dtype)
        return
    assert got.shape == tuple(want.shape)
    assert got.dtype == np.dtype(dtype)
    tolerance = 3e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=tolerance)


SHAPES = [
    # layers, bidirectional, bias, batch_first, hidden_size, batch
    (1, False, True, False, 1, 1),
    (1, True, True, True, 3, 2),
    (2, False, False, True, 7, 5),
    (2, True, True, False, 17, 33),
    (3, False, True, False, 64, 2),
    (3, True, False, True, 100, 1),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_padded_packed_and_unbatched(torch, kind, shape, dtype):
    layers, bidirectional, bias, batch_first, hidden_size, batch = shape
    theirs, ours = make_pair(
        torch, kind, 5, hidden_size, dtype, num_layers=layers, bidirectional=bidirectional,
        bias=bias, batch_first=batch_first,
    )  # fmt: skip
    steps = 9
    axes = (batch, steps) if batch_first else (steps, batch)
    x = torch.randn(*axes, 5, dtype=getattr(torch, dtype))
    hx = states_of(torch, theirs, batch, dtype)
    hx_np = both(hx, lambda s: s.numpy())
    assert_agree(ours(x.numpy()), theirs(x), dtype)
    assert_agree(ours(x.numpy(), hx_np), theirs(x, hx), dtype)

    lengths = [1 + (7 * i) % steps for i in range(batch)]  # unsorted, with ties
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x, torch.tensor(lengths), batch_first, enforce_sorted=False
    )
    mine = vledge.PackedSequence(
        packed.data.numpy(),
        packed.batch_sizes.numpy(),
        packed.sorted_indices.numpy(),
        packed.unsorted_indices.numpy(),
    )
    assert_agree(ours(mine, hx_np), theirs(packed, hx), dtype)
    assert_agree(ours(mine), theirs(packed), dtype)

    single = x[0] if batch_first else x[:, 0]
    hx = states_of(torch, theirs, 1, dtype, batched=False)
    assert_agree(ours(single.numpy(), both(hx, lambda s: s.numpy())), theirs(single, hx), dtype)
    assert_agree(ours(single.numpy()), theirs(single), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("hidden_size", "proj_size", "layers", "bidirectional"),
    [(3, 1, 1, False), (17, 5, 2, True), (64, 16, 2, False), (100, 99, 1, True)],
)
def test_projection(torch, hidden_size, proj_size, layers, bidirectional, dtype):
    theirs, ours = make_pair(
        torch, "lstm", 6, hidden_size, dtype, num_layers=layers, bidirectional=bidirectional,
        proj_size=proj_size,
    )  # fmt: skip
    x = torch.randn(7, 4, 6, dtype=getattr(torch, dtype))
    hx = states_of(torch, theirs, 4, dtype)
    assert_agree(ours(x.numpy(), both(hx, lambda s: s.numpy())), theirs(x, hx), dtype)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([7, 5, 2, 1]))
    mine = vledge.PackedSequence(packed.data.numpy(), packed.batch_sizes.numpy())
    assert_agree(ours(mine), theirs(packed), dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_error_is_within_four_times_torchs_own(torch, kind):
    """Against float64 on the same input, over 1,000 steps; and 1e-5 for a bounded state."""
    theirs, ours = make_pair(torch, kind, 8, 48)
    x = torch.randn(1000, 3, 8)
    exact = theirs.double()(x.double())[0].numpy()
    theirs.float()
    torch_error = np.abs(theirs(x)[0].numpy() - exact).max()
    our_error = np.abs(ours(x.numpy())[0] - exact).max()
    print(f"{kind}: ours {our_error:.2e}, torch's {torch_error:.2e}")
    assert our_error <= 4 * torch_error
    assert our_error <= 1e-5


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(list(KINDS)),
    input_size=st.integers(1, 12),
    hidden_size=st.integers(1, 24),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=9),
    seed=st.integers(0, 2**16),
)
def test_packed_is_each_sequence_alone(
    kind, input_size, hidden_size, num_layers, bidirectional, lengths, seed
):
    """The oracle that needs no other library: a packed batch is its sequences run one by one."""
    rng = np.random.default_rng(seed)
    layer = KINDS[kind](
        input_size,
        hidden_size,
        **options_of(kind, num_layers=num_layers, bidirectional=bidirectional),
    )
    layer.load_state_dict({n: rng.uniform(-0.7, 0.7, d.shape) for n, d in layer._declared.items()})
    sequences = [rng.standard_normal((n, input_size)).astype(np.float32) for n in lengths]
    output, state = layer(vledge.pack_sequence(sequences, enforce_sorted=False))
    for i, (sequence, got) in enumerate(
        zip(sequences, vledge.unpack_sequence(output), strict=True)
    ):
        alone, alone_state = layer(sequence)
        np.testing.assert_allclose(got, alone, rtol=0, atol=1e-6)
        states = zip(*(s if kind == "lstm" else (s,) for s in (state, alone_state)), strict=True)
        for batched, single in states:
            np.testing.assert_allclose(batched[:, i], single, rtol=0, atol=1e-6)


def reference_layer(kind, layers=1, bidirectional=False, dtype=np.float32):
    rng = np.random.default_rng(3)
    params, state = [], {}
    for layer in range(layers):
        inputs = 4 if layer == 0 else 10 * (1 + bidirectional)
        for suffix in ("", "_reverse")[: 1 + bidirectional]:
            one = reference.random_params(rng, kind, inputs, 10)
            params.append(one)
            state.update({f"{n}_l{layer}{suffix}": a.astype(dtype) for n, a in one.items()})
    return params, state


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_stacked_bidirectional_layer_against_the_definition(kind, dtype):
    params, state = reference_layer(kind, 2, True, dtype)
    layer = KINDS[kind].from_weights(
        state, **({"nonlinearity": kind[4:]} if kind.startswith("rnn") else {})
    )
    rng = np.random.default_rng(0)
    sizes = reference.batch_sizes_of([6, 4, 4, 1])
    data = rng.standard_normal((15, 4)).astype(dtype)
    got, _ = layer(vledge.PackedSequence(data, sizes))
    rows = data.astype(np.float64)
    zeros = np.zeros((4, 10))
    for layer_params in (params[:2], params[2:]):
        rows = np.concatenate(
            [
                reference.run(kind, p, rows, sizes, zeros, zeros, reverse)[0]
                for p, reverse in zip(layer_params, (False, True), strict=True)
            ],
            axis=1,
        )
    assert got.data.dtype == dtype
    np.testing.assert_allclose(got.data, rows, rtol=0, atol=2e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_step_is_one_step_of_the_whole(kind):
    _, state = reference_layer(kind, 2)
    layer = KINDS[kind].from_weights(
        state, **({"nonlinearity": kind[4:]} if kind.startswith("rnn") else {})
    )
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    whole, last = layer(x)
    carried = None
    for t in range(5):
        y, carried = layer.step(x[t], carried)
        np.testing.assert_allclose(y, whole[t], rtol=0, atol=1e-6)
    both_states = zip(*(s if isinstance(s, tuple) else (s,) for s in (carried, last)), strict=True)
    for got, want in both_states:
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_empty_batch():
    layer = nn.LSTM.from_weights(reference_layer("lstm", 2, True)[1])
    output, (h_n, c_n) = layer(np.zeros((5, 0, 4), np.float32))
    assert output.shape == (5, 0, 20)
    assert h_n.shape == c_n.shape == (4, 0, 10)


def test_inputs_of_any_memory_layout():
    layer = nn.GRU.from_weights(reference_layer("gru")[1])
    x = np.random.default_rng(0).standard_normal((6, 3, 4)).astype(np.float32)
    expected, _ = layer(x)
    strided = np.zeros((6, 3, 8), np.float32)[..., ::2]
    strided[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    moved = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    for same in (strided, read_only, np.asfortranarray(x), moved):
        assert np.array_equal(layer(same)[0], expected)


FLOAT = np.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(np.zeros((3, 2, 5), FLOAT)), RuntimeError, "Expected 4, got 5"),
        (lambda m: m(np.zeros((3, 2, 4))), ValueError, r"input is float64 .*float32.*astype"),
        (lambda m: m(np.zeros((3, 2, 4), np.int64)), ValueError, "input is int64"),
        (lambda m: m(np.zeros(4, FLOAT)), ValueError, "2D or 3D, got 1D"),
        (lambda m: m(np.zeros((0, 2, 4), FLOAT)), RuntimeError, "length to be larger than 0"),
        (
            lambda m: m(np.zeros((3, 2, 4), FLOAT), (np.zeros((1, 3, 10), FLOAT),) * 2),
            RuntimeError,
            r"Expected hidden\[0\] size \(1, 2, 10\), got \[1, 3, 10\]",
        ),
        (
            lambda m: m(
                np.zeros((3, 2, 4), FLOAT),
                (np.zeros((1, 2, 10), FLOAT), np.zeros((1, 2, 9), FLOAT)),
            ),
            RuntimeError,
            r"Expected hidden\[1\] size \(1, 2, 10\)",
        ),
        (
            lambda m: m(np.zeros((3, 2, 4), FLOAT), (np.zeros((1, 10), FLOAT),) * 2),
            RuntimeError,
            "hx should also be 3-D but got 2-D",
        ),
        (
            lambda m: m(np.zeros((3, 4), FLOAT), (np.zeros((1, 1, 10), FLOAT),) * 2),
            RuntimeError,
            "should also be 2-D but got 3-D",
        ),
        (
            lambda m: m(np.zeros((3, 2, 4), FLOAT), (np.zeros((1, 2, 10)),) * 2),
            ValueError,
            "h_0 is float64",
        ),
        (lambda m: m(np.zeros((3, 2, 4), FLOAT), np.zeros((1, 2, 10))), TypeError, "tuple"),
        (
            lambda m: m.step(np.zeros((2, 5), FLOAT)),
            ValueError,
            r"float32 \[2, 5\], .* \[batch, 4\]",
        ),
        (lambda m: m.step(np.zeros((2, 4))), ValueError, "x is float64 .* of float32"),
        (lambda m: m.step(np.zeros(4, FLOAT)), ValueError, r"x is float32 \[4\], .* \[batch, 4\]"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(nn.LSTM.from_weights(reference_layer("lstm")[1]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hidden_size": 0}, ValueError, "hidden_size must be greater than zero"),
        ({"hidden_size": 2.5}, TypeError, "hidden_size should be of type int"),
        ({"num_layers": 0}, ValueError, "num_layers must be greater than zero"),
        ({"dropout": 2}, ValueError, "dropout should be a number"),
        ({"proj_size": 8}, ValueError, "proj_size has to be smaller"),
        ({"proj_size": -1}, ValueError, "proj_size should be a positive"),
        ({"device": "cuda"}, ValueError, "CPU only, not on device 'cuda'"),
        ({"dtype": "float16"}, ValueError, "float32 or float64, not float16"),
    ],
)
def test_wrong_construction(options, error, message):
    with pytest.raises(error, match=message):
        nn.LSTM(**{"input_size": 4, "hidden_size": 8, **options})
    if "proj_size" not in options:
        with pytest.raises(error, match=message):
            nn.GRU(**{"input_size": 4, "hidden_size": 8, **options})


def test_a_layer_without_weights_refuses_to_run():
    layer = nn.LSTM(4, 8)
    for use in (
        lambda: layer(np.zeros((2, 1, 4), FLOAT)),
        lambda: np.asarray(layer.weight_ih_l0),
        lambda: layer.step(np.zeros((1, 4), FLOAT)),
    ):
        with pytest.raises(RuntimeError, match="LSTM has no weights yet"):
            use()
    assert layer.state_dict() == {}
    assert "no weights" in repr(layer)


def test_bidirectional_layers_do_not_step():
    layer = nn.LSTM.from_weights(reference_layer("lstm", 1, True)[1])
    with pytest.raises(ValueError, match="LSTM that runs backwards needs the whole sequence"):
        layer.step(np.zeros((1, 4), FLOAT))


@pytest.mark.parametrize(("kind", "proj_size"), [*((k, 0) for k in KINDS), ("lstm", 3)])
def test_from_weights_reads_everything_off_the_shapes(kind, proj_size):
    choices = itertools.product((1, 3), (False, True), (False, True), (np.float32, np.float64))
    for num_layers, bidirectional, bias, dtype in choices:
        layer = KINDS[kind](
            5,
            7,
            **options_of(kind, num_layers=num_layers, bidirectional=bidirectional, bias=bias),
            **({"proj_size": proj_size} if proj_size else {}),
            dtype=dtype,
        )
        rng = np.random.default_rng(0)
        weights = {
            n: rng.standard_normal(d.shape).astype(dtype) for n, d in layer._declared.items()
        }
        prefixed = {"encoder.rnn." + n: a for n, a in weights.items()}
        prefixed["encoder.out.weight"] = np.zeros((2, 2))
        build = KINDS[kind].from_weights
        nonlinearity = {"nonlinearity": kind[4:]} if kind.startswith("rnn") else {}
        built = build(prefixed, prefix="encoder.rnn.", **nonlinearity)
        assert built.num_layers == num_layers
        assert built.bidirectional == bidirectional
        assert built.bias == bias
        assert built.proj_size == proj_size
        state = built.state_dict()
        assert set(state) == set(weights)
        for name, array in weights.items():
            assert state[name].dtype == dtype
            assert np.array_equal(state[name], array)
        (found,) = nn.recognize(prefixed)
        assert found.kind == KINDS[kind].__name__
        assert found.prefix == "encoder.rnn."
        assert (found.input_size, found.hidden_size, found.num_layers) == (5, 7, num_layers)
        assert (found.bidirectional, found.bias) == (bidirectional, bias)
        assert found.proj_size == proj_size
        assert found.nbytes == sum(a.nbytes for a in weights.values())


def test_from_weights_says_what_does_not_fit():
    _, state = reference_layer("lstm", 2)
    with pytest.raises(KeyError, match=r"no rnn\.weight_ih_l0, which an LSTM has; there is weight"):
        nn.LSTM.from_weights(state, prefix="rnn.")
    without = {n: a for n, a in state.items() if n != "bias_hh_l1"}
    with pytest.raises(ValueError, match="no bias_hh_l1"):
        nn.LSTM.from_weights(without)
    with pytest.raises(ValueError, match=r"weight_hh_l1 has shape \(3, 3\), expected \(40, 10\)"):
        nn.LSTM.from_weights({**state, "weight_hh_l1": np.zeros((3, 3))})
    with pytest.raises(ValueError, match=r"those of LSTM, not of GRU \(3\)"):
        nn.GRU.from_weights(state)
    assert nn.recognize({**state, "weight_hh_l1": np.zeros((3, 3))}) == []


@pytest.mark.parametrize("cell", ["RNNCell", "GRUCell", "LSTMCell"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells(torch, cell, dtype):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, cell)(6, 11, dtype=getattr(torch, dtype)).eval()
    weights = {"cell." + n: a for n, a in as_numpy(theirs.state_dict()).items()}
    ours = getattr(nn, cell).from_weights(weights, prefix="cell.")
    assert nn.recognize(weights)[0].kind == cell
    for shape in ((6,), (1, 6), (5, 6)):
        x = torch.randn(*shape, dtype=getattr(torch, dtype))
        h = torch.rand(*shape[:-1], 11, dtype=x.dtype)
        hx = (h, h * 2) if cell == "LSTMCell" else h
        assert_agree(ours(x.numpy()), theirs(x), dtype)
        assert_agree(ours(x.numpy(), both(hx, lambda s: s.numpy())), theirs(x, hx), dtype)
    for name, array in ours.state_dict().items():
        assert np.array_equal(array, weights["cell." + name])
    x = np.zeros((2, 6), dtype)
    with pytest.raises(RuntimeError, match="got 5 expected 6"):
        ours(x[:, :5])
    wrong = np.zeros((3, 11), dtype)
    with pytest.raises(RuntimeError, match="hidden of shape"):
        ours(x, (wrong, wrong) if cell == "LSTMCell" else wrong)
    with pytest.raises(RuntimeError, match="no weights yet"):
        getattr(nn, cell)(6, 11)(np.zeros((2, 6), np.float32))


HARD = ("hard_sigmoid", 0.2, 0.5)
CHOICES = [
    (nn.LSTM, {"recurrent_activation": HARD}, "recurrent_activation=('hard_sigmoid', 0.2, 0.5)"),
    (nn.LSTM, {"activation": "softsign"}, "activation='softsign'"),
    (nn.GRU, {"recurrent_activation": HARD, "activation": "relu6"}, "activation='relu6'"),
    (nn.GRU, {"recurrent_activation": HARD, "reset_after": False}, "reset_after=False"),
    (nn.RNN, {"nonlinearity": "linear"}, "nonlinearity='linear'"),
    (nn.RNN, {"nonlinearity": ("leaky_relu", 0.1)}, "nonlinearity=('leaky_relu', 0.1)"),
]


@pytest.mark.parametrize(("cls", "options", "written"), CHOICES)
def test_activations_go_wherever_the_weights_go(cls, options, written):
    """step(), a list, from_weights, pickle, deepcopy and a later load_state_dict."""
    layer = cls(3, 20, 2, **options)
    rng = np.random.default_rng(0)
    weights = {n: rng.uniform(-1, 1, d.shape) for n, d in layer._declared.items()}
    layer.load_state_dict(weights)
    assert written in repr(layer)
    x = rng.standard_normal((6, 2, 3)).astype(np.float32)
    expected, _ = layer(x)
    default = {"nonlinearity": "tanh"} if cls is nn.RNN else {}
    plain = cls.from_weights(weights, dtype="float32", **default)
    assert np.abs(plain(x)[0] - expected).max() > 1e-3
    same = (
        cls.from_weights(weights, dtype="float32", **options),
        pickle.loads(pickle.dumps(layer)),
        copy.deepcopy(layer),
    )
    for other in same:
        np.testing.assert_array_equal(other(x)[0], expected)
    layer.load_state_dict(layer.state_dict())
    hx = None
    for t, frame in enumerate(x):
        y, hx = layer.step(frame, hx)
        np.testing.assert_allclose(y, expected[t], rtol=0, atol=1e-6)
    got, ends = layer(x, lengths=[6, 4])
    np.testing.assert_allclose(got[:4, 1], expected[:4, 1], rtol=0, atol=1e-6)
    one = ends[0] if isinstance(ends, tuple) else ends
    np.testing.assert_allclose(one[-1, 1], expected[3, 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("choice", "match"),
    [
        ("hard_sigmoid", r"two functions: \('hard_sigmoid', 0.2, 0.5\) before Keras 3"),
        ("sine", "'sine' is not one of sigmoid, tanh"),
        ("leaky_relu", r"needs its parameters: \('leaky_relu', alpha\)"),
        (("affine", 1), "needs its parameters"),
        (("relu", 1), "relu has 0 parameters"),
        (("elu", "a"), "no numbers"),
        (("clip", 0, float("inf")), "not finite"),
        ((), "is not one of"),
        (None, "is not one of"),
        (np.tanh, "is not one of"),
    ],
)
def test_activations_that_there_are_not(choice, match):
    for make in (
        lambda: nn.LSTM(2, 3, activation=choice),
        lambda: nn.GRU(2, 3, recurrent_activation=choice),
        lambda: nn.RNN(2, 3, nonlinearity=choice),
    ):
        with pytest.raises(ValueError, match=match):
            make()
