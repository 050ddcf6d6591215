"""Recurrent layers as torch has them: whole layers, cells, and IndRNN."""

from vledge.nn.recurrent.base import RecurrentBase
from vledge.nn.recurrent.layers import GRU, LSTM, RNN, OneState

__all__ = ["GRU", "LSTM", "RNN", "OneState", "RecurrentBase"]
