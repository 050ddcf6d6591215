"""torch's dynamically quantised layers, read without torch: they answer as torch answers."""

import pickle
import warnings

import numpy as np
import pytest

import vledge
from tests.peers import peer
from vledge import nn
from vledge.small_matrix import SmallMatrix

torch = peer("torch")
quantization = torch.ao.quantization

# float32's own rounding in another order: products are the same integers, gates of other functions
CLOSE = 2e-6
# where a state falls on the other side of a half: one of 127 steps of h, through the weights
ONE_ROUNDING = 2e-2


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **options)


def quantised(model, channels=False):
    kinds = {torch.nn.LSTM, torch.nn.GRU, torch.nn.Linear, torch.nn.LSTMCell, torch.nn.GRUCell}
    config = quantization.per_channel_dynamic_qconfig if channels else None
    spec = dict.fromkeys(kinds, config) if channels else kinds
    return quiet(quantization.quantize_dynamic, model.eval(), spec)


def weights_of(model, path, kind="state dict"):
    if kind == "state dict":
        quiet(torch.save, model.state_dict(), path)
    elif kind == "module":
        quiet(torch.save, model, path)
    else:
        quiet(torch.jit.script, model).save(str(path))
    return vledge.load_weights(path)


def agree(got, wanted):
    """Most to the last bits; what a state's rounding moves, within one of its steps."""
    error = np.abs(got - wanted.detach().numpy())
    assert error.max(initial=0) < ONE_ROUNDING
    assert np.median(error) < CLOSE


@pytest.fixture(params=["x86", "onednn"])
def engine(request):
    before = torch.backends.quantized.engine
    if request.param not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this torch has no {request.param}")
    torch.backends.quantized.engine = request.param
    yield request.param
    torch.backends.quantized.engine = before


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("kind", ["state dict", "module", "TorchScript"])
def test_linear(kind, channels, engine, tmp_path):
    torch.manual_seed(1)
    model = quantised(torch.nn.Sequential(torch.nn.Linear(77, 33)), channels)
    weights = weights_of(model, tmp_path / "model.pt", kind)
    assert isinstance(weights["0.weight"], SmallMatrix)
    layer = nn.Linear.from_weights(weights, "0.")
    assert layer(np.zeros(77, np.float32)).shape == (33,)  # which torch refuses
    for shape in ((13, 77), (2, 5, 77), (0, 77), (1, 77)):
        x = 3 * torch.randn(*shape) + 0.5
        wanted = model(x) if shape[0] else torch.empty(0, 33)
        got = layer(x.numpy())
        assert got.shape == tuple(wanted.shape)
        assert np.abs(got - wanted.detach().numpy()).max(initial=0) < CLOSE * 10
    tiny = torch.randn(4, 77) * 1e-4  # below torch's smallest scale
    np.testing.assert_allclose(layer(tiny.numpy()), model(tiny).detach().numpy(), atol=1e-7)
    for sign in (1, -1):  # ranges of one sign, and the smallest scale there
        for size in (5.0, 1e-4):
            x = sign * size * torch.rand(4, 77)
            np.testing.assert_allclose(layer(x.numpy()), model(x).detach().numpy(), atol=1e-5)


