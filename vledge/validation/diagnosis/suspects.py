"""The usual ways in which a recurrent layer goes wrong on its way from one framework to another.

Each suspect looks at a recurrent node and offers variants of it: nodes to put in its place, in
which one particular mistake is undone. Whichever variant agrees with the reference tells what the
mistake was. Gates stand in ONNX's order in a node: z, r, h and i, o, f, c; here by torch's letters.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from vledge.model.definition import Node
from vledge.recurrent.cells import KINDS, OPERATORS

__all__ = ["Layer", "Variant", "variants"]

# whose order of gates is what: the wrong order is named by these where it can be
_MAKERS: Final[tuple[str, ...]] = ("ONNX", "PyTorch", "TensorFlow", "Caffe")
_ORDERS: Final[dict[str, dict[str, str]]] = {
    name: {
        maker: KINDS[name].letters(maker)
        for maker in _MAKERS
        if len(KINDS[name].gates) > 1 and maker in ("PyTorch", *KINDS[name].orders)
    }
    for name in OPERATORS
}
_LETTERS: Final = {  # as each framework writes them
    ("ONNX", "LSTM"): "i,o,f,c",
    ("ONNX", "GRU"): "z,r,h",
    ("PyTorch", "LSTM"): "i,f,g,o",
    ("PyTorch", "GRU"): "r,z,n",
    ("TensorFlow", "LSTM"): "i,j,f,o",
    ("Caffe", "LSTM"): "i,f,o,g",
}


@dataclass
class Layer:
    """A recurrent node, its weights, and what lies about that it could have been given."""

    node: Node
    w: np.ndarray  # [D, gates * H, I]
    r: np.ndarray  # [D, gates * H, H]
    b: np.ndarray | None  # [D, 2 * gates * H]
    lengths: str = ""  #: the name of an input with the reference's lengths
    spare: dict[str, tuple[int, ...]] = field(default_factory=dict)  #: the model's inputs → shape
    sequences: int = 0
    position: int = 0  #: among the model's recurrent nodes, for states stacked by layer

    @property
    def kind(self) -> str:
        return self.node.op_type

    @property
    def gates(self) -> str:
        return KINDS[self.kind].letters("ONNX")

    @property
    def hidden_size(self) -> int:
        return int(self.r.shape[2])

    def input(self, index: int) -> str:
        return self.node.inputs[index] if index < len(self.node.inputs) else ""


@dataclass
class Variant:
    """One mistake undone. ``name`` is the kind of mistake, ``text`` the sentence for people."""

    name: str
    text: str
    nodes: list[Node]
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    gates: str = ""  #: the gates that are wrong, where it is not all of them

    @property
    def key(self) -> str:
        """Tells the variants of a layer apart, and finds the same ones on another layer."""
        return f"{self.name}: {self.text}"


Suspect = Callable[[Layer], Iterator[Variant]]


def variants(layer: Layer) -> Iterator[Variant]:
    """All variants, the commonest mistakes first."""
    for suspect in _SUSPECTS:
        yield from suspect(layer)


def reweighted(
    layer: Layer,
    name: str,
    text: str,
    w: np.ndarray | None = None,
    r: np.ndarray | None = None,
    b: np.ndarray | None = None,
    gates: str = "",
) -> Variant:
    """The node with other weights; those not given stay."""
    own = layer.node.outputs[0]
    inputs = [*layer.node.inputs, *[""] * (4 - len(layer.node.inputs))]
    constants = {}
    for index, letter, array in ((1, "W", w), (2, "R", r), (3, "B", b)):
        if array is not None:
            inputs[index] = f"{own}.{letter}"
            constants[inputs[index]] = np.ascontiguousarray(array)
    return Variant(name, text, [replace(layer.node, inputs=inputs)], constants, gates)


def _gate_order(layer: Layer) -> Iterator[Variant]:
    read = layer.gates
    parts = {"weights and biases": "WRB", "weights": "WR", "biases": "B", "W": "W", "R": "R"}
    if layer.b is None:
        parts = {"weights and biases": "WR", "W": "W", "R": "R"}
    for where, letters in parts.items():
        for order in itertools.permutations(range(len(read))):
            if list(order) == sorted(order):
                continue
            # block order[k] of the file holds the gate read[k]
            really = {read[order[k]]: read[k] for k in range(len(read))}
            wrong = "".join(gate for gate in read if really[gate] != gate)
            text = _order_text(layer.kind, really)
            if where != "weights and biases":
                text += f" (in the {where} alone)"
            yield reweighted(
                layer,
                "gate order",
                text,
                _permuted(layer.w, order) if "W" in letters else None,
                _permuted(layer.r, order) if "R" in letters else None,
                _permuted_bias(layer.b, order) if "B" in letters and layer.b is not None else None,
                wrong,
            )


def _order_text(kind: str, really: dict[str, str]) -> str:
    """The pair of frameworks, one's order read as the other's, that this mistake is."""
    for (maker, true), (reader, believed) in itertools.permutations(_ORDERS[kind].items(), 2):
        if all(really[b] == t for b, t in zip(believed, true, strict=True)):
            true_letters, read_letters = _LETTERS[maker, kind], _LETTERS[reader, kind]
            return f"gates in {maker} order ({true_letters}) read as {reader}'s ({read_letters})"
    pairs = ", ".join(f"{gate} is really {true}" for gate, true in really.items() if gate != true)
    return f"gates in another order: {pairs}"


def _permuted(array: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """[D, gates * H, …] with its blocks of gates in that order."""
    blocks = np.split(array, len(order), axis=1)
    return np.concatenate([blocks[k] for k in order], axis=1)


def _permuted_bias(b: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([_permuted(half, order) for half in np.split(b, 2, axis=1)], axis=1)


def _linear_before_reset(layer: Layer) -> Iterator[Variant]:
    if layer.kind != "GRU":
        return
    now = int(layer.node.attributes.get("linear_before_reset", 0))
    attributes = {**layer.node.attributes, "linear_before_reset": 1 - now}
    text = f"linear_before_reset is {now}, the reference has {1 - now}"
    text += " (PyTorch's and Keras's reset_after=True)" if now == 0 else " (ONNX's default)"
    yield Variant(
        "linear_before_reset", text, [replace(layer.node, attributes=attributes)], {}, "n"
    )


def _biases_swapped(layer: Layer) -> Iterator[Variant]:
    if layer.b is not None:
        swapped = np.roll(layer.b, layer.b.shape[1] // 2, axis=1)
        text = "the biases of input and recurrent weights are swapped"
        yield reweighted(layer, "biases swapped", text, b=swapped)


def _transposed(layer: Layer) -> Iterator[Variant]:
    count, size = len(layer.gates), layer.hidden_size
    directions, rows, features = layer.w.shape

    def each_gate(array: np.ndarray) -> np.ndarray:
        blocks = array.reshape(directions, count, size, -1)
        turned: np.ndarray = blocks.transpose(0, 1, 3, 2).reshape(array.shape)
        return turned

    name = "transposed weights"
    r = each_gate(layer.r)
    yield reweighted(layer, name, "the recurrent weights R are transposed, gate by gate", r=r)
    if features == size:
        w = each_gate(layer.w)
        yield reweighted(layer, name, "the input weights W are transposed, gate by gate", w=w)
        yield reweighted(layer, name, "W and R are transposed, gate by gate", w=w, r=r)
    for maker, letters in (_ORDERS[layer.kind] or {"": layer.gates}).items():
        # the reshape came first, with the gates in that framework's order, then the reordering
        to_theirs = tuple(layer.gates.index(gate) for gate in letters)
        back = tuple(letters.index(gate) for gate in layer.gates)

        def reshaped(
            array: np.ndarray,
            there: tuple[int, ...] = to_theirs,
            back: tuple[int, ...] = back,
        ) -> np.ndarray:
            theirs = _permuted(array, there)
            turned = theirs.reshape(directions, array.shape[2], rows).transpose(0, 2, 1)
            return _permuted(turned, back)

        how = "transposed: reshaped where rows and columns should have been exchanged"
        how += f" (with the gates in {maker} order)" if maker else ""
        w, r = reshaped(layer.w), reshaped(layer.r)
        yield reweighted(layer, name, f"the recurrent weights R are {how}", r=r)
        yield reweighted(layer, name, f"the input weights W are {how}", w=w)
        yield reweighted(layer, name, f"W and R are {how}", w=w, r=r)


def _direction(layer: Layer) -> Iterator[Variant]:
    node, name = layer.node, "reverse direction"
    direction = node.attributes.get("direction", "forward")
    if direction == "bidirectional":
        b = None if layer.b is None else layer.b[::-1]
        text = "the weights of the forward and the reverse direction are swapped"
        yield reweighted(layer, name, text, layer.w[::-1], layer.r[::-1], b)
        yield _flipped(layer, 2 if _batch_first(node) else 1, name, "outputs swapped: directions")
        return
    other = {"forward": "reverse", "reverse": "forward"}[direction]
    attributes = {**node.attributes, "direction": other}
    text = f"the layer runs {direction}, the reference {other}"
    yield Variant(name, text, [replace(node, attributes=attributes)])
    text = "the output is in the other order of time"
    yield _flipped(layer, 1 if _batch_first(node) else 0, name, text)


def _flipped(layer: Layer, axis: int, name: str, text: str) -> Variant:
    """Y in reverse along an axis."""
    y = layer.node.outputs[0]
    inner = f"{y}.unflipped"
    constants = {
        f"{y}.last": np.array([-1]),
        f"{y}.end": np.array([-(2**31)]),
        f"{y}.axis": np.array([axis]),
    }
    flip = Node("Slice", [inner, *constants, f"{y}.last"], [y])
    run = replace(layer.node, outputs=[inner, *layer.node.outputs[1:]])
    return Variant(name, text, [run, flip], constants)


def _batch_first(node: Node) -> bool:
    return bool(node.attributes.get("layout", 0))


def _axes_swapped(layer: Layer) -> Iterator[Variant]:
    """batch_first: the axes of time and batch are each other's."""
    node, y = layer.node, layer.node.outputs[0]
    x = f"{y}.X"
    turn = Node("Transpose", [node.inputs[0]], [x], {"perm": [1, 0, 2]})
    text = "batch_first: the input's axes of time and batch are swapped"
    inputs = [x, *node.inputs[1:]]
    yield Variant("batch_first", text, [turn, replace(node, inputs=inputs)])
    inner = f"{y}.turned"
    perm = [1, 0, 2, 3] if _batch_first(node) else [2, 1, 0, 3]
    back = Node("Transpose", [inner], [y], {"perm": perm})
    run = replace(node, inputs=inputs, outputs=[inner, *node.outputs[1:]])
    text = "batch_first: the axes of time and batch are swapped, in the input and in the output"
    yield Variant("batch_first", text, [turn, run, back])


