#!/bin/sh
# Builds the extension with the address and undefined-behaviour sanitizers in a copy of the tree and
# runs the kernel and packing tests on it.
# usage: tools/sanitize.sh PYTHON   (a Python with the test extra; the compiler is gcc)
set -eu
python=$1
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$place"
case $python in /*) ;; *) python=$PWD/$python ;; esac
cd "$place"
"$python" -m pip install --quiet 'setuptools>=77' 'cython>=3.0.10,<4'
CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g" \
    LDFLAGS="-fsanitize=address,undefined" "$python" setup.py -q build_ext --inplace
# CPython itself leaks on purpose; its allocator is bypassed so that every array is guarded; what is
# too large for any memory is refused as it is without the sanitizer
ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    "$python" -m pytest -q -p no:cacheprovider tests/kernels tests/packing/test_packing.py \
    --deselect tests/kernels/test_threads.py::test_decaying_state_is_not_slow
