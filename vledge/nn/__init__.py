"""Layers with torch.nn's names, arguments and weights, on NumPy arrays; inference only."""

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
from vledge.nn.module import Module, Parameter
from vledge.nn.normalization import BatchNorm1d, LayerNorm
from vledge.nn.recognize import RecurrentLayer, recognize
from vledge.nn.recurrent import GRU, LSTM, RNN

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "BatchNorm1d",
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
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "recognize",
]
