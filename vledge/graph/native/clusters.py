"""Which nodes of a graph run as one instruction: runs of element-wise operators, as chains,
LayerNormalizations written out, convolutions with the chain and the pool that follow, and products
of integers with what makes them real numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vledge.graph.native.chain import Chain, Parameters, Value
from vledge.graph.native.expressions import added, expressible, number_of
from vledge.graph.native.families.convolution import chained, pooled
from vledge.graph.native.integer_joints import integer_joints
from vledge.graph.native.lowering import Joint, Lowered, Site, lowered
from vledge.graph.native.norms import written_out_norms
from vledge.graph.passes.program import captured
from vledge.model.definition import Graph, Node

__all__ = ["Cluster", "chain_lowered", "chain_of", "clusters"]

# Longer runs are cut: what a chain costs to word grows with its square.
_MOST_NODES: Final = 32

_CONVOLUTIONS: Final = ("Conv", "ConvRelu", "ConvTranspose")

# One element for many of what went in.
_REDUCING: Final = frozenset(
    """
    GlobalAveragePool GlobalMaxPool GlobalLpPool ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Cluster:
    """Nodes in the order in which they run, and the instruction that they are; None: Python's."""

    nodes: Sequence[Node]
    lowered: Lowered | None


def clusters(graph: Graph, site: Callable[[Node], Site]) -> list[Cluster]:
    """The graph's nodes, in order, each in one cluster. If, Loop and Scan are nobody's to join."""
    sites = [site(node) for node in graph.nodes]
    norms = written_out_norms(sites, _readers(graph))
    in_norms = {place for norm in norms.values() for place in norm.places}
    joints = integer_joints(sites, _readers(graph))
    taken = in_norms | {place for joint in joints for place in joint.places}
    runs = _runs(graph, sites, taken)
    convolutions = _convolutions(graph, sites, runs)
    convolutions |= {joint.places[-1]: joint for joint in joints}
    runs = {end: run for end, run in runs.items() if len(run) > 1 and end not in convolutions}
    joined = {place for run in runs.values() for place in run[:-1]}
    joined |= {place for joint in convolutions.values() for place in joint.places[:-1]}
    joined |= in_norms - norms.keys()
    made = []
    for place, own in enumerate(sites):
        if place in joined:
            continue
        if place in norms:
            norm = norms[place]
            made.append(Cluster([sites[k].node for k in norm.places], norm.lowered))
        elif place in convolutions:
            joint = convolutions[place]
            made.append(Cluster([sites[k].node for k in joint.places], joint.lowered))
        elif place in runs:
            members = [sites[k] for k in runs[place]]
            name = own.node.outputs[0]
            made.append(Cluster([s.node for s in members], chain_lowered(members, name)))
        else:
            made.append(Cluster([own.node], lowered(own)))
    return made


def chain_of(sites: Sequence[Site], result: str, first: str | None = None) -> Parameters | None:
    """The chain of some nodes, given in order, that ends in a value of theirs.

    ``first`` is the operand that stands in front. None where they are no chain, or too long a one.
    """
    chain = Chain(number_of(sites[-1]))
    values: dict[str, Value] = {}
    for own in sites:
        value = added(chain, own, values)
        if value is None:
            return None
        values[own.node.outputs[0]] = value
    return chain.parameters(values[result], first=first)


def chain_lowered(sites: Sequence[Site], result: str) -> Lowered | None:
    """The same as an instruction of its own."""
    made = chain_of(sites, result)
    if made is None:
        return None
    if made.number == np.float32:
        return Lowered("chain", made.ints, made.floats, inputs=made.operands, outputs=[result])
    constants = np.array(made.floats, made.number)
    return Lowered("chain_double", made.ints, (), [constants], made.operands, [result])


