#!/bin/sh
# The compiled code under sanitizers, in a copy of the tree: kernels, operators, streams, lengths and sessions.
# usage: tools/sanitize.sh PYTHON [address | threads | valgrind | all] [--long]
#
# PYTHON has the test extra; the compiler is gcc. `address` is address and undefined-behaviour sanitizers over
# everything compiled; `threads` the thread sanitizer over the pool of threads, by a C program of its own;
# `valgrind` a short list under memcheck. Without --long each takes minutes, as CI runs them.
set -eu
python=$1
what=${2:-all}
long=${3:-}
case $python in /*) ;; *) python=$PWD/$python ;; esac
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$place"
cd "$place"
gcc=gcc
optimized=${OPTIMIZED:--O1}    # a third of the time that the compiler takes for -O3; -O0 a third of that
if command -v ccache > /dev/null; then gcc="ccache gcc"; fi

# The hostile arguments first: they reach every door. What is left out measures memory or time.
tests="tests/kernels tests/packing/test_packing.py tests/lengths tests/program tests/streaming/test_layers.py
    tests/streaming/test_overlap.py tests/streaming/test_sessions.py tests/streaming/test_session_steps.py
    tests/graph/test_operator_fuzz.py tests/graph/test_hostile_nodes.py tests/graph/test_recurrent.py tests/graph/test_session.py
    tests/quantization tests/scoring/test_scorer.py"
if [ "$long" = --long ]; then
    tests="tests/kernels tests/packing/test_packing.py tests/lengths tests/program tests/streaming tests/graph
        tests/nn tests/quantization tests/scoring tests/formats"
fi
left_out="not decaying_state_is_not_slow and not no_memory and not allocat and not memory and not ctrl_c"

# Instruction sets that this machine has not are compiled as everywhere, out of the compiler cache: nothing runs them.
cat > "$place/compiler" << END
#!/bin/sh
case " \$* " in
*" -c "*avx512*) grep -q avx512bw /proc/cpuinfo || plain=1 ;;
*" -c "*avxvnni*) grep -q avx_vnni /proc/cpuinfo || plain=1 ;;
esac
if [ -n "\${plain:-}" ]; then
    for argument; do
        shift
        case \$argument in
        -fsanitize* | -fno-sanitize* | -fno-omit-frame-pointer) ;;
        "$optimized") set -- "\$@" -O3 ;;
        *) set -- "\$@" "\$argument" ;;
        esac
    done
fi
exec $gcc "\$@"
END
chmod +x "$place/compiler"

build() {   # FLAGS
    "$python" -m pip install --quiet 'setuptools>=77' 'cython>=3.0.10,<4'
    sed -i "s/\"-O3\"/\"$optimized\"/" setup.py
    CC="$place/compiler" CFLAGS="$1 -fno-omit-frame-pointer" LDFLAGS="$1" \
        "$python" setup.py -q build_ext --inplace -j2
}

if [ "$what" = threads ] || [ "$what" = all ]; then
    $gcc -std=gnu11 -O1 -g -fsanitize=thread -Iext tools/pool_races.c ext/recurrent/pool.c ext/recurrent/barrier.c \
        ext/recurrent/parking.c ext/recurrent/scratch.c \
        ext/recurrent/limits.c -o pool_races -pthread
    TSAN_OPTIONS=halt_on_error=1 ./pool_races "$([ "$long" = --long ] && echo 200000 || echo 5000)"
fi

if [ "$what" = address ] || [ "$what" = all ]; then
    build "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
    # CPython itself leaks on purpose; its allocator is bypassed so that every array is guarded; what is
    # too large for any memory is refused as it is without the sanitizer. Reports go to stderr itself: what pytest
    # captures there would be lost with the process.
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
        LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
        "$python" -m pytest -q -p no:cacheprovider --capture=sys -k "$left_out" $tests
fi

if [ "$what" = valgrind ] || [ "$what" = all ]; then
    if ! command -v valgrind > /dev/null; then
        echo "valgrind: not installed, left out"
        exit 0
    fi
    rm -rf build vledge/_ext/*.so
    build "-O1"
    PYTHONMALLOC=malloc valgrind --quiet --log-file=valgrind.log --num-callers=30 \
        "$python" -m pytest -q -p no:cacheprovider -x "tests/kernels/test_hostile_arguments.py" -k "in_this_process"
    # CPython and NumPy are others' to mend: ours is what has a frame of a compiled module of vledge in it
    "$python" tools/valgrind_findings.py valgrind.log
fi
