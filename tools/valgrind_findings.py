"""``python tools/valgrind_findings.py LOG``: memcheck's reports with a frame of ours; 1 if any."""

import re
import sys
from pathlib import Path

reports: list[list[str]] = [[]]
for line in Path(sys.argv[1]).read_text(errors="replace").splitlines():
    text = re.sub(r"^==\d+== ?", "", line)
    if text.strip():
        reports[-1].append(text)
    elif reports[-1]:
        reports.append([])
ours = [r for r in reports if any("_ext/" in line or " vl_" in line for line in r)]
others = sum(bool(report) for report in reports) - len(ours)
for report in ours:
    print(*report, "", sep="\n")
print(f"valgrind: {len(ours)} reports in vledge's code, {others} in others'")
sys.exit(bool(ours))
