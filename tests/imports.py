"""Every import that is written in the package, those in functions and for type checkers, too."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vledge"
_IN_CYTHON = re.compile(
    r"^\s*(?:from\s+(vledge[\w.]*)\s+import\s+([\w, ]+)|import\s+(vledge[\w.]*))"
)


class Arrow(NamedTuple):
    """One file imports another; names are without ``vledge.``."""

    source: str
    target: str


def modules() -> dict[str, Path]:
    """Name → file, of all that is written in Python."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[1:-1] if parts[-1] == "__init__" else parts[1:])] = path
    return found


def arrows() -> set[Arrow]:
    """Of the package's own files, ``vledge/__init__.py`` left out: it is the roof."""
    known = {
        **modules(),
        **{f"_ext.{path.stem}": path for path in (ROOT / "vledge" / "_ext").glob("*.pyx")},
    }
    found = set()
    for name, path in known.items():
        targets = _in_cython(path) if path.suffix == ".pyx" else _in_python(path, name)
        for target in targets if name else ():
            while target not in known:
                target = target.rpartition(".")[0]
            if target != name:
                found.add(Arrow(name, target))
    return found


def _in_python(path: Path, name: str) -> Iterator[str]:
    own = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from _inside(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = own.split(".")[: len(own.split(".")) - node.level + 1]
                base = ".".join(["vledge", *above, *([base] if base else [])])
            yield from _inside(f"{base}.{alias.name}" for alias in node.names)


def _in_cython(path: Path) -> Iterator[str]:
    for line in path.read_text().splitlines():
        match = _IN_CYTHON.match(line)
        if match and match[3]:
            yield from _inside([match[3]])
        elif match:
            yield from _inside(f"{match[1]}.{one.split()[0]}" for one in match[2].split(","))


def _inside(names: Iterator[str] | list[str]) -> Iterator[str]:
    for name in names:
        if name == "vledge" or name.startswith("vledge."):
            yield name.removeprefix("vledge").removeprefix(".")


def circles(edges: set[Arrow]) -> list[list[str]]:
    """Files that import each other, along any way: the strongly connected components."""
    after: dict[str, list[str]] = {}
    for source, target in sorted(edges):
        after.setdefault(source, []).append(target)
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found = []
    for start in sorted(after):
        ways = [(start, iter(after[start]))] if start not in number else []
        if ways:
            number[start] = lowest[start] = len(number)
            waiting.append(start)
        while ways:  # Tarjan's, without recursion
            name, rest = ways[-1]
            following = next(rest, None)
            if following is None:
                ways.pop()
                if ways:
                    lowest[ways[-1][0]] = min(lowest[ways[-1][0]], lowest[name])
                if lowest[name] == number[name]:
                    place = waiting.index(name)
                    circle, waiting = waiting[place:], waiting[:place]
                    if len(circle) > 1:
                        found.append(sorted(circle))
            elif following not in number:
                number[following] = lowest[following] = len(number)
                waiting.append(following)
                ways.append((following, iter(after.get(following, ()))))
            elif following in waiting:
                lowest[name] = min(lowest[name], number[following])
    return found


def private_names() -> Iterator[tuple[str, str, int]]:
    """(module, name, line) of each ``other._name`` whose name no file of its package defines."""
    trees = {name: ast.parse(path.read_text()) for name, path in modules().items()}
    own: dict[str, set[str]] = {}
    for name, tree in trees.items():
        own.setdefault(name.partition(".")[0], set()).update(_defined(tree))
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                if not of_self and node.attr not in own[name.partition(".")[0]]:
                    yield name, node.attr, node.lineno


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value  # self.__dict__["_modules"] = …
