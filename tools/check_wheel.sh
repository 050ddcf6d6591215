#!/bin/sh
# Builds the sdist, a wheel from it by plain pip as a board or piwheels does, looks both over, and runs the
# demo from the wheel in an environment of its own outside the source tree: a file that is missing from
# either fails here, and so does what PyPI would refuse.
# usage: tools/check_wheel.sh PYTHON   (a Python that has the extra "release")
set -eu
python=$1
rm -rf dist
"$python" -m build --sdist --outdir dist . >/dev/null
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$python" -m venv "$place/venv"
"$place/venv/bin/python" -m pip wheel --quiet --no-deps --wheel-dir dist dist/*.tar.gz
"$python" -m twine check --strict dist/*
"$python" -m check_wheel_contents dist/*.whl
"$place/venv/bin/python" -m pip install --quiet dist/*.whl
cd "$place"
"$place/venv/bin/vledge" demo
ls -l "$OLDPWD"/dist | awk 'NR > 1 { print $5, $9 }'
