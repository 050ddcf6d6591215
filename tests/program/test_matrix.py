"""Products with a matrix known only at the run: of a few rows as it lies; Einsum's."""

import numpy as np
import pytest

import vledge
from vledge._ext.program import run_handler


def product(a, b, threads=1):
    (result,) = run_handler("matmul", [a, b], threads=threads)
    return result


def matrix(rng, depth, columns, layout):
    if layout == "transposed":
        return rng.uniform(-1, 1, (columns, depth)).astype(np.float32).T
    if layout == "part":
        return rng.uniform(-1, 1, (depth, columns + 3)).astype(np.float32)[:, 2 : 2 + columns]
    return rng.uniform(-1, 1, (depth, columns)).astype(np.float32)


@pytest.mark.parametrize("layout", ["rows", "part", "transposed"])
@pytest.mark.parametrize("columns", [1, 3, 4, 16, 31, 64, 130, 257])
def test_few_rows(instruction_set, columns, layout):
    rng = np.random.default_rng(columns)
    for depth in (0, 1, 5, 16, 127, 129, 400):
        b = matrix(rng, depth, columns, layout)
        x = rng.uniform(-1, 1, (6, depth)).astype(np.float32)
        exact = x.astype(np.float64) @ b
        for rows in (1, 2, 3, 4, 5, 6):
            got = product(x[:rows], b)
            np.testing.assert_allclose(got, exact[:rows], rtol=0, atol=2e-6 * max(depth, 1) ** 0.5)
            if layout != "transposed":  # the same bits as of many rows, which pack the matrix
                np.testing.assert_array_equal(got, product(x, b)[:rows])
            np.testing.assert_array_equal(got, product(x[:rows], b, threads=3))


@pytest.mark.parametrize("layout", ["rows", "transposed"])
def test_long_sums_are_made_in_parts(instruction_set, layout):
    """Terms of one sign, where a chain errs most."""
    rng = np.random.default_rng(3)
    b = rng.uniform(0.5, 1, (8192, 16)).astype(np.float32)
    exact = b.sum(axis=0, dtype=np.float64)
    chain = np.abs(np.cumsum(b, axis=0, dtype=np.float32)[-1] - exact).max()
    b = b if layout == "rows" else np.asfortranarray(b)
    got = product(np.ones((1, 8192), np.float32), b)
    assert np.abs(got - exact).max() < chain / 3


def test_batches_and_threads(instruction_set):
    rng = np.random.default_rng(4)
    for a_shape, b_shape in [
        ((3, 1, 20), (3, 20, 33)),
        ((7, 1, 20), (20, 33)),
        ((2, 3, 1, 20), (3, 20, 33)),
        ((5, 2, 20), (1, 20, 33)),
        ((20,), (4, 20, 33)),
        ((2, 1, 20), (20,)),
    ]:
        a, b = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in (a_shape, b_shape))
        layouts = [b] if b.ndim == 1 else [b, b.swapaxes(-1, -2).copy().swapaxes(-1, -2)]
        for right in layouts:
            got = product(a, right)
            np.testing.assert_allclose(got, a.astype(np.float64) @ b, rtol=0, atol=1e-5)
            assert got.shape == (a @ b).shape


def test_infinities_and_nan_stay_in_their_places(instruction_set):
    b = np.ones((20, 37), np.float32)
    b[3, 5], b[4, 36] = np.inf, np.nan
    for right in (b, np.asfortranarray(b)):
        got = product(np.ones((1, 20), np.float32), right)[0]
        assert np.isposinf(got[5])
        assert np.isnan(got[36])
        assert np.isfinite(np.delete(got, [5, 36])).all()


def contraction(equation, a, b):
    """(the native result, in how many of three runs Python ran in its place)"""
    onnx = pytest.importorskip("onnx")
    helper, element = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node("Einsum", ["a", "b"], ["y"], equation=equation)
    infos = [
        helper.make_tensor_value_info(name, element, [None] * array.ndim)
        for name, array in (("a", a), ("b", b))
    ]
    y = helper.make_tensor_value_info("y", element, None)
    graph = helper.make_graph([node], "g", infos, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    session = vledge.InferenceSession(model.SerializeToString())
    (row,) = session.profile({"a": a, "b": b}).rows
    return session.run(None, {"a": a, "b": b})[0], row


LETTERS = "abcdefg"


@pytest.mark.parametrize("seed", range(60))
def test_contractions(seed):
    """Letters drawn for batches, rows, sums and columns, axes in any order, sizes of 0 to 5."""
    rng = np.random.default_rng(seed)
    batch, rows, summed, columns = rng.integers(0, 3, 4)
    if rows == columns == 0:
        columns = 1
    letters = list(LETTERS[: batch + rows + summed + columns])
    if len(letters) > 6:
        letters = letters[:6]
        columns = max(6 - batch - rows - summed, 0)
    cuts = np.cumsum([batch, rows, summed])
    groups = [letters[: cuts[0]], letters[cuts[0] : cuts[1]]]
    groups += [letters[cuts[1] : cuts[2]], letters[cuts[2] :]]
    terms = [groups[0] + groups[1] + groups[2], groups[0] + groups[2] + groups[3]]
    terms.append(groups[0] + groups[1] + groups[3])
    for term in terms:
        rng.shuffle(term)
    sizes = {letter: int(rng.choice([1, 2, 3, 5], p=[0.2, 0.2, 0.3, 0.3])) for letter in letters}
    if seed % 12 == 0 and letters:
        sizes[letters[int(rng.integers(len(letters)))]] = 0
    equation = "{},{}->{}".format(*map("".join, terms))
    a, b = (
        rng.uniform(-1, 1, [sizes[letter] for letter in term]).astype(np.float32)
        for term in terms[:2]
    )
    if seed % 3 == 0 and a.ndim:  # not as it lies in memory
        a = np.asfortranarray(a)
    y, row = contraction(equation, a, b)
    assert row.handler == ("einsum" if rows or len(groups[3]) else None)
    assert row.why == "" or row.handler is None, (equation, row)
    expected = np.einsum(equation, a.astype(np.float64), b.astype(np.float64))
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5, err_msg=equation)


@pytest.mark.parametrize(
    "equation", ["btgi,gih->btgh", "bhqd,bhkd->bhqk", "i,j->ij", "bij,jk->bik"]
)
def test_contractions_of_models(instruction_set, equation):
    rng = np.random.default_rng(1)
    sizes = dict(zip("btgihqdkj", [2, 50, 4, 33, 20, 40, 16, 45, 33], strict=True))
    a, b = (
        rng.uniform(-1, 1, [sizes[letter] for letter in term]).astype(np.float32)
        for term in equation.partition("->")[0].split(",")
    )
    y, row = contraction(equation, a, b)
    assert (row.handler, row.why) == ("einsum", "")
    np.testing.assert_allclose(y, np.einsum(equation, a.astype("d"), b.astype("d")), atol=2e-5)


def test_an_axis_of_one_is_broadcast_by_the_reference():
    a, b = np.ones((2, 3, 1), np.float32), np.ones((2, 4, 5), np.float32)
    y, row = contraction("bij,bjk->bik", a, b)
    assert row.why
    assert np.array_equal(y, np.full((2, 3, 5), 4))
