"""``python tools/messages.py [PART]``: every message that the package raises, as its template, for
reading as a stranger; PART is a piece of a module's path, such as ``nn`` or ``cli/``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Message(NamedTuple):
    """One ``raise``."""

    where: str  #: path:line
    error: str  #: what is raised, as it stands there
    template: str | None  #: with {expressions}; None where a function or a variable holds it

    @property
    def words(self) -> list[str]:
        """Of the template, those that stand in every such message."""
        fixed, depth = "", 0
        for character in self.template or "":
            depth += {"{": 1, "}": -1}.get(character, 0)
            fixed += character if not depth else ""
        return [word for word in fixed.split() if any(map(str.isalpha, word))]


def messages(package: Path = ROOT / "vledge") -> Iterator[Message]:
    """In the order of the files."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                where = f"{path.relative_to(package.parent)}:{node.lineno}"
                yield Message(where, ast.unparse(node.exc.func), _said(node.exc))


def _said(call: ast.Call) -> str | None:
    templates = [t for t in map(_template, call.args) if t is not None]
    return max(templates, key=len, default=None)


def _template(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{" + _shown(part) + "}"
            for part in node.values
        )
    if isinstance(node, ast.BinOp):
        left, right = _template(node.left), _template(node.right)
        return None if left is None or right is None else left + right
    return None


def _shown(part: ast.expr) -> str:
    assert isinstance(part, ast.FormattedValue)
    return ast.unparse(part.value).replace("{", "(").replace("}", ")")


def main() -> int:
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    for message in messages():
        if part in message.where:
            print(f"{message.where} {message.error}: {message.template or '(made elsewhere)'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
