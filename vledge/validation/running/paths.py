"""The ways in which a model can be run on this machine, all of which must give the same answer.

A path is a strategy (how the sequences of a batch are given to the model, or run in its recurrent
layers), an instruction set, a number of threads, and what computes the products over the inputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from vledge._ext import isa
from vledge.graph.session import InferenceSession
from vledge.machine import blas, projection
from vledge.machine.threads import get_num_threads, set_num_threads, usable_cores
from vledge.model.definition import Graph, Model
from vledge.validation.reference.bundle import Case, Reference
from vledge.validation.running.layer_strategies import OPTIONS, obstacles, run_layers_by
from vledge.validation.running.layers import is_recurrent
from vledge.validation.running.lengths import lengths_input

__all__ = ["STRATEGIES", "Path", "available_paths", "run", "selected"]

Arrays = dict[str, np.ndarray]
_Run = Callable[[Arrays], Arrays]

STRATEGIES = {
    "batch": "as recorded",
    "alone": "each sequence by itself, cut to its length",
    "reordered": "the batch's sequences in reverse order",
    "longer": "more padding behind every sequence",
    "chunks": "in two pieces of time, the state carried over",
    **dict.fromkeys(OPTIONS, "the batch as recorded; recurrent layers by vledge.lengths"),
}
MORE_PADDING = 5
_POINTWISE = frozenset(
    {
        "Add",
        "Cast",
        "Concat",
        "Constant",
        "Div",
        "Elu",
        "Gather",
        "Gemm",
        "Identity",
        "LeakyRelu",
        "MatMul",
        "Mul",
        "PRelu",
        "Relu",
        "Reshape",
        "Selu",
        "Shape",
        "Sigmoid",
        "Slice",
        "Softplus",
        "Split",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
    }
)


@dataclass(frozen=True)
class Path:
    """One way to run."""

    strategy: str
    isa: str
    threads: int
    projection: str

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.strategy}, {self.isa}, {threads}, {self.projection} products"


def available_paths(model: Model, reference: Reference) -> tuple[list[Path], dict[str, str]]:
    """All paths that this machine, the model and the bundle allow, those of a session together.

    And the strategies that they do not allow, with the reasons.
    """
    several = max(2, min(usable_cores(), 4))
    projections = ["tile"]
    if blas.module_file() is not None:
        projections.append("blas")
    left_out = obstacles(model)
    for name in STRATEGIES.keys() - OPTIONS.keys():
        if why := _obstacle(name, model, reference):
            left_out[name] = why
    whole = [name for name in STRATEGIES if name not in left_out and name not in OPTIONS]
    inside = [name for name in OPTIONS if name not in left_out]
    paths = []
    for name in isa.runnable():
        for product in projections:
            tile = product == "tile"
            for threads in (1, several):
                strategies = whole if tile else ["batch"]
                paths += [Path(strategy, name, threads, product) for strategy in strategies]
            for strategy in inside if tile else []:
                paths += [Path(strategy, name, threads, product) for threads in (1, several)]
    return paths, {name: left_out[name] for name in STRATEGIES if name in left_out}


def _obstacle(strategy: str, model: Model, reference: Reference) -> str:
    """Why batches cannot be taken apart that way; "" if they can."""
    if strategy == "batch":
        return ""
    if strategy != "reordered" and _scales_with_batch(model.graph):
        return "a quantized layer's scale is that of the whole batch"
    infos = {info.name: info for info in model.graph.inputs}
    axes = {name: reference.axes.get(name, {}) for name in reference.cases[0].inputs}
    changed = {"alone": ("batch", "time"), "reordered": (), "longer": ("time",)}
    for name, own in axes.items():
        shape = infos[name].shape if name in infos else None
        for key in changed.get(strategy, ("time",)):
            if shape and key in own and isinstance(shape[own[key]], int):
                return f"the model fixes the {key} axis of {name}"
    known = {key for own in axes.values() for key in own}
    outputs = [reference.axes.get(name, {}) for name in reference.cases[0].outputs]
    if strategy == "chunks":
        if not reference.carry:
            return "the reference carries no state"
        if lengths_input(model) is not None:
            return "the model takes lengths"
        if "time" not in known or not any("time" in own for own in outputs):
            return "the reference names no time axis"
        return "" if _goes_step_by_step(model) else "a part of the model looks across time"
    if "batch" not in known or not all("batch" in own for own in outputs):
        return "the reference does not name every batch axis"
    if strategy == "longer" and "time" not in known:
        return "the reference names no time axis"
    if strategy == "longer" and all(case.lengths is None for case in reference.cases):
        return "the reference has no lengths"
    return ""


def _scales_with_batch(graph: Graph) -> bool:
    """Whether a part of the graph quantizes by the largest value of all that it is given."""
    return any(
        node.op_type.startswith("DynamicQuantize") or any(map(_scales_with_batch, node.subgraphs()))
        for node in graph.nodes
    )


def _goes_step_by_step(model: Model) -> bool:
    """Whether nothing but recurrent nodes, all forward, can look from one time step to another."""
    return all(
        node.op_type in _POINTWISE
        or (is_recurrent(node) and node.attributes.get("direction", "forward") == "forward")
        for node in model.graph.nodes
    )


@contextlib.contextmanager
def selected(path: Path) -> Iterator[None]:
    """Have instruction set, threads and products as the path says, and as they were after."""
    before = isa.selected(), projection.selected(), get_num_threads()
    try:
        isa.select(path.isa)
        projection.select(path.projection)
        set_num_threads(path.threads)
        yield
    finally:
        isa.select(before[0])
        projection.select(before[1])
        set_num_threads(before[2])


def run(session: InferenceSession, strategy: str, case: Case, reference: Reference) -> Arrays:
    """A case's outputs by name, in the reference's order and shapes whatever the strategy."""
    names = list(case.outputs)
    wanted = {info.name for info in session.get_inputs()}
    wanted |= {info.name for info in session.get_overridable_initializers()}

    def once(inputs: Arrays) -> Arrays:
        given = {name: array for name, array in inputs.items() if name in wanted}
        if strategy in OPTIONS:
            return dict(zip(names, run_layers_by(strategy, session, names, given), strict=True))
        return dict(zip(names, session.run(names, given), strict=True))

    return _BY_NAME.get(strategy, _batch)(once, case, reference)


def _batch(once: _Run, case: Case, reference: Reference) -> Arrays:
    return once(case.inputs)


def _alone(once: _Run, case: Case, reference: Reference) -> Arrays:
    results = {name: np.zeros_like(array) for name, array in case.outputs.items()}
    for sequence in range(_sequences(case, reference)):
        place = slice(sequence, sequence + 1)
        length = None if case.lengths is None else int(case.lengths[sequence])
        if length == 0:  # a sequence of no steps cannot stand alone: as in the batch
            return once(case.inputs)
        inputs = {
            name: array[_index(array, reference, name, place, length)]
            for name, array in case.inputs.items()
        }
        for name, array in once(inputs).items():
            target = results[name][_index(array, reference, name, place, length)]
            target[...] = array[_index(array, reference, name, slice(None), length)]
    return results


def _index(
    array: np.ndarray,
    reference: Reference,
    name: str,
    sequences: slice,
    length: int | None,
) -> tuple[slice, ...]:
    """The index of some sequences' real steps in a value."""
    index: list[slice] = [slice(None)] * array.ndim
    axes = reference.axes.get(name, {})
    if "batch" in axes:
        index[axes["batch"]] = sequences
    if "time" in axes:
        index[axes["time"]] = slice(length)
    return tuple(index)


