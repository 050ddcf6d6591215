"""The table of cells: what the rest of vledge has to know of an RNN, GRU, LSTM or IndRNN.

A *kind* is a family of equations under torch's and ONNX's name for it: how many gates its weights
have and in whose order, which states go from step to step, which activations stand in it. A *cell*
is one compiled form of a kind, by the kernels' name. Nothing is imported here, so files' readers,
operators and planners may all ask. What the kernels compute is in ``ext/simd/recurrent/``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CELLS", "KINDS", "OPERATORS", "Cell", "Kind", "gate_order", "in_order", "kind_of"]


class Kind(NamedTuple):
    """A family of cells. Gates are written with torch's letters."""

    name: str  #: of torch's class and, IndRNN apart, of ONNX's operator
    gates: str  #: a letter for each block of rows in the weights, in torch's order
    states: str  #: a letter for each state that goes from step to step
    activations: tuple[str, ...]  #: of the equations, as ONNX lists them
    orders: dict[str, str]  #: whose file → the gates in its order; torch's is ``gates``
    projects: bool = False  #: whether the output may be projected: torch's proj_size
    independent: bool = False  #: each unit sees its own past only: weight_hh is a vector

    @property
    def key(self) -> str:
        """The name in lower case: of its cells and of their costs."""
        return self.name.lower()

    def letters(self, maker: str) -> str:
        """The gates in the order of PyTorch, ONNX, Keras, OpenVINO, ncnn, TensorFlow or Caffe."""
        return self.gates if maker == "PyTorch" else self.orders[maker]

    def shapes(
        self, input_size: int, hidden_size: int, bias: bool = True, proj_size: int = 0
    ) -> dict[str, tuple[int, ...]]:
        """Of one direction's weights, by torch's names without their suffix."""
        rows = len(self.gates) * hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows,) if self.independent else (rows, proj_size or hidden_size),
        }
        if bias:
            shapes["bias_ih"] = (rows,)
        if bias and not self.independent:
            shapes["bias_hh"] = (rows,)
        if proj_size:
            shapes["weight_hr"] = (proj_size, hidden_size)
        return shapes


class Cell(NamedTuple):
    """One compiled form of a kind."""

    name: str  #: the kernels'
    kind: Kind
    replaced: int  #: how many of its activations a layer may replace by others

    @property
    def gates(self) -> int:
        """Blocks of rows in the weights."""
        return len(self.kind.gates)

    @property
    def states(self) -> str:
        """``h``, or ``hc`` where a cell state goes along."""
        return self.kind.states


# Sources: torch.nn.modules.rnn; Operators.md; keras.src.layers.rnn, whose CuDNN layers are torch's;
# OpenVINO's LSTMSequence and GRUSequence; ncnn's lstm.cpp and gru.cpp; tf.nn.rnn_cell.LSTMCell
# (i, j, f, o); Caffe's LSTM layer. ONNX, Keras and OpenVINO write c, j or h for the candidate.
KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind(
            "RNN",
            "h",
            "h",
            ("tanh",),
            dict.fromkeys(("ONNX", "Keras", "OpenVINO", "ncnn", "TensorFlow", "Caffe"), "h"),
        ),
        Kind(
            "GRU",
            "rzn",
            "h",
            ("sigmoid", "tanh"),
            {"ONNX": "zrn", "Keras": "zrn", "OpenVINO": "zrn", "ncnn": "rzn"},
        ),
        Kind(
            "LSTM",
            "ifgo",
            "hc",
            ("sigmoid", "tanh", "tanh"),
            {
                "ONNX": "iofg",
                "Keras": "ifgo",
                "OpenVINO": "figo",
                "ncnn": "ifog",
                "TensorFlow": "igfo",
                "Caffe": "ifog",
            },
            projects=True,
        ),
        Kind("IndRNN", "h", "h", ("relu",), {}, independent=True),
    )
}

CELLS: Final[dict[str, Cell]] = {
    cell.name: cell
    for cell in (
        Cell("lstm", KINDS["LSTM"], 3),
        Cell("gru", KINDS["GRU"], 2),
        Cell("gru_reset_before", KINDS["GRU"], 2),  # the reset gate acts before the product
        Cell("rnn_tanh", KINDS["RNN"], 0),
        Cell("rnn_relu", KINDS["RNN"], 0),
        Cell("rnn", KINDS["RNN"], 1),
        Cell("indrnn_tanh", KINDS["IndRNN"], 0),
        Cell("indrnn_relu", KINDS["IndRNN"], 0),
    )
}

#: The kinds that are operators of ONNX.
OPERATORS: Final = tuple(kind.name for kind in KINDS.values() if "ONNX" in kind.orders)


def kind_of(key: str) -> Kind:
    """The kind of a cell's name, or of a kind's own in lower case: ``lstm``, ``indrnn``."""
    return _BY_KEY[key.partition("_")[0]]


_BY_KEY: Final = {kind.key: kind for kind in KINDS.values()}


def gate_order(kind: str, source: str, target: str) -> tuple[int, ...]:
    """For each gate in the target's order, its place in the source's.

    >>> gate_order("LSTM", "ONNX", "PyTorch")
    (0, 2, 3, 1)
    """
    letters = KINDS[kind].letters(source)
    return tuple(letters.index(gate) for gate in KINDS[kind].letters(target))


def in_order(kind: str, array: np.ndarray, source: str, target: str) -> np.ndarray:
    """Weights or a bias ``[gates * H, …]``, a copy with its blocks of rows in another order."""
    order = gate_order(kind, source, target)
    blocks = array.reshape(len(order), -1, *array.shape[1:])
    return blocks[list(order)].reshape(array.shape)
