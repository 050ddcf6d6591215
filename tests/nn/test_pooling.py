"""Pools over time and nn.functional against torch's, option by option."""

import itertools

import numpy as np
import pytest

from tests.peers import peer
from vledge import nn
from vledge.nn import functional as ours

torch = peer("torch")
theirs = torch.nn.functional

RNG = np.random.default_rng(0)


def data(*shape, dtype="f4"):
    return RNG.normal(size=shape).astype(dtype)


def same(got, expected):
    """Values and dtypes; of a tuple each."""
    if isinstance(expected, tuple):
        for one, other in zip(got, expected, strict=True):
            same(one, other)
        return
    expected = expected.detach().numpy()
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


SLIDING = [
    {"kernel_size": k, "stride": s, "padding": p, "ceil_mode": c}
    for k, s, p, c in itertools.product((1, 2, 3, 5), (None, 1, 2, 4), (0, 1, 2), (False, True))
    if p <= k // 2
]


@pytest.mark.parametrize("steps", [5, 8, 11])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_max_pool(steps, dtype):
    x = np.round(data(2, 3, steps, dtype=dtype), 1)  # with ties
    for options in SLIDING:
        for dilation in (1, 2):
            if steps + 2 * options["padding"] < dilation * (options["kernel_size"] - 1) + 1:
                continue
            every = {**options, "dilation": dilation, "return_indices": True}
            expected = torch.nn.MaxPool1d(**every)(torch.from_numpy(x))
            same(nn.MaxPool1d(**every)(x), expected)
            every["return_indices"] = False
            same(nn.MaxPool1d(**every)(x[0]), expected[0][0])


@pytest.mark.parametrize("steps", [5, 8, 11])
@pytest.mark.parametrize("include", [True, False])
def test_mean_pool(steps, include):
    x = data(2, 3, steps)
    for options in SLIDING:
        every = {**options, "count_include_pad": include}
        same(nn.AvgPool1d(**every)(x), torch.nn.AvgPool1d(**every)(torch.from_numpy(x)))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 11, 13, None])
def test_adaptive_pools(size):
    x = np.round(data(2, 3, 11), 1)
    t = torch.from_numpy(x)
    if size is not None:
        same(nn.AdaptiveAvgPool1d(size)(x), torch.nn.AdaptiveAvgPool1d(size)(t))
        expected = torch.nn.AdaptiveMaxPool1d(size, return_indices=True)(t)
        same(nn.AdaptiveMaxPool1d(size, return_indices=True)(x), expected)
        same(nn.AdaptiveMaxPool1d((size,))(x[0]), expected[0][0])
    else:
        np.testing.assert_array_equal(nn.AdaptiveAvgPool1d(None)(x), x)


def test_nan_is_the_largest():
    x = data(1, 1, 8)
    x[..., 3] = np.nan
    t = torch.from_numpy(x)
    same(nn.MaxPool1d(3, 1)(x), torch.nn.MaxPool1d(3, 1)(t))
    options = {"kernel_size": 3, "stride": 1, "return_indices": True}
    same(nn.MaxPool1d(**options)(x), torch.nn.MaxPool1d(**options)(t))
    same(nn.AdaptiveMaxPool1d(2)(x), torch.nn.AdaptiveMaxPool1d(2)(t))


@pytest.mark.parametrize(
    ("make", "x", "message"),
    [
        (lambda: nn.MaxPool1d(3, padding=2), None, "pad should be at most half of"),
        (lambda: nn.AvgPool1d(0), None, "kernel_size and stride must be at least 1, got 0 and 0"),
        (
            lambda: nn.MaxPool1d(9),
            (1, 1, 8),
            "8 steps, padded by 0, are fewer than",
        ),
        (lambda: nn.MaxPool1d(2), (8,), r"input has shape \(8,\), expected \[B, C, T\]"),
        (lambda: nn.AdaptiveAvgPool1d(-1), None, "output_size must be 0 or more, got -1"),
    ],
)
def test_what_is_wrong_is_told(make, x, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        make()(np.zeros(x, "f4"))


X = data(4, 6, 9)
WEIGHTS = {"weight": data(5, 9), "bias": data(5)}
CASES = {
    "tanh": ({}, X),
    "sigmoid": ({}, X),
    "relu": ({}, X),
    "relu6": ({}, 9 * X),
    "silu": ({}, X),
    "leaky_relu": ({"negative_slope": 0.2}, X),
    "elu": ({"alpha": 0.7}, X),
    "hardtanh": ({"min_val": -0.5, "max_val": 0.3}, X),
    "hardsigmoid": ({}, 5 * X),
    "softplus": ({"beta": 2.0, "threshold": 3.0}, 4 * X),
    "gelu": ({"approximate": "tanh"}, X),
    "softmax": ({"dim": 1}, X),
    "log_softmax": ({"dim": -1}, X),
    "prelu": ({"weight": data(6)}, X),
    "linear": (WEIGHTS, X),
    "conv1d": (
        {"weight": data(8, 3, 3), "bias": data(8), "padding": 2, "dilation": 2, "groups": 2},
        X,
    ),
    "embedding": ({"weight": data(7, 3)}, np.array([[0, 6], [3, 3]])),
    "layer_norm": ({"normalized_shape": (9,), "weight": data(9), "bias": data(9)}, X),
    "batch_norm": (
        {
            "running_mean": data(6),
            "running_var": data(6) ** 2,
            "weight": data(6),
            "bias": data(6),
            "eps": 1e-3,
        },
        X,
    ),
    "dropout": ({"training": False}, X),
    "max_pool1d": ({"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}, X),
    "avg_pool1d": ({"kernel_size": 3, "count_include_pad": False, "padding": 1}, X),
    "adaptive_avg_pool1d": ({"output_size": 4}, X),
    "adaptive_max_pool1d": ({"output_size": 4}, X),
}


@pytest.mark.parametrize("name", ours.__all__)
def test_functional(name):
    options, x = CASES[name]
    tensors = {
        n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in options.items()
    }
    same(getattr(ours, name)(x, **options), getattr(theirs, name)(torch.from_numpy(x), **tensors))


@pytest.mark.parametrize("drop", ["weight", "bias"])
def test_norms_without_weight_or_bias(drop):
    for name in ("layer_norm", "batch_norm"):
        options = {**CASES[name][0], drop: None}
        tensors = {
            n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in options.items()
        }
        expected = getattr(theirs, name)(torch.from_numpy(X), **tensors)
        same(getattr(ours, name)(X, **options), expected)


def test_torchs_own_places_of_the_packing_functions():
    import vledge
    from vledge.nn.utils.rnn import pack_padded_sequence

    assert pack_padded_sequence is vledge.pack_padded_sequence
    assert vledge.nn.utils.rnn.PackedSequence is vledge.PackedSequence
    assert set(vledge.nn.utils.rnn.__all__) <= set(dir(torch.nn.utils.rnn))
    assert set(ours.__all__) <= set(dir(theirs))
