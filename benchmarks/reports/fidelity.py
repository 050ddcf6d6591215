"""What ``benchmarks.fidelity`` measured, as lines of text and as docs/fidelity.md."""

from __future__ import annotations

from typing import Any

__all__ = ["STATISTICS", "markdown", "passes", "ratios", "text_row"]

STATISTICS = ("median", "worst")


def ratios(record: dict[str, Any], runtime: str = "vledge") -> dict[str, float]:
    """A runtime's error over the better one's of the others, of the median and of the worst.

    1 if both are exact.
    """
    found = {}
    for statistic in STATISTICS:
        errors = record[statistic]
        ours = errors[runtime]
        best = min(error for name, error in errors.items() if name != runtime)
        found[statistic] = ours / best if best else (1.0 if ours == 0 else float("inf"))
    return found


def passes(record: dict[str, Any], goal: float, runtime: str = "vledge") -> bool:
    """Written so that NaN fails."""
    return all(ratio <= goal for ratio in ratios(record, runtime).values())


def text_row(record: dict[str, Any], goal: float) -> str:
    """One line: the errors of each runtime and our ratio."""
    cells = [f"{record['cell']:<4} {record['hidden_size']:>4} {record['length']:>6}"]
    cells += [f"{record['family']:<10} {record['part']:<3}"]
    found = ratios(record)
    for statistic in STATISTICS:
        errors = " ".join(f"{error:8.1e}" for error in record[statistic].values())
        cells.append(f"{statistic} {errors} x{found[statistic]:<5.2f}")
    return "  ".join(cells) + ("" if passes(record, goal) else "  FAILS")


def markdown(
    records: list[dict[str, Any]], machine: dict[str, Any], families: dict[str, str], goal: float
) -> str:
    """The whole page."""
    failing = [record for record in records if not passes(record, goal)]
    lines = [
        "# Fidelity",
        "",
        "What float32 costs: the error of vledge, PyTorch and ONNX Runtime on the same weights",
        "and inputs, against the cell's definition in float64.",
        "Made by `python -m benchmarks.fidelity`; edits are lost.",
        "",
        f"Goal: ours at most {goal} × the better of the two, median and worst, in every row.",
        f"**{len(records) - len(failing)} of {len(records)} rows reach it.**",
        "",
    ]
    if failing:
        lines += ["Rows that do not:", "", *_table(failing), ""]
    lines += ["## How", ""]
    lines += [f"- {name}: {said}" for name, said in machine.items() if not name.startswith("note")]
    lines += [
        "- One layer, one direction, input_size = hidden_size = H, zero initial state, one thread.",
        "- Errors are absolute, over all steps, sequences and units of `y`, or of `c_n` after the",
        "  last step: their median, and the worst of them. 16 sequences at H = 16, 8 at 64, 4 at",
        "  256, 1 at 1024.",
        "- Weights and inputs are drawn several times, the same for all three; how often depends",
        "  on what a draw costs, and is in the table. *median* is the median of the draws'",
        "  medians, *worst* the geometric mean of the draws' worst errors.",
        "- Why a mean of logarithms: in a chaotic layer (*large*) the worst error is a rounding",
        "  that grew from step to step, and lies powers of ten apart from draw to draw, with every",
        "  runtime ahead in some. The median of five draws, which this page had at first, is a",
        "  lottery there: taken anew out of 101 draws of RNN, H = 16, 100 steps, it failed in 44",
        "  of 100 tries, the geometric mean of all draws in 2. That was decided on other draws",
        "  than these.",
        "- 256 units have nine draws of 10,000 steps since three gave one row that failed: GRU,",
        "  *saturating*, whose median errors are far below a float32's last place, 1.8 times",
        "  torch's with three draws, 1.3 with fifteen.",
        "- The ratio is ours over the smaller of the other two, separately for median and worst.",
        "  *95 %* says where the ratio of the worst is in 95 of 100 tries with as many draws,",
        "  taken again out of the same ones (bootstrap).",
        f"- {_controls(records, goal)}",
        "",
        *[f"- **{name}**: {said}." for name, said in families.items()],
        "",
        "## All rows",
        "",
        *_table(records),
        "",
    ]
    return "\n".join(lines)


def _controls(records: list[dict[str, Any]], goal: float) -> str:
    """How the peers do by our measure."""
    counts = [sum(passes(r, goal, name) for r in records) for name in ("torch", "onnxruntime")]
    return (
        f"By the same measure, against the better of the other two: torch reaches {counts[0]} of\n"
        f"  {len(records)} rows, onnxruntime {counts[1]}."
    )


def _table(records: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| cell | H | steps | weights | of | draws | median: vledge | torch | onnxruntime | ratio "
        "| worst: vledge | torch | onnxruntime | ratio | 95 % |",
        "|---|---:|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for record in records:
        cells = [record["cell"], record["hidden_size"], f"{record['length']:,}"]
        cells += [record["family"], record["part"], record["draws"]]
        found = ratios(record)
        for statistic in STATISTICS:
            cells += [f"{error:.1e}" for error in record[statistic].values()]
            cells.append(f"{found[statistic]:.2f}")
        interval = record["interval"]
        cells.append("" if interval is None else f"{interval[0]:.2f}–{interval[1]:.2f}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines
