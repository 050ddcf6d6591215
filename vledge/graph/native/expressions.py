"""Operators as expressions of micro-operations: what a chain is made of.

An expression is a function of the chain, the node's site, and its inputs as values of the chain
(None where the node leaves one out), beside the name of the operator::

    @expression("Relu")
    def relu(chain, site, x):
        return chain("at_least", x, chain.constant(0))

It computes what the Python operator does, in its order of roundings. None leaves the node out of
chains. ``takes`` says which inputs are masks or bytes rather than numbers, which are all float32 or
all float64. The module has more than 400 lines, as it is one table: some lines for each operator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from typing import Final, cast

import numpy as np

from vledge._ext import isa
from vledge.graph.native.chain import Chain, Value
from vledge.graph.native.lowering import Site
from vledge.model.definition import INTERNAL_DOMAIN
from vledge.model.element_types import NUMBERS, dtype_of

__all__ = ["added", "expressed", "expressible", "expression", "number_of"]

_Expression = Callable[..., Value | None]
_registry: dict[str, tuple[_Expression, tuple[str, ...]]] = {}

_MOST_INPUTS: Final = sum(isa.chain_limits()[:2])  # arrays and constants
_NUMBER: Final = np.dtype(np.float32)
_MASK: Final = np.dtype(np.bool_)
_DOUBLE: Final = np.dtype(np.float64)
_BYTES: Final = (np.dtype(np.uint8), np.dtype(np.int8))
_TAKEN: Final = {
    "n": (_NUMBER, _DOUBLE),
    "m": (_MASK,),
    "b": _BYTES,
    "x": (_NUMBER, _DOUBLE, _MASK, *_BYTES),
}


def expression(*op_types: str, takes: str = "") -> Callable[[_Expression], _Expression]:
    """Register an expression.

    ``takes`` has a letter an input: n for a number, m for a mask, b for a byte, x for any of them,
    - for what the expression looks at by itself.
    """

    def register(function: _Expression) -> _Expression:
        for op_type in op_types:
            _registry[op_type] = function, tuple(takes)
        return function

    return register


def expressed() -> frozenset[str]:
    """The operators that have an expression."""
    return frozenset(_registry)


def expressible(site: Site) -> bool:
    """Whether the node can be part of a chain."""
    return added(Chain(number_of(site)), site, {}) is not None


def number_of(site: Site) -> np.dtype:
    """The numbers of the chain that a node can be part of: float64 where it has any, and none of
    float32 beside what its expression looks at by itself."""
    dtypes = [site.dtype(k) for k in range(len(site.node.inputs))]
    if site.node.op_type == "Cast" and dtype_of(site.attribute("to")) == _DOUBLE:
        dtypes.append(_DOUBLE)
    return _DOUBLE if _DOUBLE in dtypes and _NUMBER not in dtypes[:1] else _NUMBER


def added(chain: Chain, site: Site, values: dict[str, Value]) -> Value | None:
    """Add the node's expression to a chain; ``values`` are those that the chain has already."""
    node = site.node
    own = node.domain in ("", INTERNAL_DOMAIN)
    if not own or node.op_type not in _registry or any(node.outputs[1:]):
        return None
    if len(node.inputs) > _MOST_INPUTS:
        return None
    function, takes = _registry[node.op_type]
    inputs: list[Value | None] = []
    for k, name in enumerate(node.inputs):
        if not name:
            inputs.append(None)
            continue
        if takes and takes[min(k, len(takes) - 1)] == "-":  # the expression looks at it by itself
            inputs.append(None)
            continue
        dtype = site.dtype(k)
        if dtype is None or dtype not in _TAKEN[takes[k] if k < len(takes) else "n"]:
            return None
        if dtype != _MASK and dtype != chain.number_type and dtype not in _BYTES:
            return None
        if dtype in _BYTES and chain.number_type != _NUMBER:
            return None
        known = values.get(name)
        if known is None:
            constant = site.constant(k)
            if constant is not None and constant.size == 1 and dtype == chain.number_type:
                known = chain.constant(float(constant.reshape(-1)[0]), constant.ndim)
            else:
                known = chain.operand(name, dtype)
        inputs.append(known)
    return function(chain, site, *inputs)


