"""A page for each public module, out of what its ``__all__`` names: docs/reference/api/*.rst."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["MODULES", "documented", "setup"]

MODULES = {
    "vledge": "What `import vledge` gives",
    "vledge.nn": "Layers",
    "vledge.nn.functional": "Layers as functions",
    "vledge.lengths": "Sequences of different lengths",
    "vledge.packing": "Packed sequences",
    "vledge.formats": "Weights out of files",
    "vledge.streaming": "Streams",
    "vledge.planning": "The planner",
    "vledge.validation": "Validation",
    "vledge.integrations.arrow": "Tables of sequences",
    "vledge.errors": "Errors and warnings",
}


def documented(module: str) -> dict[str, tuple[str, Any]]:
    """Name → (kind, object) of what a module's page shows; what `vledge` has stands there alone."""
    top = import_module("vledge")
    home = import_module(module)
    shown: dict[str, tuple[str, Any]] = {}
    for name in home.__all__:
        value = getattr(home, name)
        if inspect.ismodule(value) or name.startswith("__"):
            continue
        if module != "vledge" and name in top.__all__ and getattr(top, name) is value:
            continue
        kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
        if inspect.isclass(value) and issubclass(value, BaseException):
            kind = "exception"
        shown[name] = (kind, value)
    return shown


def page(module: str) -> str:
    """The page's reStructuredText."""
    title = f"{MODULES[module]}: ``{module}``" if module != "vledge" else f"``{module}``"
    lines = [
        title,
        "=" * len(title),
        "",
        ".. highlight:: default",
        "",
        f".. py:module:: {module}",
        "",
    ]
    lines += [inspect.getdoc(import_module(module)) or "", ""]
    shown = documented(module)
    also = sorted(set(import_module(module).__all__) - set(shown) - {"__version__"})
    if also and module != "vledge":
        lines += ["Also here: " + ", ".join(f":py:obj:`vledge.{name}`" for name in also) + ".", ""]
    for name, (kind, value) in shown.items():
        if kind == "data":
            lines += [f".. py:data:: {name}", "", f"   {_named(value)}", ""]
            continue
        lines += [f".. auto{kind}:: {module}.{name}"]
        if kind == "class":
            lines += ["   :members:"]
            lines += ["   :show-inheritance:"] if value.__bases__ != (object,) else []
        lines += [""]
    return "\n".join(lines)


def _named(value: Any) -> str:
    """What a constant holds, in a line."""
    if isinstance(value, (dict, tuple, list, set, frozenset)):
        return f"{type(value).__name__} of " + ", ".join(f"``{key!r}``" for key in value) + "."
    return f"``{value!r}``"


def escape_shapes(
    app: Any, kind: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """``[T, B, *]`` is a shape, not the beginning of emphasis."""
    for number, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        shown = [part if part.startswith("``") else part.replace("*]", r"\*]") for part in parts]
        lines[number] = "".join(shown)


def write_pages(app: Any) -> None:
    """Write those that changed, so that Sphinx rebuilds no more than it must."""
    from sphinx.ext.autodoc.mock import mock

    folder = Path(app.srcdir) / "reference" / "api"
    folder.mkdir(exist_ok=True)
    with mock(app.config.autodoc_mock_imports):
        pages = {folder / f"{module}.rst": page(module) for module in MODULES}
    for path, text in pages.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", escape_shapes)
    return {"parallel_read_safe": True}
