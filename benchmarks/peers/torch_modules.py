"""torch modules around a recurrent layer that TorchScript can compile (it cannot take the layer
itself, whose ``forward`` is overloaded). Importing this imports torch.
"""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = ["LSTMStep", "PackedPadded", "Padded", "Step"]


class Padded(nn.Module):
    """All steps of a padded batch, padding too."""

    def __init__(self, rnn: nn.Module):
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor):  # type: ignore[no-untyped-def]
        return self.rnn(x)


class PackedPadded(nn.Module):
    """Padded batch in, padded batch out, no work on padding."""

    def __init__(self, rnn: nn.Module):
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, lengths: Tensor):  # type: ignore[no-untyped-def]
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        output, state = self.rnn(packed)
        return pad_packed_sequence(output)[0], state


class Step(nn.Module):
    """One step of a GRU."""

    def __init__(self, rnn: nn.Module):
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, state: Tensor):  # type: ignore[no-untyped-def]
        return self.rnn(x, state)


class LSTMStep(nn.Module):
    """One step of an LSTM."""

    def __init__(self, rnn: nn.Module):
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]):  # type: ignore[no-untyped-def]
        return self.rnn(x, state)
