"""``python -m benchmarks.peers.environments``: a virtual environment for each peer that brings what
collides with others, under ``build/peers``. `elsewhere` runs them there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv

from benchmarks.peers.apart import ENVIRONMENTS, FOLDER, interpreter

__all__ = ["main"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.environments")
    parser.description = "Set up environments for peers that collide with others."
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"({' '.join(ENVIRONMENTS)})")
    names = parser.parse_args().peers or list(ENVIRONMENTS)
    if unknown := [name for name in names if name not in ENVIRONMENTS]:
        parser.error(f"no environment for {unknown[0]!r}; there are {', '.join(ENVIRONMENTS)}")
    failed = []
    for name in names:
        print(f"{name}: {', '.join(ENVIRONMENTS[name])} into {FOLDER / name}", flush=True)
        venv.create(FOLDER / name, with_pip=True)
        pip = [interpreter(name), "-m", "pip", "install", "--quiet", *ENVIRONMENTS[name]]
        if subprocess.run(pip, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"not set up: {', '.join(failed)} (pip says why above)", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
