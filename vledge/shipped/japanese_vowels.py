"""The classifier of the JapaneseVowels set: which of nine speakers said two vowels.

``models/japanese_vowels/README.md`` says what it was trained on and how; ``vledge demo`` runs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vledge import nn
from vledge.formats import load_weights
from vledge.packing import PackedSequence, pack_sequence

__all__ = ["SpeakerClassifier", "TestSet", "folder", "load", "load_test_set"]

CHANNELS, HIDDEN_SIZE, SPEAKERS = 12, 48, 9


class SpeakerClassifier(nn.Module):
    """A bidirectional GRU's final states, both directions, to one logit for each speaker."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(CHANNELS, HIDDEN_SIZE, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.3)
        self.out = nn.Linear(2 * HIDDEN_SIZE, SPEAKERS)

    def forward(self, series: PackedSequence | np.ndarray) -> np.ndarray:
        """Packed series, or padded ones of equal length ``[B, T, 12]`` -> logits ``[B, 9]``."""
        _, h_n = self.rnn(series)
        return self.out(self.dropout(np.concatenate((h_n[0], h_n[1]), axis=1)))


class TestSet(NamedTuple):
    """The set's 370 test series and what torch computed for them."""

    series: list[np.ndarray]  #: each [7 to 29 frames, 12 LPC cepstrum channels] float32
    labels: np.ndarray  #: [370] int64, the speaker, 0 to 8
    logits: np.ndarray  #: [370, 9] float32, torch's
    logits_float64: np.ndarray  #: [370, 9] float64, torch's with float64 weights and input

    def packed(self) -> PackedSequence:
        """All series as one packed batch."""
        return pack_sequence(self.series, enforce_sorted=False)


def folder() -> Path:
    """Where the model's files lie: in an installed package beside its modules, in a source tree in
    the top-level ``models/``."""
    package = Path(__file__).parent.parent
    for root in (package, package.parent):
        if (path := root / "models" / "japanese_vowels" / "model.pt").is_file():
            return path.parent
    raise FileNotFoundError("models/japanese_vowels is missing from this installation of vledge")


def load(path: str | Path | None = None) -> SpeakerClassifier:
    """The classifier with its weights, from ``model.pt`` unless another file is named."""
    model = SpeakerClassifier()
    model.load_state_dict(load_weights(path or folder() / "model.pt"))
    return model


def load_test_set() -> TestSet:
    """The 370 series, their labels and torch's logits."""
    with np.load(folder() / "test.npz", allow_pickle=False) as file:
        ends = np.cumsum(file["lengths"])[:-1]
        series = np.split(file["series"], ends)
        return TestSet(series, file["labels"], file["logits"], file["logits_float64"])