def _states_swapped(layer: Layer) -> Iterator[Variant]:
    node, name = layer.node, "h and c swapped"
    if layer.kind != "LSTM":
        return
    given, made = layer.input(5) and layer.input(6), len(node.outputs) == 3
    inputs, outputs = [*node.inputs], [*node.outputs]
    if given:
        inputs[5:7] = inputs[6], inputs[5]
        text = "the initial states h and c are swapped"
        yield Variant(name, text, [replace(node, inputs=inputs)])
    if made:
        outputs[1:3] = outputs[2], outputs[1]
        text = "the final states h and c are swapped"
        yield Variant(name, text, [replace(node, outputs=outputs)])
    if given and made:
        text = "h and c are swapped, in the initial and in the final states"
        yield Variant(name, text, [replace(node, inputs=inputs, outputs=outputs)])


def _initial_state(layer: Layer) -> Iterator[Variant]:
    node, name = layer.node, "initial state"
    inputs = [*node.inputs, *[""] * (7 - len(node.inputs))]
    if inputs[5] or inputs[6]:
        text = "the layer begins in a state, the reference in zeros"
        yield Variant(name, text, [replace(node, inputs=inputs[:5])])
        if len(layer.w) == 2:
            yield _states_flipped(layer, inputs)
    wanted = 2 if layer.kind == "LSTM" else 1
    for chosen in itertools.permutations(layer.spare, wanted):
        taken = [_own_rows(layer, name) for name in chosen]
        nodes = [made for made, _ in filter(None, taken)]
        if len(nodes) == wanted:
            text = f"the initial state {' and '.join(chosen)} is given but not used"
            states = [made.outputs[0] for made in nodes]
            run = replace(node, inputs=[*inputs[:5], *states, *inputs[5 + wanted :]])
            constants = {k: v for _, more in filter(None, taken) for k, v in more.items()}
            yield Variant(name, text, [*nodes, run], constants)


