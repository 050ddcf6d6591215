"""Branches that a reference always takes, in the place of the If that chooses them.

Layers inside of them are layers of the main graph then, where mistakes are looked for: a model of
two sampling rates has its layers in the branches of an If.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vledge.graph.passes.program import Program
from vledge.graph.plan import Plan, simplified
from vledge.model.definition import Model, ValueInfo

__all__ = ["simplified_as_taken"]


def simplified_as_taken(model: Model, feeds: list[dict[str, np.ndarray]]) -> Program:
    """The model after every pass, without the Ifs that go the same way in all runs."""
    program = simplified(model)
    while True:
        graph = replace(program.graph, initializers=dict(program.constants))
        chosen = [
            n for n in graph.nodes if n.op_type == "If" and n.inputs[0] not in program.constants
        ]
        if not chosen:
            return program
        wanted = [ValueInfo(name, "", None) for name in dict.fromkeys(n.inputs[0] for n in chosen)]
        plan = Plan(replace(model, graph=replace(graph, outputs=wanted)), {})
        runs = [plan.run(*(feed[name] for name in plan.inputs)) for feed in feeds]
        known = {
            info.name: values[0]
            for info, values in zip(wanted, zip(*runs, strict=True), strict=True)
            if all(bool(value.item()) == bool(values[0].item()) for value in values)
        }
        if not known:
            return program
        for node in chosen:
            if node.inputs[0] in known:
                condition = f"{node.inputs[0]}.taken"
                graph.initializers[condition] = known[node.inputs[0]]
                node.inputs = [condition]
        program = simplified(replace(model, graph=graph))
