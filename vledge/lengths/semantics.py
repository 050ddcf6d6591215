"""What ecosystems do with the places that hold no data, as explicit switches and a preset each.

The numbers at a sequence's own steps are the same everywhere; the differences are around them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

__all__ = ["PRESETS", "Semantics", "fill_places", "resolve"]

_VALUES: Final = {
    "fill": ("zero", "repeat_output", "repeat_state"),
    "steps": ("longest", "input"),
    "empty": ("error", "zero", "initial"),
    "reverse": ("own_length", "whole"),
    "order": ("original", "processing"),
}


@dataclass(frozen=True)
class Semantics:
    """One choice for each switch; combinations that contradict themselves raise ValueError.

    Attributes
    ----------
    fill : "zero", "repeat_output" or "repeat_state"
        The output past a sequence's end and at masked steps: zero; the output of the step that was
        processed before, zero before the first; or the state, so h_0 before the first.
    steps : "longest" or "input"
        T of a padded output: the longest length, or the input's T.
    empty : "error", "zero" or "initial"
        A sequence without any step: refused, or its final state is zero or its initial state. Its
        output is all fill.
    reverse : "own_length" or "whole"
        Where the reverse direction begins: at the sequence's own end, or at the end of the input,
        carrying its state through what is masked. Only ``fill`` and ``order`` show which.
    order : "original" or "processing"
        The reverse half of the output: in the order of the input, or in the order in which it was
        computed, last step first.
    """

    fill: str = "zero"
    steps: str = "input"
    empty: str = "initial"
    reverse: str = "own_length"
    order: str = "original"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value not in _VALUES[field.name]:
                raise ValueError(
                    f"semantics: {field.name} is {value!r}, expected one of "
                    + ", ".join(map(repr, _VALUES[field.name]))
                )
        for wrong, why in (
            (
                self.fill != "zero" and self.reverse == "own_length",
                f'fill="{self.fill}" needs reverse="whole": a direction that begins at the '
                "sequence's own end has processed nothing before what lies past it",
            ),
            (
                self.fill != "zero" and self.empty == "zero",
                f'fill="{self.fill}" repeats the state of an empty sequence, which empty="zero" '
                "drops",
            ),
            (
                self.reverse == "whole" and self.steps == "longest",
                'reverse="whole" begins at the end of the input, which steps="longest" cuts off',
            ),
            (
                self.order == "processing" and self.reverse == "own_length",
                'order="processing" is defined for reverse="whole" only',
            ),
        ):
            if wrong:
                raise ValueError(f"semantics: {why}")


#: torch: pack_padded_sequence, the layer, pad_packed_sequence. onnx: onnxruntime's, where the
#: standard leaves the choice. tf1: (bidirectional_)dynamic_rnn with sequence_length. keras: a mask.
PRESETS: Final = {
    "torch": Semantics("zero", "longest", "error", "own_length", "original"),
    "onnx": Semantics("zero", "input", "zero", "own_length", "original"),
    "tf1": Semantics("zero", "input", "initial", "own_length", "original"),
    "keras": Semantics("repeat_output", "input", "initial", "whole", "original"),
}


def resolve(semantics: str | Semantics, bidirectional: bool) -> Semantics:
    """The switches of a preset's name, or those given.

    Keras' ``Bidirectional`` sets ``zero_output_for_mask`` on both of its layers and turns the
    reverse half's output round again, so the preset fills a bidirectional output with zeros.
    """
    if isinstance(semantics, Semantics):
        return semantics
    if semantics not in PRESETS:
        raise ValueError(
            f"semantics is {semantics!r}, expected a Semantics or one of "
            + ", ".join(map(repr, PRESETS))
        )
    rules = PRESETS[semantics]
    if semantics == "keras" and bidirectional:
        return replace(rules, fill="zero")
    return rules


def fill_places(output: np.ndarray, valid: np.ndarray, rules: Semantics, h_0: np.ndarray) -> None:
    """Write what stands where there is no data into an output ``[B, T, D * H]`` that is zero there.

    ``valid [B, T]`` says where data are; ``h_0 [D, B, H]`` is the last layer's initial state.
    """
    width, bidirectional = h_0.shape[2], len(h_0) == 2
    if rules.fill != "zero":
        steps = np.arange(valid.shape[1])
        before = np.maximum.accumulate(np.where(valid, steps, -1), axis=1)
        _repeat(output[..., :width], valid, before, rules, h_0[0])
        if bidirectional:
            after = np.where(valid, steps, valid.shape[1])[:, ::-1]
            after = np.minimum.accumulate(after, axis=1)[:, ::-1]
            _repeat(output[..., width:], valid, after, rules, h_0[1])
    if rules.order == "processing" and bidirectional:
        output[..., width:] = output[:, ::-1, width:].copy()


def _repeat(
    half: np.ndarray, valid: np.ndarray, source: np.ndarray, rules: Semantics, h_0: np.ndarray
) -> None:
    """Copy to each place without data the step that was processed before it."""
    inside = (source >= 0) & (source < valid.shape[1])
    rows, places = np.nonzero(~valid & inside)
    half[rows, places] = half[rows, source[rows, places]]
    if rules.fill == "repeat_state":
        rows, places = np.nonzero(~valid & ~inside)
        half[rows, places] = h_0[rows]