def _runs(graph: Graph, sites: Sequence[Site], taken: set[int]) -> dict[int, list[int]]:
    """Places of nodes that are one chain, in order, by the place of the last; none of ``taken``."""
    readers = _readers(graph)
    small = _small(sites)
    free = [k for k in range(len(sites)) if k not in taken and expressible(sites[k])]

    def gathered(fits: Callable[[list[int]], bool]) -> dict[int, list[int]]:
        """Runs as long as they may be, each from its end to its beginning, while they fit."""
        last_of: dict[int, int] = {}
        runs: dict[int, list[int]] = {}
        for place in reversed(free):
            places = readers.get(sites[place].node.outputs[0], set())
            ends = {last_of.get(reader) for reader in places}
            end = ends.pop() if len(ends) == 1 else None
            if end is not None and len(runs[end]) < _MOST_NODES:
                run = [place, *runs[end]]
                # what is computed for few elements is not computed again for each of many
                if (place in small) == (end in small) and fits(run):
                    runs[end] = run
                    last_of[place] = end
                    continue
            runs[place] = [place]
            last_of[place] = place
        return runs

    def is_chain(run: list[int]) -> bool:
        return chain_of([sites[k] for k in run], sites[run[-1]].node.outputs[0]) is not None

    # Wording a chain at each node more takes its square: most runs are worded once, as a whole.
    whole = {end: run for end, run in gathered(lambda run: True).items() if is_chain(run)}
    return gathered(lambda run: run[-1] in whole or is_chain(run))


def _convolutions(
    graph: Graph, sites: Sequence[Site], runs: dict[int, list[int]]
) -> dict[int, Joint]:
    """Convolutions with the chain, and then the pool, that alone reads each one's result; by the
    place of the last."""
    readers = _readers(graph)
    last_of = {place: end for end, run in runs.items() for place in run}
    joints: dict[int, Joint] = {}

    def reader(place: int, where: Callable[[int], int | None]) -> int | None:
        """`where` of all who read a node's result, if that is the same."""
        places = {where(other) for other in readers.get(sites[place].node.outputs[0], ())}
        return places.pop() if len(places) == 1 else None

    for place, own in enumerate(sites):
        if own.node.op_type not in _CONVOLUTIONS:
            continue
        made = lowered(own)
        joint = None if made is None else Joint([place], made)
        end = reader(place, last_of.get)
        if joint is not None and end is not None:
            joint = _with_chain(joint, sites, runs[end]) or joint
        last = None if joint is None else reader(joint.places[-1], lambda other: other)
        if joint is not None and last is not None and last >= 0 and _is_pool(sites[last].node):
            both = pooled(joint.lowered, sites[last])
            joint = joint if both is None else Joint([*joint.places, last], both)
        if joint is not None and len(joint.places) > 1:
            # of two convolutions that are added the later one takes the chain
            joints[place if end is None or end not in joint.places else end] = joint
    return {joint.places[-1]: joint for joint in joints.values()}


def _with_chain(convolution: Joint, sites: Sequence[Site], run: list[int]) -> Joint | None:
    name, result = sites[convolution.places[0]].node.outputs[0], sites[run[-1]].node.outputs[0]
    chain = chain_of([sites[k] for k in run], result, first=name)
    if chain is None or chain.operands[0] != name:
        return None
    both = chained(convolution.lowered, chain, result)
    return None if both is None else Joint([*convolution.places, *run], both)


def _is_pool(node: Node) -> bool:
    return node.op_type in ("MaxPool", "AveragePool") and not node.domain


def _readers(graph: Graph) -> dict[str, set[int]]:
    """By value the places of the nodes that read it; -1 is who is no node of this graph."""
    readers: dict[str, set[int]] = {}
    for place, node in enumerate(graph.nodes):
        for name in node.inputs:
            readers.setdefault(name, set()).add(place)
        for inner in node.subgraphs():
            for name in captured(inner):
                readers.setdefault(name, set()).add(-1)
    for info in graph.outputs:
        readers.setdefault(info.name, set()).add(-1)
    return readers


def _small(sites: Sequence[Site]) -> set[int]:
    """Places of nodes whose inputs are all reductions' results, or made of such alone."""
    names: set[str] = set()
    small = set()
    for place, own in enumerate(sites):
        node = own.node
        inputs = [n for k, n in enumerate(node.inputs) if n and own.constant(k) is None]
        if inputs and all(name in names for name in inputs):
            small.add(place)
        if place in small or (node.op_type in _REDUCING and not node.domain):
            names.update(node.outputs)
    return small
