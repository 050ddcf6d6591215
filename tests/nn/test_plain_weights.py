"""Names with wrappers in them, weights in pieces, and names that contradict each other."""

import contextlib
import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vledge import nn
from vledge.nn.plain_weights import WRAPPERS, PlainWeights, plain_name

RNG = np.random.default_rng(7)


def lstm(prefix: str = "", hidden: int = 4, layers: int = 1) -> dict[str, np.ndarray]:
    made = {}
    for layer in range(layers):
        width = 3 if layer == 0 else hidden
        made[f"{prefix}weight_ih_l{layer}"] = RNG.standard_normal((4 * hidden, width), "f4")
        made[f"{prefix}weight_hh_l{layer}"] = RNG.standard_normal((4 * hidden, hidden), "f4")
        made[f"{prefix}bias_ih_l{layer}"] = RNG.standard_normal(4 * hidden, "f4")
        made[f"{prefix}bias_hh_l{layer}"] = RNG.standard_normal(4 * hidden, "f4")
    return made


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("form", ["{}.rnn.", "rnn.{}.", "{0}.{0}.rnn.{0}."])
def test_every_wrapper_anywhere(wrapper: str, form: str) -> None:
    plain = lstm("rnn.")
    place = form.format(wrapper)
    wrapped = {place + name.removeprefix("rnn."): array for name, array in plain.items()}
    assert list(PlainWeights(wrapped)) == list(plain)
    (found,) = nn.recognize(wrapped)
    assert found.prefix == "rnn."
    for prefix in ("rnn.", place):
        made = nn.LSTM.from_weights(wrapped, prefix)
        np.testing.assert_array_equal(made.weight_hh_l0, plain["rnn.weight_hh_l0"])
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4)})
    assert model.load_state_dict(wrapped) == ([], [])
    np.testing.assert_array_equal(model["rnn"].bias_hh_l0, plain["rnn.bias_hh_l0"])


def test_a_wrappers_name_at_the_end_is_a_weights() -> None:
    assert plain_name("a.module") == "a.module"
    assert plain_name("module.a._orig_mod.module.b") == "a.b"
    assert plain_name("rnn._orig_mod.") == "rnn."


def pieces_of(base: str, form: str, shape: tuple[int, int]) -> tuple[dict[str, Any], np.ndarray]:
    """A weight in pieces, and its value by the definition, in float64."""
    parent, _, name = base.rpartition(".")
    inside = f"{parent}.parametrizations.{name}." if parent else f"parametrizations.{name}."
    w = RNG.standard_normal(shape).astype("f4")
    wide = w.astype("f8")
    if form in ("weight norm", "weight norm, parametrised"):
        g = RNG.random((shape[0], 1), "f4") + np.float32(0.5)
        value = g * wide / np.linalg.norm(wide, axis=1, keepdims=True)
        names = (base + "_g", base + "_v") if form == "weight norm" else (
            inside + "original0", inside + "original1")  # fmt: skip
        return dict(zip(names, (g, w), strict=True)), value
    if form == "mask":
        mask = (RNG.random(shape) > 0.3).astype("f4")
        return {base + "_orig": w, base + "_mask": mask}, wide * mask
    if form == "raw":
        return {base + "_raw": w}, wide
    left, _, right = np.linalg.svd(wide)
    u, v = left[:, 0].astype("f4"), right[0].astype("f4")
    value = wide / (u.astype("f8") @ wide @ v.astype("f8"))
    if form == "spectral norm":
        return {base + "_orig": w, base + "_u": u, base + "_v": v}, value
    return {inside + "original": w, inside + "0._u": u, inside + "0._v": v}, value


FORMS = [
    *("weight norm", "weight norm, parametrised", "mask", "raw"),
    *("spectral norm", "spectral norm, parametrised"),
]


