"""Runs onnx's own backend tests on vledge, prints the counts, writes docs/onnx-operators.md.

These are its tests of single nodes, made by its code, and of small models, which lie in its files.

A test is not claimed if its model is refused when it is loaded (UnsupportedError); every other one
has to pass. tests/graph/test_onnx_backend.py holds the document to what is run here.

    python tools/onnx_coverage.py
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import onnx
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner, _normalize_tensor

from vledge.errors import UnsupportedError
from vledge.graph.plan import NEWEST_OPSET, OLDEST_OPSET
from vledge.graph.registry import Operator, find, known_operators
from vledge.integrations import onnx_backend

__all__ = ["DOCUMENT", "cases", "document", "listed", "refusal", "run"]

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "onnx-operators.md"
_KINDS: Final = ("simple", "pytorch-converted", "pytorch-operator")
_RANDOM: Final = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_OURS: Final = "vledge"  # the domain of what passes put in place of nodes


@lru_cache(maxsize=1)
def cases() -> dict[str, Any]:
    """onnx's tests by name, those of nodes first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of overflows while onnx computes what it expects
        nodes = load_model_tests(kind="node")
    models = (_from_files(case) for kind in _KINDS for case in load_model_tests(kind=kind))
    return {case.name: case for case in (*nodes, *models)}


def _from_files(case: Any) -> Any:
    """The test with its model and data, which its folder holds."""
    folder = Path(case.model_dir)
    data_sets = [
        tuple(
            [onnx.load_tensor(str(data / f"{kind}_{i}.pb")) for i in range(_count(data, kind))]
            for kind in ("input", "output")
        )
        for data in sorted(folder.glob("test_data_set_*"))
    ]
    return replace(case, model=onnx.load(str(folder / "model.onnx")), data_sets=data_sets)


def _count(data: Path, kind: str) -> int:
    return len(list(data.glob(f"{kind}_*.pb")))


def run(case: Any, **options: Any) -> None:
    """Run one test as onnx's runner does; AssertionError if an output is not as it should be.

    ``options`` are `InferenceSession`'s.
    """
    loaded = onnx_backend.prepare(case.model, **options)
    for inputs, wanted in case.data_sets:
        results = loaded.run([_normalize_tensor(item) for item in inputs])
        assert [_length(value) for value in results] == [_length(value) for value in wanted]
        outputs, expected = list(_tensors(results)), list(_tensors(wanted))
        if _RANDOM & {op_type for _, op_type in _operators(case.model.graph)}:
            # other numbers than onnx's, and rightly: NumPy's generators are not its either
            assert [(o.shape, o.dtype) for o in outputs] == [(e.shape, e.dtype) for e in expected]
            continue
        Runner.assert_similar_outputs(expected, outputs, case.rtol, case.atol)


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, (list, tuple)) else None


def _tensors(values: Iterable[Any]) -> Iterator[Any]:
    """The tensors, those of sequences one by one: onnx's runner compares the rows of those."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _tensors(value)
        else:
            yield _normalize_tensor(value)


def refusal(case: Any) -> str:
    """Why the test is not claimed; empty if it is."""
    try:
        onnx_backend.prepare(case.model)
    except UnsupportedError as error:
        return str(error)
    return ""


def listed() -> set[str]:
    """The tests that the document says are not claimed."""
    return set(re.findall(r"`(test_\w+)`", DOCUMENT.read_text()))


def document(refusals: Collection[str]) -> str:
    """The document's text; ``refusals`` are the names of the tests that are not claimed."""
    counts = {True: [0, 0], False: [0, 0]}  # of nodes or not → all, not claimed
    for name, case in cases().items():
        counts[case.kind == "node"][0] += 1
        counts[case.kind == "node"][1] += name in refusals
    (nodes, refused_nodes), (models, refused_models) = counts[True], counts[False]
    lines = [
        "# ONNX operators",
        "",
        "Written by `python tools/onnx_coverage.py`; don't edit.",
        "",
        f"Of the {nodes:,} node tests of onnx {onnx.__version__}, {nodes - refused_nodes:,} pass, "
        f"{refused_nodes} are not claimed and 0 fail. Of its {models} small models in files, many "
        f"of them of operator set 6, {models - refused_models} pass, {refused_models} are not "
        "claimed and 0 fail. A test is not claimed if its model is refused when it is loaded, "
        "naming every node that cannot run. Of random numbers, shapes and types are compared. "
        "`tests/graph/test_onnx_backend.py` runs all of them.",
        "",
        '`vledge.InferenceSession(..., fallback="reference")` hands nodes that are not in the '
        "table to onnx's reference evaluator, if the onnx package is installed.",
        "",
        "## Operators that run",
        "",
        "With the operator sets in which each may be used. Tested are operator sets from "
        f"{OLDEST_OPSET} to {NEWEST_OPSET}, the newest that is known, and the recurrent operators "
        "from 1 up.",
        "",
        "| family | operators |",
        "|---|---|",
        *(f"| {family} | {', '.join(entries)} |" for family, entries in _families().items()),
    ]
    absent, types = _by_operator(refusals)
    lines += ["", "## Tests that are not claimed: operators that are not there", *_groups(absent)]
    lines += [
        "",
        "## Tests that are not claimed: types that no NumPy array holds",
        "",
        "Numbers below a byte, and float8.",
        *_groups(types),
    ]
    return "\n".join(lines) + "\n"


