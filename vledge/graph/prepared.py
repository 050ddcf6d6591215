"""A node made runnable: its operator found, its attributes bound, its constant inputs taken."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vledge.errors import (
    LONGEST_MESSAGE,
    FormatError,
    LimitError,
    UnsupportedError,
    VledgeError,
    cut,
)
from vledge.graph.registry import Context, NodeFunction, SessionSettings, find, known_operators
from vledge.graph.values import Value, as_value
from vledge.model.definition import INTERNAL_DOMAIN, Graph, Node
from vledge.pieces import in_pieces

__all__ = ["Fallback", "Prepared", "blamed", "prepare", "several"]

_RANDOM = ("Bernoulli", "Multinomial")
#: Operators that the specification has for texts, too. To NumPy a tensor of texts is one of
#: Python's objects, and a text times 2^31 is a longer text.
_OF_TEXTS: Final = frozenset(
    """
    Cast CastLike CenterCropPad Compress Concat ConcatFromSequence Constant DepthToSpace Dropout
    Equal Expand Flatten Gather GatherElements GatherND Identity If Loop NonZero OneHot Optional
    OptionalGetElement OptionalHasElement Pad Reshape ReverseSequence Scan Scatter ScatterElements
    ScatterND SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength
    SequenceMap Shape Size Slice SpaceToDepth Split SplitToSequence Squeeze TensorScatter Tile
    Transpose Trilu Unique Unsqueeze Where
    """.split()  # noqa: SIM905
)
#: ai.onnx.ml's, in the same way.
_OF_TEXTS_IN_TABLES: Final = frozenset(["ArrayFeatureExtractor", "LabelEncoder", "OneHotEncoder"])
# What to do about operators that exporters write unless they are told not to.
_INSTEAD: Final = {
    ("ai.onnx.ml", "ZipMap"): "a list of maps is no array: export the classifier without it "
    "(skl2onnx: options={'zipmap': False}), and its probabilities are one"
}
Fallback = Callable[[Node, int], NodeFunction]  # (node, opset) -> a function that runs it


@dataclass(frozen=True)
class Prepared:
    """A node's function, and the inputs of which it has kept what it needs."""

    function: NodeFunction
    foldable: bool
    released: frozenset[int]
    output_count: int
    of_texts: bool

    def call(self, *arguments: Value) -> list[Value]:
        """Run it: one array for each output that the node has."""
        return several(self.checked(*arguments), self.output_count)

    @property
    def checked(self) -> NodeFunction:
        """The function; ValueError for texts where it is one of numbers."""
        return self.function if self.of_texts else _of_numbers(self.function)


def prepare(
    node: Node,
    opsets: Mapping[str, int],
    constants: Mapping[str, np.ndarray],
    *,
    options: SessionSettings,
    fallback: Fallback | None = None,
) -> Prepared:
    """Make a node runnable; UnsupportedError or FormatError naming the node where it is not."""
    internal = node.domain == INTERNAL_DOMAIN  # of one version, whatever a file says it imports
    opset = 1 if internal else opsets.get(node.domain, 1)
    known = tuple(constants.get(name) if name else None for name in node.inputs)
    context = Context(node, opset, known, options)
    try:
        if node.domain not in opsets and not internal:
            raise FormatError(f"the model imports no operator set {node.domain or 'ai.onnx'!r}")
        entry = find(node.op_type, node.domain, opset)
        if entry is None:
            raise UnsupportedError(_why_not(node, opset))
        attributes = {k: v for k, v in entry.bind(node).items() if not isinstance(v, Graph)}
        function = entry.function
        if entry.is_factory:
            function = function(context, **attributes)
        else:
            if entry.wants_context:
                attributes["context"] = context
            if attributes:
                function = functools.partial(function, **attributes)
        if entry.pointwise:
            function = in_pieces(function)
    except UnsupportedError as error:
        if fallback is None or any(node.subgraphs()):
            raise blamed(error, node, UnsupportedError) from None
        foldable = not node.op_type.startswith("Random") and node.op_type not in _RANDOM
        function = _fallen_back(fallback, node, opset)
        return Prepared(function, foldable, frozenset(), len(node.outputs), True)
    except Exception as error:
        raise blamed(error, node, FormatError) from error
    names = {"": _OF_TEXTS, "ai.onnx.ml": _OF_TEXTS_IN_TABLES}.get(node.domain, frozenset())
    of_texts = node.op_type in names
    return Prepared(
        function, entry.foldable, frozenset(context.released), len(node.outputs), of_texts
    )


def _of_numbers(function: NodeFunction) -> NodeFunction:
    def run(*arguments: Any, **bodies: Any) -> Any:
        for place, given in enumerate(arguments):
            if isinstance(given, np.ndarray) and given.dtype.char == "O":
                raise ValueError(f"input {place} is a tensor of texts, expected numbers")
        return function(*arguments, **bodies)

    return run


def _fallen_back(fallback: Fallback, node: Node, opset: int) -> NodeFunction:
    try:
        return fallback(node, opset)
    except Exception as error:
        raise blamed(error, node, UnsupportedError) from error


def blamed(error: Exception, node: Node, otherwise: type[Exception], where: str = "") -> Exception:
    """The same error with the node's name; of the type ``otherwise`` where it is a raw one."""
    for kind in (LimitError, FormatError, UnsupportedError, MemoryError):  # not NumPy's own
        if isinstance(error, kind):
            named = str(error).startswith(str(node))  # as a fallback of the user's may have done
            what = str(error) or "not enough memory"
            return kind(f"{where}{what}" if named else f"{where}{node}: {what}")
    if isinstance(error, VledgeError):
        return error  # of the installation, not of the node
    # NumPy's ValueErrors are sentences, but "'int' object is not iterable" is none
    what = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
    what = cut(what, LONGEST_MESSAGE)
    return otherwise(f"{where}{node}: {what}")


def several(result: object, count: int) -> list[Value]:
    """As many arrays as a node has outputs; an operator may have made more of them."""
    if not isinstance(result, (tuple, list)):
        result = (result,)
    if len(result) < count:
        raise ValueError(f"{count} outputs are asked for, the operator has {len(result)}")
    # None stands for an output that the node does not name
    return [as_value(item) for item in result[:count]]


def _why_not(node: Node, opset: int) -> str:
    versions = known_operators().get((node.domain, node.op_type))
    if versions is None:
        return _INSTEAD.get((node.domain, node.op_type), "the operator is not supported")
    ranges = ", ".join(f"{v.since} to {v.until}" if v.until else f"{v.since} up" for v in versions)
    return f"the operator is not supported in operator set {opset} (but in {ranges})"