@settings(max_examples=150, deadline=None)
@given(
    forms=st.lists(st.sampled_from(["", *FORMS]), min_size=4, max_size=4),
    wrappers=st.lists(st.sampled_from(["", *WRAPPERS]), min_size=3, max_size=3),
    shuffled=st.randoms(use_true_random=False),
)
def test_any_mixture_loads_as_by_definition(
    forms: list[str], wrappers: list[str], shuffled: Any
) -> None:
    plain = lstm("a.rnn.", layers=2)
    names = [name for name, array in plain.items() if array.ndim == 2]
    weights: dict[str, np.ndarray] = {n: a for n, a in plain.items() if n not in names}
    values = dict(plain)
    for name, form in zip(names, forms, strict=True):
        made = {name: plain[name]}
        if form:
            made, values[name] = pieces_of(name, form, plain[name].shape)
        weights |= made
    one, two, three = (f"{wrapper}." if wrapper else "" for wrapper in wrappers)
    weights = {
        name.replace("a.rnn.", f"{one}a.{two}rnn.{three}"): array for name, array in weights.items()
    }
    keys = list(weights)
    shuffled.shuffle(keys)
    weights = {key: weights[key] for key in keys}
    (found,) = nn.recognize(weights)
    assert (found.kind, found.prefix, found.num_layers) == ("LSTM", "a.rnn.", 2)
    layer = nn.LSTM.from_weights(weights, "a.rnn.")
    by_name = nn.LSTM(3, 4, 2)
    by_name.load_state_dict(weights, prefix="a.rnn.")
    for name, value in values.items():
        local = name.removeprefix("a.rnn.")
        for made in (layer, by_name):
            np.testing.assert_allclose(getattr(made, local), value, rtol=2e-7, atol=1e-7)


CLAIMS = {
    "a wrapper": "rnn.module.{}",
    "another wrapper": "_orig_mod.rnn.{}",
    **{form: form for form in FORMS if form != "raw"},
}


# a mask and an old weight norm share a name each with an old spectral norm
PAIRS = [
    pair
    for pair in itertools.combinations(["itself", *CLAIMS], 2)
    if "spectral norm" not in pair or not {"mask", "weight norm"} & {*pair}
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_that_claim_one_weight_and_differ_are_refused_by_both_names(
    one: str, other: str
) -> None:
    base = "rnn.weight_hh_l0"
    weights = lstm("rnn.")
    del weights[base]
    added: list[str] = []
    for claim in (one, other):
        if claim in FORMS:
            made, _ = pieces_of(base, claim, (16, 4))
        else:
            name = CLAIMS.get(claim, "rnn.{}").format("weight_hh_l0")
            made = {name: RNG.standard_normal((16, 4), "f4")}
        weights |= made
        added += made
    assert nn.recognize(weights) == []
    for load in (
        lambda: nn.LSTM.from_weights(weights, "rnn."),
        lambda: nn.LSTM(3, 4).load_state_dict(weights, prefix="rnn."),
        lambda: nn.LSTM(3, 4).load_state_dict(weights, prefix="rnn.", strict=False),
    ):
        with pytest.raises((ValueError, RuntimeError)) as told:
            load()
        assert "weight_hh_l0" in str(told.value)
        assert all(name in str(told.value) for name in added), str(told.value)


@pytest.mark.parametrize("form", ["weight norm", "mask", "spectral norm"])
def test_two_that_agree_are_one(form: str) -> None:
    made, value = pieces_of("rnn.weight_hh_l0", form, (16, 4))
    weights = lstm("rnn.") | made | {"rnn.module.weight_hh_l0": value.astype("f4")}
    weights["rnn.weight_hh_l0"] = value.astype("f4")
    layer = nn.LSTM.from_weights(weights, "rnn.")
    np.testing.assert_allclose(layer.weight_hh_l0, value, rtol=1e-6)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "raw"])
def test_a_raw_weight_beside_another_form_is_refused(form: str) -> None:
    weights = lstm("rnn.") | pieces_of("rnn.weight_hh_l0", form, (16, 4))[0]
    weights["rnn.weight_hh_l0_raw"] = RNG.standard_normal((16, 4), "f4")
    del weights["rnn.weight_hh_l0"]
    with pytest.raises(ValueError, match=r"weight_hh_l0_raw"):
        nn.LSTM.from_weights(weights, "rnn.")


def test_the_raw_weight_holds_and_its_leftovers_do_not() -> None:
    weights = lstm("rnn.")
    raw = RNG.standard_normal((16, 4), "f4")
    weights |= {"rnn.weight_hh_l0_raw": raw, "rnn.module.weight_hh_l0": 2 * raw}
    for prefix in ("rnn.", "rnn.module."):
        np.testing.assert_array_equal(nn.LSTM.from_weights(weights, prefix).weight_hh_l0, raw)
    weights["rnn.module.weight_hh_l0_raw"] = raw + 1
    with pytest.raises(ValueError, match=r"'rnn.weight_hh_l0_raw' and 'rnn.module.weight_hh_l0_"):
        nn.LSTM.from_weights(weights, "rnn.")


