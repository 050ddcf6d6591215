"""Quantised operators both ways on random types, shapes and attributes, wrong ones among them: the
same bits, or an error on both sides."""

import numpy as np
import pytest

from tests.graph.models import model_bytes, node
from vledge import InferenceSession
from vledge.errors import VledgeError

CASES = 150
TYPES = (np.uint8, np.int8)


def outcome(run):
    """The result; None where the model is wrong for its input."""
    try:
        with np.errstate(all="ignore"):
            return run()[0]
    except (ValueError, IndexError, TypeError, VledgeError):
        return None


def agree(op_type, names, x, weights, **attributes):
    """Whether there was a result, the same both ways."""
    feed = {"x": x}
    model = model_bytes([node(op_type, names, ["y"], **attributes)], feed, ["y"], weights, opset=21)
    try:
        session = InferenceSession(model)
    except VledgeError:
        return False
    ours = outcome(lambda: session.run(None, feed))
    theirs = outcome(lambda: session._plan.function(x))
    assert (ours is None) == (theirs is None), (op_type, ours, theirs)
    if ours is None:
        return False
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    np.testing.assert_array_equal(ours, theirs)
    return True


class Draw:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def among(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def sizes(self, low, high, count):
        return [int(n) for n in self.rng.integers(low, high, count)]

    def integers(self, dtype, *shape):
        ends = np.iinfo(dtype)
        return np.asarray(self.rng.integers(ends.min, ends.max, shape, dtype, endpoint=True))

    def scale(self, *shape):
        return np.asarray(self.rng.uniform(0.001, 0.1, shape), np.float32)

    def quantisation(self, dtype, columns):
        """Parameters of QLinear operators beside x and w."""
        return {
            "x_scale": self.scale(*self.among((), (1,))),
            "w_scale": self.scale(*self.among((), (1,), (columns,))),
            "y_scale": self.scale(*self.among((), (1,))),
            "y_zero": self.integers(dtype, *self.among((), (1,))),
            "b": self.rng.integers(-999, 999, columns).astype(np.int32),
        }


QLINEAR = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "b"]


def test_products(integers):
    draw, ran = Draw(0), 0
    for _ in range(CASES):
        depth, columns = draw.sizes(1, 40, 2)
        x_type, w_type, y_type = (draw.among(*TYPES) for _ in range(3))
        lead = draw.sizes(1, 4, draw.rng.integers(4))
        x = draw.integers(x_type, *lead, depth + draw.among(*[0] * 19, 1))
        weights = {
            "w": draw.integers(w_type, depth, columns),
            "w_zero": draw.integers(w_type, *draw.among((), (1,), (columns,), (2,))),
            "x_zero": draw.integers(x_type, *draw.among((), (1,), lead[-1:], (1, 1))),
        }
        count = draw.among(2, 3, 4)
        ran += agree("MatMulInteger", ["x", "w", "x_zero", "w_zero"][:count], x, weights)
        weights |= draw.quantisation(y_type, columns)
        ran += agree("QLinearMatMul", QLINEAR[:8], x, weights)
    assert ran > CASES


def test_convolutions(integers):
    draw, ran = Draw(1), 0
    for _ in range(CASES):
        rank = draw.among(1, 2, 3)
        groups, of_group, out = draw.among(1, 1, 2, 3, 4, 8, 16, 24), *draw.sizes(1, 6, 2)
        x_type, w_type, y_type = (draw.among(*TYPES) for _ in range(3))
        attributes = {"group": groups}
        if draw.among(True, False):
            attributes["strides"] = draw.sizes(1, 4, rank)
        if draw.among(True, False):
            attributes["dilations"] = draw.sizes(1, 3, rank)
        if draw.among(True, False):
            attributes["pads"] = draw.sizes(0, 3, 2 * rank)
        else:
            attributes["auto_pad"] = draw.among("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
        channels = groups * of_group + draw.among(*[0] * 19, 1)
        x = draw.integers(x_type, draw.among(0, 1, 2), channels, *draw.sizes(0, 9, rank))
        if draw.among(True, False):
            x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        weights = {
            "w": draw.integers(w_type, groups * out, of_group, *draw.sizes(1, 4, rank)),
            "w_zero": draw.integers(w_type, *draw.among((), (1,), (groups * out,))),
            "x_zero": draw.integers(x_type, *draw.among((), (1,))),
        }
        names = ["x", "w", "x_zero", "w_zero"][: draw.among(2, 3, 4)]
        ran += agree("ConvInteger", names, x, weights, **attributes)
        weights |= draw.quantisation(y_type, groups * out)
        ran += agree("QLinearConv", QLINEAR[: draw.among(8, 9)], x, weights, **attributes)
    assert ran > CASES


@pytest.mark.parametrize("dtype", TYPES)
def test_to_bytes_and_back(integers, dtype):
    draw, ran = Draw(2), 0
    for _ in range(CASES):
        shape = draw.sizes(0, 6, draw.rng.integers(4))
        x = np.asarray(50 * draw.rng.standard_normal(shape), np.float32)
        own = draw.among((), (1,), draw.sizes(1, 6, 1))
        weights = {
            "scale": draw.scale(*own),
            "zero": draw.integers(draw.among(*TYPES), *draw.among(own, own, (), (1,))),
        }
        attributes = draw.among({}, {"axis": int(draw.rng.integers(-3, 3))})
        names = ["x", "scale", "zero"][: draw.among(2, 3)]
        ran += agree("QuantizeLinear", names, x, weights, **attributes)
        ran += agree("DequantizeLinear", names, draw.integers(dtype, *shape), weights, **attributes)
    assert ran > CASES