def _reordered(once: _Run, case: Case, reference: Reference) -> Arrays:
    return _reverse(once(_reverse(case.inputs, reference)), reference)


def _reverse(arrays: Arrays, reference: Reference) -> Arrays:
    return {
        name: np.flip(array, axes["batch"]).copy()
        if "batch" in (axes := reference.axes.get(name, {}))
        else array
        for name, array in arrays.items()
    }


def _longer(once: _Run, case: Case, reference: Reference) -> Arrays:
    if case.lengths is None:
        return once(case.inputs)
    inputs = dict(case.inputs)
    for name, array in inputs.items():
        axis = reference.axes.get(name, {}).get("time")
        if axis is not None:
            # what stands in the padding must not matter: the first steps again
            extra = np.take(array, np.arange(MORE_PADDING) % array.shape[axis], axis)
            inputs[name] = np.concatenate([array, extra], axis)
    results = once(inputs)
    for name, array in results.items():
        axis = reference.axes.get(name, {}).get("time")
        if axis is not None:
            steps = np.arange(min(case.outputs[name].shape[axis], array.shape[axis]))
            results[name] = np.take(array, steps, axis)
    return results


def _chunks(once: _Run, case: Case, reference: Reference) -> Arrays:
    timed = {
        n: reference.axes[n]["time"] for n in case.inputs if "time" in reference.axes.get(n, {})
    }
    steps = min(case.inputs[name].shape[axis] for name, axis in timed.items())
    if steps < 2:
        return once(case.inputs)
    inputs, pieces = dict(case.inputs), []
    for piece in np.array_split(np.arange(steps), 2):
        for name, axis in timed.items():
            inputs[name] = np.take(case.inputs[name], piece, axis)
        pieces.append(once(inputs))
        inputs |= {state: pieces[-1][source] for state, source in reference.carry.items()}
    results = pieces[-1]
    for name in results:
        if "time" in reference.axes.get(name, {}):
            results[name] = np.concatenate(
                [piece[name] for piece in pieces], reference.axes[name]["time"]
            )
    return results


def _sequences(case: Case, reference: Reference) -> int:
    for name, array in case.inputs.items():
        if "batch" in reference.axes.get(name, {}):
            return array.shape[reference.axes[name]["batch"]]
    raise ValueError("no input has a batch axis")


_BY_NAME: dict[str, Callable[[_Run, Case, Reference], Arrays]] = {
    "batch": _batch,
    "alone": _alone,
    "reordered": _reordered,
    "longer": _longer,
    "chunks": _chunks,
}
