"""Recurrent layers made of others, against their parts run by hand and against torch's layers."""

import copy
import pickle

import numpy as np
import pytest

from vledge import lengths, nn
from vledge.errors import UnsupportedError
from vledge.lengths.strategies import STRATEGIES
from vledge.packing import PackedSequence, pack_sequence, unpack_sequence
from vledge.recurrent.states import take
from vledge.streaming import Stream

LENGTHS = np.array([5, 1, 7, 3])
KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


def loaded(layer, seed=0):
    rng = np.random.default_rng(seed)
    layer.load_state_dict(
        {
            name: rng.normal(size=declared.shape).astype(declared.dtype) / 2
            for name, _, _, declared in layer._named_declared()
        }
    )
    return layer


def layers(batch_first=False, dtype=None):
    """Of each kind, with a projection, two layers and two directions among them."""
    own = {"batch_first": batch_first, "dtype": dtype}
    return [
        nn.LSTM(3, 7, proj_size=4, **own),
        nn.GRU(4, 5, num_layers=2, bidirectional=True, **own),
        nn.RNN(10, 6, nonlinearity="relu", bias=False, **own),
    ]


def stack(**options):
    return loaded(nn.RecurrentStack(*layers(**options)))


def forward_stack(**options):
    made = [
        nn.GRU(3, 5, **options),
        nn.LSTM(5, 2, num_layers=2, **options),
        nn.RNN(2, 4, **options),
    ]
    return loaded(nn.RecurrentStack(*made))


def sides(**options):
    return loaded(nn.Bidirectional(nn.LSTM(3, 4, **options), nn.GRU(3, 6, **options)))


def by_hand(module, x, hx=None):
    """One sequence ``[T, features]``: layer by layer, the backward ones on the sequence turned."""
    if isinstance(module, nn.RecurrentStack):
        finals = []
        for layer, state in zip(module, hx or [None] * len(module), strict=True):
            x, final = by_hand(layer, x, state)
            finals.append(final)
        return x, finals
    if isinstance(module, nn.Bidirectional):
        ahead, back = module.children()
        states = hx or [None, None]
        one, final = by_hand(ahead, x, states[0])
        other, last = by_hand(forward_twin(back), x[::-1], states[1])
        return np.concatenate([one, other[::-1]], 1), [final, last]
    return module(np.ascontiguousarray(x), hx)


def forward_twin(turned):
    """The layer as it was before it was turned."""
    if isinstance(turned, nn.RecurrentStack):
        return nn.RecurrentStack(*map(forward_twin, turned))
    kind = KINDS[type(turned).__name__]
    return kind.from_weights(turned.state_dict(), batch_first=turned.batch_first)


def sequences(seed=1, features=3):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(length, features)).astype(np.float32) for length in LENGTHS]


def leaves(state):
    return [state] if isinstance(state, np.ndarray) else [a for one in state for a in leaves(one)]


