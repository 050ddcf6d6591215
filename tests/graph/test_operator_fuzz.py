"""Whatever a file gives an operator, an error names the node: at load, and in a run.

Attributes of the right type with any value, constant inputs of any type and shape, inputs too few
and too many. Sizes are small, or so large that NumPy refuses them before it touches memory.
"""

import random
import re
import zlib

import numpy as np
import pytest

from vledge.errors import VledgeError
from vledge.graph.plan import NEWEST_OPSET, Plan
from vledge.graph.registry import known_operators
from vledge.graph.values import TensorSequence
from vledge.model.definition import Graph, Model, Node, Opaque, ValueInfo

pytestmark = pytest.mark.filterwarnings("ignore")
TRIALS = 25
OPERATORS = [
    pytest.param(entry, id=f"{entry.domain}{'.' * bool(entry.domain)}{op_type}-{entry.since}")
    for (domain, op_type), entries in known_operators().items()
    for entry in entries
    if domain != "vledge"  # which no file may name
]
WORDS = ("", "linear", "constant", "none", "SAME_UPPER", "forward", "Tanh", "ij,jk->ik", "mean")
INTS = (0, 1, 2, 3, 1, 2, -1, -2, 7, 16, 1 << 62, -(1 << 63))
FLOATS = (0.0, 1.0, 0.5, -2.0, 3.0, float("inf"), float("nan"), 1e30)
DTYPES = (np.float32, np.int64, np.float32, np.int64, np.int32, np.float64, np.uint8, np.bool_,
          np.float16, object)  # fmt: skip
SHAPES = ((), (1,), (2,), (3,), (0,), (2, 3), (1, 1), (1, 2, 3), (1, 2, 4, 4), (2, 2, 2, 2, 2))


def in_branch(model, feed):
    """Put the model's node into both branches of an If whose condition is an input."""
    graph = model.graph
    feed["condition"] = np.array(True)
    outputs = [f"outer {info.name}" for info in graph.outputs]
    branches = {
        key: Graph(list(graph.nodes), [], list(graph.outputs))
        for key in ("then_branch", "else_branch")
    }
    graph.nodes = [Node("If", ["condition"], outputs, branches, "if")]
    graph.inputs = [*graph.inputs, ValueInfo("condition", "bool", ())]
    graph.outputs = [ValueInfo(name, "", None) for name in outputs]


NEIGHBOURS = ("Add", "Cast", "Conv", "Gemm", "Identity", "Mul", "Relu", "Sigmoid", "Split", "Sub",
              "Tanh")  # fmt: skip


