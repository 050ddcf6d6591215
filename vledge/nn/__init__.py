"""Layers with torch.nn's names, arguments and weights, on NumPy arrays; inference only."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vledge.nn.module import Module, Parameter
from vledge.nn.recognize import RecurrentLayer, recognize
from vledge.nn.recurrent import GRU, LSTM, RNN

if TYPE_CHECKING:
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
    from vledge.nn.cells import GRUCell, LSTMCell, RNNCell
    from vledge.nn.containers import ModuleDict, ModuleList, Sequential
    from vledge.nn.convolution import Conv1d
    from vledge.nn.dropout import Dropout
    from vledge.nn.embedding import Embedding, EmbeddingBag
    from vledge.nn.indrnn import IndRNN
    from vledge.nn.linear import Identity, Linear
    from vledge.nn.normalization import BatchNorm1d, LayerNorm
    from vledge.nn.recurrent_parts import Bidirectional, RecurrentStack

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
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
    "recognize",
]

# Where the other layers are: each is imported when a model has one.
_ELSEWHERE = {
    "cells": ("GRUCell", "LSTMCell", "RNNCell"),
    "containers": ("ModuleDict", "ModuleList", "Sequential"),
    "convolution": ("Conv1d",),
    "dropout": ("Dropout",),
    "embedding": ("Embedding", "EmbeddingBag"),
    "indrnn": ("IndRNN",),
    "linear": ("Identity", "Linear"),
    "normalization": ("BatchNorm1d", "LayerNorm"),
    "recurrent_parts": ("Bidirectional", "RecurrentStack"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'vledge.nn' has no attribute {name!r}")
    home = next((home for home, names in _ELSEWHERE.items() if name in names), "activation")
    return globals().setdefault(name, getattr(import_module(f"vledge.nn.{home}"), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