def _own_rows(layer: Layer, name: str) -> tuple[Node, dict[str, np.ndarray]] | None:
    """A layer's rows of an input that could hold the states of all layers, or None."""
    shape, count = layer.spare[name], len(layer.w)
    rows = shape[0] if len(shape) == 3 else 0
    if shape != (rows, layer.sequences, layer.hidden_size) or _batch_first(layer.node):
        return None
    first = layer.position * count
    if first + count > rows:
        return None
    y = layer.node.outputs[0]
    constants = {f"{y}.first": np.array([first]), f"{y}.end": np.array([first + count])}
    return Node("Slice", [name, *constants], [f"{y}.from.{name}"]), constants


def _states_flipped(layer: Layer, inputs: list[str]) -> Variant:
    y = layer.node.outputs[0]
    index = f"{y}.exchanged"
    nodes, inputs = [], [*inputs]
    axis = 1 if _batch_first(layer.node) else 0
    for place in (5, 6):
        if inputs[place]:
            made = f"{y}.state{place}"
            nodes.append(Node("Gather", [inputs[place], index], [made], {"axis": axis}))
            inputs[place] = made
    text = "the initial states of the two directions are swapped"
    run = replace(layer.node, inputs=inputs)
    return Variant("initial state", text, [*nodes, run], {index: np.array([1, 0])})