def test_names_that_the_model_has_are_taken_as_they_stand() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 3)
            self.declare("weight", (3, 2))
            self.declare("weight_g", (3, 1))
            self.declare("weight_v", (3, 2))
            self.declare("gain_raw", (3,))

    shapes = {"module.weight": (3, 2), "module.bias": (3,), "weight": (3, 2), "weight_g": (3, 1)}
    shapes |= {"weight_v": (3, 2), "gain_raw": (3,)}
    state = {name: RNG.standard_normal(shape, "f4") for name, shape in shapes.items()}
    model = Model()
    assert model.load_state_dict(state) == ([], [])
    for name, array in state.items():
        np.testing.assert_array_equal(model.state_dict()[name], array)


def test_a_wrapper_around_a_model_that_uses_its_name() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 3)
            self.inner = nn.ModuleDict({"module": nn.Linear(2, 3)})
            self.declare("weight", (3, 2))

    shapes = {"module.weight": (3, 2), "module.bias": (3,), "weight": (3, 2)}
    shapes |= {"inner.module.weight": (3, 2), "inner.module.bias": (3,)}
    state = {name: RNG.standard_normal(shape, "f4") for name, shape in shapes.items()}
    model = Model()
    model.load_state_dict({f"_orig_mod.{name}": array for name, array in state.items()})
    for name, array in state.items():
        np.testing.assert_array_equal(model.state_dict()[name], array)


def test_an_indrnn_that_is_there_twice_is_refused() -> None:
    own = {"weight_ih_l0": np.ones((2, 3), "f4"), "weight_hh_l0": np.ones(2, "f4")}
    other = {"cells.0.0.weight_ih": np.ones((2, 3), "f4"), "cells.0.0.weight_hh": np.ones(2, "f4")}
    with pytest.raises(ValueError, match=r"r.weight_hh_l0 and r.cells.0.0.weight_hh begin"):
        nn.IndRNN.from_weights({f"r.{name}": array for name, array in (own | other).items()}, "r.")
    authors = {
        "DIs.0.fc.weight": np.ones((2, 3), "f4"),
        "DIs.0.fc.bias": np.ones(2, "f4"),
        "RNNs.0.indrnn1.weight_hh": np.ones(2, "f4"),
        "RNNs.0.indrnn1.cells.0.weight_hh": np.ones(2, "f4"),
    }
    with pytest.raises(ValueError, match="claim the same weight"):
        nn.IndRNN.from_weights(authors)


def test_weights_that_overflow_do_so_without_a_word_as_in_torch() -> None:
    pieces = {"weight_g": np.full((2, 1), 3e38, "f4"), "weight_v": np.full((2, 2), 1e200)}
    assert nn.Linear.from_weights(pieces).weight.shape == (2, 2)


def test_others_names_that_end_alike_stay() -> None:
    arrays = {
        name: RNG.standard_normal((4, 3), "f4")
        for name in ("attention.pos_u", "attention.pos_v", "attention.bias_u", "attention.bias_v")
    }
    arrays |= {"x.alpha_g": np.ones(3, "f4"), "x.alpha_v": np.ones(3, "f4")}
    arrays |= {"audio_raw": np.ones(3, "f4"), "mask": np.ones(3, "f4")}
    plain = PlainWeights(arrays)
    assert list(plain) == list(arrays)
    assert plain.refused == {}


def test_an_averaged_models_counter_is_no_weight() -> None:
    weights = {f"avg.module.{name}": array for name, array in lstm().items()}
    weights["avg.n_averaged"] = np.array(3)
    model = nn.ModuleDict({"avg": nn.LSTM(3, 4)})
    assert model.load_state_dict(weights) == ([], [])
    del weights["avg.n_averaged"]
    weights["n_averaged"] = np.array(3)  # beside no module: a name like others
    with pytest.raises(RuntimeError, match=r"Unexpected.*n_averaged"):
        model.load_state_dict(weights)


def test_what_a_model_has_no_use_for_is_unexpected_by_its_own_names() -> None:
    weights = lstm("rnn.") | {"x.parametrizations.weight.original": np.ones((2, 2), "f4")}
    weights |= pieces_of("y._orig_mod.weight", "weight norm", (3, 2))[0]
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4)})
    left = ["x.parametrizations.weight.original", "y._orig_mod.weight_g", "y._orig_mod.weight_v"]
    assert model.load_state_dict(weights, strict=False) == ([], left)
    nn.LSTM.from_weights(weights, "rnn.")  # what stands elsewhere does not matter
    with pytest.raises(RuntimeError, match=r"Unexpected.*y\._orig_mod.weight_g"):
        model.load_state_dict(weights)


