"""A module's tree as text."""

from __future__ import annotations

from typing import Any

from vledge.shown import shortened

__all__ = ["Printed"]


class Printed:
    """The part of torch.nn.Module that says what a module is made of."""

    _modules: dict[str, Any]

    def extra_repr(self) -> str:
        """What stands between the brackets of this module's line in ``repr``."""
        return ""

    def __repr__(self) -> str:
        return shortened(str(self))

    def __str__(self) -> str:
        """The whole tree, of which ``repr`` shows a few lines."""
        name = type(self).__name__
        children = [
            f"({key}): " + str(module).replace("\n", "\n  ")
            for key, module in self._modules.items()
        ]
        if not children:
            return f"{name}({self.extra_repr()})"
        lines = [self.extra_repr()] if self.extra_repr() else []
        return f"{name}(\n  " + "\n  ".join(lines + children) + "\n)"