def _padding(layer: Layer) -> Iterator[Variant]:
    node, name = layer.node, "padding run through"
    inputs = [*node.inputs, *[""] * (5 - len(node.inputs))]
    if layer.lengths and inputs[4] != layer.lengths:
        made = f"{node.outputs[0]}.lengths"
        cast = Node("Cast", [layer.lengths], [made], {"to": 6})
        text = "the lengths are not used: the layer runs on through the padding"
        run = replace(node, inputs=[*inputs[:4], made, *inputs[5:]])
        yield Variant(name, text, [cast, run])
    if inputs[4]:
        text = "the layer stops at the lengths, the reference ran on through the padding"
        yield Variant(name, text, [replace(node, inputs=[*inputs[:4], "", *inputs[5:]])])


def _other_equations(layer: Layer) -> Iterator[Variant]:
    node, name = layer.node, "equations"
    count = len(layer.w)
    if layer.kind == "RNN":
        now = node.attributes.get("activations", ["Tanh"])[0]
        other = "Relu" if now.lower() == "tanh" else "Tanh"
        attributes = {**node.attributes, "activations": [other] * count}
        text = f"the activation is {now}, the reference has {other}"
        yield Variant(name, text, [replace(node, attributes=attributes)])
        return
    hard = ["HardSigmoid", "Tanh", "Tanh"] if layer.kind == "LSTM" else ["HardSigmoid", "Tanh"]
    attributes = {**node.attributes, "activations": hard * count}
    text = "the reference's gates have a hard sigmoid (Keras's recurrent_activation)"
    yield Variant(name, text, [replace(node, attributes=attributes)])
    if layer.kind == "GRU":
        sign = np.repeat([-1.0, 1.0, 1.0], layer.hidden_size)
        b = None if layer.b is None else layer.b * np.tile(sign, 2)
        text = "the update gate is the other way round: z for 1 - z"
        yield reweighted(
            layer, name, text, layer.w * sign[:, None], layer.r * sign[:, None], b, "z"
        )
    elif layer.b is not None:
        size = layer.hidden_size
        for more, text in (
            (1.0, "the forget gate's bias lacks 1 (TensorFlow's forget_bias)"),
            (-1.0, "the forget gate's bias has 1 too much (TensorFlow's forget_bias)"),
        ):
            b = layer.b.copy()
            b[:, 2 * size : 3 * size] += more
            yield reweighted(layer, "forget bias", text, b=b, gates="f")


_SUSPECTS: Final[tuple[Suspect, ...]] = (
    _linear_before_reset,
    _biases_swapped,
    _padding,
    _states_swapped,
    _initial_state,
    _direction,
    _axes_swapped,
    _transposed,
    _other_equations,
    _gate_order,
)