def test_the_bits_of_qnnpack(tmp_path):
    """It does not reduce the range, and sums as we do: that form has its very numbers."""
    if "qnnpack" not in torch.backends.quantized.supported_engines:
        pytest.skip("this torch has no qnnpack")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "qnnpack"
    try:
        torch.manual_seed(2)
        model = quantised(torch.nn.Sequential(torch.nn.Linear(50, 20)))
        small = weights_of(model, tmp_path / "model.pt")
        whole = SmallMatrix(small["0.weight"].values, small["0.weight"].scales, "int8-dynamic")
        layer = nn.Linear.from_weights(small | {"0.weight": whole}, "0.")
        x = torch.randn(9, 50)
        np.testing.assert_allclose(layer(x.numpy()), quiet(model, x).detach().numpy(), atol=1e-7)
    finally:
        torch.backends.quantized.engine = before


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
@pytest.mark.parametrize("size", [16, 21, 64])
def test_layers(name, size, bidirectional, engine, tmp_path):
    torch.manual_seed(3)
    options = {"num_layers": 2, "bidirectional": bidirectional, "batch_first": True}
    model = quantised(torch.nn.Sequential(getattr(torch.nn, name)(11, size, **options)))
    weights = weights_of(model, tmp_path / "model.pt", "module")
    layer = getattr(nn, name).from_weights(weights, "0.", batch_first=True)
    assert layer.storage == "int8-dynamic-7"
    assert "int8-dynamic-7" in repr(layer)
    x = torch.randn(3, 20, 11)
    wanted, state = model[0](x)
    got, own = layer(x.numpy())
    agree(got, wanted)
    for mine, theirs in zip(
        own if isinstance(own, tuple) else (own,),
        state if isinstance(state, tuple) else (state,),
        strict=True,
    ):
        agree(mine, theirs)
    lengths = [20, 13, 4]
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    theirs, _ = model[0](packed)
    ran, _ = layer(packed)
    agree(np.asarray(ran.data), theirs.data)
    rows, _ = layer(x.numpy(), lengths=lengths)
    wanted, _ = torch.nn.utils.rnn.pad_packed_sequence(theirs, batch_first=True)
    agree(rows, wanted)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_states_that_are_given(name, tmp_path):
    torch.manual_seed(4)
    model = quantised(torch.nn.Sequential(getattr(torch.nn, name)(8, 24)))
    layer = getattr(nn, name).from_weights(weights_of(model, tmp_path / "model.pt"), "0.")
    x, states = torch.randn(6, 2, 8), [3 * torch.randn(1, 2, 24) for _ in range(2)]
    hx = tuple(states) if name == "LSTM" else states[0]
    own = tuple(s.numpy() for s in states) if name == "LSTM" else states[0].numpy()
    agree(layer(x.numpy(), own)[0], model[0](x, hx)[0])
    single = layer.step(x[0].numpy(), own)[0]
    agree(single, model[0](x[:1], hx)[0][0])
    with pytest.raises(ValueError, match="do not fit"):
        layer.step(np.zeros((2, 9), np.float32))


class Holding(torch.nn.Module):
    """A cell that no forward calls, which TorchScript has no word for."""

    def __init__(self, cell):
        super().__init__()
        self.add_module("0", cell)

    def forward(self, x):
        return x


@pytest.mark.parametrize("kind", ["state dict", "module", "script"])
@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell"])
def test_cells(name, kind, tmp_path):
    """A script holds biases twice: a cell's own and those that its constructor had drawn."""
    torch.manual_seed(5)
    model = quantised(Holding(getattr(torch.nn, name)(9, 20)))._modules
    weights = weights_of(Holding(model["0"]), tmp_path / "model.pt", kind)
    cell = getattr(nn, name).from_weights(weights, "0.")
    x = torch.randn(4, 9)
    wanted, got = model["0"](x), cell(x.numpy())
    if name == "LSTMCell":
        wanted, got = wanted[0], got[0]
    agree(got, wanted)


def test_files_of_our_own_keep_them(tmp_path, vledge_command):
    model = quantised(torch.nn.Sequential(torch.nn.LSTM(6, 16)))
    weights = weights_of(model, tmp_path / "model.pt")
    target = tmp_path / "model.safetensors"
    status, out, _ = vledge_command("inspect", tmp_path / "model.pt")
    assert status == 0
    assert out.count("int8-dynamic-7") == 2
    assert vledge_command("convert", tmp_path / "model.pt", target)[0] == 0
    again = vledge.load_weights(target)
    x = np.random.default_rng(0).normal(size=(5, 2, 6)).astype(np.float32)
    one, other = (nn.LSTM.from_weights(w, "0.")(x)[0] for w in (weights, again))
    assert np.array_equal(one, other)
    layer = nn.LSTM(6, 16)
    layer.load_state_dict(again, prefix="0.")
    assert layer.storage == "int8-dynamic-7"
    state = layer.state_dict()
    assert state["weight_hh_l0"].storage == "int8-dynamic-7"
    assert np.array_equal(layer.weight_hh_l0, np.asarray(weights["0.weight_hh_l0"]))


def test_what_torch_has_no_such_layer_for_runs_floats(tmp_path):
    model = quantised(torch.nn.Sequential(torch.nn.GRU(6, 16)))
    weights = weights_of(model, tmp_path / "model.pt")
    layer = nn.GRU.from_weights(weights, "0.", reset_after=False)
    assert layer.storage == "float32"
    assert vledge.quantize(weights, "int8")["0.weight_hh_l0"].storage == "int8"


@pytest.mark.parametrize("replaced", [["weight_hh_l1"], ["weight_ih_l0", "weight_hh_l0"]])
def test_beside_other_weights_they_are_floats(replaced, tmp_path):
    model = quantised(torch.nn.Sequential(torch.nn.LSTM(6, 16, 2)))
    weights = weights_of(model, tmp_path / "model.pt", "module")
    small = {name.removeprefix("0."): one for name, one in weights.items()}
    mixed = small | {name: np.asarray(small[name]) for name in replaced}
    x = np.random.default_rng(0).normal(size=(5, 2, 6)).astype(np.float32)
    floats = nn.LSTM.from_weights({name: np.asarray(one) for name, one in small.items()})
    layer = nn.LSTM.from_weights(mixed)
    assert layer.storage == "float32"
    assert np.array_equal(layer(x)[0], floats(x)[0])


