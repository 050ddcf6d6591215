"""Running a model frame by frame, its state carried from one call to the next."""

from vledge.streaming.lookahead import LookaheadStream
from vledge.streaming.stream import Stream

__all__ = ["LookaheadStream", "Stream"]
