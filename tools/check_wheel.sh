#!/bin/sh
# Builds the sdist, a wheel from it by plain pip as a board or piwheels does, and runs the demo from the
# wheel in an environment of its own outside the source tree: a file that is missing from either fails
# here.
# usage: tools/check_wheel.sh PYTHON   (a Python that has the package "build")
set -eu
python=$1
rm -rf dist
"$python" -m build --sdist --outdir dist . >/dev/null
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$python" -m venv "$place/venv"
"$place/venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir dist dist/*.tar.gz
"$place/venv/bin/python" -m pip install --quiet dist/*.whl
cd "$place"
"$place/venv/bin/vledge" demo
ls -l "$OLDPWD"/dist | awk 'NR > 1 { print $5, $9 }'
