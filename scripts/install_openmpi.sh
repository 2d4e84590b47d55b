#!/usr/bin/env bash
# Install Open MPI from its wheel beside the environment's own MPI: scripts/install_openmpi.sh [PYTHON]
#
# It goes into the user's cache, not into PYTHON's environment, whose own MPI stays what mpirun means there. One of
# mpi4py's wheels serves both; the tests in tests/distributed run once more with this one. To use it by hand:
#   MPI4PY_LIBMPI=~/.cache/cosmictagger/openmpi-5.0.11/lib/libmpi.so.40 ~/.cache/cosmictagger/openmpi-5.0.11/bin/mpirun ...
set -euo pipefail

version=5.0.11
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${1:-$here/../.venv/bin/python}
target="${XDG_CACHE_HOME:-$HOME/.cache}/cosmictagger/openmpi-$version"

command -v "$python" >/dev/null || {
    printf 'openmpi %s: there is no Python at %s\n' "$version" "$python" >&2
    exit 1
}
if [[ -x $target/bin/mpirun ]]; then
    printf 'openmpi %s: is there: %s\n' "$version" "$target"
    exit
fi
"$python" -m pip install --quiet --no-deps --prefix "$target" "openmpi==$version"
printf 'openmpi %s: installed in %s\n' "$version" "$target"