class Fuzz:
    """Random parts of a model, the same for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.patient = True  # whether counts may be huge: not where they say how often to run

    def integer(self):
        value = self.random.choice(INTS)
        return value if self.patient else min(abs(value), 3)

    def array(self):
        dtype, shape = self.random.choice(DTYPES), self.random.choice(SHAPES)
        if dtype is object:
            return np.full(shape, "text", object)
        draw = self.integer if np.dtype(dtype).kind in "iu" else self.floating
        values = np.array([draw() for _ in range(int(np.prod(shape)))], object)
        with np.errstate(all="ignore"):
            limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
            values = values if limits is None else values.clip(limits.min, limits.max)
            return values.astype(dtype).reshape(shape)

    def tensor_or_other(self):
        """What an input that is no constant may be: mostly an array."""
        if self.random.random() < 0.9:
            return self.array()
        array = self.array()
        return self.random.choice((None, TensorSequence((array,) * 2, array.dtype)))

    def floating(self):
        return self.random.choice(FLOATS)

    def value(self, kind):
        if kind.startswith("list["):
            return [self.value(kind[5:-1]) for _ in range(self.random.choice((0, 1, 1, 2, 2, 4)))]
        match kind:
            case "int":
                return self.integer()
            case "float":
                return self.floating()
            case "str":
                return self.random.choice(WORDS)
            case "np.ndarray":
                return self.array()
            case "_Body":
                return self.graph()
            case "Opaque":
                return Opaque("type_proto")
        return None

    def graph(self):
        inputs = [ValueInfo(f"i{n}", "", None) for n in range(self.random.randrange(4))]
        nodes = [Node("Identity", [info.name], [f"o{n}"]) for n, info in enumerate(inputs)]
        outputs = [ValueInfo(f"o{n}", "", None) for n in range(len(inputs))]
        return Graph(nodes, inputs, outputs)

    def among_others(self, model):
        """Put nodes that passes look for before and after the model's own, on the same values."""
        graph = model.graph
        names = [info.name for info in graph.inputs] + list(graph.initializers)
        for place in ("before", "after", "last"):
            op_type = self.random.choice(NEIGHBOURS)
            inputs = self.random.choices([*names, ""], k=self.random.choice((0, 1, 1, 2, 2, 3)))
            node = Node(op_type, inputs, [place, f"{place}2"][: self.random.choice((1, 1, 2))])
            node.name = place
            if op_type == "Cast":
                node.attributes["to"] = self.random.choice((1, 7, 10, 99))
            graph.nodes.insert(0 if place == "before" else len(graph.nodes), node)
            names += [*node.outputs, *graph.nodes[-1].outputs]
        graph.outputs = [*graph.outputs, ValueInfo("last", "", None)]

    def model(self, entry):
        """A model of one node, and arrays for its inputs that are no constants."""
        self.patient = "_Body" not in entry.kinds.values()
        attributes = {
            name: self.value(kind)
            for name, kind in entry.kinds.items()
            if name != "context" and self.random.random() < 0.6
        }
        fewest, most = entry.inputs
        count = self.random.randrange(fewest, 1 + (most or max(fewest, 5)))
        if self.random.random() < 0.1:
            count = self.random.randrange(8)
        names = [f"x{n}" if self.random.random() < 0.9 else "" for n in range(count)]
        outputs = [f"y{n}" for n in range(self.random.choice((1, 1, 1, 2, 3)))]
        node = Node(
            entry.op_type,
            names,
            outputs,
            {name: value for name, value in attributes.items() if value is not None},
            "fuzzed",
            entry.domain,
        )
        known, feed = {}, {}
        for name in filter(None, names):
            if self.random.random() < 0.6:
                known[name] = self.array()
            else:
                feed[name] = self.tensor_or_other()
        graph = Graph(
            [node],
            [ValueInfo(name, "", None) for name in feed],
            [ValueInfo(name, "", None) for name in outputs],
            known,
        )
        opset = NEWEST_OPSET if entry.until is None else entry.until
        return Model(graph, {"": opset, entry.domain: entry.until or opset}), feed


def complaint(model, feed):
    """What loading or running the model says against it, or None."""
    try:
        plan = Plan(model, {})
    except (VledgeError, MemoryError) as error:
        return str(error)
    try:
        plan.run(*(feed[name] for name in plan.inputs))
    except (ValueError, VledgeError, MemoryError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("place", ["top", "branch", "between"])
@pytest.mark.parametrize("entry", OPERATORS)
def test_errors_name_the_node(entry, place):
    fuzz = Fuzz(zlib.crc32(f"{entry.domain} {entry.op_type} {entry.since}".encode()))
    name = re.compile(rf"node 'fuzzed' \((\w+\.)*{entry.op_type}\): .")
    if place == "between":
        among = "|".join((*NEIGHBOURS, "ConvRelu", entry.op_type))
        name = re.compile(rf"node '\w+' \((\w+\.)*({among})\): .")
    for _ in range(TRIALS):
        model, feed = fuzz.model(entry)
        if place == "branch":
            in_branch(model, feed)
        elif place == "between":
            fuzz.among_others(model)
        said = complaint(model, feed)
        assert said is None or name.search(said), (said, model.graph)


def test_the_fuzz_reaches_what_it_is_for():
    """Of the models that it makes, many load and run, and many do not."""
    loaded = ran = total = 0
    for parameter in OPERATORS:
        fuzz = Fuzz(1)
        for _ in range(5):
            model, feed = fuzz.model(parameter.values[0])
            total += 1
            try:
                plan = Plan(model, {})
                loaded += 1
                plan.run(*(feed[name] for name in plan.inputs))
                ran += 1
            except (ValueError, VledgeError, MemoryError):
                continue
    assert total / 5 < loaded < 4 * total / 5
    assert total / 20 < ran < loaded