SUGGESTED = {
    "LSTM": (lstm("model.rnn."), "", "model.rnn."),
    "LSTM by its name": (lstm("model.rnn.") | lstm("model.other."), "rnn.", "model.rnn."),
    "LSTM without its dot": (lstm("rnn."), "rnn", "rnn."),
    "Linear": ({"model.fc.weight": np.ones((2, 3), "f4")}, "fc.", "model.fc."),
    "Conv1d": ({"m.c.weight": np.ones((2, 3, 1), "f4"), "m.weight": np.ones(2)}, "", "m.c."),
    "Embedding": ({"model.e.weight": np.ones((2, 3), "f4")}, "e.", "model.e."),
    "GRUCell": (
        {"model.c.weight_ih": np.ones((6, 3), "f4"), "model.c.weight_hh": np.ones((6, 2), "f4")},
        "",
        "model.c.",
    ),
    "IndRNN": (
        {"m.weight_ih_l0": np.ones((2, 3), "f4"), "m.weight_hh_l0": np.ones(2, "f4")},
        "",
        "m.",
    ),
}


@pytest.mark.parametrize("case", SUGGESTED)
def test_a_prefix_that_fits_is_suggested(case: str) -> None:
    weights, asked, right = SUGGESTED[case]
    kind = getattr(nn, case.split(maxsplit=1)[0])
    with pytest.raises(KeyError) as told:
        kind.from_weights(weights, asked)
    assert f"prefix='{right}'" in str(told.value)
    kind.from_weights(weights, right)


def test_a_prefix_of_another_kind_is_not_suggested() -> None:
    with pytest.raises(KeyError) as told:
        nn.GRU.from_weights(lstm("model.rnn."))
    assert "did you mean" not in str(told.value)


def test_load_state_dict_suggests_a_prefix_and_takes_it() -> None:
    weights = {f"model.{name}": array for name, array in lstm("rnn.").items()}
    weights["loss.weight"] = np.ones(3, "f4")
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4)})
    with pytest.raises(RuntimeError, match=r"did you mean prefix='model\.'\?"):
        model.load_state_dict(weights)
    assert model.load_state_dict(weights, prefix="model.") == ([], [])


def test_flat_parameters_are_named_with_the_way_out() -> None:
    weights = {"rnn._fsdp_wrapped_module._flat_param": np.ones(9, "f4")}
    with pytest.raises(KeyError, match=r"rnn._fsdp_wrapped_module._flat_param.*FULL_STATE_DICT"):
        nn.LSTM.from_weights(weights, "rnn.")


def test_a_spectral_norm_of_which_axis_is_not_guessed() -> None:
    w = RNG.standard_normal((5, 5, 3)).astype("f4")
    for axis in (0, 1):  # the second is a transposed convolution's
        left, _, right = np.linalg.svd(np.moveaxis(w, axis, 0).reshape(5, -1))
        state = {"weight_orig": w, "weight_u": left[:, 0], "weight_v": right[0]}
        if axis:
            with pytest.raises(ValueError, match=r"'weight' cannot be folded.*fit several axes"):
                nn.Conv1d.from_weights(state)
        else:
            nn.Conv1d.from_weights(state)


@pytest.mark.parametrize("shape", [(5, 5), (2, 2), (5, 5, 3)])
def test_a_spectral_norm_that_was_never_trained(shape: tuple[int, ...]) -> None:
    """Its vectors are random numbers, and divide the weight all the same."""
    kind = nn.Conv1d if len(shape) == 3 else nn.Linear
    for _ in range(20):
        w = RNG.standard_normal(shape)
        u, v = RNG.standard_normal(shape[0]), RNG.standard_normal(w[0].size)
        u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
        made = kind.from_weights({"weight_orig": w, "weight_u": u, "weight_v": v})
        value = w / (u @ w.reshape(shape[0], -1) @ v)
        np.testing.assert_allclose(made.weight, value, rtol=1e-12)


