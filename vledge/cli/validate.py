"""``vledge validate MODEL``: is the model on this machine the one that was trained?"""

from __future__ import annotations

import argparse
import json
import textwrap

import numpy as np

from vledge.cli.given_inputs import add_input_arguments, live_reference
from vledge.cli.table import rows
from vledge.machine.atomic_file import check_writable, write_text
from vledge.progress import Bar
from vledge.shown import counted
from vledge.validation.reference.bundle import Reference, versions
from vledge.validation.reference.compare import Comparison
from vledge.validation.validate import Report, validate

EXAMPLES = """\
examples:
  vledge validate model.safetensors
  vledge validate model.onnx --against onnxruntime --random x=8x?x40
  vledge validate model.safetensors --html report.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge validate``."""
    parser.add_argument("model", help="a graph (.onnx, .safetensors), or one layer's weights")
    parser.add_argument("--reference", help="the bundle (the file beside the model)")
    parser.add_argument(
        "--against",
        choices=["torch", "onnxruntime"],
        help="compare with the framework itself, live, in place of a bundle",
    )
    parser.add_argument("--tolerance", type=float, help="largest absolute error that passes")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--html", metavar="FILE", help="write a report, one file without links")
    parser.add_argument("--runs-table", action="store_true", help="list every way of running")
    add_input_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Validate and print; 0 passed, 1 failed or would prove nothing."""
    reference: str | Reference | None = arguments.reference
    if arguments.tolerance is not None and not arguments.tolerance >= 0:
        raise ValueError(f"--tolerance must be a number from 0, got {arguments.tolerance}")
    check_writable(arguments.html)
    if arguments.against:
        if reference:
            raise ValueError("--reference and --against are two references: take one")
        reference = live_reference(arguments, arguments.against, layers=True, values=False)
    bar = Bar(erased=True)
    try:
        report = validate(arguments.model, reference, tolerance=arguments.tolerance, progress=bar)
    finally:
        bar.close()
    if arguments.html:
        from vledge.validation.report.html import html

        write_text(arguments.html, html(report))
    if arguments.json:
        print(json.dumps(report.as_json(), indent=1))
    else:
        print(text(report, arguments.runs_table))
        if arguments.html:
            print(f"report: {arguments.html}")
    return 0 if report.proven else 1


def text(report: Report, every_run: bool = False) -> str:
    """The report for a terminal."""
    runs = counted(report.cases, "run")
    if report.lengths:
        steps = f"{min(report.lengths)} to {max(report.lengths)} steps"
        runs += f", {counted(len(report.lengths), 'sequence')} of {steps}"
    lines = [
        f"{report.model} against {report.reference}",
        f"  reference  {versions(report.made_by)}; {runs}",
        f"  paths      {len(report.runs)}: {_paths(report)}",
        *_left_out(report),
        *(f"  note       {note}" for note in report.notes),
        "",
        rows(_table(report), indent="", right=(1, 2, 3, 4, 5)),
    ]
    why = {c.tolerance.why: c.name for c, _ in report.worst()}
    lines += ["", f"tolerance: {next(iter(why), 'none')}" + (", …" if len(why) > 1 else "")]
    if every_run:
        lines += ["", rows(_runs(report), right=(1,))]
    failed = [one for one in report.runs if not one.passed]
    if not failed and report.unproven:
        agree = "NO PROOF: every path agrees with the reference, but"
        return "\n".join([*lines, *textwrap.wrap(f"{agree} {'; '.join(report.unproven)}", 96)])
    if not failed:
        return "\n".join([*lines, "passed"])
    lines.append(f"FAILED in {len(failed)} of {len(report.runs)} paths")
    errors = {one.error for one in failed if one.error}
    lines += [f"  {error}" for error in sorted(errors)]
    if len(failed) < len(report.runs):
        lines += [f"  {one.path}" for one in failed]
    if report.diagnosis:
        lines += ["", *textwrap.wrap(report.diagnosis.summary, 96)]
    return "\n".join(lines)


def _paths(report: Report) -> str:
    sets = [
        dict.fromkeys(getattr(one.path, key) for one in report.runs)
        for key in ("strategy", "isa", "threads", "projection")
    ]
    words = [", ".join(map(str, values)) for values in sets]
    return f"{words[0]}; {words[1]}; {words[2]} threads; {words[3]}"


def _left_out(report: Report) -> list[str]:
    """A line for each reason."""
    reasons = dict.fromkeys(report.left_out.values())
    names = {why: [n for n, own in report.left_out.items() if own == why] for why in reasons}
    return [f"  left out   {', '.join(names[why])}: {why}" for why in reasons]


def _table(report: Report) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = [
        ("output", "abs", "rel", "ULP", "x ref", "tolerance", "worst at", "same answer", "")
    ]
    for comparison, _ in report.worst():
        own = comparison.of_own_error
        place = " ".join(f"{key} {value}" for key, value in comparison.worst.items())
        lines.append(
            (
                comparison.name,
                _short(comparison.absolute),
                _short(comparison.relative),
                f"{comparison.ulp:.3g}",
                "" if own is None else f"{own:.3g}",
                _short(comparison.tolerance.absolute),
                comparison.problem or place,
                _answers(comparison),
                "" if comparison.passed else "FAILS",
            )
        )
    return lines


def _answers(comparison: Comparison) -> str:
    return (
        f"{comparison.same_answer[0]} of {comparison.same_answer[1]}"
        if comparison.same_answer
        else ""
    )


def _runs(report: Report) -> list[tuple[str, str, str]]:
    return [
        (str(one.path), f"{one.seconds * 1e3:.1f} ms", "" if one.passed else "FAILS")
        for one in report.runs
    ]


def _short(value: float) -> str:
    return f"{value:.1e}" if np.isfinite(value) else str(value)