# ---- of one number

for _op, _kind in {
    "Abs": "abs", "Ceil": "ceil", "Cos": "cos", "Erf": "erf", "Exp": "exp", "Floor": "floor",
    "HardSwish": "hard_swish", "Log": "log", "Neg": "negative", "Reciprocal": "reciprocal",
    "Round": "round", "Sigmoid": "sigmoid", "Sign": "sign", "Sin": "sin", "Softplus": "softplus",
    "Sqrt": "sqrt", "Tanh": "tanh", "IsNaN": "is_nan", "Tan": "tan", "Asin": "asin",
    "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh",
    "Acosh": "acosh", "Atanh": "atanh",
}.items():  # fmt: skip
    expression(_op)(lambda chain, site, x, kind=_kind: chain(kind, x))


@expression("Relu")
def relu(chain: Chain, site: Site, x: Value) -> Value:
    return chain("at_least", x, chain.constant(0))


@expression("LeakyRelu")
def leaky_relu(chain: Chain, site: Site, x: Value) -> Value:
    return chain("leaky", x, chain.constant(site.attribute("alpha", 0.01)))


@expression("PRelu")
def prelu(chain: Chain, site: Site, x: Value, slope: Value) -> Value:
    return chain("leaky", x, slope)


@expression("Elu")
def elu(chain: Chain, site: Site, x: Value) -> Value:
    return chain("elu", x, chain.constant(site.attribute("alpha", 1.0)))


@expression("Celu")
def celu(chain: Chain, site: Site, x: Value) -> Value:
    alpha = chain.constant(site.attribute("alpha", 1.0))
    below = chain("at_most", chain("divide", x, alpha), chain.constant(0))
    below = chain("multiply", chain("expm1", below), alpha)
    return chain("where", chain("less", x, chain.constant(0)), below, x)


@expression("Selu")
def selu(chain: Chain, site: Site, x: Value) -> Value:
    alpha = site.attribute("alpha", 1.67326319217681884765625)
    gamma = site.attribute("gamma", 1.05070102214813232421875)
    return chain("multiply", chain("elu", x, chain.constant(alpha)), chain.constant(gamma))


@expression("HardSigmoid")
def hard_sigmoid(chain: Chain, site: Site, x: Value) -> Value:
    alpha, beta = site.attribute("alpha", 0.2), site.attribute("beta", 0.5)
    return chain("hard_sigmoid", x, chain.constant(alpha), chain.constant(beta))


@expression("Softsign")
def softsign(chain: Chain, site: Site, x: Value) -> Value:
    return chain("divide", x, chain("add", chain("abs", x), chain.constant(1)))


@expression("Mish")
def mish(chain: Chain, site: Site, x: Value) -> Value:
    return chain("multiply", x, chain("tanh", chain("softplus", x)))


@expression("Swish")
def swish(chain: Chain, site: Site, x: Value) -> Value:
    alpha = site.attribute("alpha", 1.0)
    inner = x if alpha == 1 else chain("multiply", x, chain.constant(alpha))
    return chain("multiply", x, chain("sigmoid", inner))


@expression("Gelu")
def gelu(chain: Chain, site: Site, x: Value) -> Value | None:
    kinds = {"none": "gelu", "tanh": "gelu_by_tanh"}
    kind = kinds.get(site.attribute("approximate", "none"))
    return None if kind is None else chain(kind, x)


@expression("ThresholdedRelu")
def thresholded_relu(chain: Chain, site: Site, x: Value) -> Value:
    alpha = chain.constant(site.attribute("alpha", 1.0))
    return chain("where", chain("less", alpha, x), x, chain.constant(0))


@expression("Shrink")
def shrink(chain: Chain, site: Site, x: Value) -> Value:
    bias = chain.constant(site.attribute("bias", 0.0))
    limit = site.attribute("lambd", 0.5)
    below = chain("less", x, chain.constant(-limit))
    above = chain("less", chain.constant(limit), x)
    inner = chain("where", above, chain("subtract", x, bias), chain.constant(0))
    return chain("where", below, chain("add", x, bias), inner)