@pytest.mark.parametrize(
    "pieces",
    [
        {"weight_g": np.ones((3, 1)), "weight_v": np.ones((4, 2))},
        {"weight_g": np.ones((4, 2)), "weight_v": np.ones((4, 2))},
        {"weight_orig": np.ones((4, 2)), "weight_mask": np.ones((4, 1))},
        {"weight_orig": np.ones((4, 2)), "weight_u": np.ones(4), "weight_v": np.ones(3)},
        {"weight_orig": np.ones((4, 2)), "weight_u": np.ones(4), "weight_mask": np.ones((4, 2))},
        {"weight_orig": np.ones((4, 2))},
        {"weight_bar": np.ones((4, 2)), "weight_u": np.ones(4), "weight_v": np.ones(2)},
        {"parametrizations.weight.original0": np.ones((4, 2))},
        {
            "parametrizations.weight.original0": np.ones((4, 2)),
            "parametrizations.weight.original1": np.ones((4, 2)),
        },
        {
            "parametrizations.weight.original": np.ones((4, 2)),
            "parametrizations.weight.1._u": np.ones(4),
            "parametrizations.weight.1._v": np.ones(2),
        },
        {
            "parametrizations.weight.original": np.ones((4, 2)),
            "parametrizations.weight.0._u": np.ones(4),
            "parametrizations.weight.0._v": np.ones(2),
            "parametrizations.weight.0.more": np.ones(2),
        },
    ],
)
def test_pieces_that_do_not_fit_are_named(pieces: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="'weight' is only there as") as told:
        nn.Linear.from_weights(pieces)
    assert all(repr(name) in str(told.value) for name in pieces)
    assert "vledge.export" in str(told.value)


@pytest.mark.parametrize("dtype", [object, "c8", "U3"])
def test_pieces_that_are_no_numbers(dtype: Any) -> None:
    pieces = {"weight_g": np.ones((4, 1), "f4"), "weight_v": np.ones((4, 2)).astype(dtype)}
    with pytest.raises(ValueError, match=r"'weight' cannot be folded: .*dtype"):
        nn.Linear.from_weights(pieces)


def test_many_names_take_time_in_proportion() -> None:
    """60,000 names that are all pieces, as a hostile file may have: seconds, not hours."""
    array = np.ones((1, 1), "f4")
    names = [f"module.l{i}.weight_{end}" for i in range(15_000) for end in ("g", "v", "raw", "u")]
    plain = PlainWeights(dict.fromkeys(names, array))
    assert len(plain.folds()) == 15_000
    names = [f"{i}.{'module.' * 120}weight_raw" for i in range(3_000)]
    tracemalloc.start()
    assert len(PlainWeights(dict.fromkeys(names, array))) == 3_000
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


PARTS = ["a", "rnn", "module", "_orig_mod", "parametrizations", "weight", "weight_hh_l0", "0"]
LASTS = ["weight", "weight_g", "weight_v", "weight_u", "weight_orig", "weight_mask", "weight_raw"]
LASTS += ["weight_bar", "original", "original0", "original1", "_u", "_v", "base", "n_averaged"]
LASTS += ["weight_hh_l0", "weight_hh_l0_raw", "weight_orig_orig", "weight_orig_mask", "flat_param"]
SHAPES: list[tuple[int, ...]] = [(), (2,), (3,), (2, 1), (2, 3), (3, 2), (2, 2), (0, 2)]


@settings(max_examples=400, deadline=None)
@given(
    names=st.lists(
        st.tuples(st.lists(st.sampled_from(PARTS), max_size=4), st.sampled_from(LASTS)),
        max_size=12,
    ),
    shapes=st.lists(st.sampled_from(SHAPES), min_size=12, max_size=12),
    expected=st.lists(st.integers(0, 11), max_size=3),
)
def test_no_key_is_lost_and_none_is_taken_twice(
    names: list[tuple[list[str], str]], shapes: list[tuple[int, ...]], expected: list[int]
) -> None:
    keys = list(dict.fromkeys(".".join([*path, last]) for path, last in names))
    weights = {
        key: RNG.standard_normal(shape).astype("f4")
        for key, shape in zip(keys, shapes, strict=False)
    }
    for plain in (
        PlainWeights(weights),
        PlainWeights(weights, [keys[i] for i in expected if i < len(keys)]),
    ):
        taken = [key for name in plain for key in plain.keys_of(name)]
        assert sorted([*taken, *plain.strays]) == sorted(keys)
        assert len(set(plain)) == len(list(plain)) == len(plain)
        for name in plain:
            with contextlib.suppress(ValueError):
                assert isinstance(plain[name], np.ndarray)
    nn.recognize(weights)
