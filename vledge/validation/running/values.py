"""A model's graph laid open: every value that it computes, in float64 where that can be.

No pass has run over it, so that its nodes are those of the file; but an If that goes one way in all
runs has given way to the nodes of its branch, so that these can be looked at, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from vledge.errors import UnsupportedError, VledgeError
from vledge.graph.passes.program import captured
from vledge.graph.plan import Plan
from vledge.model.definition import Graph, Model, Node, ValueInfo
from vledge.validation.reference.bundle import Reference
from vledge.validation.running.precision import doubled, doubled_array

__all__ = ["computed", "constants_of", "laid_open", "runs"]

Arrays = dict[str, np.ndarray]
MOST_BRANCHES = 100  # that are taken one after the other


def laid_open(model: Model, reference: Reference) -> Model:
    """The model with the branches that the reference takes in place of their Ifs."""
    with contextlib.suppress(UnsupportedError):  # quantized: as it is
        model = doubled(model)
    for _ in range(MOST_BRANCHES):
        chosen = [node for node in model.graph.nodes if node.op_type == "If" and not node.domain]
        if not chosen:
            break
        first = chosen[0]
        try:
            conditions = [run[first.inputs[0]] for run in runs(model, reference, first.inputs)]
            taken = {bool(condition.item()) for condition in conditions}
        except (VledgeError, ValueError, IndexError, TypeError, ArithmeticError):
            break  # what is wrong lies before it
        if len(taken) != 1:
            break
        model = _spliced(model, first, "then_branch" if taken.pop() else "else_branch")
    return model


def _spliced(model: Model, node: Node, branch: str) -> Model:
    graph = model.graph
    inner = node.attributes[branch]
    taken = set(graph.initializers) | {info.name for info in graph.inputs}
    taken |= {name for other in graph.nodes for name in other.outputs}
    own = {name for other in inner.nodes for name in other.outputs} | set(inner.initializers)
    names = {name: name for name in own if name}
    names |= {name: f"{node.outputs[0]}.{name}" for name in own & taken}
    ends = [
        Node("Identity", [names.get(info.name, info.name)], [output], {}, node.name)
        for info, output in zip(inner.outputs, node.outputs, strict=False)
        if output
    ]
    nodes: list[Node] = []
    for other in graph.nodes:
        nodes += [*_renamed(inner.nodes, names), *ends] if other is node else [other]
    constants = {names[name]: array for name, array in inner.initializers.items()}
    opened = replace(graph, nodes=nodes, initializers=graph.initializers | constants)
    return replace(model, graph=opened)


def _renamed(nodes: Iterable[Node], names: Mapping[str, str]) -> list[Node]:
    def graph(inner: Graph) -> Graph:
        own = {name for node in inner.nodes for name in node.outputs} | set(inner.initializers)
        own |= {info.name for info in inner.inputs}
        outer = {old: new for old, new in names.items() if old not in own}
        outputs = [replace(info, name=outer.get(info.name, info.name)) for info in inner.outputs]
        return replace(inner, nodes=_renamed(inner.nodes, outer), outputs=outputs)

    return [
        replace(
            node,
            inputs=[names.get(name, name) for name in node.inputs],
            outputs=[names.get(name, name) for name in node.outputs],
            attributes={
                key: graph(value) if isinstance(value, Graph) else value
                for key, value in node.attributes.items()
            },
        )
        for node in nodes
    ]


def runs(
    model: Model, reference: Reference, names: Iterable[str], cases: Iterable[int] | None = None
) -> Iterator[Arrays]:
    """The named values of each case; ValueError and VledgeError if the model does not run."""
    wanted = [ValueInfo(name, "", None) for name in dict.fromkeys(names) if name]
    plan = Plan(replace(model, graph=replace(model.graph, outputs=wanted)), {})
    chosen = range(len(reference.cases)) if cases is None else cases
    double = any(info.type == "double" for info in model.graph.inputs) or any(
        array.dtype == np.float64 for array in model.graph.initializers.values()
    )
    for number in chosen:
        feed = reference.cases[number].inputs
        given = [doubled_array(feed[n]) if double else feed[n] for n in plan.inputs]
        with np.errstate(all="ignore"):
            results = plan.run(*given)
        yield dict(zip((info.name for info in wanted), results, strict=True))


def computed(model: Model) -> list[str]:
    """The values that the main graph's nodes make, in its order."""
    return [name for node in model.graph.nodes for name in node.outputs if name]


def constants_of(model: Model) -> set[str]:
    """The values that do not depend on the model's inputs."""
    known = set(model.graph.initializers)
    for node in model.graph.nodes:
        inner = [name for graph in node.subgraphs() for name in captured(graph)]
        random = node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial")
        if not random and all(not name or name in known for name in (*node.inputs, *inner)):
            known.update(name for name in node.outputs if name)
    return known
