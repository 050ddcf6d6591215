"""A torch module less what others put around it and its parts: compilers, DataParallel, averaging.

Nothing is copied: parts change places for a while, and are put back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.optim.swa_utils import AveragedModel

from vledge.weights.plain import WRAPPERS

__all__ = ["bare"]

# Wrappers that keep their module as ``module``, a name that models use, too.
_BY_CLASS = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel, AveragedModel)
_BY_NAME = [name for name in WRAPPERS if name.startswith("_")]
_ORIGINAL = "_torchdynamo_orig_callable"  # what a compiled function keeps


@contextlib.contextmanager
def bare(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """What is inside of the module's wrappers, its parts unwrapped until the end of the block."""
    undo: list[Callable[[], None]] = []
    inner = _inside(module)
    try:
        for part in list(inner.modules()):
            _unwrap(part, undo)
        yield inner
    finally:
        for put_back in reversed(undo):
            put_back()


def _inside(module: torch.nn.Module) -> torch.nn.Module:
    while True:
        if isinstance(module, _BY_CLASS):
            module = module.module
            continue
        wrapped = [child for name in _BY_NAME if (child := module._modules.get(name)) is not None]
        if not wrapped:
            return module
        module = wrapped[0]


def _unwrap(part: torch.nn.Module, undo: list[Callable[[], None]]) -> None:
    children: dict[str, torch.nn.Module | None] = part._modules
    for name, child in list(children.items()):
        if child is not None and (inner := _inside(child)) is not child:
            undo.append(partial(children.__setitem__, name, child))
            children[name] = inner
    # module.compile() and module.forward = torch.compile(module.forward)
    own = part.__dict__
    for name in ("_compiled_call_impl", "forward"):
        compiled = own.get(name)
        original = getattr(compiled, _ORIGINAL, None)
        if original is not None:
            undo.append(partial(own.__setitem__, name, compiled))
            own[name] = original if name == "forward" else None
