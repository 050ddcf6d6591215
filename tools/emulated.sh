#!/bin/sh
# Kernels of instruction sets that this x86-64 CPU lacks (AVX-512, VNNI), in a copy of the tree: a build that has
# them lane by lane (ext/simd/sets/emulated.h), and the tests that force every set. A CPU that has them needs none of this.
# usage: tools/emulated.sh PYTHON [pytest's arguments]
#
# PYTHON has the test extra. The build takes minutes, and so do the tests: emulated vectors are slow.
set -eu
python=$1
shift
case $python in /*) ;; *) python=$PWD/$python ;; esac
grep -q avx2 /proc/cpuinfo || { echo "emulated.sh: AVX-512 is emulated by AVX2, which this CPU lacks" >&2; exit 1; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$place"
cd "$place"
if command -v ccache > /dev/null; then export CC="ccache gcc" CCACHE_NOHASHDIR=1; fi
VLEDGE_EMULATE=1 "$python" setup.py -q build_ext --inplace -j2
[ $# -gt 0 ] || set -- tests/kernels tests/quantization tests/program/test_convolution.py tests/program/test_integer.py
PYTHONPATH=$place "$python" -m pytest -q -p no:cacheprovider "$@"
