"""Einsum in all its forms against NumPy's."""

import numpy as np
import pytest

from tests.peers import peer

peer("onnx")
from tests.graph.models import node, session  # noqa: E402

FORMS = {
    "ij,jk,kl->il": [(2, 3), (3, 4), (4, 5)],
    "ij,ik,il->jkl": [(2, 3), (2, 4), (2, 5)],
    "a,b,c,d->dcba": [(2,), (3,), (4,), (5,)],
    "iij->j": [(3, 3, 4)],
    "ii": [(3, 3)],
    "ii->i": [(3, 3)],
    "iii->i": [(3, 3, 3)],
    "ijij->ij": [(2, 3, 2, 3)],
    "iij,jk->ik": [(3, 3, 4), (4, 2)],
    "ij,ij->": [(3, 4), (3, 4)],
    "ij,ij->ij": [(3, 4), (3, 4)],
    "i,j->": [(3,), (4,)],
    "ij->ji": [(3, 4)],
    "ij->": [(3, 4)],
    "ba": [(3, 4)],
    "ij,kj->": [(3, 4), (2, 4)],
    "...ij,...jk->...ik": [(5, 1, 2, 3), (1, 4, 3, 2)],
    "...ij,jk->...ik": [(5, 6, 2, 3), (3, 2)],
    "...ij,...jk": [(2, 3), (4, 3, 2)],
    "i...,...->i...": [(2, 3, 4), (4,)],
    "...ii->...i": [(2, 3, 3)],
    "...->...": [(2, 3)],
    "bi...,...o->bo...": [(2, 5, 3), (3, 4)],
    "ij,jk->ik": [(2, 1), (3, 4)],
    "bij,bjk->bik": [(1, 2, 3), (4, 3, 2)],
    ",ij->ij": [(), (2, 3)],
    "ij,jk,ik->": [(2, 3), (3, 4), (2, 4)],
    "ij,j,jk->ik": [(2, 0), (0,), (0, 3)],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.float16])
@pytest.mark.parametrize("equation", FORMS)
def test_einsum(equation, dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-3, 4, shape).astype(dtype) for shape in FORMS[equation]]
    feeds = {f"x{k}": array for k, array in enumerate(arrays)}
    nodes = [node("Einsum", list(feeds), ["y"], equation=equation)]
    (ours,) = session(nodes, feeds, ["y"]).run(None, feeds)
    expected = np.einsum(equation, *arrays)
    assert ours.dtype == dtype
    assert ours.shape == expected.shape
    np.testing.assert_array_equal(ours, expected)  # whole numbers


@pytest.mark.parametrize("seed", range(60))
def test_random_equations(seed):
    rng = np.random.default_rng(seed)
    sizes = dict(zip("abcde", rng.integers(1, 4, 5), strict=True))
    terms = [
        "".join(rng.choice(list("abcde"), rng.integers(0, 4))) for _ in range(rng.integers(1, 5))
    ]
    letters = sorted(set("".join(terms)))
    out = "".join(rng.permutation(letters)[: rng.integers(0, len(letters) + 1)])
    equation = ",".join(terms) + (f"->{out}" if rng.integers(4) else "")
    arrays = [rng.normal(size=[sizes[letter] for letter in term]) for term in terms]
    feeds = {f"x{k}": array for k, array in enumerate(arrays)}
    nodes = [node("Einsum", list(feeds), ["y"], equation=equation)]
    (ours,) = session(nodes, feeds, ["y"]).run(None, feeds)
    np.testing.assert_allclose(ours, np.einsum(equation, *arrays), atol=1e-12)


@pytest.mark.parametrize(
    ("equation", "shapes", "message"),
    [
        ("ij,jk->ik", [(2, 3), (4, 5)], "is 3 long in one place, 4 in another"),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (3, 5)], "is 4 long in one place, 3 in another"),
        ("ij,jk,kl->iz", [(2, 3), (3, 4), (4, 5)], "has one of no operand"),
        ("ij,jk,kl->ii", [(2, 3), (3, 4), (4, 5)], "repeats an axis"),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4,)], "operand 2 has 1 axes"),
        ("ij,...jk", [(2, 3), (3,)], "operand 1 has 1 axes"),
    ],
)
def test_what_does_not_fit_is_told(equation, shapes, message):
    feeds = {f"x{k}": np.zeros(shape, np.float32) for k, shape in enumerate(shapes)}
    nodes = [node("Einsum", list(feeds), ["y"], "here", equation=equation)]
    with pytest.raises(ValueError, match=rf"node 'here' \(Einsum\): .*{message}"):
        session(nodes, feeds, ["y"]).run(None, feeds)