@expression("IsInf")
def is_inf(chain: Chain, site: Site, x: Value) -> Value | None:
    below, above = site.attribute("detect_negative", 1), site.attribute("detect_positive", 1)
    if not below and not above:
        return None
    searched = chain("abs", x) if below and above else x
    return chain("equal", searched, chain.constant(math.inf if above else -math.inf))


@expression("Clip", takes="nnn")
def clip(
    chain: Chain, site: Site, x: Value, low: Value | None = None, high: Value | None = None
) -> Value:
    if site.opset < 11:
        limit = float(np.finfo(np.float32).max)
        low = chain.constant(site.attribute("min", -limit))
        high = chain.constant(site.attribute("max", limit))
    bounds = [None if bound is None else chain.number(bound) for bound in (low, high)]
    if low is not None and high is not None and all(b is not None and b == b for b in bounds):
        return chain("clip", x, low, high)
    if low is not None:
        x = _greater(chain, x, low)
    return x if high is None else _less(chain, x, high)


def _greater(chain: Chain, x: Value, y: Value) -> Value:
    number = chain.number(y)
    return chain("maximum" if number is None or math.isnan(number) else "at_least", x, y)


def _less(chain: Chain, x: Value, y: Value) -> Value:
    number = chain.number(y)
    return chain("minimum" if number is None or math.isnan(number) else "at_most", x, y)


# ---- of two and more

for _op, _kind in {
    "Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide",
    "Less": "less", "LessOrEqual": "less_equal", "Equal": "equal",
}.items():  # fmt: skip
    expression(_op, takes="nn")(lambda chain, site, x, y, kind=_kind: chain(kind, x, y))
for _op, _kind in {"Greater": "less", "GreaterOrEqual": "less_equal"}.items():
    expression(_op, takes="nn")(lambda chain, site, x, y, kind=_kind: chain(kind, y, x))
for _op, _kind in {"And": "both", "Or": "either", "Xor": "differ"}.items():
    expression(_op, takes="mm")(lambda chain, site, x, y, kind=_kind: chain(kind, x, y))
expression("Not", takes="m")(lambda chain, site, x: chain("not", x))
expression("Where", takes="mnn")(lambda chain, site, p, x, y: chain("where", p, x, y))


@expression("MultiplyAdd", takes="nnn")
def multiply_add(chain: Chain, site: Site, x: Value, factor: Value, term: Value) -> Value:
    return chain("fused_multiply_add", x, factor, term)


@expression("Max")
def max_(chain: Chain, site: Site, x: Value, *rest: Value) -> Value:
    for y in rest:
        x = _greater(chain, x, y)
    return x


@expression("Min")
def min_(chain: Chain, site: Site, x: Value, *rest: Value) -> Value:
    for y in rest:
        x = _less(chain, x, y)
    return x


@expression("Sum")
def sum_(chain: Chain, site: Site, x: Value, *rest: Value) -> Value:
    return _sum(chain, x, *rest)


def _sum(chain: Chain, x: Value, *rest: Value) -> Value:
    for y in rest:
        x = chain("add", x, y)
    return x


@expression("Mean")
def mean(chain: Chain, site: Site, x: Value, *rest: Value) -> Value:
    return chain("divide", _sum(chain, x, *rest), chain.constant(1 + len(rest)))


@expression("Pow", takes="n-")
def power(chain: Chain, site: Site, x: Value, _: None) -> Value | None:
    """The exponent may be of another dtype."""
    exponent = site.constant(1)
    if exponent is None:
        if site.dtype(1) != chain.number_type:
            return None
        return chain("power", x, chain.operand(site.node.inputs[1]))
    if exponent.dtype.kind not in "iuf":
        return None
    if exponent.size != 1:
        return (
            chain("power", x, chain.operand(site.node.inputs[1]))
            if exponent.dtype == chain.number_type
            else None
        )
    number = float(exponent.reshape(-1)[0])
    y = chain.constant(number, exponent.ndim)
    if number == 2:
        return chain("square", x)
    if number == 1:
        return x
    if number == 3:
        return chain("multiply", chain("square", x), x)
    if number == -1:
        return chain("reciprocal", x)
    return chain("power", x, y)


