"""The outputs of every layer of a torch module's recurrent layers, as ONNX's nodes give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.utils import rnn as packing

from vledge.errors import UnsupportedError
from vledge.integrations.torch_module import Flat, Sized, doubled, in_double, run
from vledge.model.definition import Model
from vledge.validation.reference.bundle import Reference
from vledge.validation.running.layers import is_recurrent, layer_axes, layer_outputs, named_outputs

__all__ = ["add_layers", "layer_values"]


def add_layers(flat: Flat, model: Model, cases: list[Sized], reference: Reference) -> None:
    """Record every recurrent layer's outputs under the names that they have in the graph.

    Those of layers whose sequences the graph sorts have no axis of the batch: their rows are not
    the batch's rows.
    """
    moved: set[str] = set()
    for precise in (False, True):
        if precise and reference.loss:
            continue
        runner = in_double(flat) if precise else flat
        for case, recorded_case in zip(cases, reference.cases, strict=True):
            inputs = doubled(case.inputs) if precise else case.inputs
            target = recorded_case.exact if precise else recorded_case.outputs
            target |= layer_values(runner, model, inputs, case.steps, moved)
    reference.layers = layer_outputs(model)
    for name, axes in layer_axes(model).items():
        own = {key: axis for key, axis in axes.items() if name not in moved or key != "batch"}
        reference.axes[name] = own


def layer_values(
    flat: Flat,
    model: Model,
    inputs: Mapping[str, torch.Tensor],
    steps: int,
    moved: set[str] | None = None,
) -> dict[str, np.ndarray]:
    """The outputs of every recurrent layer in one run, by their names in the graph.

    Those whose sequences the graph sorts are as it has them, and their names go into ``moved``.
    """
    nodes = [node for node in model.graph.nodes if is_recurrent(node)]
    names = [named_outputs(node.outputs) for node in nodes]
    made = _layers(flat, inputs, steps)
    if len(made) != len(names):
        raise UnsupportedError(
            f"the module runs {len(made)} recurrent layers, its graph has {len(names)} "
            "recurrent nodes: export without layers"
        )
    values_by_name: dict[str, np.ndarray] = {}
    for outputs, (values, in_order) in zip(names, made, strict=True):
        if moved is not None and not in_order:
            moved.update(outputs)
        values_by_name |= {name: a for name, a in zip(outputs, values, strict=False) if name}
    return values_by_name


def _layers(
    flat: Flat, inputs: Mapping[str, torch.Tensor], steps: int
) -> list[tuple[tuple[np.ndarray, ...], bool]]:
    """(Y [T, D, B, H], Y_h [D, B, H], Y_c) of each layer of each recurrent module, as they ran.

    With each, whether the sequences stand in the batch's order.
    """
    calls: list[tuple[torch.nn.RNNBase, tuple[object, ...], dict[str, object]]] = []

    def note(module: Any, arguments: Any, named: Any, result: Any) -> None:
        calls.append((module, arguments, named))

    hooks = [m.register_forward_hook(note, with_kwargs=True) for m in flat.recurrent]
    try:
        run(flat, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    layers = []
    with torch.no_grad():
        for module, arguments, named in calls:
            x, hx, *_ = (*arguments, *named.values(), None)
            if isinstance(x, torch.Tensor):
                if x.ndim == 2:
                    raise UnsupportedError(
                        "layers=True wants a batch in the module's inputs, [B, T, features]: a "
                        "layer of it gets two axes"
                    )
                x = x.transpose(0, 1) if module.batch_first else x
            order = None if flat.packed else _order_in_graph(x)
            for number in range(module.num_layers):
                layer, states = _one_layer(module, hx, number)
                x, final = layer(x, states)
                layers.append((_in_onnx_layout(x, final, layer, steps, order), order is None))
    return layers


def _order_in_graph(x: Any) -> torch.Tensor | None:
    """The sequences' order in a graph that sorts them: longest first, and of equals the first.

    That is ONNX's rule, for the node that ``pack_padded_sequence(enforce_sorted=False)`` becomes;
    torch's own order of equal lengths differs from CPU to CPU.
    """
    if isinstance(x, torch.Tensor) or x.sorted_indices is None:
        return None
    _, lengths = packing.pad_packed_sequence(x)
    return torch.sort(lengths, descending=True, stable=True).indices


def _one_layer(module: torch.nn.RNNBase, hx: Any, number: int) -> tuple[torch.nn.RNNBase, Any]:
    """One layer of a stack as a module of its own, and its rows of the initial state."""
    directions = 2 if module.bidirectional else 1
    width = module.input_size if number == 0 else directions * module.hidden_size
    options = {"nonlinearity": module.nonlinearity} if isinstance(module, torch.nn.RNN) else {}
    # a class of torch's own: neither parametrised nor a model's, whose arguments may be others
    kind: Any = next(k for k in type(module).__mro__ if k.__module__ == torch.nn.LSTM.__module__)
    layer = kind(
        width,
        module.hidden_size,
        bias=module.bias,
        bidirectional=module.bidirectional,
        dtype=module.weight_ih_l0.dtype,
        **options,
    ).eval()
    for name in list(layer._parameters):
        source = getattr(module, name.replace("_l0", f"_l{number}"))
        getattr(layer, name).copy_(source)
    if hx is None:
        return layer, None
    rows = slice(number * directions, (number + 1) * directions)
    return layer, tuple(s[rows] for s in hx) if isinstance(hx, tuple) else hx[rows]


def _in_onnx_layout(
    x: Any, final: Any, layer: torch.nn.RNNBase, steps: int, order: torch.Tensor | None
) -> tuple[np.ndarray, ...]:
    if isinstance(x, packing.PackedSequence):
        x, _ = packing.pad_packed_sequence(x, total_length=steps or None)
    y = x.reshape(*x.shape[:2], -1, layer.hidden_size).permute(0, 2, 1, 3)
    states = final if isinstance(final, tuple) else (final,)
    if order is not None:
        y, states = y[:, :, order], tuple(state[:, order] for state in states)
    return tuple(tensor.contiguous().numpy() for tensor in (y, *states))
