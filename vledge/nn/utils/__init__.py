"""torch.nn.utils by its own name: `rnn`, which is `vledge.packing`."""

from vledge.nn.utils import rnn

__all__ = ["rnn"]
