"""The part of ``vledge inspect`` for whole models: graph, operators, recurrent nodes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

from vledge.cli.table import rows, size
from vledge.formats.graph_definition import Graph
from vledge.graph.layers import RecurrentSummary, summaries
from vledge.graph.part import part_for
from vledge.graph.plan import simplified, unsupported
from vledge.graph.session import NodeArg, describe_input, read_model


def inspect_graph(path: str, as_json: bool, only: list[str] | None = None) -> int:
    """Print what the model is, and what would run how; of what the outputs ``only`` need."""
    model = read_model(path)
    if only:
        model = part_for(model, only)
    program = simplified(model)
    problems = unsupported(program)
    counts = _counts(model.graph)
    left = _counts(program.graph)
    layers = summaries(program)
    constants = sum(array.nbytes for array in program.constants.values())
    inputs = [info for info in model.graph.inputs if info.name not in model.graph.initializers]
    arguments = [describe_input(info) for info in inputs]
    results = [describe_input(info) for info in model.graph.outputs]
    if as_json:
        report: dict[str, Any] = {
            "file": path,
            "producer": f"{model.producer_name} {model.producer_version}".strip(),
            "opset_imports": model.opset_imports,
            "inputs": [asdict(info) for info in arguments],
            "outputs": [asdict(info) for info in results],
            "operators": {name: {"nodes": n, "planned": left[name]} for name, n in counts.items()},
            "constant_bytes": constants,
            "recurrent_nodes": [asdict(layer) for layer in layers],
            "unsupported": problems,
        }
        print(json.dumps(report, indent=1))
        return 0
    opsets = ", ".join(f"{name or 'ai.onnx'} {n}" for name, n in model.opset_imports.items())
    producer = f" by {model.producer_name} {model.producer_version}".rstrip()
    print(f"{path}: a model{producer if model.producer_name else ''}, operator set {opsets}")
    print(
        f"{counts.total()} nodes, {left.total()} once constants are folded; "
        f"{size(constants)} of constants"
    )
    print("inputs:")
    print(rows(_described(info) for info in arguments))
    print("outputs:")
    print(rows(_described(info) for info in results))
    print("operators (nodes in the file, nodes that run):")
    names = sorted({*counts, *left}, key=lambda name: (-counts[name], name))
    print(rows(((name, counts[name], left[name]) for name in names), right=(1, 2)))
    print("recurrent nodes:" if layers else "no recurrent nodes")
    for layer in layers:
        print(f"  {_layer(layer)}")
    for problem in problems:
        print(f"cannot run: {problem}")
    if problems:
        print('InferenceSession(..., fallback="reference") may run these by the onnx package')
    return 0


def _counts(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    for node in graph.nodes:
        counts[f"{node.domain}.{node.op_type}" if node.domain else node.op_type] += 1
        for inner in node.subgraphs():
            counts.update(_counts(inner))
    return counts


def _described(info: NodeArg) -> tuple[str, str, str]:
    axes = ", ".join("?" if axis is None else str(axis) for axis in info.shape)
    return info.name, info.type, f"[{axes}]"


_PATHS = {
    "kernel": "compiled kernel",
    "generic": "NumPy, step by step",
    "quantized": "8-bit weights, NumPy",
}


def _layer(layer: RecurrentSummary) -> str:
    sizes = "sizes known at run time"
    if layer.input_size is not None:
        sizes = f"{layer.input_size} -> {layer.hidden_size}"
    words = [f"{layer.kind} {sizes}", layer.direction]
    if layer.lengths:
        words.append("lengths given")
    return f"{layer.name}: {', '.join([*words, *layer.notes, _PATHS[layer.path]])}"
