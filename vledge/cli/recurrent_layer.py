"""The option that names a recurrent layer, where a file has several."""

from __future__ import annotations

import argparse

__all__ = ["add_layer_argument"]


def add_layer_argument(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Declare which recurrent layer, where a file has several."""
    parser.add_argument(
        "--layer",
        "--prefix",
        metavar="NAME",
        help="the recurrent layer, where a file has several: the prefix of its weights, its name "
        f"in Keras, or the node of a graph{more and f'; {more}'}",
    )
