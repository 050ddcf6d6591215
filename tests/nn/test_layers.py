"""The layers around the recurrent ones, against torch, live."""

import numpy as np
import pytest

from vledge import nn


def pair(torch, name, *arguments, dtype="float32", **options):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*arguments, **options)
    ours = getattr(nn, name)(*arguments, **options)
    if dtype == "float64":
        theirs.double()
        ours.double()
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1)
    if theirs.state_dict():
        ours.load_state_dict({n: t.numpy() for n, t in theirs.state_dict().items()})
    return theirs.eval(), ours


def check(torch, theirs, ours, x, dtype="float32"):
    want = theirs(x).numpy()
    got = ours(x.numpy())
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    tolerance = 3e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


LAYERS = [
    ("Linear", (5, 3), {}, (2, 4, 5)),
    ("Linear", (5, 3), {"bias": False}, (5,)),
    ("Conv1d", (4, 6, 3), {}, (2, 4, 11)),
    ("Conv1d", (4, 6, 3), {"padding": 1, "stride": 2}, (2, 4, 11)),
    ("Conv1d", (4, 6, 3), {"padding": "same", "dilation": 2, "groups": 2}, (2, 4, 11)),
    ("Conv1d", (4, 8, 4), {"padding": "same", "groups": 4, "bias": False}, (4, 11)),
    ("Conv1d", (4, 6, 3), {"padding": 2, "padding_mode": "reflect"}, (2, 4, 11)),
    ("Conv1d", (4, 6, 3), {"padding": 2, "padding_mode": "replicate"}, (2, 4, 11)),
    ("Conv1d", (4, 6, 3), {"padding": 2, "padding_mode": "circular"}, (2, 4, 11)),
    ("Conv1d", (4, 6, 1), {"padding": "valid"}, (1, 4, 1)),
    ("BatchNorm1d", (5,), {}, (3, 5)),
    ("BatchNorm1d", (5,), {"eps": 0.1}, (3, 5, 7)),
    ("BatchNorm1d", (5,), {"affine": False}, (3, 5)),
    ("LayerNorm", (5,), {}, (3, 2, 5)),
    ("LayerNorm", ((2, 5),), {"eps": 0.1}, (3, 2, 5)),
    ("LayerNorm", (5,), {"bias": False}, (3, 5)),
    ("LayerNorm", (5,), {"elementwise_affine": False}, (3, 5)),
    ("PReLU", (), {}, (3, 5)),
    ("PReLU", (5,), {}, (3, 5, 2)),
    ("Dropout", (0.9,), {}, (3, 5)),
    ("Identity", (), {}, (3, 5)),
    ("Flatten", (), {}, (2, 3, 4, 5)),
    ("Flatten", (0, 1), {}, (2, 3, 4)),
    *(
        (name, arguments, {}, (4, 50))
        for name, arguments in [
            ("ReLU", ()),
            ("ReLU6", ()),
            ("LeakyReLU", (0.2,)),
            ("ELU", (0.7,)),
            ("Sigmoid", ()),
            ("Tanh", ()),
            ("SiLU", ()),
            ("Hardtanh", (-0.5, 2.0)),
            ("Hardsigmoid", ()),
            ("Softplus", (2.0, 3.0)),
            ("GELU", ()),
            ("GELU", ("tanh",)),
            ("Softmax", (1,)),
            ("LogSoftmax", (-1,)),
        ]
    ),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "arguments", "options", "shape"), LAYERS, ids=str)
def test_agrees_with_torch(torch, name, arguments, options, shape, dtype):
    theirs, ours = pair(torch, name, *arguments, dtype=dtype, **options)
    check(torch, theirs, ours, torch.randn(*shape, dtype=getattr(torch, dtype)) * 4, dtype)


def test_embedding(torch):
    theirs, ours = pair(torch, "Embedding", 10, 4, padding_idx=-1)
    assert ours.padding_idx == 9
    ids = torch.randint(0, 10, (3, 5))
    check(torch, theirs, ours, ids)
    with pytest.raises(IndexError, match="index 10 is out of range in a table of 10 rows"):
        ours(np.array([10]))
    with pytest.raises(IndexError, match="index -1"):
        ours(np.array([-1]))
    with pytest.raises(TypeError, match="expected integer indices"):
        ours(np.array([0.5]))
    with pytest.raises(ValueError, match="max_norm"):
        nn.Embedding(3, 3, max_norm=1.0)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag(torch, mode):
    theirs, ours = pair(torch, "EmbeddingBag", 10, 4, mode=mode, padding_idx=2)
    ids = torch.tensor([1, 2, 3, 2, 2, 7])
    check(torch, theirs, ours, ids.reshape(2, 3))
    offsets = torch.tensor([0, 3, 3, 5])
    np.testing.assert_allclose(
        ours(ids.numpy(), offsets.numpy()), theirs(ids, offsets).numpy(), atol=1e-6
    )
    if mode == "sum":
        weights = torch.rand(6)
        np.testing.assert_allclose(
            ours(ids.numpy(), offsets.numpy(), weights.numpy()),
            theirs(ids, offsets, weights).numpy(),
            atol=1e-6,
        )
    with pytest.raises(ValueError, match="offsets must begin with 0"):
        ours(ids.numpy(), np.array([1, 2]))


