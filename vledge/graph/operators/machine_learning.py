"""ai.onnx.ml's operators of tables, as skl2onnx writes them: scaling, encoding, linear models.

Source: Operators-ml.md; scores of two classes are as onnxruntime has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.graph.functions import Writer, function
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.pieces import in_pieces

_DOMAIN: Final = "ai.onnx.ml"
_Encoder = Callable[[np.ndarray], np.ndarray]
TRANSFORMS: Final = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


# ---- Features


@function("Scaler", since=1, domain=_DOMAIN)
def scaler(
    to: Writer, x: str, *, offset: list[float] | None = None, scale: list[float] | None = None
) -> str:
    x = _real(to, x)
    if offset:
        x = to.add("Sub", [x, to.constant(offset, np.float32)])
    return to.add("Mul", [x, to.constant(scale, np.float32)]) if scale else _itself(to, x)


@function("Binarizer", since=1, domain=_DOMAIN)
def binarizer(to: Writer, x: str, *, threshold: float = 0.0) -> str:
    above = to.add("Greater", [x, to.number(threshold, x)])
    return to.cast(above, to.dtype(x))


@function("Normalizer", since=1, domain=_DOMAIN)
def normalizer(to: Writer, x: str, *, norm: str = "MAX") -> str:
    if norm not in _NORMS:
        raise FormatError(f"norm is {norm!r}, expected one of {', '.join(_NORMS)}")
    x = _real(to, x)
    size = to.reduced(_NORMS[norm], x, -1)
    none = to.add("Equal", [size, to.constant(0, np.float32)])
    return to.add("Div", [x, to.add("Where", [none, to.constant(1, np.float32), size])])


_NORMS: Final = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}


@function("FeatureVectorizer", since=1, domain=_DOMAIN)
def feature_vectorizer(to: Writer, *inputs: str, inputdimensions: list[int] | None = None) -> str:
    given = inputdimensions or []
    if len(given) != len(inputs):
        raise FormatError(f"inputdimensions has {len(given)} sizes for {len(inputs)} inputs")
    rows = [to.reshaped(x, 1 if to.rank(x) == 1 else 0, -1) for x in inputs]
    return to.add("Concat", [_real(to, x) for x in rows], axis=1)


@operator("ArrayFeatureExtractor", since=1, domain=_DOMAIN)
def array_feature_extractor(x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Those elements of the last axis."""
    rows = x[None] if x.ndim == 1 else x
    return np.take(rows, indices.ravel(), axis=-1)


