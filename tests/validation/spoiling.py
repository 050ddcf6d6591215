"""Ways to spoil a good model: torch's weights before they are made a graph, or the graph.

Written without anything of the diagnosis, which has to name them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from vledge.model.definition import Model, Node

Weights = dict[str, np.ndarray]
GATES = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "h"}


class Subject(Protocol):
    """What is spoiled."""

    kind: str


def reordered(true: str, believed: str, parts: str = "weight_ih weight_hh bias_ih bias_hh"):
    """Weights that stand in the order ``true`` are taken to stand in ``believed``."""

    def spoil(subject: Subject, weights: Weights, suffixes: list[str]) -> None:
        torch_order = GATES[subject.kind]
        for suffix in suffixes:
            for part in parts.split():
                name = f"{part}_{suffix}"
                blocks = dict(
                    zip(torch_order, np.split(weights[name], len(torch_order)), strict=True)
                )
                file = [blocks[gate] for gate in true]  # as the other framework writes it
                read = dict(zip(believed, file, strict=True))
                weights[name] = np.concatenate([read[gate] for gate in torch_order])

    return spoil


def onnx_order(parts: str):
    """ONNX's order read as torch's in some of the weights."""

    def spoil(subject: Subject, weights: Weights, suffixes: list[str]) -> None:
        true = {"LSTM": "iofg", "GRU": "zrn"}[subject.kind]
        reordered(true, GATES[subject.kind], parts)(subject, weights, suffixes)

    return spoil


def zeroed(*parts: str):
    def spoil(subject: Subject, weights: Weights, suffixes: list[str]) -> None:
        for suffix in suffixes:
            for part in parts:
                weights[f"{part}_{suffix}"][:] = 0

    return spoil


def swap_biases(subject: Subject, weights: Weights, suffixes: list[str]) -> None:
    for s in suffixes:
        a, b = f"bias_ih_{s}", f"bias_hh_{s}"
        weights[a], weights[b] = weights[b], weights[a]


def transpose(*parts: str):
    def spoil(subject: Subject, weights: Weights, suffixes: list[str]) -> None:
        gates = len(GATES[subject.kind])
        for suffix in suffixes:
            for part in parts:
                name = f"{part}_{suffix}"
                weights[name] = np.concatenate([m.T for m in np.split(weights[name], gates)])

    return spoil


def reshaped(part: str):
    """[features, rows] as Keras writes it, reshaped where it should have been transposed."""

    def spoil(subject: Subject, weights: Weights, suffixes: list[str]) -> None:
        for suffix in suffixes:
            name = f"{part}_{suffix}"
            weights[name] = np.ascontiguousarray(weights[name].T).reshape(weights[name].shape)

    return spoil


def swap_directions(subject: Subject, weights: Weights, suffixes: list[str]) -> None:
    for suffix in suffixes:
        if suffix.endswith("_reverse"):
            continue
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            a, b = f"{part}_{suffix}", f"{part}_{suffix}_reverse"
            weights[a], weights[b] = weights[b], weights[a]


def on_nodes(change: Callable[[Node], Node]):
    def spoil(subject: Subject, model: Model, nodes: list[Node]) -> Model:
        chosen = {id(node) for node in nodes}
        graph = model.graph
        changed = [change(n) if id(n) in chosen else n for n in graph.nodes]
        return replace(model, graph=replace(graph, nodes=changed))

    return spoil


def with_inputs(node: Node, **by_index: str) -> Node:
    inputs = [*node.inputs, *[""] * (7 - len(node.inputs))]
    for index, name in by_index.items():
        inputs[int(index[1:])] = name
    return replace(node, inputs=inputs)


def attributes(node: Node, **changed: object) -> Node:
    return replace(node, attributes={**node.attributes, **changed})


def without_transposes(subject: Subject, model: Model, nodes: list[Node]) -> Model:
    """The layer is given [B, T, I] and takes it for [T, B, I]; and gives back as much."""
    swapped = {"perm": [0, 1, 2]}
    changed = [
        replace(node, attributes=swapped)
        if node.op_type == "Transpose" and node.attributes["perm"] == [1, 0, 2]
        else node
        for node in model.graph.nodes
    ]
    return replace(model, graph=replace(model.graph, nodes=changed))


def swap_outputs(node: Node) -> Node:
    return replace(node, outputs=[node.outputs[0], node.outputs[2], node.outputs[1]])
