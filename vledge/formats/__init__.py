"""Weights out of files, as plain arrays: the readers' front door, and the writer's.

A file's format is told by its bytes, and nothing in a file is trusted: no name that it gives is
imported or called, and every size is checked before memory is taken. Graphs are not read here.
"""

import importlib
import os
import warnings
from collections.abc import Mapping

import numpy as np

from vledge.budget import Limits
from vledge.errors import FormatError, quoted, reading
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.source import file_of, identified, looks_like_onnx, open_source
from vledge.shown import Weights

__all__ = ["Checkpoint", "holds_graph", "load_weights", "read_checkpoint", "save_weights"]


def load_weights(
    path: str | os.PathLike[str], key: str | None = None, *, limits: Limits | None = None
) -> dict[str, np.ndarray]:
    """The weights in a file, by name.

    Reads ``torch.save`` files (.pt, .pth, .bin; state dicts, training checkpoints and whole pickled
    modules, in the archive and the legacy layout), TorchScript and ``torch.export`` archives,
    safetensors and .npz; of weights in several files the index (``model.safetensors.index.json``)
    or the folder that has it. The file's name says nothing: its bytes do.

    ``key`` picks a part of a checkpoint, by a dotted path such as ``"model_state"``; ``""`` is the
    whole file. Without it, the one part that looks like weights is taken.

    ``limits`` is what reading the file may cost: by default 64 MiB and ten times the file's size,
    and about five seconds (`vledge.Limits`; ``VLEDGE_LIMITS`` sets the same for a process).

    The arrays have the file's shapes and dtypes, but bfloat16 is widened to float32. They are
    read-only, and where the file allows they are views of it, mapped into memory: copy one to
    change it, and do not overwrite the file in place while they live (`save_weights` does not).

    Raises FormatError when the file is damaged, hostile, of no known format, or holds no weights or
    several candidates, LimitError, which is one, where it would cost more than ``limits``; OSError
    when it cannot be opened. Warns of what belongs to the weights but
    has no NumPy equivalent; `read_checkpoint` returns that too.

    >>> weights = load_weights("model.pt")  # doctest: +SKIP
    >>> weights["lstm.weight_ih_l0"].shape  # doctest: +SKIP
    (512, 64)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path is a {type(path).__name__}, expected the name of a file or folder")
    checkpoint = read_checkpoint(path, key, limits=limits)
    if checkpoint.skipped:
        listed = "; ".join(
            f"{quoted(name)}: {why}" for name, why in list(checkpoint.skipped.items())[:10]
        )
        warnings.warn(f"{os.fspath(path)}: left out {listed}", stacklevel=2)
    return checkpoint.weights


def read_checkpoint(
    path: str | os.PathLike[str], key: str | None = None, *, limits: Limits | None = None
) -> Checkpoint:
    """The weights in a file as `load_weights` gives them, and what was left out or not looked at.

    >>> read_checkpoint("training.pt").elsewhere  # doctest: +SKIP
    {'optimizer_state': 'the state of an optimizer'}
    """
    with reading(os.fspath(path)):
        source, module = identified(open_source(file_of(path), limits))
        reader = importlib.import_module(f"vledge.formats.{module}")
        checkpoint: Checkpoint = reader.read(source, key)
        checkpoint = checkpoint._replace(weights=Weights(checkpoint.weights))
        if not checkpoint.weights:
            skipped = list(checkpoint.skipped.items())[:10]
            listed = "; ".join(f"{quoted(name)}: {why}" for name, why in skipped)
            raise FormatError(f"the file holds no weights{listed and f', only {listed}'}")
    return checkpoint


def holds_graph(path: str | os.PathLike[str], *, limits: Limits | None = None) -> bool:
    """Whether a file is a whole model: ONNX, or written by ``vledge convert``. A guess by bytes."""
    if os.path.isdir(path):
        return False
    source = open_source(path, limits)
    if looks_like_onnx(source):
        return True
    # the metadata come first in a safetensors header, for whoever looks only there
    return source.starts_with(b"{", at=8) and b'"vledge.model"' in source.data[8 : 8 + 256]


def check_known(path: str | os.PathLike[str]) -> None:
    """FormatError for a file that is neither a model nor weights of any kind, told by its bytes."""
    if not holds_graph(path) and not os.path.isdir(path):
        with reading(os.fspath(path)):
            identified(open_source(path))


def save_weights(path: str | os.PathLike[str], weights: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name to a safetensors file.

    The file appears whole or not at all: it is written beside ``path``, flushed to the disk and
    renamed over it. Dtypes: bool, integers, float16, float32 and float64; other ones raise
    TypeError, and an empty ``weights`` ValueError, as does a name that promises another format:
    ``"model.pt"``.

    >>> save_weights("model.safetensors", {"weight": np.zeros((2, 3), "f4")})  # doctest: +SKIP
    """
    from vledge.formats import safetensors_file

    safetensors_file.write(path, weights)