@prepared_operator("Imputer", since=1, domain=_DOMAIN)
def imputer(
    context: Context,
    *,
    imputed_value_floats: list[float] | None = None,
    imputed_value_int64s: list[int] | None = None,
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Callable[[np.ndarray], np.ndarray]:
    """Numbers of their column in the place of those that are missing."""

    def run(x: np.ndarray) -> np.ndarray:
        real = x.dtype.kind == "f"
        given = imputed_value_floats if real else imputed_value_int64s
        if not given or len(given) not in (1, x.shape[-1] if x.ndim else 1):
            raise ValueError(f"{len(given or ())} values are imputed in the shape {x.shape}")
        missing = replaced_value_float if real else replaced_value_int64
        where = np.isnan(x) if real and np.isnan(missing) else x == missing
        return np.where(where, np.asarray(given, x.dtype), x)

    return run


# ---- Categories


@prepared_operator("LabelEncoder", since=2, until=3, domain=_DOMAIN)
def label_encoder_2(
    context: Context,
    *,
    default_float: float = -0.0,
    default_int64: int = -1,
    default_string: str = "_Unused",
    keys_floats: list[float] | None = None,
    keys_int64s: list[int] | None = None,
    keys_strings: list[str] | None = None,
    values_floats: list[float] | None = None,
    values_int64s: list[int] | None = None,
    values_strings: list[str] | None = None,
) -> _Encoder:
    keys = _given(keys_floats, keys_int64s, keys_strings, "keys")
    values = _given(values_floats, values_int64s, values_strings, "values")
    by_kind = {"f": default_float, "i": default_int64, "O": default_string}
    return _encoder(keys, values, by_kind[values.dtype.kind])


@prepared_operator("LabelEncoder", since=4, domain=_DOMAIN)
def label_encoder(
    context: Context,
    *,
    default_float: float = -0.0,
    default_int64: int = -1,
    default_string: str = "_Unused",
    default_tensor: np.ndarray | None = None,
    keys_floats: list[float] | None = None,
    keys_int64s: list[int] | None = None,
    keys_strings: list[str] | None = None,
    keys_tensor: np.ndarray | None = None,
    values_floats: list[float] | None = None,
    values_int64s: list[int] | None = None,
    values_strings: list[str] | None = None,
    values_tensor: np.ndarray | None = None,
) -> _Encoder:
    keys = keys_tensor
    if keys is None:
        keys = _given(keys_floats, keys_int64s, keys_strings, "keys")
    values = values_tensor
    if values is None:
        values = _given(values_floats, values_int64s, values_strings, "values")
    by_kind = {"f": default_float, "i": default_int64, "O": default_string}
    default = by_kind[values.dtype.kind] if default_tensor is None else default_tensor.ravel()[0]
    return _encoder(keys.ravel(), values.ravel(), default)


def _given(
    floats: list[float] | None, whole: list[int] | None, texts: list[str] | None, what: str
) -> np.ndarray:
    kinds = ((floats, np.float32), (whole, np.int64), (texts, object))
    found = [np.array(given, dtype) for given, dtype in kinds if given]
    if len(found) != 1:
        raise FormatError(f"there are {len(found)} lists of {what}, expected one")
    return found[0]


def _encoder(keys: np.ndarray, values: np.ndarray, default: object) -> _Encoder:
    if len(keys) != len(values):
        raise FormatError(f"there are {len(keys)} keys and {len(values)} values")
    if keys.dtype == object:
        table = dict(zip(keys.tolist(), values.tolist(), strict=True))

        def of_texts(x: np.ndarray) -> np.ndarray:
            found = [table.get(key, default) for key in x.ravel().tolist()]
            return np.array(found, values.dtype).reshape(x.shape)

        return of_texts
    order = np.argsort(keys, kind="stable")  # of equal keys the last one counts; nan is the last
    sorted_keys, sorted_values = keys[order], values[order]

    def of_numbers(x: np.ndarray) -> np.ndarray:
        place = np.searchsorted(sorted_keys, x, "right") - 1
        found = np.take(sorted_keys, place, mode="clip")
        same = (found == x) | ((found != found) & (x != x))
        result = np.full(x.shape, default, values.dtype)
        np.copyto(result, np.take(sorted_values, place, mode="clip"), where=same & (place >= 0))
        return result

    return of_numbers if values.dtype == object else in_pieces(of_numbers)


@prepared_operator("OneHotEncoder", since=1, domain=_DOMAIN)
def one_hot_encoder(
    context: Context,
    *,
    cats_int64s: list[int] | None = None,
    cats_strings: list[str] | None = None,
    zeros: int = 1,
) -> Callable[[np.ndarray], np.ndarray]:
    """[..., categories] of x: one for its own, zeros for all others."""
    categories = _given(None, cats_int64s, cats_strings, "categories")

    def run(x: np.ndarray) -> np.ndarray:
        own = x if x.dtype == object else x.astype(np.int64)
        result: np.ndarray = (own[..., None] == categories).astype(np.float32)
        if not zeros and not result.any(-1).all():
            raise ValueError("x has a category that is unknown, and zeros=0")
        return result

    return run


# ---- Linear models


@function("LinearRegressor", since=1, domain=_DOMAIN)
def linear_regressor(
    to: Writer,
    x: str,
    *,
    coefficients: list[float] | None = None,
    intercepts: list[float] | None = None,
    post_transform: str = "NONE",
    targets: int = 1,
) -> str:
    check_transform(post_transform)
    scores = _scores(to, x, coefficients, intercepts, targets)
    return transformed(to, scores, post_transform)


@function("LinearClassifier", since=1, domain=_DOMAIN)
def linear_classifier(
    to: Writer,
    x: str,
    *,
    classlabels_ints: list[int] | None = None,
    classlabels_strings: list[str] | None = None,
    coefficients: list[float],
    intercepts: list[float] | None = None,
    multi_class: int = 0,
    post_transform: str = "NONE",
) -> tuple[str, str]:
    check_transform(post_transform)
    labels = _given(None, classlabels_ints, classlabels_strings, "labels")
    if not intercepts:
        raise UnsupportedError("a classifier without intercepts is not supported")
    raw = _scores(to, x, coefficients, intercepts, len(intercepts))
    if len(intercepts) == 1 and len(labels) == 2:
        if post_transform not in ("NONE", "LOGISTIC"):
            raise UnsupportedError(f"post_transform={post_transform} of one score is not supported")
        above = to.add("Greater", [raw, to.constant(0, np.float32)])
        best = to.reshaped(to.cast(above, np.int64), -1)
        if post_transform == "NONE":  # as onnxruntime has it, whatever the score
            other = to.add("Sub", [to.constant(1, np.float32), raw])
        else:
            other = to.add("Neg", [raw])
        both = to.add("Concat", [other, raw], axis=1)
        scores = transformed(to, both, post_transform)
    elif len(intercepts) == len(labels):
        best = to.add("ArgMax", [raw], axis=1, keepdims=0)
        scores = transformed(to, raw, post_transform)
    else:
        raise FormatError(f"there are {len(labels)} labels for {len(intercepts)} intercepts")
    return to.add("Gather", [to.constant(labels, labels.dtype), best]), scores


def _scores(
    to: Writer,
    x: str,
    coefficients: list[float] | None,
    intercepts: list[float] | None,
    targets: int,
) -> str:
    given = coefficients or []
    if targets < 1 or not given or len(given) % targets:
        raise FormatError(f"there are {len(given)} coefficients for {targets} targets")
    matrix = np.array(given, np.float32).reshape(targets, -1).T
    x = _real(to, x)
    if to.rank(to.node.inputs[0]) == 1:
        x = to.reshaped(x, 1, -1)
    product = to.add("MatMul", [x, to.constant(matrix, np.float32)])
    if not intercepts:
        return product
    if len(intercepts) != targets:
        raise FormatError(f"there are {len(intercepts)} intercepts for {targets} targets")
    return to.add("Add", [product, to.constant(intercepts, np.float32)])


def check_transform(kind: str, refused: tuple[str, ...] = ("SOFTMAX_ZERO", "PROBIT")) -> None:
    if kind not in TRANSFORMS:
        raise FormatError(f"post_transform is {kind!r}, expected one of {', '.join(TRANSFORMS)}")
    if kind in refused:
        raise UnsupportedError(f"post_transform={kind} is not supported")


def transformed(to: Writer, scores: str, kind: str) -> str:
    """Scores [rows, classes] after the transform that ``post_transform`` names."""
    if kind == "LOGISTIC":
        return to.add("Sigmoid", [scores])
    return to.add("Softmax", [scores], axis=-1) if kind == "SOFTMAX" else scores


def _real(to: Writer, x: str) -> str:
    """Numbers as float32, in which these operators compute."""
    return to.cast(x, np.float32)


def _itself(to: Writer, x: str) -> str:
    return to.add("Identity", [x])
