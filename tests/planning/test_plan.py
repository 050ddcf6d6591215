"""Plans: what they predict, what they rank first, and what strategy="auto" makes of them."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import vledge
from tests.lengths.cases import assert_same, make_layer, make_sequences, rectangle
from tests.lengths.spies import spied
from vledge import nn
from vledge.lengths.running import check_options
from vledge.lengths.strategies import STRATEGIES
from vledge.lengths.strategies.lanes import rounds
from vledge.lengths.strategies.work import FORMS, Case, Overhead
from vledge.planning.costs import KEPT_BYTES
from vledge.planning.defaults import DEFAULT
from vledge.planning.shapes import LayerShape

MIXED = [400, 3, 17, 90, 5, 5, 44] * 30


def plan(lengths, layer, **options):
    return vledge.plan(lengths, layer, costs=DEFAULT, **{"threads": 1, **options})


def test_multiply_adds_are_counted():
    made = plan([3, 1, 0], nn.LSTM(5, 7, num_layers=2, bidirectional=True))
    each = 2 * 4 * 7 * (5 + 7) + 2 * 4 * 7 * (14 + 7)
    assert {p.real for p in made.ranking} == {4 * each}
    assert {p.wasted for p in made.ranking} == {0}
    assert (made.rectangle.real, made.rectangle.wasted) == (4 * each, 2 * each)
    assert made.padding == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("layer", "each"),
    [
        (nn.GRU(5, 7), 3 * 7 * 12),
        (nn.RNN(5, 7), 7 * 12),
        (nn.IndRNN(5, 7), 7 * 6),
        (nn.LSTM(5, 7, proj_size=3), 4 * 7 * 8 + 3 * 7),
    ],
    ids=["gru", "rnn", "indrnn", "lstm_proj"],
)
def test_every_cell_has_its_count(layer, each):
    assert plan([2], layer)["packed"].real == 2 * each


def test_a_module_is_the_sum_of_its_layers():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.LSTM(5, 7), nn.GRU(7, 9)

    both, first, second = (plan([9, 4], m) for m in (Two(), nn.LSTM(5, 7), nn.GRU(7, 9)))
    for name in ("packed", "lanes"):
        assert both[name].real == first[name].real + second[name].real
        assert both[name].seconds == pytest.approx(first[name].seconds + second[name].seconds)
        assert both[name].peak_bytes == max(first[name].peak_bytes, second[name].peak_bytes)


def test_reasons_are_in_words():
    made = plan([100] * 2 + [10] * 8, nn.LSTM(5, 7))
    assert made["packed"].reason == "72 % of the padded work is padding"
    assert made["bucketed"].reason == "1 batch of at most 10 sequences of like length"
    assert "72 % of the work is on padding" in made.rectangle.reason
    assert plan([4, 4], nn.LSTM(5, 7))["padded"].reason.startswith("all lengths are equal")


def test_one_window_of_all_steps_is_never_predicted_quicker_than_padded():
    free = {
        name: Overhead(0, 0, 0, 0, 0) for name in DEFAULT.overheads if name.endswith(".streaming")
    }
    costs = replace(DEFAULT, overheads={**DEFAULT.overheads, **free})
    short, long = (vledge.plan([n] * 40, nn.GRU(8, 16), threads=1, costs=costs) for n in (11, 2000))
    assert short["streaming"].options["window"] >= 11
    assert short.best.strategy != "streaming"
    assert short["streaming"].seconds == short["padded"].seconds
    assert long["streaming"].seconds < long["padded"].seconds


def test_strategies_that_cannot_run_it_are_named():
    made = plan([3, 1], nn.LSTM(5, 7, bidirectional=True))
    assert sorted(made.left_out) == ["lanes", "masked", "streaming"]
    assert [p.strategy for p in plan([3], nn.LSTM(5, 7), form="masked").ranking].count("masked")


def test_one_giant_is_not_padded_and_a_rectangle_is_not_packed():
    layer = nn.LSTM(64, 64)
    assert plan([5000] + [20] * 255, layer).best.strategy not in ("padded", "streaming")
    assert plan([100] * 64, layer, form="padded").best.strategy == "padded"


def test_time_grows_with_work_and_falls_with_threads():
    small, large = (plan(MIXED, nn.LSTM(64, h))["packed"].seconds for h in (64, 256))
    assert large > 4 * small
    alone, shared = (plan(MIXED, nn.LSTM(64, 128), threads=n)["packed"].seconds for n in (1, 2))
    assert 0.4 * alone < shared < 0.9 * alone
    single, double = (
        plan(MIXED, nn.LSTM(64, 128, dtype=d))["packed"].seconds for d in ("float32", "float64")
    )
    assert double > 1.3 * single


def test_threads_share_the_steps_of_a_giant():
    """Only where its weights are large: else one thread has the giant and hardly gains."""
    lengths = [1500, 100, 90, 80]
    for hidden_size, gains in ((64, False), (256, True)):
        alone, shared = (plan(lengths, nn.LSTM(64, hidden_size), threads=n) for n in (1, 2))
        assert alone["lanes"].seconds > alone["packed"].seconds
        assert (shared["packed"].seconds < 0.8 * alone["packed"].seconds) == gains
        assert shared["streaming"].seconds > shared["packed"].seconds  # all rows stay in its batch


def test_memory_that_is_not_kept_takes_time():
    """Of the padded rectangle of one giant among many, above all."""
    costly = replace(DEFAULT, memory=3 * DEFAULT.memory)
    for name, large in (("packed", False), ("padded", True)):
        cheap, dear = (
            vledge.plan([5000] + [20] * 255, nn.LSTM(64, 64), threads=1, costs=costs)[name]
            for costs in (DEFAULT, costly)
        )
        more = 2 * DEFAULT.memory * (cheap.peak_bytes - KEPT_BYTES)
        assert dear.seconds - cheap.seconds == pytest.approx(more)
        assert (more > 0.5 * cheap.seconds) == large
    small = plan([3, 2], nn.LSTM(4, 4))["packed"]
    assert vledge.plan([3, 2], nn.LSTM(4, 4), threads=1, costs=costly)["packed"] == small


def test_a_memory_limit_puts_what_fits_first():
    layer = nn.LSTM(64, 128, num_layers=2)
    free = plan(MIXED, layer)
    limit = free.output_bytes * 3 // 2 + 600_000
    made = plan(MIXED, layer, memory_limit=limit)
    assert made.best.peak_bytes <= limit < made["padded"].peak_bytes
    fits = [p.fits for p in made.ranking]
    assert fits == sorted(fits, reverse=True)
    assert True in fits
    assert False in fits
    assert made["padded"].reason.startswith(f"over the limit of {limit:,} bytes")
    assert made["bucketed"].options["rows"] < free["bucketed"].options["rows"]


def test_no_strategy_within_the_limit_is_an_error():
    made = plan(MIXED, nn.LSTM(64, 128), memory_limit=1000)
    with pytest.raises(MemoryError, match=r"no strategy .* memory_limit=1,000 bytes"):
        _ = made.best


@pytest.mark.parametrize("form", ["list", "padded", "packed", "masked"])
@pytest.mark.parametrize(("kind", "num_layers"), [(nn.LSTM, 1), (nn.LSTM, 2), (nn.IndRNN, 2)])
def test_predicted_memory_is_what_is_allocated(form, kind, num_layers):
    lengths = np.array([300, 20, 50, 7, 120, 80, 200, 33] * 12)
    layer = wide(kind, num_layers)
    generator = np.random.default_rng(0)
    sequences = [generator.standard_normal((n, 32), np.float32) for n in lengths]
    padded = vledge.pad_sequence(sequences)
    # without holes it would be lengths, which take less
    mask = np.roll(np.arange(301) < lengths[:, None], 1, 1)
    masked = np.concatenate([padded[:1], padded])
    given, options = {
        "list": (sequences, {}),
        "padded": (padded, {"lengths": lengths}),
        "packed": (vledge.pack_sequence(sequences, enforce_sorted=False), {}),
        "masked": (masked, {"mask": mask, "zero_output_for_mask": True}),
    }[form]
    made = plan(lengths, layer, form=form, steps=301 if form == "masked" else None)
    layer(sequences[1])  # prepares the weights
    for prediction in made.ranking:
        ways = options | {"strategy": prediction.strategy} | prediction.options
        tracemalloc.start()
        layer(given, **ways)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= 1.02 * prediction.peak_bytes, prediction
        assert prediction.peak_bytes <= 1.15 * peak + 700_000, (peak, prediction)


def wide(kind, num_layers=1):
    layer = kind(32, 64, num_layers=num_layers)
    generator = np.random.default_rng(0)
    layer.load_state_dict(
        {n: generator.uniform(-0.1, 0.1, d.shape) for n, d in layer._declared.items()}
    )
    return layer


@pytest.mark.parametrize("kind", ["lstm", "gru", "indrnn"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_auto_gives_what_every_strategy_gives(kind, bidirectional):
    lengths = [5, 1, 9, 3, 9, 2, 7]
    layer = make_layer(kind, bidirectional=bidirectional)
    sequences = make_sequences(lengths)
    want = layer(sequences, strategy="packed")
    assert_same(layer(sequences, strategy="auto"), want, 1e-6)
    batch = rectangle(sequences)
    want = layer(batch, lengths=lengths, strategy="packed")
    assert_same(layer(batch, lengths=lengths, strategy="auto"), want, 1e-6)


def test_auto_runs_what_the_plan_ranks_first(monkeypatch):
    ran = []
    spied(monkeypatch, lambda name, _, options: ran.append((name, options)))
    monkeypatch.setattr("vledge.planning.choice.costs", lambda: DEFAULT)
    layer = make_layer("lstm")
    for lengths in ([200] + [2] * 60, [30] * 6):
        sequences = make_sequences(lengths)
        for form, given, options in (
            ("list", sequences, {}),
            ("padded", rectangle(sequences, extra=0), {"lengths": lengths}),
        ):
            layer(given, strategy="auto", **options)
            best = vledge.plan(lengths, layer, form=form, costs=DEFAULT).best
            assert ran.pop() == (best.strategy, best.options)
    assert not ran


def test_auto_respects_the_memory_limit():
    layer = wide(nn.LSTM)
    lengths = np.array([600] + [6] * 255)
    sequences = [np.ones((n, 32), np.float32) for n in lengths]
    limit = 3_000_000
    assert vledge.plan(lengths, layer)["padded"].peak_bytes > 10 * limit
    layer(sequences, strategy="auto", memory_limit=limit)
    tracemalloc.start()
    layer(sequences, strategy="auto", memory_limit=limit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= limit
    with pytest.raises(MemoryError, match="memory_limit=1,000"):
        layer(sequences, strategy="auto", memory_limit=1000)


def test_auto_runs_a_batch_of_empty_sequences():
    layer = make_layer("gru")
    output, state = layer(
        np.zeros((2, 3, 5), np.float32), lengths=[0, 0], strategy="auto", semantics="onnx"
    )
    assert not output.any()
    assert not state.any()


def test_a_layer_that_is_only_reverse_needs_whole_sequences():
    shape = LayerShape("gru", 5, 7, reverse=True)
    made = vledge.plan([9, 3, 1], shape, threads=1)
    assert {"lanes", "streaming"} < set(made.left_out)
    assert str(made.shapes[0]) == "GRU 5 to 7, reverse"


def test_auto_takes_no_other_option():
    with pytest.raises(TypeError, match="rows"):
        make_layer("gru")(make_sequences([3]), strategy="auto", rows=3)


@pytest.mark.parametrize("lanes", [1, 4, 64])
def test_rounds_run_every_step_once(lanes):
    lengths = np.sort(np.random.default_rng(0).integers(1, 500, 100))[::-1].copy()
    runs = rounds(lengths, lanes)
    assert sum(int(r.sum()) for r in runs) == lengths.sum()
    assert max(map(len, runs)) == min(lanes, 100)
    assert all((np.diff(r) <= 0).all() for r in runs)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategys_file_says_all_of_it(name):
    strategy = STRATEGIES[name]
    assert strategy.name == name
    assert set(strategy.overheads) == set(strategy.forms)
    for options in (*strategy.options, strategy.small):
        check_options(name, options)
    lengths = np.array([300, 40, 40, 40, 40, 40, 3, 1])
    shape = LayerShape("lstm", 8, 8)
    for form in strategy.forms:
        case = Case(lengths, form, 300)
        done = [strategy.work(case, shape, **options) for options in strategy.options]
        assert all(sum(int(run.sum()) for run in one.runs) == case.total for one in done)
        peaks = [one.peak for one in done]
        assert peaks[-1] <= peaks[0]
        assert all(strategy.reason(case, one) for one in done)


def test_every_form_has_one_strategy_that_runs_it_as_it_is():
    natural = [form for strategy in STRATEGIES.values() for form in strategy.natural_for]
    assert sorted(natural) == sorted(FORMS)
    assert Case(np.array([3, 1]), "list", 3).rectangle == 6


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (([1.5], nn.GRU(1, 1)), {}, TypeError, "integers"),
        (([[1]], nn.GRU(1, 1)), {}, TypeError, "2-D"),
        (([0, 0], nn.GRU(1, 1)), {}, ValueError, "all lengths are 0"),
        (([3, -1], nn.GRU(1, 1)), {}, ValueError, "from 0"),
        (([3], nn.Linear(1, 1)), {}, ValueError, "Linear holds no LSTM"),
        (([3], "LSTM"), {}, TypeError, "got the path 'LSTM'"),
        (([3], nn.GRU(1, 1)), {"threads": 0}, ValueError, "threads"),
        (([3], nn.GRU(1, 1)), {"memory_limit": 0}, ValueError, "memory_limit"),
        (([3], nn.GRU(1, 1)), {"form": "ragged"}, ValueError, "'padded'"),
        (([3], nn.GRU(1, 1)), {"steps": 2}, ValueError, "longest length, 3"),
    ],
)
def test_wrong_arguments(arguments, options, error, words):
    with pytest.raises(error, match=words):
        vledge.plan(*arguments, **options)


def test_a_tie_goes_to_the_strategy_that_runs_the_form_as_it_is():
    from dataclasses import replace

    slow = replace(DEFAULT.overheads["list.packed"], call=0.0)
    layer = nn.LSTM(64, 128)

    def best(faster):
        like = replace(slow, sequence=slow.sequence * (1 - faster))
        costs = replace(DEFAULT, overheads=dict.fromkeys(DEFAULT.overheads, like))
        costs.overheads["list.packed"] = slow
        made = vledge.plan([30] * 10, layer, threads=1, costs=costs)
        return made.best.strategy, made["packed"].seconds / made["padded"].seconds

    assert best(0.01)[0] == "packed"
    assert 1 < best(0.01)[1] < 1.05
    slow = replace(slow, sequence=1.0)
    name, ratio = best(0.5)
    assert ratio > 1.5
    assert name != "packed"
