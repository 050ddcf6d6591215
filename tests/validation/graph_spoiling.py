"""Ways to spoil a whole model's graph or its weights: written without anything of the diagnosis.

A way looks for the places where it can be done, and does it at one of them. It tells which nodes
are then at fault, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vledge.model.definition import Graph, Model, Node

__all__ = ["WAYS", "Spoiled", "Way"]


@dataclass
class Spoiled:
    """A model with one fault, and the nodes any of which may be called the one at fault."""

    model: Model
    nodes: set[str]
    tensor: str = ""


@dataclass(frozen=True)
class Way:
    """``sites`` gives what can be spoiled, by a function that does it."""

    name: str
    suspects: tuple[str, ...]  # what the diagnosis may call it
    sites: Callable[[Model, np.random.Generator], Iterator[Callable[[], Spoiled]]]
    many: bool = False  # all tensors: the fault has no one place


def called(node: Node) -> str:
    return node.name or next(filter(None, node.outputs))


def all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for inner in node.subgraphs():
            yield from all_nodes(inner)


def mapped(graph: Graph, change: Callable[[Node], list[Node]]) -> Graph:
    """The graph with every node given to ``change``, those in subgraphs, too."""
    nodes = []
    for node in graph.nodes:
        if any(node.subgraphs()):
            attributes = {
                key: mapped(value, change) if isinstance(value, Graph) else value
                for key, value in node.attributes.items()
            }
            node = replace(node, attributes=attributes)
        nodes += change(node)
    return replace(graph, nodes=nodes)


def with_node(model: Model, old: Node, *new: Node) -> Model:
    def change(node: Node) -> list[Node]:
        same = node.outputs == old.outputs and node.op_type == old.op_type
        return list(new) if same else [node]

    return replace(model, graph=mapped(model.graph, change))


# ---- tensors


def tensors(graph: Graph) -> dict[str, np.ndarray]:
    found = dict(graph.initializers)
    for node in all_nodes(graph):
        if node.op_type == "Constant" and isinstance(node.attributes.get("value"), np.ndarray):
            found[node.outputs[0]] = node.attributes["value"]
        for inner in node.subgraphs():
            found |= inner.initializers
    return found


def with_tensors(model: Model, new: dict[str, np.ndarray]) -> Model:
    def change(node: Node) -> list[Node]:
        if node.op_type == "Constant" and node.outputs[0] in new:
            return [replace(node, attributes={"value": new[node.outputs[0]]})]
        return [node]

    def held(graph: Graph) -> Graph:
        own = {n: new.get(n, a) for n, a in graph.initializers.items()}
        nodes = [
            replace(
                n,
                attributes={
                    k: held(v) if isinstance(v, Graph) else v for k, v in n.attributes.items()
                },
            )
            for n in graph.nodes
        ]
        return replace(graph, nodes=nodes, initializers=own)

    return replace(model, graph=held(mapped(model.graph, change)))


def users(model: Model, tensor: str) -> set[str]:
    """The nodes that take a tensor, and those behind nodes that only turn it."""
    names, found = {tensor}, set()
    for node in all_nodes(model.graph):
        if names & set(node.inputs):
            found.add(called(node))
            if node.op_type in ("Transpose", "Identity", "Unsqueeze", "Slice", "Concat", "Reshape"):
                names.update(node.outputs)
    return found


def weights(
    name: str,
    suspects: str,
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray | None],
    least: int = 8,
    ranks: tuple[int, ...] = (1, 2, 3, 4),
) -> Way:
    """One tensor of real numbers changed; ``change`` gives None where it does not apply."""

    def sites(model: Model, rng: np.random.Generator) -> Iterator[Callable[[], Spoiled]]:
        for tensor, array in tensors(model.graph).items():
            if array.dtype.kind != "f" or array.size < least or array.ndim not in ranks:
                continue
            if not array.any() or not users(model, tensor):
                continue
            new = change(array.copy(), rng)
            if new is None or (new.shape == array.shape and np.array_equal(new, array)):
                continue
            changed = {tensor: new.astype(array.dtype, copy=False)}
            yield lambda changed=changed, tensor=tensor: Spoiled(
                with_tensors(model, changed), users(model, tensor), tensor
            )

    return Way(name, tuple(suspects.split("|")), sites)


def every_weight(
    name: str, suspects: str, change: Callable[[np.ndarray], np.ndarray], least: int = 32
) -> Way:
    def sites(model: Model, rng: np.random.Generator) -> Iterator[Callable[[], Spoiled]]:
        chosen = {
            n: a
            for n, a in tensors(model.graph).items()
            if a.dtype == np.float32 and a.size >= least and a.ndim > 1
        }
        new = {n: change(a).astype(np.float32) for n, a in chosen.items()}
        nodes = {user for n in chosen for user in users(model, n)}
        yield lambda: Spoiled(with_tensors(model, new), nodes)

    return Way(name, tuple(suspects.split("|")), sites, many=True)


def exchanged_tensors(model: Model, rng: np.random.Generator) -> Iterator[Callable[[], Spoiled]]:
    found = [(n, a) for n, a in tensors(model.graph).items() if a.size >= 8 and a.dtype.kind == "f"]
    for index, (a, mine) in enumerate(found):
        for b, theirs in found[index + 1 :]:
            if mine.shape == theirs.shape and not np.array_equal(mine, theirs):
                new = {a: theirs, b: mine}
                yield lambda new=new, a=a, b=b: Spoiled(
                    with_tensors(model, new), users(model, a) | users(model, b)
                )


def bfloat16(array: np.ndarray) -> np.ndarray:
    words = array.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = (words + 0x7FFF + ((words >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32).reshape(array.shape)


def int8(array: np.ndarray, rows: bool = False) -> np.ndarray:
    axes = tuple(range(1, array.ndim)) if rows and array.ndim > 1 else None
    scale = np.abs(array).max(axis=axes, keepdims=True) / 127
    scale = np.where(scale > 0, scale, 1)
    return (np.rint(array / scale) * scale).astype(array.dtype)


def _placed(array: np.ndarray, rng: np.random.Generator, value: float) -> np.ndarray:
    array.flat[rng.integers(array.size)] = value
    return array


def _zero_block(array: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    rows = array.shape[0] if array.ndim == 2 else array.shape[1] if array.ndim == 3 else 0
    if rows < 8:
        return None
    begin = int(rng.integers(rows // 2))
    part = array if array.ndim == 2 else array[0]
    part[begin : begin + max(rows // 8, 2)] = 0
    return array


def _permuted_rows(array: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    axis = array.ndim - 2
    if array.shape[axis] < 8:
        return None
    return np.take(array, rng.permutation(array.shape[axis]), axis)


def _row_of_another(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    array[..., rng.integers(array.shape[-2]), :] = rng.normal(0, array.std(), array.shape[-1])
    return array


def _noisy(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return array + rng.normal(0, 0.3 * array.std() + 1e-3, array.shape)


def _square(array: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    return np.ascontiguousarray(array.T) if array.shape[0] == array.shape[-1] else None


def _turned(array: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    return None if 1 in array.shape else np.ascontiguousarray(array.T)


def _reshaped(array: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    return None if 1 in array.shape else np.ascontiguousarray(array.T).reshape(array.shape)


def _halves(array: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    axis = array.ndim - 2
    if array.shape[axis] % 2 or array.shape[axis] < 4:
        return None
    return np.roll(array, array.shape[axis] // 2, axis)


def _shifted_rows(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(array, 1, 0)


def _constant_bias(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return array + np.float32(0.05 + 0.1 * np.abs(array).max())


# ---- nodes


def nodes_of(
    name: str,
    suspects: str,
    ops: str,
    change: Callable[[Node, Model, np.random.Generator], list[Node] | Node | None],
    at_fault: Callable[[Model, Node], set[str]] | None = None,
) -> Way:
    """One node of some kinds changed."""
    kinds = set(ops.split())

    def sites(model: Model, rng: np.random.Generator) -> Iterator[Callable[[], Spoiled]]:
        for node in all_nodes(model.graph):
            if node.op_type not in kinds:
                continue
            new = change(node, model, rng)
            if new is None:
                continue
            made = [new] if isinstance(new, Node) else new
            at = at_fault(model, node) if at_fault else {called(node)}
            yield lambda node=node, made=made, at=at: Spoiled(with_node(model, node, *made), at)

    return Way(name, tuple(suspects.split("|")), sites)


def setting(**changed: Any) -> Callable[[Node, Model, np.random.Generator], Node | None]:
    def change(node: Node, model: Model, rng: np.random.Generator) -> Node | None:
        new = {**node.attributes, **changed}
        return None if new == node.attributes else replace(node, attributes=new)

    return change


def becoming(op_type: str, **attributes: Any) -> Callable[[Node, Model, Any], Node]:
    def change(node: Node, model: Model, rng: np.random.Generator) -> Node:
        single = op_type in ("Identity", "LeakyRelu", "Tanh", "Sigmoid", "Relu", "HardSigmoid")
        kept = {} if single else node.attributes
        inputs = node.inputs[:1] if single else node.inputs
        return replace(node, op_type=op_type, attributes={**kept, **attributes}, inputs=inputs)

    return change


def exchanging(a: int, b: int) -> Callable[[Node, Model, np.random.Generator], Node | None]:
    def change(node: Node, model: Model, rng: np.random.Generator) -> Node | None:
        if len(node.inputs) <= max(a, b):
            return None
        inputs = [*node.inputs]
        inputs[a], inputs[b] = inputs[b], inputs[a]
        return replace(node, inputs=inputs)

    return change


def other_axis(node: Node, model: Model, rng: np.random.Generator) -> Node | None:
    axis = node.attributes.get("axis", -1)
    return replace(node, attributes={**node.attributes, "axis": 1 if axis in (-1, 2) else 2})


def other_perm(node: Node, model: Model, rng: np.random.Generator) -> Node | None:
    perm = list(node.attributes.get("perm", ()))
    if len(perm) < 3:
        return None
    a, b = rng.choice(len(perm), 2, replace=False)
    perm[a], perm[b] = perm[b], perm[a]
    return replace(node, attributes={**node.attributes, "perm": perm})


def moved_pads(node: Node, model: Model, rng: np.random.Generator) -> Node | None:
    pads = list(node.attributes.get("pads", ()))
    half = len(pads) // 2
    if not half or not pads[-1]:
        return None
    pads[half - 1], pads[-1] = pads[half - 1] + pads[-1], 0
    return replace(node, attributes={**node.attributes, "pads": pads})


def short_pads(node: Node, model: Model, rng: np.random.Generator) -> Node | None:
    pads = list(node.attributes.get("pads", ()))
    if not any(pads):
        return None
    pads[-1] += 1
    return replace(node, attributes={**node.attributes, "pads": pads})


def other_dilation(node: Node, model: Model, rng: np.random.Generator) -> Node | None:
    dilations, pads = node.attributes.get("dilations"), node.attributes.get("pads")
    if dilations is None or list(dilations) == [1] * len(dilations) or pads is None:
        return None
    return replace(node, attributes={**node.attributes, "dilations": [1] * len(dilations)})


def with_constant(node: Node, model: Model, place: int, new: np.ndarray) -> list[Node]:
    name = f"{node.outputs[0]}.spoiled"
    inputs = [*node.inputs]
    inputs[place] = name
    constant = Node("Constant", [], [name], {"value": np.asarray(new)})
    return [constant, replace(node, inputs=inputs)]


def number(
    place: int, change: Callable[[np.ndarray], np.ndarray], kind: str = "f", most: int = 1
) -> Callable[[Node, Model, np.random.Generator], list[Node] | None]:
    """A small constant input of a node that is another number."""

    def spoil(node: Node, model: Model, rng: np.random.Generator) -> list[Node] | None:
        known = tensors(model.graph)
        where = place if place >= 0 else len(node.inputs) + place
        if where >= len(node.inputs) or node.inputs[where] not in known:
            return None
        array = known[node.inputs[where]]
        if array.dtype.kind not in kind or array.size > most:
            return None
        new = change(array.copy()).astype(array.dtype)
        return None if np.array_equal(new, array) else with_constant(node, model, where, new)

    return spoil


def any_number(change: Callable[[np.ndarray], np.ndarray], kind: str = "f"):
    def spoil(node: Node, model: Model, rng: np.random.Generator) -> list[Node] | None:
        for place in range(len(node.inputs)):
            made = number(place, change, kind)(node, model, rng)
            if made is not None:
                return made
        return None

    return spoil


def followed_by(op_type: str) -> Callable[[Node, Model, np.random.Generator], list[Node]]:
    def change(node: Node, model: Model, rng: np.random.Generator) -> list[Node]:
        inner = f"{node.outputs[0]}.before"
        added = Node(op_type, [inner], [node.outputs[0]], {}, f"{called(node)}.added")
        return [replace(node, outputs=[inner, *node.outputs[1:]]), added]

    return change


def and_added(model: Model, node: Node) -> set[str]:
    return {called(node), f"{called(node)}.added"}


def bypassed(model: Model, node: Node) -> set[str]:
    return {called(n) for n in all_nodes(model.graph) if node.outputs[0] in n.inputs}


def removed(ops: str, what: str = "activation") -> Way:
    """A node that is not there: those behind it are given what it was given."""
    kinds = set(ops.split())

    def sites(model: Model, rng: np.random.Generator) -> Iterator[Callable[[], Spoiled]]:
        kept = {info.name for info in model.graph.outputs}
        for node in all_nodes(model.graph):
            if node.op_type not in kinds or node.outputs[0] in kept:
                continue

            def change(other: Node, node: Node = node) -> list[Node]:
                if other.outputs == node.outputs:
                    return []
                inputs = [node.inputs[0] if n == node.outputs[0] else n for n in other.inputs]
                return [replace(other, inputs=inputs)]

            at = bypassed(model, node)
            yield lambda change=change, at=at: Spoiled(
                replace(model, graph=mapped(model.graph, change)), at
            )

    return Way(f"{what} removed", (f"missing {what}",), sites)


def another_value(node: Node, model: Model, rng: np.random.Generator) -> Node | None:
    """A residual that is taken from elsewhere: from what another Add of the graph has made."""
    known = tensors(model.graph)
    if set(node.inputs) & set(known):
        return None
    earlier = []
    for other in model.graph.nodes:
        if other.outputs == node.outputs:
            break
        if other.op_type in ("Add", "Mul", "LayerNormalization", "Tanh", "Relu", "Sub", "Div"):
            earlier += [n for n in other.outputs if n not in node.inputs]
    if not earlier:
        return None
    return replace(node, inputs=[node.inputs[0], str(rng.choice(earlier[-6:]))])


def rotated_gates(node: Node, model: Model, rng: np.random.Generator) -> list[Node] | None:
    known, count = tensors(model.graph), {"LSTM": 4, "GRU": 3}.get(node.op_type, 0)
    if not count or any(name not in known for name in node.inputs[1:4]):
        return None
    nodes: list[Node] = []
    inputs = [*node.inputs]
    for place in (1, 2, 3):
        array = known[node.inputs[place]]
        halves = np.split(array, 2, 1) if place == 3 else [array]
        turned = []
        for half in halves:
            blocks = np.split(half, count, 1)
            turned.append(np.concatenate([blocks[1], blocks[0], *blocks[2:]], 1))
        inputs[place] = f"{node.outputs[0] or node.outputs[1]}.{place}.spoiled"
        nodes.append(Node("Constant", [], [inputs[place]], {"value": np.concatenate(turned, 1)}))
    return [*nodes, replace(node, inputs=inputs)]


def turned_r(node: Node, model: Model, rng: np.random.Generator) -> list[Node] | None:
    known, count = tensors(model.graph), {"LSTM": 4, "GRU": 3}.get(node.op_type, 1)
    if node.inputs[2] not in known:
        return None
    r = known[node.inputs[2]]
    blocks = r.reshape(len(r), count, r.shape[2], r.shape[2]).transpose(0, 1, 3, 2)
    return with_constant(node, model, 2, np.ascontiguousarray(blocks.reshape(r.shape)))


def backwards(node: Node, model: Model, rng: np.random.Generator) -> Node | None:
    if node.attributes.get("direction", "forward") == "bidirectional":
        return None
    return replace(node, attributes={**node.attributes, "direction": "reverse"})


def other_reset(node: Node, model: Model, rng: np.random.Generator) -> Node:
    now = node.attributes.get("linear_before_reset", 0)
    return replace(node, attributes={**node.attributes, "linear_before_reset": 1 - now})


def without_states(node: Node, model: Model, rng: np.random.Generator) -> Node | None:
    if len(node.inputs) < 6 or not node.inputs[5]:
        return None
    return replace(node, inputs=node.inputs[:5])


def without_lengths(node: Node, model: Model, rng: np.random.Generator) -> Node | None:
    if len(node.inputs) < 5 or not node.inputs[4]:
        return None
    return replace(node, inputs=[*node.inputs[:4], "", *node.inputs[5:]])


def summed(node: Node, model: Model, rng: np.random.Generator) -> list[Node] | Node:
    axes = node.attributes.get("axes")
    if axes is None or model.opset_imports[""] < 13:
        return replace(node, op_type="ReduceSum")
    rest = {key: value for key, value in node.attributes.items() if key != "axes"}
    name = f"{node.outputs[0]}.axes"
    constant = Node("Constant", [], [name], {"value": np.array(axes)})
    inputs = [node.inputs[0], name]
    return [constant, replace(node, op_type="ReduceSum", attributes=rest, inputs=inputs)]


RECURRENT = "LSTM GRU RNN"
CONSTANT = "off by one|other constant|order|shifted weights"
SCALED = "scale|scaled weights|other constant|epsilon"

WAYS = [
    # weights
    weights("a tensor in float16", "rounded weights", lambda a, r: np.float16(a), 64, (2, 3, 4)),
    weights("a tensor in bfloat16", "rounded weights", lambda a, r: bfloat16(a), 64, (2, 3, 4)),
    weights("a tensor in int8, by row", "rounded weights", lambda a, r: int8(a, True), 512, (2,)),
    every_weight("all weights in float16", "rounded weights", lambda a: a.astype(np.float16)),
    every_weight("all weights in bfloat16", "rounded weights", bfloat16),
    every_weight("all weights in int8", "rounded weights", int8),
    weights("NaN in a tensor", "not finite", lambda a, r: _placed(a, r, np.nan)),
    weights("infinity in a tensor", "not finite", lambda a, r: _placed(a, r, np.inf)),
    weights("byte-swapped", "byte-swapped", lambda a, r: a.byteswap(), 16),
    weights("a block of zeros", "zeroed weights", _zero_block, 64, (2, 3)),
    weights("all zeros", "zeroed weights|biases missing", lambda a, r: 0 * a),
    weights("rows in another order", "permuted units", _permuted_rows, 64, (2, 3)),
    weights("shifted by a row", "shifted weights|flipped weights", _shifted_rows, 64, (2,)),
    weights("the opposite sign", "scaled weights", lambda a, r: -a),
    weights("1.1 times too large", "scaled weights", lambda a, r: a * np.float32(1.1), 16),
    weights("an offset", "offset weights|scaled weights|biases wrong", _constant_bias, 16, (1,)),
    weights("another checkpoint's", "stale weights", _noisy, 16),
    weights("one row of another", "stale weights", _row_of_another, 64, (2, 3)),
    weights("a square matrix transposed", "transposed weights", _square, 64, (2,)),
    weights("transposed, of another shape", "transposed weights", _turned, 64, (2,)),
    weights("reshaped for transposed", "transposed weights", _reshaped, 64, (2,)),
    weights("halves exchanged", "blocks in another order|gate order", _halves, 64, (2, 3)),
    weights("a kernel reversed", "flipped weights", lambda a, r: a[..., ::-1], 24, (3, 4)),
    Way("two tensors exchanged", ("exchanged weights", "order of inputs"), exchanged_tensors),
    # recurrent layers
    nodes_of("gates in another order", "gate order", RECURRENT, rotated_gates),
    nodes_of("R transposed", "transposed weights", RECURRENT, turned_r),
    nodes_of("runs backwards", "reverse direction", RECURRENT, backwards),
    nodes_of("linear_before_reset", "linear_before_reset", "GRU", other_reset),
    nodes_of("initial state not used", "initial state", RECURRENT, without_states),
    nodes_of("lengths not used", "padding run through", RECURRENT, without_lengths),
    # attributes
    nodes_of("softmax over another axis", "axis", "Softmax LogSoftmax", other_axis),
    nodes_of("axes in another order", "order of axes", "Transpose", other_perm),
    nodes_of("epsilon", "epsilon", "BatchNormalization LayerNormalization", setting(epsilon=1e-2)),
    nodes_of("alpha", "alpha", "LeakyRelu Elu", setting(alpha=0.01)),
    nodes_of("padding on one side", "padding", "Conv MaxPool AveragePool", moved_pads),
    nodes_of("padding too long", "padding", "Conv MaxPool AveragePool", short_pads),
    nodes_of("dilation", "dilations", "Conv", other_dilation),
    nodes_of("mode of padding", "mode", "Pad", setting(mode="constant")),
    # operators
    nodes_of("Relu missing", "missing activation", "Relu LeakyRelu", becoming("Identity")),
    nodes_of("Tanh missing", "missing activation", "Tanh", becoming("Identity")),
    nodes_of("Sigmoid missing", "missing activation", "Sigmoid", becoming("Identity")),
    removed("Relu LeakyRelu Tanh Sigmoid Sqrt"),
    removed("LayerNormalization BatchNormalization InstanceNormalization", "normalization"),
    nodes_of("Relu for LeakyRelu", "other operator|alpha", "LeakyRelu", becoming("Relu")),
    nodes_of("Leaky for Relu", "other operator|alpha", "Relu", becoming("LeakyRelu", alpha=0.1)),
    nodes_of("Tanh for Sigmoid", "other operator", "Sigmoid", becoming("Tanh")),
    nodes_of("HardSigmoid for Sigmoid", "other operator", "Sigmoid", becoming("HardSigmoid")),
    nodes_of("Sigmoid for Tanh", "other operator", "Tanh", becoming("Sigmoid")),
    nodes_of("Sub for Add", "other operator|scale", "Add", becoming("Sub")),
    nodes_of("Add for Mul", "other operator", "Mul", becoming("Add")),
    nodes_of("Mul for Div", "other operator|scale", "Div", becoming("Mul")),
    nodes_of("sum for mean", "other operator|scale", "ReduceMean", summed),
    nodes_of("mean for max", "other operator", "MaxPool", becoming("AveragePool")),
    nodes_of("a Relu too many", "superfluous node", "Add", followed_by("Relu"), and_added),
    nodes_of("a Tanh too many", "superfluous node", "MatMul Gemm", followed_by("Tanh"), and_added),
    nodes_of("minuend for subtrahend", "order of inputs|scale", "Sub", exchanging(0, 1)),
    nodes_of("dividend for divisor", "order of inputs|other operator", "Div", exchanging(0, 1)),
    nodes_of("parts in another order", "order of inputs", "Concat", exchanging(0, 1)),
    nodes_of("another value", "exchanged values", "Add Mul", another_value),
    # small constants
    nodes_of("a slice begins late", CONSTANT, "Slice", number(1, lambda a: a + 1, "iu")),
    nodes_of("a slice ends early", CONSTANT, "Slice", number(2, lambda a: a - 1, "iu")),
    nodes_of("the next index", CONSTANT, "Gather", number(1, lambda a: a + 1, "iu")),
    nodes_of("an exponent", SCALED, "Pow", number(1, lambda a: a + 1)),
    nodes_of("ten times the factor", SCALED, "Mul Div", any_number(lambda a: a * 10)),
    nodes_of("a constant's square root", SCALED, "Mul Div", any_number(lambda a: abs(a) ** 0.5)),
    nodes_of("a limit", SCALED, "Clip", number(2, lambda a: a * 0.5)),
    nodes_of("epsilon as a constant", SCALED, "Add", any_number(lambda a: a * 1000)),
]  # fmt: skip
