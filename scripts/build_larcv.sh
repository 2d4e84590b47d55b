#!/usr/bin/env bash
# Build larcv from its published source and install it: scripts/build_larcv.sh [PYTHON]
#
# PyPI has no wheel of larcv 3.5.1. Its source bundles pybind11 2.9.2, which compiles against numpy 2 and then returns
# wrong values without a word, so the headers of a newer pybind11 take their place. The wheel is kept in the user's
# cache: a second run installs it within seconds. Takes about six minutes on two cores, and needs a C++ compiler and
# HDF5's headers (installed with apt-get where that is possible).
set -euo pipefail

package=larcv
version=3.5.1
sha256=7b3db26fc3fd0d640338896cc6ec1e0802bc042c0e7ad1ea07ff281b0f566ab3
pybind11=2.13.6

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/wheel_cache.sh
source "$here/wheel_cache.sh"

need_hdf5() {
    if [[ -n ${HDF5_ROOT:-} ]] || command -v h5cc >/dev/null; then
        return
    fi
    if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
        run_logged "installing libhdf5-dev with apt-get" \
            sh -c 'apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes libhdf5-dev'
        return
    fi
    die "HDF5's headers are missing; install libhdf5-dev (Debian, Ubuntu) or hdf5-devel (Fedora, RHEL), or load your" \
        "centre's hdf5 module and set HDF5_ROOT"
}

# larcv asks for scikit-build and cmake at run time too, which it has no use for.
patch_source() {
    rm -rf "$1/_skbuild" "$1/src/pybind11/include/pybind11"
    cp -r "$("$tools/python" -c 'import pybind11; print(pybind11.get_include())')/pybind11" "$1/src/pybind11/include/"
    sed -i.orig -e '/^        "scikit-build",$/d' -e '/^        "cmake",$/d' "$1/setup.py"
}

build_wheel() {
    command -v "${CXX:-c++}" >/dev/null || die "there is no C++ compiler; install g++ or set CXX"
    need_hdf5
    run_logged "preparing the build tools" "$tools/python" -m pip install --quiet \
        "setuptools<81" wheel scikit-build cmake ninja "pybind11==$pybind11"
    run_logged "fetching the source" fetch_source
    run_logged "putting the headers of pybind11 $pybind11 in place" patch_source "$package-$version"
    local jobs
    jobs=$(getconf _NPROCESSORS_ONLN)
    run_logged "compiling with $jobs jobs" env PATH="$tools:$PATH" CMAKE_POLICY_VERSION_MINIMUM=3.5 \
        MAKEFLAGS="-j $jobs" CXXFLAGS="${CXXFLAGS:-} -g0" \
        nice "$tools/python" -m pip wheel --no-cache-dir --no-deps --no-build-isolation -w dist "./$package-$version"
}

# In a build with the bundled pybind11, arrays that larcv hands to numpy repeat their first value.
check_wheel() {
    "$python" - <<'EOF_PYTHON'
import larcv
import numpy as np

voxels = larcv.VoxelSet()
voxels.set(np.array([7, 1280], dtype=np.uint64), np.array([2.5, -4.0], dtype=np.float32))
assert voxels.indexes().tolist() == [7, 1280], voxels.indexes()
assert voxels.values().tolist() == [2.5, -4.0], voxels.values()
image = np.arange(6, dtype=np.float32).reshape(2, 3)
assert larcv.Tensor2D(image).as_array().tolist() == image.tolist(), larcv.Tensor2D(image).as_array()
EOF_PYTHON
}

install_cached "${1:-$here/../.venv/bin/python}"
