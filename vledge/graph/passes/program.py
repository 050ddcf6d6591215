"""A model on its way to execution: its graph with unique names, and what is known of its values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from vledge.budget import Budget
from vledge.graph.prepared import Prepared
from vledge.model.definition import Graph, Model, Node, ValueInfo, captured
from vledge.model.element_types import DTYPES
from vledge.model.names import Names

__all__ = ["Program", "captured"]


class Program:
    """A model's graph, copied, in which no two values share a name, however deep they are nested.

    ``constants`` has every value that is known before a run, of all graphs; the graphs' own
    ``initializers`` are empty. ``dtypes`` has the dtype of values where it is certain.
    """

    def __init__(
        self,
        model: Model,
        prepare: Callable[[Node, Mapping[str, int], Mapping[str, np.ndarray]], Prepared],
        variable: Iterable[str] = (),
    ) -> None:
        self.opsets = model.opset_imports
        self._prepare = prepare
        self.constants: dict[str, np.ndarray] = {}
        self.dtypes: dict[str, np.dtype] = {}
        self._names = Names(_defined(model.graph))
        self.budget = Budget(model.nbytes) if model.budget is None else model.budget.copy()
        variable = set(variable)
        inputs = model.graph.inputs
        if inputs and model.graph.initializers:
            inputs = [
                info
                for info in inputs
                if info.name not in model.graph.initializers or info.name in variable
            ]
        graph = Graph(model.graph.nodes, inputs, model.graph.outputs, {}, model.graph.name)
        for name, array in model.graph.initializers.items():
            if name not in variable:
                self.set_constant(name, array)
        self.graph = self._copied(graph, (), top=True)

    def prepared(self, node: Node) -> Prepared:
        """The node made runnable; UnsupportedError or FormatError where it is not."""
        return self._prepare(node, self.opsets, self.constants)

    def fresh(self, name: str) -> str:
        """A name that no value has, like the one given."""
        return self._names.fresh(name)

    def dtype_of(self, name: str) -> np.dtype | None:
        """The dtype of a value, where it is known."""
        constant = self.constants.get(name)
        return self.dtypes.get(name) if constant is None else constant.dtype

    def set_constant(self, name: str, array: np.ndarray) -> None:
        """Note a value that is known now; it is read-only from here on."""
        array = array.view()
        array.flags.writeable = False
        self.constants[name] = array

    def _copied(self, graph: Graph, outer: tuple[dict[str, str], ...], top: bool = False) -> Graph:
        """A copy of the graph in which values that an outer or earlier graph has are renamed.

        ``outer`` has the new names in the graphs around this one, the nearest first.
        """
        own: dict[str, str] = {}
        scopes = outer if top else (own, *outer)

        def define(name: str) -> str:
            if not name or top:
                return name
            own[name] = self.fresh(name)
            return own[name]

        def renamed(name: str) -> str:
            for scope in scopes:
                if name in scope:
                    return scope[name]
            return name

        for name, array in graph.initializers.items():
            self.set_constant(define(name), array)
        inputs = []
        for info in graph.inputs:
            if info.name in graph.initializers:
                continue
            new = define(info.name)
            inputs.append(ValueInfo(new, info.type, info.shape))
            if info.type in DTYPES:
                self.dtypes[new] = DTYPES[info.type]
        nodes = []
        for node in graph.nodes:
            node_inputs = [renamed(name) for name in node.inputs]
            attributes = {
                key: self._copied(value, scopes) if isinstance(value, Graph) else value
                for key, value in node.attributes.items()
            }
            outputs = [define(name) for name in node.outputs]
            nodes.append(
                Node(node.op_type, node_inputs, outputs, attributes, node.name, node.domain)
            )
        outputs_ = [ValueInfo(renamed(info.name), info.type, info.shape) for info in graph.outputs]
        return Graph(nodes, inputs, outputs_, {}, graph.name)


def _defined(graph: Graph) -> set[str]:
    names = {info.name for info in graph.inputs} | set(graph.initializers)
    for node in graph.nodes:
        names.update(node.outputs)
    return names
