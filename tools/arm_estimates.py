"""Estimate, without a board, what the k loop of the kernels costs on the Raspberry Pis' cores.

    python tools/arm_estimates.py --mca llvm-mca-19     (and Debian's gcc-aarch64-linux-gnu)

Compiles ext/simd/sets/table_neon_f32.c as setup.py does, takes the LSTM's k loops, and asks
llvm-mca's models of the cores for their cycles. Nothing here is measured: no cache misses, no
memory, a core at its highest clock.
"""

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

from spills import EXT, FLAGS

CROSS = "aarch64-linux-gnu-"
TRIPLE = "aarch64-linux-gnu"
# board -> (core, llvm-mca's model of it, GHz)
BOARDS = {
    "Zero 2 W": ("Cortex-A53", "cortex-a53", 1.0),
    "Pi 3 B+": ("Cortex-A53", "cortex-a53", 1.4),
    "Pi 4": ("Cortex-A72", "cortex-a72", 1.8),
    "Pi 5": ("Cortex-A76", "neoverse-n1", 2.4),
}
# name -> (function of tile.h, sums); one row's loop runs two panels
TILES = {"LSTM, one row": ("vl_near_pair_4", 8), "LSTM, five rows": ("vl_tile_5x4", 20)}


def loops() -> dict[str, list[list[str]]]:
    """Function -> the innermost backward jumps' bodies, as assembler text."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "neon.o"
        source = EXT / "simd" / "sets" / "table_neon_f32.c"
        subprocess.run([CROSS + "gcc", *FLAGS, "-I", EXT, "-c", source, "-o", target], check=True)
        text = subprocess.run(
            [CROSS + "objdump", "-d", "--no-show-raw-insn", target],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    found: dict[str, list[list[str]]] = {}
    for function in re.split(r"\n(?=[0-9a-f]+ <)", text):
        head = re.match(r"[0-9a-f]+ <(\w+)>:", function)
        if not head:
            continue
        lines = [re.match(r"\s*([0-9a-f]+):\s+(.*)", line) for line in function.splitlines()]
        code = [(int(m[1], 16), m[2]) for m in lines if m]
        place = {address: i for i, (address, _) in enumerate(code)}
        for i, (_, instruction) in enumerate(code):
            jump = re.match(r"(?:b\.\w+|cbn?z\s+\w+,)\s+([0-9a-f]+)", instruction)
            start = place.get(int(jump[1], 16), i) if jump else i
            body = [text for _, text in code[start:i]]
            if start < i and not any(re.match(r"b[. ]|cbn?z|ret", text) for text in body):
                found.setdefault(head[1], []).append(body)
    return found


def k_loop(bodies: list[list[str]], sums: int) -> list[str]:
    """The loop that adds to that many different registers."""
    for body in bodies:
        targets = {m[1] for text in body if (m := re.match(r"fmla\s+(v\d+)", text))}
        if len(targets) == sums:
            return body
    raise SystemExit(f"no k loop with {sums} sums in the tile's code")


def cycles(mca: str, cpu: str, body: list[str]) -> tuple[float, str]:
    """Cycles of one pass, and what llvm-mca says holds it back."""
    assembler = "\n".join(re.sub(r"\s+(//|<).*", "", text) for text in body)
    done = subprocess.run(
        [mca, f"-mtriple={TRIPLE}", f"-mcpu={cpu}", "-iterations=200", "-bottleneck-analysis"],
        input=assembler,
        capture_output=True,
        text=True,
        check=True,
    )
    total = float(re.search(r"Total Cycles:\s+(\d+)", done.stdout)[1]) / 200
    shares = re.findall(r"(Resource Pressure|Data Dependencies):?\s+\[ ([\d.]+)% \]", done.stdout)
    worst = max(shares, key=lambda share: float(share[1]), default=("", "0"))
    bound = worst[0].lower() if float(worst[1]) > 20 else "issue width"
    if "in-order CPU" in done.stderr:
        bound = "order"  # of instructions: llvm-mca has no analysis of such a core
    return total, bound


def main() -> None:
    """Print the table of docs/records/arm.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mca", default="llvm-mca-19")
    mca = parser.parse_args().mca
    found = loops()
    print("| board | core | k loop | FMAs | cycles | bound by | GFLOP/s of one core | of peak |")
    print("|---|---|---|--:|--:|---|--:|--:|")
    for board, (core, cpu, clock) in BOARDS.items():
        for name, (function, sums) in TILES.items():
            body = k_loop(found[function], sums)
            fmas = sum(text.startswith("fmla") for text in body)
            took, bound = cycles(mca, cpu, body)
            speed = fmas * 8 / took * clock
            # the A53 and A72 begin one vector FMA a cycle or less, the A76 two
            peak = {"Cortex-A53": 8, "Cortex-A72": 8, "Cortex-A76": 16}[core] * clock
            print(
                f"| {board}, {clock} GHz | {core} | {name} | {fmas} | {took:.1f} | {bound} "
                f"| {speed:.1f} | {speed / peak:.0%} |"
            )


if __name__ == "__main__":
    main()
