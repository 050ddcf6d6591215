"""Packed sequences: ``torch.nn.utils.rnn``'s class and functions on NumPy arrays.

Arguments are checked where a function begins, by ``arguments.py``; the rows are moved by
``vledge._ext.packing``. The layers that run on packed sequences are in ``vledge.nn``.
"""

from vledge.packing.arguments import PackingError
from vledge.packing.pack import by_length, pack_padded_sequence, pack_sequence
from vledge.packing.padding import pad_sequence, unpad_sequence
from vledge.packing.sequence import PackedSequence, invert_permutation, is_packed, validated
from vledge.packing.unpack import pad_packed_sequence, unpack_sequence

__all__ = [
    "PackedSequence",
    "PackingError",
    "by_length",
    "invert_permutation",
    "is_packed",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
    "validated",
]
