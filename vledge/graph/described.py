"""What a session says of its model: inputs and outputs, and who made the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vledge.model.definition import Model, ValueInfo
from vledge.model.element_types import DTYPES
from vledge.shown import listed

__all__ = [
    "ModelMetadata",
    "NodeArg",
    "describe_input",
    "describe_model",
    "shown_session",
    "shown_shape",
]


@dataclass(frozen=True)
class NodeArg:
    """An input or output: its name, its type as ``tensor(float)``, and its shape.

    An axis of the shape is an int, the name of a symbol, or None where the file does not say.
    """

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True)
class ModelMetadata:
    """What the file says of itself."""

    producer_name: str
    producer_version: str
    graph_name: str
    domain: str
    description: str
    version: int
    opset_imports: dict[str, int]
    custom_metadata_map: dict[str, str] = field(default_factory=dict, repr=False)


def describe_input(info: ValueInfo) -> NodeArg:
    """An input or output as onnxruntime describes it."""
    kind = f"tensor({info.type})" if info.type in DTYPES else info.type
    return NodeArg(info.name, kind, list(info.shape or ()))


def describe_model(model: Model) -> ModelMetadata:
    """Who made the model, with which tools and operator sets."""
    return ModelMetadata(
        model.producer_name,
        model.producer_version,
        model.graph.name,
        model.domain,
        model.doc_string,
        model.model_version,
        dict(model.opset_imports),
        dict(model.metadata),
    )


def shown_shape(shape: Sequence[int | str | None]) -> str:
    """Sizes, names of symbols, and ? for what the file does not say."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def shown_session(where: str, inputs: Sequence[NodeArg], outputs: Sequence[NodeArg]) -> str:
    """A session's ``repr``: its file, its inputs and its outputs."""

    def told(infos: Sequence[NodeArg]) -> str:
        kinds = (i.type.removeprefix("tensor(").removesuffix(")") for i in infos)
        pairs = zip(infos, kinds, strict=True)
        return listed(f"{i.name} {kind} {shown_shape(i.shape)}" for i, kind in pairs)

    name = f"{where.removesuffix(': ')!r}" if where else "a model"
    return f"InferenceSession({name}:\n  {told(inputs) or 'nothing'}\n  -> {told(outputs)})"