def test_static_layers_stay_floats(tmp_path):
    """Their inputs come as integers of a scale that the file tells."""
    model = torch.ao.nn.quantized.Linear(6, 4)
    model.scale, model.zero_point = 0.02, 3
    for kind in ("state dict", "module"):
        weights = weights_of(torch.nn.Sequential(model), tmp_path / "model.pt", kind)
        assert not isinstance(weights["0.weight"], SmallMatrix)


@pytest.mark.parametrize("strategy", ["auto", "padded", "packed", "bucketed", "lanes"])
def test_strategies(strategy, tmp_path):
    """The batch that is run at a time has a part in the scales, so that strategies differ by a
    rounding, as they do in torch."""
    torch.manual_seed(6)
    model = quantised(torch.nn.Sequential(torch.nn.LSTM(5, 18)))
    layer = nn.LSTM.from_weights(weights_of(model, tmp_path / "model.pt"), "0.")
    generator = np.random.default_rng(0)
    sequences = [generator.normal(size=(n, 5)).astype(np.float32) for n in (9, 1, 14, 6)]
    wanted, _ = layer(sequences, strategy="packed")
    got, _ = layer(sequences, strategy=strategy)
    for one, other in zip(got, wanted, strict=True):
        assert np.abs(one - other).max() < ONE_ROUNDING


