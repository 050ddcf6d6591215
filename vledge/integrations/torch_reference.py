"""The reference of a file of weights: the recurrent layer that they make, run by torch."""

from __future__ import annotations

import os

import numpy as np

from vledge.errors import import_failure
from vledge.validation.reference.bundle import Reference
from vledge.validation.reference.prints import prints_of
from vledge.validation.running.model_file import layer_model, layer_weights, only_layer
from vledge.weights.plain import PlainWeights

__all__ = ["recorded_layer"]

SIZES = (3, 23)  # sequences and steps of the first run


def recorded_layer(
    path: str | os.PathLike[str], *, batch_first: bool = False, seed: int = 0
) -> Reference:
    """What torch's RNN, GRU or LSTM computes with a file's weights on random packed sequences.

    Inputs ``x`` and ``lengths``; outputs as torch's, and those of each layer.
    """
    held = layer_weights(path)
    # torch multiplies floats: those that small weights stand for
    weights = PlainWeights({name: np.asarray(held[name]) for name in held})
    layer = only_layer(weights)
    try:
        import torch

        from vledge.integrations.torch import recorded
    except ImportError as error:
        raise import_failure(
            error, "torch", "this reference needs torch: pip install torch"
        ) from error
    sequences, steps = SIZES
    generator = torch.Generator().manual_seed(seed)
    module = getattr(torch.nn, layer.kind)(
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        bias=layer.bias,
        bidirectional=layer.bidirectional,
        batch_first=batch_first,
        dtype=torch.from_numpy(next(iter(weights.values())).copy()).dtype,
    )
    own = {n.removeprefix(layer.prefix): torch.from_numpy(a.copy()) for n, a in weights.items()}
    module.load_state_dict(own)
    dtype = module.weight_ih_l0.dtype
    series = [
        torch.randn(steps - 5 * i, layer.input_size, generator=generator, dtype=dtype)
        for i in range(sequences)
    ]
    packed = torch.nn.utils.rnn.pack_sequence(series, enforce_sorted=False)
    model = layer_model(weights, batch_first, {"x", "lengths"})
    reference = recorded(module, packed, model, seed=seed)
    reference.prints = prints_of(model)
    return reference
