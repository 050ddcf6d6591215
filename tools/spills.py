"""Look for vector registers that the compiler spills inside the kernels' innermost loops.

    python tools/spills.py        (x86-64, gcc and objdump)

Compiles ext/simd/sets/table_*_f32.c as setup.py does, finds the k loops (tiles, pairs of groups),
those of convolutions and IndRNN's over time (relu) in the disassembly, and lists each that touches
the stack with a vector register. Exit status 1 if any does, or if a kind of kernel is not found.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fPIC"]
EXT = Path(__file__).resolve().parent.parent / "ext"


def loops(text: str):
    """(function, instructions) of every innermost backward jump's body."""
    for function in re.split(r"\n(?=[0-9a-f]+ <)", text):
        head = re.match(r"[0-9a-f]+ <(\w+)>:", function)
        lines = [re.match(r"\s*([0-9a-f]+):\s+(.*)", line) for line in function.splitlines()]
        code = [(int(m[1], 16), m[2]) for m in lines if m]
        place = {address: i for i, (address, _) in enumerate(code)}
        jumps = []
        for i, (_, instruction) in enumerate(code):
            jump = re.match(r"j\w+\s+([0-9a-f]+)", instruction)
            if jump and place.get(int(jump[1], 16), i) < i:
                jumps.append((place[int(jump[1], 16)], i))
        for start, end in jumps:
            leaves = (re.match(r"jmp\s+([0-9a-f]+)", text) for _, text in code[start:end])
            inside = range(code[start][0], code[end][0] + 1)
            if any(jump and int(jump[1], 16) not in inside for jump in leaves):
                continue  # a loop's prologue or epilogue, laid out behind it
            if not any(start <= s and e <= end and (s, e) != (start, end) for s, e in jumps):
                yield head[1] if head else "?", [text for _, text in code[start : end + 1]]


# Functions with loops that keep their sums in registers; the larger of vl_stretch_ do not quite.
KERNELS = (
    "vl_tile_",
    "vl_near_pair_",
    "vl_far_pair_",
    "vl_slide_",
    "vl_winograd_",
    "vl_kernel_indrnn_relu",
)


def kernel_of(function: str, body: list[str]) -> str | None:
    """Which of KERNELS a loop is, of products and sums from memory; not yet tanh: its constants may
    well be on the stack."""
    named = (kernel for kernel in KERNELS if function.startswith(kernel))
    return next(named, None) if any("fmadd" in i or "mulp" in i for i in body) else None


def main() -> int:
    spilled = 0
    checked = dict.fromkeys(KERNELS, 0)
    with tempfile.TemporaryDirectory() as folder:
        for isa in ("baseline", "avx2", "avx512"):
            target = Path(folder) / f"{isa}.o"
            source = EXT / "simd" / "sets" / f"table_{isa}_f32.c"
            subprocess.run(["gcc", *FLAGS, "-I", EXT, "-c", source, "-o", target], check=True)
            text = subprocess.run(
                ["objdump", "-d", "--no-show-raw-insn", target], capture_output=True, text=True
            ).stdout
            for function, body in loops(text):
                if kernel := kernel_of(function, body):
                    checked[kernel] += 1
                    stack = [i for i in body if "mm" in i and "(%rsp" in i]
                    if stack:
                        spilled += 1
                        print(f"{isa} {function}: {len(stack)} of {len(body)}: {stack[0]}")
    print(f"{sum(checked.values())} loops, {spilled} with vector spills")
    gone = [kernel for kernel, loops in checked.items() if not loops]
    if gone:
        print(f"no loops in {', '.join(gone)}: has their name changed?")
    return 1 if spilled or gone else 0


if __name__ == "__main__":
    sys.exit(main())