def test_a_list_is_one_batch(tmp_path):
    """The packed one's answer, whichever door it comes in by; empty sequences beside others."""
    model = quantised(torch.nn.Sequential(torch.nn.LSTM(5, 18, 2, bidirectional=True)))
    layer = nn.LSTM.from_weights(weights_of(model, tmp_path / "model.pt", "module"), "0.")
    generator = np.random.default_rng(0)
    sequences = [generator.normal(size=(n, 5)).astype(np.float32) for n in (9, 1, 14, 6)]
    wanted, state = layer(vledge.pack_sequence(sequences, enforce_sorted=False))
    got, own = layer(sequences)
    for one, other in zip(got, vledge.unpack_sequence(wanted), strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(own, state, strict=True):
        assert np.array_equal(one, other)
    with_none = [*sequences, np.zeros((0, 5), np.float32)]
    rules = vledge.lengths.Semantics(empty="zero")
    got, _ = layer(with_none, strategy="packed", semantics=rules)
    assert [one.shape for one in got] == [(n, 36) for n in (9, 1, 14, 6, 0)]
    assert np.array_equal(got[2], vledge.unpack_sequence(wanted)[2])


def test_it_is_all_that_a_stack_is(tmp_path):
    model = quantised(torch.nn.Sequential(torch.nn.LSTM(5, 18)))
    stack = nn.LSTM.from_weights(weights_of(model, tmp_path / "model.pt"), "0.").stack
    floats = nn.LSTM.from_weights(
        {n: p.detach() for n, p in torch.nn.LSTM(5, 18).named_parameters()}
    )
    assert vars(floats.stack).keys() <= vars(stack).keys()
    own = vars(type(stack))
    runs = {n for n in vars(type(floats.stack)) if n.startswith("run")}
    assert runs <= own.keys()  # none of a Stack's own, whose kernels have no such weights


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_streams(name, tmp_path):
    """Frame by frame, as torch is called frame by frame; in chunks the same."""
    torch.manual_seed(7)
    model = quantised(torch.nn.Sequential(getattr(torch.nn, name)(5, 18)))
    layer = getattr(nn, name).from_weights(weights_of(model, tmp_path / "model.pt"), "0.")
    x = torch.randn(12, 1, 5)
    hx, wanted = None, []
    for frame in x:
        y, hx = model[0](frame[None], hx)
        wanted.append(y[0])
    stream = layer.stream()
    got = np.stack([stream.step(frame.numpy()) for frame in x])
    agree(got, torch.stack(wanted))
    again = layer.stream()
    assert np.array_equal(
        np.concatenate([again.push(x[:5].numpy()), again.push(x[5:].numpy())]), got
    )
    with pytest.raises(ValueError, match="expected float32"):
        again.push(np.zeros((3, 1, 6), np.float32))


def test_a_stream_keeps_its_state_from_errors(tmp_path):
    torch.manual_seed(8)
    model = quantised(torch.nn.Sequential(torch.nn.LSTM(7, 7)))
    layer = nn.LSTM.from_weights(weights_of(model, tmp_path / "model.pt"), "0.")
    x = torch.randn(4, 2, 7).numpy()
    wanted = layer.stream(batch=2).push(x)
    stream = layer.stream(batch=2)
    for frame in (x[0].astype(np.float64), x[0, :1], None):
        with pytest.raises(ValueError, match="expected float32"):
            stream.step(frame)
    for out in (np.empty((2, 6), np.float32), np.broadcast_to(np.float32(0), (2, 7))):
        with pytest.raises(ValueError, match="out"):
            stream.step(x[0], out)
    assert not stream.state["h"].any()
    frame = x[0].copy()
    assert stream.step(frame, frame) is frame  # the output stands where the input stood
    assert np.array_equal(frame, wanted[0])
    turned = np.asfortranarray(x[1])
    assert np.array_equal(stream.step(turned), wanted[1])
    rest = x[2:].copy()
    assert np.array_equal(stream.push(rest, rest), wanted[2:])
    empty = layer.stream(batch=0)
    assert empty.step(np.empty((0, 7), np.float32)).shape == (0, 7)
    assert empty.push(np.empty((3, 0, 7), np.float32)).shape == (3, 0, 7)
    assert stream.push(np.empty((0, 2, 7), np.float32)).shape == (0, 2, 7)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_the_short_way_of_a_call(name, bidirectional, tmp_path):
    """Arrays as they usually come go no way through Python, and have the long one's numbers."""
    torch.manual_seed(9)
    options = {"num_layers": 2, "bidirectional": bidirectional}
    model = quantised(torch.nn.Sequential(getattr(torch.nn, name)(7, 19, **options)))
    weights = weights_of(model, tmp_path / "model.pt", "module")
    rng = np.random.default_rng(0)
    count, kinds = (4 if bidirectional else 2), (2 if name == "LSTM" else 1)

    def flat(result):
        output, states = result
        return [output, *(states if name == "LSTM" else (states,))]

    for batch_first in (False, True):
        layer = getattr(nn, name).from_weights(weights, "0.", batch_first=batch_first)
        for shape, sequences in (
            ((9, 3, 7), 3),
            ((1, 1, 7), 1),
            ((200, 40, 7), 40),
            ((6, 7), None),
        ):
            x = rng.normal(size=shape).astype(np.float32)
            if sequences and batch_first:
                sequences = shape[0]
            axes = (count, 19) if sequences is None else (count, sequences, 19)
            states = [rng.normal(size=axes).astype(np.float32) for _ in range(kinds)]
            for h, c in ((None, None), (states[0], states[-1] if kinds == 2 else None)):
                usual = layer.stack.usual(x, h, c, batch_first)
                hx = h if kinds == 1 or h is None else (h, c)
                whole = flat(layer._run(x, hx))
                got = usual[: len(whole)]
                for one, other in zip(got, whole, strict=True):
                    assert one.flags.c_contiguous
                    assert one.flags.writeable
                    assert np.array_equal(one, other)
                for one, other in zip(flat(layer(x, hx)), whole, strict=True):
                    assert np.array_equal(one, other)
    if not bidirectional:
        stream, state = layer.stream(batch=2), None
        for frame in rng.normal(size=(5, 2, 7)).astype(np.float32):
            y, state = layer.step(frame, state)
            assert np.array_equal(stream.step(frame), y)
        for one, other in zip(stream.state.values(), flat((y, state))[1:], strict=True):
            assert np.array_equal(one, other)
    usual = layer.stack.usual
    assert usual(x.astype(np.float64), None, None, True) is None
    assert usual(x[:, :6], None, None, True) is None
    assert usual(x, states[0][:1], None, True) is None
    assert usual([x], None, None, True) is None
    assert name == "LSTM" or usual(x, None, states[0], True) is None


def test_no_lookahead(tmp_path):
    model = quantised(torch.nn.Sequential(torch.nn.LSTM(5, 18, bidirectional=True)))
    layer = nn.LSTM.from_weights(weights_of(model, tmp_path / "model.pt"), "0.")
    with pytest.raises(vledge.UnsupportedError, match="lookahead"):
        nn.Sequential(layer).stream(lookahead=3)
    with pytest.raises(vledge.UnsupportedError, match="lookahead"):
        layer.stream(lookahead=3)


def test_copies(tmp_path):
    model = quantised(torch.nn.Sequential(torch.nn.LSTM(5, 18), torch.nn.Linear(3, 4)))
    weights = weights_of(model, tmp_path / "model.pt")
    layers = nn.LSTM.from_weights(weights, "0."), nn.Linear.from_weights(weights, "1.")
    for layer, size in zip(layers, (5, 3), strict=True):
        x = np.ones((2, 1, size), np.float32)
        again = pickle.loads(pickle.dumps(layer))
        first, other = layer(x), again(x)
        assert np.array_equal(first[0], other[0])
