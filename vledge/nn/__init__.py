"""Layers with torch.nn's names, arguments and weights, on NumPy arrays; inference only."""

from importlib import import_module
from typing import TYPE_CHECKING

from vledge.nn.module import Module, Parameter
from vledge.nn.recurrent import GRU, LSTM, RNN
from vledge.recurrent.recognize import RecurrentLayer, recognize

if TYPE_CHECKING:
    from vledge.nn import functional, utils
    from vledge.nn.activation import (
        ELU,
        GELU,
        Flatten,
        Hardsigmoid,
        Hardtanh,
        LeakyReLU,
        LogSoftmax,
        PReLU,
        ReLU,
        ReLU6,
        Sigmoid,
        SiLU,
        Softmax,
        Softplus,
        Tanh,
    )
    from vledge.nn.containers import ModuleDict, ModuleList, Sequential
    from vledge.nn.convolution import Conv1d
    from vledge.nn.dropout import Dropout
    from vledge.nn.embedding import Embedding, EmbeddingBag
    from vledge.nn.linear import Identity, Linear
    from vledge.nn.normalization import BatchNorm1d, LayerNorm
    from vledge.nn.pooling import AdaptiveAvgPool1d, AdaptiveMaxPool1d, AvgPool1d, MaxPool1d
    from vledge.nn.recurrent.cells import GRUCell, LSTMCell, RNNCell
    from vledge.nn.recurrent.indrnn import IndRNN
    from vledge.nn.recurrent.parts import Bidirectional, RecurrentStack

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveAvgPool1d",
    "AdaptiveMaxPool1d",
    "AvgPool1d",
    "BatchNorm1d",
    "Bidirectional",
    "Conv1d",
    "Dropout",
    "Embedding",
    "EmbeddingBag",
    "Flatten",
    "GRUCell",
    "Hardsigmoid",
    "Hardtanh",
    "Identity",
    "IndRNN",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool1d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "PReLU",
    "Parameter",
    "RNNCell",
    "ReLU",
    "ReLU6",
    "RecurrentLayer",
    "RecurrentStack",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "functional",
    "recognize",
    "utils",
]

# Where the other layers are: each is imported when a model has one.
_ELSEWHERE = {
    "recurrent.cells": ("GRUCell", "LSTMCell", "RNNCell"),
    "containers": ("ModuleDict", "ModuleList", "Sequential"),
    "convolution": ("Conv1d",),
    "dropout": ("Dropout",),
    "embedding": ("Embedding", "EmbeddingBag"),
    "recurrent.indrnn": ("IndRNN",),
    "linear": ("Identity", "Linear"),
    "normalization": ("BatchNorm1d", "LayerNorm"),
    "pooling": ("AdaptiveAvgPool1d", "AdaptiveMaxPool1d", "AvgPool1d", "MaxPool1d"),
    "recurrent.parts": ("Bidirectional", "RecurrentStack"),
}


if not TYPE_CHECKING:  # to a type checker, a name that is not above is a mistake

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(
                f"module 'vledge.nn' has no attribute {name!r}: a torch module of any layers can "
                "run as a whole model, vledge.export(module, example_inputs, path)"
            )
        if name in ("functional", "utils"):
            return import_module(f"vledge.nn.{name}")
        home = next((home for home, names in _ELSEWHERE.items() if name in names), "activation")
        return globals().setdefault(name, getattr(import_module(f"vledge.nn.{home}"), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
