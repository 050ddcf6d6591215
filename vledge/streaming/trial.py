"""The proof that a rewritten model may be streamed: noise, frame by frame and whole, compared.

Nothing says of a graph whether it is causal, so nothing is said of it before this comparison. Where
the two differ, the values inside are compared, too, to name the node at which they part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vledge.errors import UnsupportedError
from vledge.graph.plan import Plan
from vledge.graph.registry import SessionSettings
from vledge.model.definition import Graph, Model, Node, ValueInfo
from vledge.streaming.promotion import PromotedState, Promotion, values
from vledge.streaming.rounding import without_rounding

__all__ = ["NotFiniteError", "differs", "prove"]

TOLERANCE = 1e-4  # of the largest output: sums over time steps are not in the same order
_STEPS = 4  # of float16, whose steps are greater than that
SMALLEST = 1e-3  # outputs below are compared as if they were as large
SHOWN_DOUBTS = 3
KNOWN = "known: RNN, GRU, LSTM, Scan, Loop, CumSum, frames that are put in front of others"


class NotFiniteError(UnsupportedError):
    """The model makes infinities or NaN of the trial's frames, which prove nothing."""


def prove(
    promotion: Promotion,
    outputs: Sequence[str],
    states: Sequence[PromotedState],
    frames: Sequence[Mapping[str, np.ndarray]],
) -> list[int | None]:
    """Each output's time axis; UnsupportedError if frames differ from the whole run.

    ``frames`` are the inputs of the promotion's first feed, one by one, and ``states`` those of the
    promoted model, the caller's own included. Numbers that a quantised model rounds by the range of
    all frames of a call are not rounded here, in neither run: a call with fewer has another range.
    """
    whole = without_rounding(promotion.whole)
    promoted = without_rounding(promotion.model)
    expected, longer = (values(whole, outputs, feed, promotion.options) for feed in promotion.feeds)
    for name, array in expected.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise NotFiniteError(
                f"output {name!r} is not finite where the frames are noise, so that nothing can be "
                "proven"
            )
    axes = [_grown(expected[name], longer[name]) for name in outputs]
    try:
        results = _frame_by_frame(promoted, outputs, states, frames, promotion.options)
    except UnsupportedError as error:
        raise UnsupportedError(f"{error}{_listed(promotion.doubts)}") from None
    for name, axis in zip(outputs, axes, strict=True):
        parts = [result[name] for result in results]
        got = _joined(parts, axis)
        if got.shape != expected[name].shape:
            raise UnsupportedError(
                f"output {name!r} has the shape {list(got.shape)} frame by frame, "
                f"{list(expected[name].shape)} in the whole run: a stream has an output a frame"
                f"{_listed(promotion.doubts)}"
            )
        wrong = differs(got, expected[name])
        if wrong.any():
            first = 0 if axis is None else int(np.argwhere(wrong)[:, axis].min())
            parting = _parting(promotion, whole, promoted, states, frames)
            raise UnsupportedError(
                f"output {name!r} is not the same frame by frame as in the whole run, from "
                f"frame {first} on: {_reason(parting, promotion.doubts)}"
            )
    return axes


def _grown(short: np.ndarray, long: np.ndarray) -> int | None:
    pairs = enumerate(zip(short.shape, long.shape, strict=True))
    axes = [axis for axis, (one, other) in pairs if other == one + 1]
    return axes[0] if axes else None


def _joined(parts: Sequence[np.ndarray], axis: int | None) -> np.ndarray:
    return parts[-1] if axis is None else np.concatenate(parts, axis)


def _frame_by_frame(
    model: Model,
    names: Sequence[str],
    states: Sequence[PromotedState],
    frames: Sequence[Mapping[str, np.ndarray]],
    options: SessionSettings,
) -> list[dict[str, np.ndarray]]:
    """The values of these names for each frame, the states carried."""
    asked = list(dict.fromkeys([*names, *(state.output for state in states)]))
    graph = model.graph
    declared = [ValueInfo(name, "", None) for name in asked]
    probe = Graph(graph.nodes, graph.inputs, declared, graph.initializers, graph.name)
    plan = Plan(Model(probe, model.opset_imports, model.ir_version), options)
    carried = {state.input: state.initial for state in states}
    results = []
    for frame in frames:
        feed = {**frame, **carried}
        try:
            with np.errstate(all="ignore"):
                made = dict(zip(asked, plan.run(*(feed[n] for n in plan.inputs)), strict=True))
        except MemoryError:
            raise
        except Exception as error:
            raise UnsupportedError(
                f"the model does not run on one frame at a time: {error}"
            ) from error
        carried = {state.input: made[state.output] for state in states}
        results.append(made)
    return results


def differs(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where two arrays of one shape are not the same."""
    if got.dtype.kind == "f":
        largest = float(np.abs(expected).max(initial=0))
        # between frames, states are rounded to what they are held as
        relative = max(TOLERANCE, _STEPS * float(np.finfo(got.dtype).eps))
        bound = relative * max(largest, SMALLEST)
        with np.errstate(invalid="ignore"):
            return np.asarray(~(np.abs(got - expected) <= bound))
    if got.dtype.itemsize == 1 and got.dtype.kind in "iu":  # rounded: a step is within the bound
        return np.asarray(np.abs(got.astype(np.int16) - expected) > 1)
    return np.asarray(got != expected)


# ---- why


def _parting(
    promotion: Promotion,
    whole: Model,
    promoted: Model,
    states: Sequence[PromotedState],
    frames: Sequence[Mapping[str, np.ndarray]],
) -> Node | None:
    """The first node whose result differs though all that was made before it agrees."""
    as_written = {n: node for node in promotion.model.graph.nodes for n in node.outputs}
    there = {name for node in whole.graph.nodes for name in node.outputs if name}
    makers = {n: node for node in promoted.graph.nodes for n in node.outputs if n in there}
    short, long = (values(whole, makers, feed, promotion.options) for feed in promotion.feeds)
    results = _frame_by_frame(promoted, list(makers), states, frames, promotion.options)
    for name, node in makers.items():
        expected, more = short[name], long[name]
        if not isinstance(expected, np.ndarray) or expected.dtype.kind != "f":
            continue  # sizes and places, which differ by right
        if not promotion.from_inputs(name):
            continue
        pairs = zip(expected.shape, more.shape, strict=True)
        if sum(one != other for one, other in pairs) > 1:
            return as_written.get(name, node)  # every frame with every other one
        parts = [result[name] for result in results]
        axis = _grown(expected, more)
        try:
            got = _joined(parts, axis)
        except ValueError:
            continue
        if got.shape == expected.shape and differs(got, expected).any():
            return as_written.get(name, node)
    return None


def _reason(parting: Node | None, doubts: Sequence[str]) -> str:
    if parting is None:
        return doubts[0] if doubts else f"it looks ahead, or remembers in a way not known ({KNOWN})"
    known = [doubt for doubt in doubts if doubt.startswith(str(parting))]
    if known:
        return known[0]
    inside = ""
    if any(parting.subgraphs()):
        inside = ". States of nodes inside of it are not carried"
    return (
        f"{parting} is the first node whose result differs; it looks ahead, or remembers in a way "
        f"that is not known here ({KNOWN}){inside}{_listed(doubts)}"
    )


def _listed(doubts: Sequence[str]) -> str:
    return "".join(f"; {doubt}" for doubt in doubts[:SHOWN_DOUBTS])