def same(got, want, atol=1e-6):
    for one, other in zip(leaves(got), leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


MODULES = {
    "stack": stack,
    "forward": forward_stack,
    "sides": sides,
    "towers": lambda **o: loaded(
        nn.Bidirectional(
            nn.RecurrentStack(nn.LSTM(3, 4, **o), nn.GRU(4, 5, **o)),
            nn.RecurrentStack(nn.RNN(3, 6, **o), nn.LSTM(6, 2, **o)),
        )
    ),
    "nested": lambda **o: loaded(
        nn.RecurrentStack(
            nn.Bidirectional(nn.GRU(3, 4, **o), nn.GRU(3, 2, **o)),
            nn.RecurrentStack(nn.LSTM(6, 5, **o), nn.LSTM(5, 3, **o)),
        )
    ),
}


@pytest.fixture(params=MODULES)
def make(request):
    return MODULES[request.param]


def padded(batch_first):
    given = np.zeros((len(LENGTHS), LENGTHS.max(), 3), np.float32)
    for row, sequence in zip(given, sequences(), strict=True):
        row[: len(sequence)] = sequence
    return given if batch_first else given.swapaxes(0, 1).copy()


def expected(module, states=None):
    """Each sequence's output and final states, by hand."""
    found = []
    for place, sequence in enumerate(sequences()):
        own = None if states is None else states_of(states, place)
        found.append(by_hand(module, sequence, own))
    return [output for output, _ in found], [final for _, final in found]


def states_of(states, place):
    """One sequence's, unbatched."""
    if isinstance(states, np.ndarray):
        return states[:, place]
    made = [states_of(one, place) for one in states]
    return tuple(made) if isinstance(states, tuple) and isinstance(states[0], np.ndarray) else made


def drawn_state(module, seed=5):
    rng = np.random.default_rng(seed)

    def drawn(state):
        if isinstance(state, np.ndarray):
            return rng.normal(size=state.shape).astype(state.dtype)
        return type(state)(drawn(one) for one in state)

    return drawn(module.zero_state(len(LENGTHS)))


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("form", ["list", "packed", "lengths", "mask", *STRATEGIES, "auto"])
def test_every_form_is_the_parts_by_hand(make, form, with_state):
    module = make(batch_first=form != "packed")
    hx = drawn_state(module) if with_state else None
    outputs, finals = expected(module, hx)
    asked = {"lengths": LENGTHS}
    if form in STRATEGIES and STRATEGIES[form].forward_only and module.backwards:
        options = {"window": 3} if form == "streaming" else {}
        with pytest.raises(ValueError, match=r"direction|backwards"):
            module(padded(True), strategy=form, **asked, **options)
        return
    if form == "list":
        got, final = module(sequences(), hx)
    elif form == "packed":
        packed, final = module(pack_sequence(sequences(), enforce_sorted=False), hx)
        assert isinstance(packed, PackedSequence)
        got = unpack_sequence(packed)
    else:
        if form == "mask":
            asked = {"mask": np.arange(LENGTHS.max()) < LENGTHS[:, None]}
        elif form != "lengths":
            asked |= {"strategy": form, **({"window": 3} if form == "streaming" else {})}
        y, final = module(padded(True), hx, **asked)
        got = [row[:length] for row, length in zip(y, LENGTHS, strict=True)]
    same(got, outputs)
    for place, own in enumerate(finals):
        same(states_of(final, place), own)


def test_whole_batches_and_single_sequences(make):
    x = np.random.default_rng(2).normal(size=(6, 4, 3)).astype(np.float32)
    module, first = make(), make(batch_first=True)
    y, states = module(x)
    turned, alike = first(x.swapaxes(0, 1))
    same(turned.swapaxes(0, 1), y)
    same(alike, states)
    one, own = module(x[:, 2])
    same(one, y[:, 2])
    same(own, states_of(states, 2))
    again, _ = module(x, states)
    assert np.abs(again - y).max() > 1e-3
    assert y.shape[2] == module.output_size
    assert module.input_size == 3


def test_equal_layers_are_torchs_one():
    """A stack of equal layers is one of several, two equal directions a bidirectional one."""
    one = loaded(nn.LSTM(3, 4, num_layers=2))
    weights = one.state_dict()
    lower = {n: a for n, a in weights.items() if n.endswith("l0")}
    upper = {n.replace("l1", "l0"): a for n, a in weights.items() if n.endswith("l1")}
    parts = nn.RecurrentStack(nn.LSTM.from_weights(lower), nn.LSTM.from_weights(upper))
    x = np.random.default_rng(3).normal(size=(5, 2, 3)).astype(np.float32)
    y, (h, _) = one(x)
    got, states = parts(x)
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(np.concatenate([state[0] for state in states]), h)
    both = loaded(nn.GRU(3, 4, bidirectional=True), 4)
    weights = both.state_dict()
    ahead = {n: a for n, a in weights.items() if not n.endswith("_reverse")}
    back = {n.removesuffix("_reverse"): a for n, a in weights.items() if n.endswith("_reverse")}
    pair = nn.Bidirectional(nn.GRU.from_weights(ahead), nn.GRU.from_weights(back))
    same(pair(sequences())[0], both(sequences())[0])
    same(np.concatenate(pair(x)[1]), both(x)[1])


def test_keras_masks_with_holes(make):
    """A masked step is skipped; an output there repeats the last, or is zero beside another way."""
    module = make(batch_first=True)
    x = padded(True)
    mask = np.random.default_rng(8).random((len(LENGTHS), LENGTHS.max())) < 0.6
    mask[:, 1] = True
    y, _ = module(x, mask=mask)
    zeros, _ = module(x, mask=mask, zero_output_for_mask=True)
    for row, zero, given, own in zip(y, zeros, x, mask, strict=True):
        want, _ = by_hand(module, given[own])
        same(row[own], want)
        same(zero[own], want)
        assert not zero[~own].any()
        if module.bidirectional:
            assert not row[~own].any()
            continue
        last = np.zeros(y.shape[2])
        for step, real in enumerate(own):
            last = row[step] if real else last
            np.testing.assert_array_equal(row[step], last)


def test_order_of_the_reverse_half_is_the_last_layers_only():
    module = loaded(
        nn.RecurrentStack(
            nn.GRU(3, 4, bidirectional=True, batch_first=True), nn.LSTM(8, 2, batch_first=True)
        )
    )
    rules = lengths.Semantics("zero", "input", "initial", "whole", "processing")
    y, _ = module(padded(True), lengths=LENGTHS, semantics=rules)
    same([row[:n] for row, n in zip(y, LENGTHS, strict=True)], expected(module)[0])
    with pytest.raises(ValueError, match='order="original"'):
        sides(batch_first=True)(padded(True), lengths=LENGTHS, semantics=rules)


def test_empty_sequences(make):
    module = make(batch_first=True)
    hx = drawn_state(module)
    ends = np.array([5, 0, 7, 3])
    for rules in ("tf1", "onnx"):
        y, final = module(padded(True), hx, lengths=ends, semantics=rules)
        assert not y[1].any()
        state = states_of(final, 1)
        same(
            state, states_of(hx, 1) if rules == "tf1" else [np.zeros_like(a) for a in leaves(state)]
        )
    with pytest.raises(ValueError, match="empty"):
        module(padded(True), hx, lengths=ends)


def test_steps(make):
    module = make()
    x = np.random.default_rng(2).normal(size=(6, 2, 3)).astype(np.float32)
    if module.backwards:
        with pytest.raises(ValueError, match="whole sequence"):
            module.step(x[0])
        return
    y, states = module(x)
    state = None
    for frame, want in zip(x, y, strict=True):
        before = copy.deepcopy(state)
        got, following = module.step(frame, state)
        if state is not None:
            same(state, before, 0)
        state = following
        same(got, want)
    same(state, states)


def test_streams(tmp_path):
    for batch_first in (False, True):
        module = forward_stack(batch_first=batch_first)
        axis = 1 if batch_first else 0
        x = np.random.default_rng(2).normal(size=(6, 6, 3)).astype(np.float32)
        whole, _ = module(x)
        frames = x.swapaxes(0, axis)
        stream = module.stream(batch=6)
        assert stream.frames == {"x": ((6, 3), np.dtype(np.float32))}
        got = np.stack([stream.step(frame) for frame in frames], axis)
        same(got, whole)
        assert stream.state.keys() == {"0.h", "1.h", "1.c", "2.h"}
        stream.reset()
        same(stream.push(x.take([0, 1], axis)), whole.take([0, 1], axis))
        stream.save(tmp_path / "state")
        again = Stream.load(tmp_path / "state", module)
        out = np.empty_like(whole.take([2, 3, 4, 5], axis))
        assert again.push(x.take([2, 3, 4, 5], axis), out=out) is out
        same(out, whole.take([2, 3, 4, 5], axis))
        stream.reset(rows=[1])
        stream.leave([0])
        (new,) = stream.join()
        got = stream.step(frames[2][[1, 2, 3, 4, 5, 0]].copy())
        fresh, _ = module.step(frames[2][:2].copy())
        same(got[[new, 0]], fresh)
        same(got[1:new], whole.take(2, axis)[2:])


def test_streams_that_look_ahead(make):
    module = make()
    x = np.random.default_rng(2).normal(size=(6, 2, 3)).astype(np.float32)
    if not module.backwards:
        with pytest.raises(UnsupportedError, match="looks ahead"):
            module.stream(batch=2, lookahead=2)
        return
    with pytest.raises(UnsupportedError, match=r"reverse direction begins|it begins at the end"):
        module.stream(batch=2)
    # what has not been given out by the time that all frames are there is the whole run's
    stream = module.stream(batch=2, lookahead=6)
    assert all(stream.step(frame) is None for frame in x)
    same(stream.flush(), module(x)[0])
    # by windows: forward parts go on, backward ones begin anew at the last frame that is there
    if isinstance(module, nn.Bidirectional):
        stream = module.stream(batch=2, lookahead=2)
        got = [y for frame in x if (y := stream.step(frame)) is not None]
        ahead, back = module.children()
        size = ahead.output_size
        for t, y in enumerate(got):
            same(y[:, :size], ahead(x)[0][t])
            same(y[:, size:], back(x[t : t + 3])[0][0])


def test_in_a_module_of_ones_own():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RecurrentStack(nn.GRU(3, 5), nn.LSTM(5, 4))
            self.out = nn.Linear(4, 2)

        def forward(self, x, lengths=None):
            return self.out(self.rnn(x, lengths=lengths)[0])

    model = loaded(Tagger())
    assert "rnn.1.weight_ih_l0" in model.state_dict()
    x = np.random.default_rng(2).normal(size=(6, 4, 3)).astype(np.float32)
    stream = model.stream(batch=4)
    same(np.stack([stream.step(frame) for frame in x]), model(x))
    ends = [6, 2, 3, 5]
    same(model(x, ends, strategy="bucketed", rows=2), model(x, ends))
    with pytest.raises(ValueError, match=r"rnn\.0: .*empty"):
        model(x, [6, 0, 3, 5], strategy="bucketed")


def test_many_sequences(make):
    module = make()
    outputs, finals = expected(module)
    for options in ({}, {"strategy": "bucketed", "lanes": 2}):
        results = list(lengths.run_many(module, sequences(), **options))
        same([one.output for one in results], outputs)
        same([states_of(one.state, 0) for one in results], finals)
    hx = drawn_state(module)
    outputs, finals = expected(module, hx)
    results = lengths.run_many(
        module,
        sequences(),
        initial_state=lambda place, _: take(hx, slice(place, place + 1)),
    )
    same([one.output for one in results], outputs)


def test_states_carried_from_call_to_call(make):
    module = make(batch_first=True)
    x = padded(True)
    carried = {}
    first, _ = module(x[:, :3])
    y, hx = module(x[:, :3], lengths.initial_state(module, ids="abcd", carried=carried))
    same(y, first)
    lengths.keep_states(carried, "abcd", hx)
    order = [2, 0]
    hx = lengths.initial_state(module, ids="cax", carried=carried)
    want = take(module(x[:, :3])[1], [*order, 0])
    for got, own in zip(leaves(hx), leaves(want), strict=True):
        same(got[:, :2], own[:, :2])
        assert not got[:, 2].any()
    state = drawn_state(module)
    same(lengths.initial_state(module, given=state, sequences=len(LENGTHS)), state)
    with pytest.raises(TypeError, match="states"):
        lengths.initial_state(module, given=[], sequences=4)


def test_last_outputs_of_two_widths():
    module = sides()
    outputs, (ahead, back) = module(sequences())
    assert module.direction_sizes == (4, 6)
    last = lengths.last_output(outputs, bidirectional=True, forward_size=4)
    same(last, np.concatenate([ahead[0][0], back[0]], 1))
    with pytest.raises(ValueError, match="forward_size is 11"):
        lengths.last_output(outputs, bidirectional=True, forward_size=11)


def test_what_a_module_does(make):
    module = make(dtype=np.float64)
    assert module.dtype == np.float64
    x = np.random.default_rng(2).normal(size=(6, 2, 3))
    y, _ = module(x)
    twin = make()
    twin.load_state_dict(module.state_dict())
    small = x.astype(np.float32)
    same(twin(small)[0], y, 1e-5)
    same(twin.double()(x)[0], y, 1e-5)
    same(pickle.loads(pickle.dumps(module))(x)[0], y, 0)
    same(copy.deepcopy(module)(x)[0], y, 0)
    assert module.nbytes == sum(part.nbytes for part in module.children()) > 0
    assert "LSTM(" in str(module)
    module.flatten_parameters()


def test_refusals():
    with pytest.raises(ValueError, match="layer 1 takes 5 features, layer 0 gives 4"):
        nn.RecurrentStack(nn.LSTM(3, 4), nn.LSTM(5, 4))
    with pytest.raises(ValueError, match="no layers"):
        nn.RecurrentStack()
    with pytest.raises(TypeError, match="1 is a Linear"):
        nn.RecurrentStack(nn.LSTM(3, 4), nn.Linear(4, 4))
    with pytest.raises(ValueError, match="1 has batch_first=True, 0 has False"):
        nn.RecurrentStack(nn.LSTM(3, 4), nn.LSTM(4, 4, batch_first=True))
    with pytest.raises(ValueError, match="1 has dtype=float64, 0 has float32"):
        nn.RecurrentStack(nn.LSTM(3, 4), nn.LSTM(4, 4, dtype=np.float64))
    with pytest.raises(ValueError, match="takes 3 features, backward_layer 4"):
        nn.Bidirectional(nn.LSTM(3, 4), nn.LSTM(4, 4))
    with pytest.raises(ValueError, match="backward_layer has a direction"):
        nn.Bidirectional(nn.LSTM(3, 4), nn.LSTM(3, 4, bidirectional=True))
    layer = nn.LSTM(3, 4)
    with pytest.raises(ValueError, match="one object"):
        nn.Bidirectional(layer, layer)
    x = np.zeros((2, 4, 3), np.float32)
    with pytest.raises(TypeError, match="list of 3 states, one for each of 0, 1, 2; got 2 of them"):
        stack()(x, [None, None])
    with pytest.raises(TypeError, match="got ndarray"):
        stack()(x, np.zeros((3, 4, 4), np.float32))
    with pytest.raises(RuntimeError, match="no weights"):
        nn.RecurrentStack(nn.LSTM(3, 4), nn.GRU(4, 2))(x)
    with pytest.raises(TypeError, match="semantics"):
        stack()(x, semantics="keras")
