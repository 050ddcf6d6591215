"""What ``benchmarks.fidelity`` measured, as lines of text and as docs/fidelity.md."""

from __future__ import annotations

from typing import Any

__all__ = ["STATISTICS", "markdown", "ratios", "text_row"]

STATISTICS = ("median", "worst")


def ratios(record: dict[str, Any]) -> dict[str, float]:
    """Our error over the better peer's, of the median and of the worst; 1 if both are exact."""
    found = {}
    for statistic in STATISTICS:
        errors = record[statistic]
        ours, best = errors["vledge"], min(errors["torch"], errors["onnxruntime"])
        found[statistic] = ours / best if best else (1.0 if ours == 0 else float("inf"))
    return found


def passes(record: dict[str, Any], goal: float) -> bool:
    """Written so that NaN fails."""
    return all(ratio <= goal for ratio in ratios(record).values())


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
        "  last step. 16 sequences at H = 16, 8 at 64, 4 at 256, 1 at 1024. Each figure is the",
        "  median of five draws of weights and inputs, as one worst error is an accident; 10,000",
        "  steps are drawn once.",
        "- The ratio is ours over the smaller of the other two, separately for median and worst.",
        "",
        *[f"- **{name}**: {said}." for name, said in families.items()],
        "",
        "## All rows",
        "",
        *_table(records),
        "",
    ]
    return "\n".join(lines)


def _table(records: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| cell | H | steps | weights | of | median: vledge | torch | onnxruntime | ratio "
        "| worst: vledge | torch | onnxruntime | ratio |",
        "|---|---:|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for record in records:
        cells = [record["cell"], record["hidden_size"], f"{record['length']:,}"]
        cells += [record["family"], record["part"]]
        found = ratios(record)
        for statistic in STATISTICS:
            cells += [f"{error:.1e}" for error in record[statistic].values()]
            cells.append(f"{found[statistic]:.2f}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines
