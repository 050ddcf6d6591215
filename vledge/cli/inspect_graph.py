"""The part of ``vledge inspect`` for whole models: graph, operators, recurrent nodes."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from typing import TypedDict

from vledge.cli.one_run import one_run
from vledge.cli.table import rows, size
from vledge.graph.layers import RecurrentSummary, summaries
from vledge.graph.part import part_for
from vledge.graph.plan import simplified, unsupported
from vledge.graph.session import InferenceSession, NodeArg, describe_input, read_model
from vledge.model.definition import Graph, Model
from vledge.shown import counted


def inspect_graph(arguments: argparse.Namespace) -> int:
    """Print what the model is, and what would run how; of what the outputs ``--only`` need."""
    path, only = arguments.file, arguments.only
    model = read_model(path)
    if only:
        model = part_for(model, only)
    program = simplified(model)
    problems = unsupported(program)
    counts = _counts(model.graph)
    left = _counts(program.graph)
    layers = summaries(program)
    session = None if problems else InferenceSession(path, outputs=only)
    ran, why_not_ran = _run_once(arguments, model, session) if arguments.memory else (False, "")
    memory = session.memory() if session is not None and arguments.memory else None
    constants = sum(array.nbytes for array in program.constants.values())
    inputs = [info for info in model.graph.inputs if info.name not in model.graph.initializers]
    declared = [describe_input(info) for info in inputs]
    results = [describe_input(info) for info in model.graph.outputs]
    if arguments.json:
        report: dict[str, object] = {
            "file": path,
            "producer": f"{model.producer_name} {model.producer_version}".strip(),
            "opset_imports": model.opset_imports,
            "inputs": [asdict(info) for info in declared],
            "outputs": [asdict(info) for info in results],
            "operators": {name: {"nodes": n, "planned": left[name]} for name, n in counts.items()},
            "constant_bytes": constants,
            "recurrent_nodes": [asdict(layer) for layer in layers],
            "unsupported": problems,
            "native": None if session is None else _native(session),
        }
        if memory is not None:
            report["memory"] = memory._asdict() | ({} if ran else {"why_not_run": why_not_ran})
        print(json.dumps(report, indent=1))
        return 0
    opsets = ", ".join(f"{name or 'ai.onnx'} {n}" for name, n in model.opset_imports.items())
    producer = f" by {model.producer_name} {model.producer_version}".rstrip()
    print(f"{path}: a model{producer if model.producer_name else ''}, operator set {opsets}")
    print(
        f"{counted(counts.total(), 'node')}, {left.total()} once constants are folded; "
        f"{size(constants)} of constants"
    )
    print("inputs:")
    print(rows(_row_of(info) for info in declared))
    print("outputs:")
    print(rows(_row_of(info) for info in results))
    print("operators (nodes in the file, nodes that run):")
    names = sorted({*counts, *left}, key=lambda name: (-counts[name], name))
    print(rows(((name, counts[name], left[name]) for name in names), right=(1, 2)))
    print("recurrent nodes:" if layers else "no recurrent nodes")
    for layer in layers:
        print(f"  {_layer(layer)}")
    if session is not None:
        print(_native_words(_native(session)))
    if memory is not None:
        kept, packed = size(memory.constants), size(memory.packed)
        print(f"memory: {kept} of constants, {packed} of packed weights")
        if ran:
            peak, held = size(memory.peak), size(memory.held)
            print(f"  a run's values: {peak} at most, {held} kept for the next")
        else:
            print(f"  a run's values are not known: {why_not_ran}")
    for problem in problems:
        print(f"cannot run: {problem}")
    if problems:
        print("--fallback reference of `vledge run` may run these by the onnx package")
    return 0


def _run_once(
    arguments: argparse.Namespace, model: Model, session: InferenceSession | None
) -> tuple[bool, str]:
    """Run the model for its memory; or why that could not be."""
    if session is None:
        return False, "the model cannot run"
    asked = arguments.input or arguments.random
    try:
        session.run(None, one_run(arguments, model, session))
    except ValueError as error:
        if asked:
            raise
        return False, str(error)
    return True, ""


class _Native(TypedDict):
    """What runs natively: numbers of nodes and of instructions, the other nodes and why not."""

    native: int
    python: int
    instructions: int
    in_python: list[dict[str, str]]


def _native(session: InferenceSession) -> _Native | None:
    """How many nodes have a native handler, and why the others have none; None: switched off."""
    emitted = session.native
    if emitted is None:
        return None
    native = python = 0
    reasons: list[dict[str, str]] = []
    for number, nodes in enumerate(emitted.nodes):
        why = emitted.why_python(number)
        if why:
            python += len(nodes)
        else:
            native += len(nodes)
        reasons += [{"node": str(node), "why": why} for node in nodes if why]
    return {
        "native": native,
        "python": python,
        "instructions": len(emitted.nodes),
        "in_python": reasons,
    }


def _native_words(native: _Native | None) -> str:
    if native is None:
        return "no native program: VLEDGE_PROGRAM=0"
    total = native["native"] + native["python"]
    lines = [f"native: {native['native']} of {total} nodes, {native['instructions']} instructions"]
    grouped: dict[str, list[str]] = {}
    for each in native["in_python"]:
        grouped.setdefault(each["why"], []).append(each["node"])
    for why, nodes in grouped.items():
        lines += [f"  Python, {why}: {node}" for node in nodes]
    return "\n".join(lines)


def _counts(graph: Graph) -> Counter[str]:
    counts: Counter[str] = Counter()
    for node in graph.nodes:
        counts[f"{node.domain}.{node.op_type}" if node.domain else node.op_type] += 1
        for inner in node.subgraphs():
            counts.update(_counts(inner))
    return counts


def _row_of(info: NodeArg) -> tuple[str, str, str]:
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
