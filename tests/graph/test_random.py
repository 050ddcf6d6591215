"""Operators on random numbers: shapes, types and distributions, and what ``seed`` fixes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node, onnx

COUNT = 20_000
FLOATS = {"float": 1, "float16": 10, "double": 11}


def load(op_type, inputs, opset=22, **attributes):
    model = model_bytes([node(op_type, [*inputs], ["y"], name="n", **attributes)], inputs, ["y"],
                        opset=opset)  # fmt: skip
    return vledge.InferenceSession(model)


def draw(op_type, inputs, **attributes):
    return load(op_type, inputs, **attributes).run(None, inputs)[0]


LIKE = {"x": np.zeros((100, COUNT // 100), np.float32)}
DRAWS = {
    "RandomNormal": ({}, {"shape": [100, COUNT // 100]}),
    "RandomUniform": ({}, {"shape": [100, COUNT // 100]}),
    "RandomNormalLike": (LIKE, {}),
    "RandomUniformLike": (LIKE, {}),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op_type", DRAWS)
def test_the_distribution(op_type, dtype):
    inputs, attributes = DRAWS[op_type]
    if "Normal" in op_type:
        attributes = attributes | {"mean": 2.0, "scale": 0.5}
        mean, deviation = 2.0, 0.5
    else:
        attributes = attributes | {"low": -1.0, "high": 3.0}
        mean, deviation = 1.0, 4 / np.sqrt(12)
    y = draw(op_type, inputs, dtype=FLOATS[dtype], seed=3.0, **attributes)
    assert y.shape == (100, COUNT // 100)
    assert y.dtype == onnx.helper.tensor_dtype_to_np_dtype(FLOATS[dtype])
    wide = y.astype(np.float64)
    assert abs(wide.mean() - mean) < 4 * deviation / np.sqrt(COUNT)
    assert abs(wide.std() - deviation) < 0.03
    if "Uniform" in op_type:
        assert -1 <= wide.min() < -0.99
        assert 2.99 < wide.max() <= 3


def test_without_a_type_it_is_the_input_s():
    for dtype in (np.float16, np.float32, np.float64):
        assert draw("RandomNormalLike", {"x": np.zeros(2, dtype)}).dtype == dtype
        assert draw("Bernoulli", {"x": np.zeros(2, dtype)}).dtype == dtype
    with pytest.raises(ValueError, match=r"node 'n' \(RandomNormalLike\): the input is int64"):
        draw("RandomNormalLike", {"x": np.zeros(2, np.int64)})


def test_bernoulli():
    x = np.repeat(np.array([0, 0.2, 0.9, 1], np.float32), COUNT)
    y = draw("Bernoulli", {"x": x}, dtype=7, seed=1.0)
    assert y.dtype == np.int64
    assert set(np.unique(y)) == {0, 1}
    np.testing.assert_allclose(y.reshape(4, COUNT).mean(1), [0, 0.2, 0.9, 1], atol=0.015)
    assert y.reshape(4, COUNT).mean(1)[[0, 3]].tolist() == [0, 1]


def test_multinomial():
    shares = np.array([[0.1, 0.6, 0.3, 0.0], [1, 0, 0, 0]])
    with np.errstate(divide="ignore"):
        logits = (np.log(shares) + [[50], [-700]]).astype(np.float32)  # up to a constant
    y = draw("Multinomial", {"x": logits}, sample_size=COUNT, seed=1.0)
    assert y.shape == (2, COUNT)
    assert y.dtype == np.int32
    counts = np.array([np.bincount(row, minlength=4) for row in y])
    np.testing.assert_allclose(counts / COUNT, shares, atol=0.015)
    assert (counts[shares == 0] == 0).all()
    assert draw("Multinomial", {"x": logits}, dtype=7).dtype == np.int64
    assert draw("Multinomial", {"x": logits[:0]}).shape == (0, 1)
    with pytest.raises(ValueError, match=r"\(Multinomial\): .*expected \[B, classes\]"):
        draw("Multinomial", {"x": logits[0]})


SEEDED = [*DRAWS, "Bernoulli", "Multinomial"]


@pytest.mark.parametrize("op_type", SEEDED)
def test_what_the_seed_fixes(op_type):
    """The numbers of a session's first run, second run, …; and no two runs are the same."""
    half = {"x": np.full((4, 50), 0.5, np.float32)}
    inputs, attributes = DRAWS.get(op_type, (half, {}))
    if op_type == "Multinomial":
        attributes = {"sample_size": 50}
    first, again = (load(op_type, inputs, seed=7.0, **attributes) for _ in range(2))
    runs = [first.run(None, inputs)[0] for _ in range(2)]
    assert (runs[0] != runs[1]).any()
    for run in runs:
        np.testing.assert_array_equal(again.run(None, inputs)[0], run)
    other = draw(op_type, inputs, seed=8.0, **attributes)
    unseeded = [draw(op_type, inputs, **attributes) for _ in range(2)]
    assert (other != runs[0]).any()
    assert (unseeded[0] != unseeded[1]).any()


def test_known_inputs_are_not_drawn_at_load():
    """A constant input does not make the result one."""
    x = np.full((4, 50), 0.5, np.float32)
    model = model_bytes([node("Bernoulli", ["x"], ["y"])], {}, ["y"], {"x": x})
    session = vledge.InferenceSession(model)
    runs = [session.run(None, {})[0] for _ in range(2)]
    assert (runs[0] != runs[1]).any()


def test_threads_share_a_session():
    session = load("RandomUniform", {}, shape=[1000], seed=1.0)
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: session.run(None, {})[0], range(64)))
    assert len(np.unique(np.concatenate(drawn))) > 63_000


@pytest.mark.parametrize(
    ("op_type", "attributes", "message"),
    [
        ("RandomNormal", {"shape": [2], "scale": -1.0}, "scale is -1.0"),
        ("RandomNormal", {"shape": [-2]}, r"shape is \[-2\]"),
        ("RandomNormal", {"shape": [2], "dtype": 7}, "dtype=int64 is not supported"),
        ("RandomUniform", {"shape": [2], "low": float("inf")}, "expected finite"),
        ("RandomUniform", {}, "the attribute shape is missing"),
        ("Multinomial", {"dtype": 1}, "expected int32 or int64"),
        ("Multinomial", {"sample_size": 0}, "sample_size is 0"),
        ("Bernoulli", {"dtype": 99}, "dtype is 99"),
    ],
)
def test_refused_by_name(op_type, attributes, message):
    inputs = {} if op_type in ("RandomNormal", "RandomUniform") else LIKE
    with pytest.raises(vledge.VledgeError, match=rf"node 'n' \({op_type}\): .*{message}"):
        load(op_type, inputs, **attributes)