@expression("Cast", takes="x")
def cast_(chain: Chain, site: Site, x: Value) -> Value | None:
    """To numbers, and between numbers and masks."""
    to = site.attribute("to")
    target = dtype_of(to)
    if to == 16:  # bfloat16 is held as float32, but rounds
        return None
    if target == chain.number_type:
        if not chain.is_mask(x):
            return x
        return chain("where", x, chain.constant(1), chain.constant(0))
    if target == _MASK and site.dtype(0) not in _BYTES:
        return x if chain.is_mask(x) else chain("not", chain("equal", x, chain.constant(0)))
    return None


# ---- bytes


@expression("DequantizeLinear", takes="b--")
def dequantize_linear(chain: Chain, site: Site, x: Value, *_: None) -> Value | None:
    """With one scale and zero point for all."""
    known = _scale_and_zero(site, np.dtype(np.uint8))
    if known is None or site.attribute("output_dtype", 0) not in (0, 1):
        return None
    scale, zero, _dtype = known
    if zero:
        x = chain("subtract", x, chain.constant(zero))
    return chain("multiply", x, chain.constant(scale))


@expression("QuantizeLinear", takes="n--")
def quantize_linear(chain: Chain, site: Site, x: Value, *_: None) -> Value | None:
    """With one scale and zero point for all. It clips between whole numbers before it rounds, which
    is the same."""
    wanted = dtype_of(site.attribute("output_dtype", 0) or NUMBERS["uint8"])
    known = None if wanted is None else _scale_and_zero(site, wanted)
    if known is None or site.attribute("precision", 0):
        return None
    scale, zero, dtype = known
    if dtype not in _BYTES or chain.number_type != _NUMBER:
        return None
    if scale != 1:
        x = chain("divide", x, chain.constant(scale))
    ends = np.iinfo(dtype)
    low, high = (chain.constant(end - zero) for end in (ends.min, ends.max))
    steps = chain("round", chain("clip", x, low, high))
    if zero:
        steps = chain("add", steps, chain.constant(zero))
    return chain.as_bytes(steps, dtype)


def _scale_and_zero(site: Site, absent: np.dtype) -> tuple[float, float, np.dtype] | None:
    """The scale, the zero point and its type, where each is one number that is known; ``absent`` is
    the type without a zero point."""
    scale = site.constant(1)
    zero = site.constant(2) if site.has(2) else np.zeros((), absent)
    for parameter in (scale, zero):
        if parameter is None or parameter.size != 1 or parameter.ndim > 1:
            return None
    assert scale is not None
    assert zero is not None
    if site.attribute("block_size", 0) or scale.dtype != _NUMBER:
        return None
    return float(scale.reshape(-1)[0]), float(zero.reshape(-1)[0]), zero.dtype


@expression("BatchNormalization", takes="n-")
def batch_normalization(chain: Chain, site: Site, x: Value, *_: None) -> Value | None:
    """x times one vector plus another, both made in double precision."""
    parameters = [site.constant(k) for k in range(1, 5)]
    if site.attribute("training_mode", 0) or not site.attribute("spatial", 1):
        return None
    if any(p is None or p.ndim != 1 or p.dtype != chain.number_type for p in parameters):
        return None
    scale, bias, average, variance = (cast(np.ndarray, p).astype(np.float64) for p in parameters)
    factor = scale / np.sqrt(variance + site.attribute("epsilon", 1e-5))
    made = {"factor": factor, "offset": bias - average * factor}
    vectors = []
    for name, vector in made.items():
        known = f"{site.node.outputs[0]}~{name}"
        constants = cast(MutableMapping[str, np.ndarray], site.constants)
        constants[known] = vector.astype(chain.number_type)
        vectors.append(chain.channels(known))
    return chain("add", chain("multiply", x, vectors[0]), vectors[1])
