"""What the drawings of a report count, and how a stream's errors are laid out."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from vledge.validation import Case, Reference
from vledge.validation.reference.compare import compare, tolerance_of
from vledge.validation.report.html import _by_length, _histogram, html
from vledge.validation.report.svg import bars
from vledge.validation.running.paths import Path
from vledge.validation.validate import Report, Run


def test_every_error_is_in_a_bar():
    errors = np.array([0, 0, 3e-20, 2e-13, 5e-8, 9e-7, 1e-6, np.inf])
    counts, labels = _histogram(errors)
    assert sum(counts) == errors.size
    assert labels == ["0", "≤1e-13", *(f"1e{power}" for power in range(-12, -5)), "not finite"]
    assert counts[1] == 2
    assert _histogram(np.zeros(3)) == ([3], ["0"])


def test_every_length_is_in_a_bar():
    assert _by_length([10, 61, 10, 27]) == ([2, 1, 1], ["10", "27", "61"])
    lengths = list(range(1, 89))
    counts, labels = _by_length(lengths)
    assert sum(counts) == len(lengths)
    assert labels[0] == "1–8"
    assert labels[-1] == "81–88"


def test_bars_too_narrow_for_numbers_have_a_scale():
    assert ">30<" in bars([10.0, 30.0], ["1", "2"], "way", "ms")
    many = bars([30.0, *[10.0] * 49], [str(n) for n in range(50)], "way", "ms")
    assert ">30<" in many
    assert ">10<" not in many.replace('text-anchor="middle">10<', "")
    assert ">way<" in many
    assert ">586k<" in bars([585_832], ["1e-8"], "error, from", "values")


def test_what_fails_is_drawn_first_and_what_is_not_drawn_is_told():
    names = [f"value{n:02}" for n in range(12)]
    right = {name: np.zeros((4, 1, 2), np.float32) for name in names}
    axes = {name: {"time": 0, "batch": 1} for name in names}
    made = Reference([Case({}, right)], {}, axes=axes)
    wrong = {**right, names[-1]: right[names[-1]] + 1}
    found = [compare(made, n, [wrong[n]], tolerance_of(made, n)) for n in names]
    errors = {name: np.abs(array).ravel() for name, array in wrong.items()}
    run = Run(Path("batch", "avx2", 1, "tile"), 0.01, found)
    report = Report("m", "r", {"torch": "2"}, {}, 1, [4], [], [run], errors=errors)
    page = html(report)
    assert page.count("8 of 12 are drawn.") == 2
    drawings = page[page.index("Error over time") : page.index("Lengths")]
    assert names[-1] in drawings
    assert names[-2] not in drawings


def test_a_stream_s_errors_are_laid_out_run_by_run():
    cases = [Case({"s": np.zeros(1)}, {"y": np.ones((1, 2), np.float32)}) for _ in range(3)]
    stream = Reference(cases, {}, carry={"s": "y"})
    results = [case.outputs["y"] + np.float32(n / 4) for n, case in enumerate(cases)]
    assert stream.step_by_step()
    assert compare(stream, "y", results, tolerance_of(stream, "y")).over_time == [0, 0.25, 0.5]
    stream.axes = {"y": {"time": 1}}  # pieces of a stream: time is in them
    assert not stream.step_by_step()
    assert compare(stream, "y", results, tolerance_of(stream, "y")).over_time == [0.5, 0.5]


def wide_report():
    """Names as exporters write them, and every column filled."""
    names = [f"/module/encoder/layers.{n}/self_attention/LSTM_output_0" for n in range(3)]
    right = {name: np.zeros((40, 3, 9), np.float32) for name in names}
    axes = {name: {"time": 0, "batch": 1} for name in names}
    made = Reference([Case({}, right)] * 4, {"torch": "2.13", "onnxruntime": "1.32"}, axes=axes)
    wrong = [[array + np.float32(1e-3)] * 4 for array in right.values()]
    found = [compare(made, n, w, tolerance_of(made, n)) for n, w in zip(names, wrong, strict=True)]
    error = "node '/module/encoder/layers.0/self_attention/LSTM' (LSTM): sizes do not go together"
    runs = [
        Run(Path("streaming", "avx512vnni", 16, "tile"), 12.3456, found, error) for _ in range(3)
    ]
    machine = {"machine": "x86_64, Linux 6.1", "model": "A CPU of some name @ 2.45GHz"}
    checksum = "sha256:" + "0123456789abcdef" * 4
    return Report(
        "model.onnx", "model.reference.safetensors", made.made_by, machine, 4, [40] * 12, names,
        runs, date="2026-11-28 01:15 UTC", checksum=checksum,
    )  # fmt: skip


def test_a_report_says_when_where_and_of_which_file():
    report = wide_report()
    page = html(report)
    for told in (report.date, report.checksum, *report.machine.values()):
        assert told in page


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [1100, 1000])
def test_no_table_is_cut(tmp_path, width):
    """In a browser: nothing that scrolls is wider than the place it has."""
    measured = (
        "<script>document.title = 'over ' + [...document.querySelectorAll('.scroll, body')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).length</script></body>"
    )
    (tmp_path / "report.html").write_text(html(wide_report()).replace("</body>", measured))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'browser'}", f"--window-size={width},900"]
    done = subprocess.run(
        [*command, (tmp_path / "report.html").as_uri()], capture_output=True, text=True, timeout=300
    )
    assert re.search("<title>(.*?)</title>", done.stdout)[1] == "over 0"
