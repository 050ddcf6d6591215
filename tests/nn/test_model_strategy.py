"""``module(…, strategy=…)``: the recurrent layers inside of a model's forward(), by a strategy."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vledge
from tests.lengths.cases import LENGTHS, assert_same, make_layer, make_sequences, rectangle
from tests.lengths.spies import spied
from vledge import nn

N = np.array(LENGTHS["drawn"])
WHOLE = {"padded": {}, "packed": {}, "bucketed": {"rows": 2}, "auto": {}}
FORWARDS = {"lanes": {"lanes": 2}, "streaming": {"window": 3}}


class Tagger(nn.Module):
    """Two layers, called in the form that is asked for, and a mean over the steps with data."""

    def __init__(self, form="lengths", bidirectional=False, own=None):
        super().__init__()
        self.form, self.own = form, own
        self.encoder = make_layer("lstm", 1, bidirectional)
        self.top = nn.ModuleList([nn.GRU(14 if bidirectional else 7, 6, batch_first=True)])
        generator = np.random.default_rng(5)
        self.top.load_state_dict(
            {n: generator.uniform(-0.5, 0.5, d.shape) for n, _, _, d in self.top._named_declared()}
        )

    def forward(self, x, lengths):
        top = self.top[0]
        if self.form == "lengths":
            x, _ = self.encoder(x, lengths=lengths)
            x, _ = top(x, lengths=lengths, strategy=self.own)
        elif self.form == "mask":
            mask = np.arange(x.shape[1]) < lengths[:, None]
            x, _ = self.encoder(x, mask=mask, zero_output_for_mask=True)
            x, _ = top(x, mask=mask, zero_output_for_mask=True)
        elif self.form == "packed":
            x = vledge.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
            x = top(self.encoder(x)[0])[0]
            x, _ = vledge.pad_packed_sequence(x, batch_first=True)
        else:
            x, _ = top(self.encoder(x)[0])
        return vledge.mean_over_steps(x, lengths, batch_first=True)


@pytest.fixture
def ran(monkeypatch):
    """(strategy, layer) of each call, as it comes."""
    calls = []
    spied(monkeypatch, lambda name, stack, _: calls.append((name, stack.cell.kind.name)))
    return calls


def batch(extra=0):
    return np.nan_to_num(rectangle(make_sequences(N), extra=extra))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("form", ["lengths", "mask", "packed"])
def test_every_layer_that_is_called_with_lengths(ran, form, bidirectional):
    model = Tagger(form, bidirectional)
    want = model(batch(), N)
    for strategy, options in (WHOLE if bidirectional else WHOLE | FORWARDS).items():
        ran.clear()
        assert_same(model(batch(), N, strategy=strategy, **options), want, 1e-6)
        assert [layer for _, layer in ran] == ["LSTM", "GRU"]
        assert strategy == "auto" or {name for name, _ in ran} == {strategy}


def test_a_list_of_sequences():
    class Lists(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = make_layer("gru")

        def forward(self, sequences):
            return self.rnn(sequences)

    model, sequences = Lists(), make_sequences(N)
    want = model.rnn(sequences, strategy="packed")
    for strategy, options in (WHOLE | FORWARDS).items():
        assert_same(model(sequences, strategy=strategy, **options), want, 1e-6)


def test_auto_plans_for_each_layer(ran, monkeypatch):
    model, planned = Tagger(), []
    original = vledge.planning.choice.choose

    def choose(shape, batch, **options):
        planned.append((shape.kind.name, options))
        return original(shape, batch, **options)

    monkeypatch.setattr("vledge.planning.choice.choose", choose)
    model(batch(), N, strategy="auto", memory_limit=50_000_000)
    limit = {"memory_limit": 50_000_000}
    assert planned == [("LSTM", limit), ("GRU", limit)]
    assert len(ran) == 2
    with pytest.raises(MemoryError, match="memory_limit=1,000"):
        model(batch(), N, strategy="auto", memory_limit=1000)


def test_a_layer_keeps_a_strategy_of_its_own(ran):
    model = Tagger(own="padded")
    model(batch(), N, strategy="bucketed", rows=2)
    assert ran == [("bucketed", "LSTM"), ("padded", "GRU")]


def test_a_model_inside_of_a_model_may_have_another(ran):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.rnn = Tagger(), make_layer("rnn_tanh")

        def forward(self, x, lengths):
            self.inner(x, lengths, strategy="bucketed")
            return self.rnn(x, lengths=lengths)

    Outer()(batch(), N, strategy="packed")
    assert ran == [("bucketed", "LSTM"), ("bucketed", "GRU"), ("packed", "RNN")]


def test_the_call_ends_with_its_strategy(ran):
    model = Tagger(bidirectional=True)
    want = model(batch(), N)
    with pytest.raises(ValueError, match=r"encoder: .*cannot run the backward direction"):
        model(batch(), N, strategy="lanes")
    ran.clear()
    assert_same(model(batch(), N), want, 0)
    assert ran == [("padded", "LSTM"), ("padded", "GRU")]


def test_what_a_layer_refuses_names_it():
    with pytest.raises(ValueError, match=r"encoder: strategy=\"masked\" runs a padded array"):
        Tagger("packed")(batch(), N, strategy="masked")
    with pytest.raises(ValueError, match=r"encoder: lengths\[0\] is 50"):
        Tagger()(batch(), N + 45, strategy="packed")


def test_a_layer_from_elsewhere_is_named_by_its_class():
    layer = make_layer("gru", bidirectional=True)

    class Borrows(nn.Module):
        def forward(self, x, lengths):
            return layer(x, lengths=lengths)

    with pytest.raises(ValueError, match=r"GRU: .*cannot run the backward direction"):
        Borrows()(batch(), N, strategy="lanes")


def test_what_has_nothing_to_choose_is_refused():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="'auto' had nothing to run: ReLU called no recurrent"):
        nn.ReLU()(x, strategy="auto")
    with pytest.raises(ValueError, match="Tagger called no recurrent layer with lengths"):
        Tagger("array")(batch(), N, strategy="packed")


def test_wrong_strategies_and_options():
    model = Tagger()
    with pytest.raises(
        ValueError, match="strategy is 'pakced', expected one of 'padded', 'packed'"
    ):
        model(batch(), N, strategy="pakced")
    with pytest.raises(TypeError, match=r"strategy='streaming': .*'window'"):
        model(batch(), N, strategy="streaming")
    with pytest.raises(TypeError, match="unexpected keyword argument 'rows'"):
        model(batch(), N, strategy="packed", rows=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'rows'"):
        model(batch(), N, rows=2)


def test_no_strategy_is_none():
    model = Tagger()
    assert_same(model(batch(), N, strategy=None), model(batch(), N), 0)


def test_parameters_of_a_models_own(ran):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = make_layer("gru")

        def forward(self, x, lengths, strategy="beam", rows=0):
            assert (strategy, rows) == ("greedy", 3)
            return self.rnn(x, lengths=lengths)

    Own()(batch(), N, strategy="greedy", rows=3)
    assert ran == [("padded", "GRU")]

    class OwnWindow(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = make_layer("gru")

        def forward(self, x, lengths, rows):
            assert rows == 3
            return self.rnn(x, lengths=lengths)

    OwnWindow()(batch(), N, strategy="bucketed", rows=3)
    assert ran.pop() == ("bucketed", "GRU")


def test_threads_have_a_strategy_each():
    model, x = Tagger(), batch()
    want = model(x, N)

    def call(index):
        strategy, options = list((WHOLE | FORWARDS).items())[index % 6]
        assert_same(model(x, N, strategy=strategy, **options), want, 1e-6)
        assert_same(model(x, N), want, 0)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(200)))


def test_run_many_with_a_model_of_two_layers():
    model, sequences = Tagger("packed"), make_sequences(N)
    want = model(batch(), N)

    def one(packed):
        x, lengths = vledge.pad_packed_sequence(packed, batch_first=True)
        return model(x, lengths, strategy="auto")

    for place, output, _ in vledge.run_many(one, sequences, lanes=2):
        np.testing.assert_allclose(output, want[place], rtol=0, atol=1e-6)
