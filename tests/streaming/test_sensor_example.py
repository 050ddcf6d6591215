"""examples/sensor_anomaly.py as a user runs it: an alarm for each fault, none besides."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAULTS = (15.0, 30.0, 45.0)


def test_the_faults_are_found_and_nothing_else():
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "sensor_anomaly.py", "--fast"],
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    lines = done.stdout.splitlines()
    alarms = [float(t) for t in re.findall(r"[\d.]+", lines[-2])]
    assert len(alarms) == len(FAULTS)
    for alarm, fault in zip(alarms, FAULTS, strict=True):
        assert 0 <= alarm - fault < 0.1
    plotted = [line for line in lines if "│" in line or "┃" in line]
    assert len(plotted) == 120
    loud = [line for line in plotted if line.endswith("ALARM")]
    assert 3 <= len(loud) <= 16
    assert all("┃" in line for line in loud)
