"""What a session says of its model: inputs and outputs, and who made the file."""

from __future__ import annotations

from dataclasses import dataclass, field

from vledge.model.definition import Model, ValueInfo
from vledge.model.element_types import DTYPES

__all__ = ["ModelMetadata", "NodeArg", "describe_input", "describe_model"]


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
    custom_metadata_map: dict[str, str] = field(default_factory=dict)


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
