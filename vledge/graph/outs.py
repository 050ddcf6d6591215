"""Outputs of a run: where ``out=`` would have them, and that no two are one object."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy

import numpy as np

from vledge.graph.values import Result
from vledge.out_arrays import misfit, shared

__all__ = ["independent", "places_of", "write_outputs"]


def places_of(
    outputs: Collection[str],
    output_names: Sequence[str] | None,
    out: Sequence[np.ndarray | None] | Mapping[str, np.ndarray | None],
) -> list[np.ndarray | None]:
    """Where each output is to be written, None where in a new array."""
    if not output_names and type(out) is list and len(out) == len(outputs):
        return _different(outputs, out)
    names = list(output_names or outputs)
    if isinstance(out, np.ndarray) or not isinstance(out, (Sequence, Mapping)):
        raise TypeError(
            f"out is a {type(out).__name__}, expected a list of arrays or a dict of them by "
            "the outputs' names"
        )
    if isinstance(out, Mapping):
        named = dict(out)
    elif len(out) != len(names):
        raise ValueError(f"out has {len(out)} arrays for {len(names)} outputs")
    else:
        named = dict(zip(names, out, strict=True))
        if len(named) < len(names):
            raise ValueError(f"out is given for an output that is asked for twice: {names}")
    for name in named:
        if name not in names or name not in outputs:
            raise ValueError(f"no output named {name!r}: there are {names}")
    return _different(outputs, [named.get(name) for name in outputs])


def write_outputs(
    outputs: Collection[str], results: list[Result], outs: list[np.ndarray | None]
) -> None:
    """Put results where they are wanted, if the native program has not."""
    for result, given in zip(results, outs, strict=True):
        if given is not result and given is not None:
            break
    else:
        return
    left: list[tuple[int, np.ndarray]] = []
    problems = []
    for place, (name, given) in enumerate(zip(outputs, outs, strict=True)):
        result = results[place]
        if given is None or given is result:
            continue
        left.append((place, given))
        if isinstance(result, np.ndarray):
            wanted = {f"out for {name!r}": (result.dtype, result.shape)}
            problem = misfit(wanted, {f"out for {name!r}": given})
            problems += [problem] if problem else []
        else:
            problems.append(f"output {name!r} is no array, and cannot be written to out")
    if problems:
        raise ValueError("; ".join(problems))
    for place, given in left:
        given[...] = results[place]
        results[place] = given


def _different(outputs: Collection[str], outs: list[np.ndarray | None]) -> list[np.ndarray | None]:
    """Arrays for several outputs, of which no two share memory."""
    if len(outs) > 1 and (problems := shared(dict(zip(outputs, outs, strict=True)))):
        raise ValueError(f"out: {'; '.join(problems)}")
    return outs


def independent(results: list[Result]) -> list[Result]:
    """Results of which some are one object, as objects of their own."""
    known: set[int] = set()
    made = []
    for result in results:
        again = id(result) in known
        known.add(id(result))
        made.append(deepcopy(result) if again else result)
    return made
