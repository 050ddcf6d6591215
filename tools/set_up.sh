#!/bin/sh
# Makes the environment that the Makefile's commands run in: a venv with vledge in it, compiled from this
# tree and installed editable. Says from the first second what it does. Run it again at any time: what is
# there is kept, what was left half-made is mended.
#
# usage: tools/set_up.sh PYTHON VENV [EXTRAS]     EXTRAS: of pyproject.toml, such as "test,docs"
set -eu
python=$1 venv=$2 extras=${3:-}
made=$venv/.made # the last step of making it: a folder alone says nothing
say() { printf '%s\n' "$*"; }
missing() {
    if command -v apt-get >/dev/null; then
        say "$1: sudo apt install $2" >&2
    else
        say "$1 ($2 in Debian): install it and try again" >&2
    fi
    exit 1
}

check_tools() {
    command -v "$python" >/dev/null || missing "there is no $python here" "python3 python3-venv python3-dev"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        { say "$("$python" --version) is too old: vledge needs Python 3.10 or newer (make PYTHON=python3.12)" >&2 && exit 1; }
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        missing "$python cannot make environments, its modules venv and ensurepip are missing" python3-venv
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        missing "Python.h is missing, which the compiled part needs" python3-dev
    compiler=${CC:-cc} # it may have arguments, as "ccache gcc" has
    command -v "${compiler%% *}" >/dev/null || missing "there is no C compiler here (${CC:-cc})" gcc
}

# Once more over a folder that is there takes nothing away from it; only one whose pip does not run is emptied.
make_venv() {
    say "Making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install 'setuptools>=77,<90' 'cython>=3.0.10,<4' 'numpy>=2.0,<3'
    touch "$made"
}

# As many compilers at a time as there are processors, and memory for: the largest file takes 300 MB.
jobs() {
    "$venv/bin/python" -c 'import os, re
try:
    free = int(re.search(r"MemAvailable: +(\d+) kB", open("/proc/meminfo").read())[1]) * 1024
except (OSError, TypeError):
    free = 0
print(max(1, min(os.cpu_count() or 1, free // 400_000_000)))'
}

check_tools
[ -e "$made" ] || make_venv
jobs=$(jobs)
say "Compiling with ${CC:-cc}, $jobs at a time; the first time takes some minutes, on a small board many"
# -w: a compiler's remarks are for those who change the sources; this one is for those who use them
CFLAGS="${CFLAGS:-} -w" "$venv/bin/python" setup.py -q build_ext --inplace -j "$jobs"
"$venv/bin/python" -m pip install --no-build-isolation -e ".${extras:+[$extras]}"