def _groups(groups: dict[str, list[str]]) -> list[str]:
    lines = []
    for operators, names in sorted(groups.items()):
        lines += ["", f"**{operators}**: {', '.join(f'`{name}`' for name in names)}"]
    return lines


def _families() -> dict[str, list[str]]:
    """A family with a link to its module → its operators with their ranges of operator sets."""
    families: dict[str, list[str]] = {}
    for (domain, op_type), entries in sorted(known_operators().items()):
        if domain != _OURS:
            module = entries[0].function.__module__
            family = module.rpartition(".")[2].replace("_", " ")
            title = f"[{family}](../{module.replace('.', '/')}.py)"
            name = f"**{_full_name(domain, op_type)}** {_ranges(entries)}"
            families.setdefault(title, []).append(name)
    return dict(sorted(families.items()))


def _full_name(domain: str, op_type: str) -> str:
    return f"{domain}.{op_type}" if domain else op_type


def _ranges(entries: Iterable[Operator]) -> str:
    """``7–12, 14+``; forms that follow one another are one range."""
    ranges: list[list[int | None]] = []
    for entry in entries:
        if ranges and ranges[-1][1] is not None and entry.since == ranges[-1][1] + 1:
            ranges[-1][1] = entry.until
        else:
            ranges.append([entry.since, entry.until])
    return ", ".join(f"{since}–{until}" if until else f"{since}+" for since, until in ranges)


def _by_operator(refusals: Iterable[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The tests by the operators that they miss, and, where they miss none, that they use."""
    absent: dict[str, list[str]] = {}
    types: dict[str, list[str]] = {}
    for name in sorted(refusals):
        model = cases()[name].model
        opsets = {entry.domain: entry.version for entry in model.opset_import}
        used = set(_operators(model.graph))
        missing = {o for o in used if find(o[1], o[0], opsets.get(o[0], 1)) is None}
        title = ", ".join(sorted(_full_name(*operator) for operator in missing or used))
        if missing & known_operators().keys():
            title += f" in operator set {opsets['']}"
        (absent if missing else types).setdefault(title, []).append(name)
    return absent, types


def _operators(graph: Any) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            yield from _operators(attribute.g)


def main() -> int:
    """Run everything; the exit code is 1 if a test fails."""
    refusals = {name for name, case in cases().items() if refusal(case)}
    failed = {}
    for name in cases().keys() - refusals:
        try:
            run(cases()[name])
        except Exception as error:  # whatever it is, it is a failure
            failed[name] = f"{type(error).__name__}: {error}"
    for name, why in sorted(failed.items()):
        print(f"FAILED {name}: {why}")
    passed = len(cases()) - len(refusals) - len(failed)
    print(f"{passed} passed, {len(refusals)} not claimed, {len(failed)} failed")
    if failed:
        return 1
    DOCUMENT.write_text(document(refusals))
    print(f"wrote {DOCUMENT.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
