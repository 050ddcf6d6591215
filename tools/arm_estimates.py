"""Estimate, without a board, what the kernels' loops cost on the cores of small Arm computers.

    apt install llvm-19 gcc-aarch64-linux-gnu binutils-aarch64-linux-gnu        (Debian)
    python tools/arm_estimates.py

Compiles ext/simd/sets/table_neon_f32.c and bytes_neondots.c as setup.py does, takes the LSTM's k
loops and then one loop of each other family of kernels, and asks llvm-mca's models of the cores for
their cycles; of a core that lacks a loop's instructions there is none. Nothing
here is measured: no cache misses, no memory, a core at its highest clock.
"""

import argparse
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

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
TILES = {"LSTM, one row": ("vl_near_pair_4x4", 8), "LSTM, five rows": ("vl_tile_5x4", 20)}

# core -> llvm-mca's model of it
CORES = {"A53": "cortex-a53", "A55": "cortex-a55", "A72": "cortex-a72", "A76": "neoverse-n1"}
# What a loop gets done, by the instructions that do it: pattern -> how many.
PRODUCTS = {r"fmla\s+v\d+\.4s": 4, r"[su]mlal2?\s+v\d+\.4s": 4, r"mul\s+v\d+\.8h": 8}
# of bytes; where x has 16 bits, a product is one of its lower byte and one of its upper
DOTS = {r"[su]dot\s+v\d+\.4s": 16}
PLANES = {pattern: n // 2 for pattern, n in DOTS.items()}
WITH_DOTS = {"A55", "A76"}
STORED = {r"str\s+q": 4, r"stp\s+q": 8}
# the power of two in an exponential; one that reaches to infinity and zero has it in two halves
EXPONENTIALS = {r"shl\s+v\d+\.4s, v\d+\.4s, #23": 4}
WHOLE_EXPONENTIALS = {pattern: n // 2 for pattern, n in EXPONENTIALS.items()}


class Loop(NamedTuple):
    """Of a function's loops the one that gets most done; where ``sums`` are given, of those with so
    many that which reads most: one row reads more than two rows of half the width."""

    function: str
    counts: dict[str, int]
    sums: int | None = None


LOOPS = {
    "convolution's segments, 5 pixels × 4": Loop("vl_slide_5x4", PRODUCTS),
    "Winograd's product, 3 tiles × 3": Loop("vl_winograd_3x3", PRODUCTS),
    "depthwise, 3 × 3": Loop("vl_stretch_3x3", PRODUCTS),
    "depthwise, 8 outputs × 5 taps": Loop("vl_stretch_8x5", PRODUCTS),
    "bytes × bytes, by pairs": Loop("vl_kernel_integers", PRODUCTS),
    "bytes × bytes, by pairs, one row": Loop("vl_kernel_integers", PRODUCTS, 4),
    "bytes × bytes, by dots": Loop("vl_integers_neondots", DOTS),
    "bytes × bytes, by dots, one row": Loop("vl_integers_neondots", DOTS, 4),
    "small weights, by pairs": Loop("vl_pairs_product", PRODUCTS),
    "int16, by pairs, one row": Loop("vl_pairs_product", PRODUCTS, 4),
    "int8, by dots": Loop("vl_small_neonplanes_product", PLANES),
    "int8, by dots, one row": Loop("vl_small_neonplanes_product", PLANES, 8),
    "int8-fast, by dots": Loop("vl_small_neondots_product", DOTS),
    "int8-fast, by dots, one row": Loop("vl_small_neondots_product", DOTS, 4),
    "chain: add": Loop("vl_micro_add", STORED),
    "chain: exp": Loop("vl_micro_exp", STORED),
    "chain: tanh": Loop("vl_micro_tanh", STORED),
    "chain: sigmoid": Loop("vl_micro_sigmoid", STORED),
    "softmax's exponentials": Loop("vl_kernel_softmax", WHOLE_EXPONENTIALS),
    "norms' last pass": Loop("vl_kernel_norm", STORED),
    "transposer": Loop("vl_kernel_transpose", STORED),
    "LSTM's exponentials": Loop("vl_lstm_finish", EXPONENTIALS),
}


def loops() -> dict[str, list[list[str]]]:
    """Function -> the innermost backward jumps' bodies, as assembler text."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "neon.o"
        text = ""
        for name in ("table_neon_f32.c", "bytes_neondots.c"):
            source = EXT / "simd" / "sets" / name
            subprocess.run(
                [CROSS + "gcc", *FLAGS, "-I", EXT, "-c", source, "-o", target], check=True
            )
            text += subprocess.run(
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


def sums_of(body: list[str]) -> int:
    """How many different registers a loop adds products to."""
    adds = r"(?:fmla|[us]dot|[su]mlal2?|[su]adalp)\s+(v\d+)"
    return len({m[1] for text in body if (m := re.match(adds, text))})


def reads(body: list[str]) -> int:
    """How many registers a loop loads, and widens of them."""
    each = {r"ldp\s": 2, r"ldu?r\s|ld1": 1, r"[su]xtl": 1}
    return done(body, each)


def k_loop(bodies: list[list[str]], sums: int) -> list[str]:
    """The loop that adds to that many different registers."""
    for body in bodies:
        if sums_of(body) == sums:
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


def done(body: list[str], counts: dict[str, int]) -> int:
    """How much of what counts a pass of a loop gets done."""
    return sum(n for text in body for pattern, n in counts.items() if re.match(pattern, text))


def print_families(mca: str, found: dict[str, list[list[str]]]) -> None:
    """Of each family the loop that does most, on all cores."""
    print("| loop | instructions | a pass does | " + " | ".join(CORES) + " |")
    print("|---|--:|---|" + "--:|" * len(CORES))
    for name, (function, counts, sums) in LOOPS.items():
        bodies = [body for body in found[function] if sums in (None, sums_of(body))]
        body = max(bodies, key=lambda body: (done(body, counts), reads(body) if sums else 0))
        amount = done(body, counts)
        if not amount:
            raise SystemExit(f"nothing that counts in {function}'s loops")
        uses_dots = counts in (DOTS, PLANES)
        rates = (
            "-"
            if uses_dots and core not in WITH_DOTS
            else f"{amount / cycles(mca, cpu, body)[0]:.2f}"
            for core, cpu in CORES.items()
        )
        what = "products" if uses_dots or counts is PRODUCTS else "numbers"
        print(f"| {name} | {len(body)} | {amount} {what} | " + " | ".join(rates) + " |")


def main() -> None:
    """Print the tables of docs/records/arm.md."""
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
    print()
    print_families(mca, found)


if __name__ == "__main__":
    main()
