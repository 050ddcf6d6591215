"""What ``vledge info`` finds out about a machine, and its self-test."""

import json
import os
import platform
import subprocess
import sys
import time

import numpy as np
import pytest

from vledge.cli import main
from vledge.machine import selftest, system

# The CPUs of Pi 3 and Zero 2 W, of Pi 4 and of Pi 5, as the emulator has them.
ARM_CPUS = {
    "cortex-a53": ("neon", "pairs: 16-bit products"),
    "cortex-a72": ("neon", "pairs: 16-bit products"),
    "cortex-a76": ("neon fp16 dotprod", "dots: udot, sdot"),
}


def test_the_self_test_passes_within_a_second(capsys):
    begin = time.perf_counter()
    assert main(["info", "--json"]) == 0
    if "QEMU_CPU" not in os.environ:
        assert time.perf_counter() - begin < 3
    assert json.loads(capsys.readouterr().out)["self-test"].startswith("passed: ")


def test_a_wrong_result_is_named_and_is_status_1(capsys, monkeypatch):
    right = selftest.run

    def wrong(directions, data, sizes):
        output, h_n, c_n = right(directions, data, sizes)
        output[-1, -1] += np.float32(1e-3)
        return output, h_n, c_n

    monkeypatch.setattr(selftest, "run", wrong)
    assert main(["info"]) == 1
    assert "FAILED: lstm of 33 units on " in capsys.readouterr().out


def test_what_multiplies_integers_is_told(integers):
    way, _, instructions = system.describe()["integers"].partition(": ")
    assert way == integers[1]
    assert instructions


@pytest.mark.parametrize(
    ("bits", "machine", "features", "warned"),
    [
        (32, "aarch64", "neon vfpv4", True),
        (32, "armv8l", "neon vfpv4", True),
        (32, "armv7l", "neon vfpv4 armv8", True),
        (32, "armv7l", "neon vfpv4", False),
        (64, "aarch64", "neon", False),
        (64, "x86_64", "sse2", False),
    ],
)
def test_a_32_bit_system_on_a_64_bit_board_is_told(monkeypatch, bits, machine, features, warned):
    monkeypatch.setattr(system.struct, "calcsize", lambda _: bits // 8)
    monkeypatch.setattr(system.platform, "machine", lambda: machine)
    monkeypatch.setattr(system.isa, "cpu_features", lambda: features)
    found = system.describe()
    assert ("64-bit CPU" in found.get("warning", "")) == warned


@pytest.mark.skipif(
    "QEMU_CPU" not in os.environ or platform.machine() != "aarch64",
    reason="CPUs can be chosen under the emulator only: tools/arm_test.sh arm64",
)
@pytest.mark.parametrize("cpu", ARM_CPUS)
def test_features_of_arm_cpus(cpu):
    """An instruction that the CPU lacks would end the process."""
    code = "from vledge.cli import main; raise SystemExit(main(['info', '--json']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"QEMU_CPU": cpu},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert (found["cpu features"], found["integers"]) == ARM_CPUS[cpu]
    assert found["self-test"].startswith("passed: ")