@pytest.mark.parametrize("cls", [nn.Linear, nn.Conv1d, nn.Embedding])
def test_from_weights(cls):
    shapes = {
        nn.Linear: {"weight": (3, 5), "bias": (3,)},
        nn.Conv1d: {"weight": (6, 4, 3), "bias": (6,)},
        nn.Embedding: {"weight": (10, 4)},
    }[cls]
    weights = {"m." + n: np.ones(s, np.float64) for n, s in shapes.items()}
    layer = cls.from_weights(weights, "m.")
    assert {n: a.shape for n, a in layer.state_dict().items()} == shapes
    assert layer.weight.dtype == np.float64


@pytest.mark.parametrize(
    ("make", "x", "error", "message"),
    [
        (lambda: nn.Linear(5, 3), np.zeros((2, 4), np.float32), RuntimeError, r"\[\*, 5\]"),
        (lambda: nn.Linear(5, 3), np.zeros((2, 5)), ValueError, "input is float64"),
        (lambda: nn.Conv1d(4, 6, 3), np.zeros((2, 5, 9), np.float32), RuntimeError, "expected"),
        (lambda: nn.Conv1d(4, 6, 3), np.zeros((2, 4, 2), np.float32), RuntimeError, "Kernel size"),
        (lambda: nn.BatchNorm1d(5), np.zeros((2, 4), np.float32), ValueError, r"\[B, 5\]"),
        (lambda: nn.LayerNorm(5), np.zeros((2, 4), np.float32), RuntimeError, r"\[\*, 5\]"),
        (lambda: nn.PReLU(5), np.zeros((2, 4), np.float32), RuntimeError, "5 channels"),
    ],
)
def test_wrong_inputs(make, x, error, message):
    layer = make()
    with pytest.raises((RuntimeError, ValueError), match="no weights yet"):
        layer(x.astype(np.float32))
    layer.load_state_dict({n: np.ones(d.shape) for n, d in layer._declared.items()})
    with pytest.raises(error, match=message):
        layer(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv1d(4, 6, 3, groups=3), "divisible by groups"),
        (lambda: nn.Conv1d(4, 6, 3, padding="full"), "Invalid padding string"),
        (lambda: nn.Conv1d(4, 6, 3, padding="same", stride=2), "not supported for strided"),
        (lambda: nn.Conv1d(4, 6, 3, padding_mode="mirror"), "padding_mode must be one of"),
        (lambda: nn.BatchNorm1d(4, track_running_stats=False), "running statistics"),
        (lambda: nn.Hardtanh(1, 0), "max_val must be larger"),
        (lambda: nn.GELU("fast"), "approximate"),
        (lambda: nn.Dropout(2), "between 0 and 1"),
        (lambda: nn.Linear(2, 2, device="cuda"), "CPU only"),
    ],
)
def test_wrong_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_activations_refuse_integers():
    with pytest.raises(ValueError, match="Tanh: input is int64, expected float32 or float64"):
        nn.Tanh()(np.zeros(3, np.int64))


@pytest.mark.parametrize("make", [nn.Softmax, nn.LogSoftmax])
def test_softmax_along_an_axis_of_nothing_or_one_that_is_not_there(make):
    for shape, dim in (((0, 5), 0), ((5, 0), 1), ((), 0), ((), -1), ((0,), -1)):
        assert make(dim)(np.ones(shape, np.float32)).shape == shape
    for shape, dim in (((2, 3), 2), ((2, 3), -3), ((), 1)):
        with pytest.raises(IndexError, match=rf"{make.__name__}: dim is {dim}, and the input's"):
            make(dim)(np.ones(shape, np.float32))


def test_prelu_of_a_number():
    layer = nn.PReLU()
    layer.load_state_dict({"weight": np.full(1, 0.5)})
    assert np.array_equal(layer(np.float32(-2)), np.float32(-1))
    assert layer(np.array(-2, np.float32)).shape == ()
