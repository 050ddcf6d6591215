"""Strategy: one way to run sequences of different lengths, and all that others ask of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vledge.lengths.strategies.work import FORMS, Case, Overhead, Work
from vledge.packing.sequence import Output
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.states import State

__all__ = ["Strategy"]


@dataclass(frozen=True)
class Strategy:
    """One strategy; its file says all of this, and `strategies` lists it."""

    name: str
    #: ``run(stack, batch, hx, **options)``, where no sequence is empty and all has been checked,
    #: gives the output in the batch's form and the final state, both in the caller's order.
    run: Callable[..., tuple[Output, State]]
    #: ``work(case, shape, **options)``: what that does, with the options of a plan
    work: Callable[..., Work]
    #: ``reason(case, work)``: what a plan says of it
    reason: Callable[[Case, Work], str]
    #: seconds besides the kernels, by the form that the batch has (see `planning.defaults`)
    overheads: Mapping[str, Overhead]
    #: the options that a plan looks at, from the fastest to what needs the least memory
    options: tuple[dict[str, int], ...] = ({},)
    #: whether it runs all sequences in one call of the kernels
    whole: bool = False
    #: options that take a few short sequences apart, too: for validation
    small: Mapping[str, int] = field(default_factory=dict)
    #: the forms that this runs as they are, and is the default for
    natural_for: tuple[str, ...] = ()
    #: form → why it cannot be run
    refused: Mapping[str, str] = field(default_factory=dict)
    #: whether it begins before it has seen a sequence's end
    forward_only: bool = False
    #: ``same_as(longest, options)``: the strategy of which this is a detour with these options
    same_as: Callable[[int, Mapping[str, int]], str | None] | None = None

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms that can be run."""
        return tuple(form for form in FORMS if form not in self.refused)

    def refuse_backwards(self, shape: LayerShape) -> None:
        """Raise ValueError for a layer that needs whole sequences where this has none."""
        if self.forward_only and shape.backwards:
            raise ValueError(
                f'strategy="{self.name}" begins before it has seen a sequence\'s end and cannot '
                "run the backward direction of a layer: use packed, padded or bucketed"
            )
