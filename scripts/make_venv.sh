#!/usr/bin/env bash
# Create a virtual environment and install this project into it, with pinned versions.
# Usage: scripts/make_venv.sh PYTHON VENV TARGET      e.g. scripts/make_venv.sh python3.11 .venv '.[dev]'
set -euo pipefail
python=$1 venv=$2 target=$3

fail() { printf 'make_venv: %s\n' "$*" >&2; exit 1; }

command -v "$python" >/dev/null || python=python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "Python 3.11 or newer is needed; name one with: make install PYTHON=/path/to/python3"

if [ ! -x "$venv/bin/pip" ]; then
    # Debian keeps the part of Python that makes environments in a package of its own.
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq && apt-get install -y -qq "$package" >/dev/null
        else
            fail "this Python cannot make virtual environments; install $package and try again"
        fi
    fi
    "$python" -m venv "$venv"
fi

"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable "$target"
