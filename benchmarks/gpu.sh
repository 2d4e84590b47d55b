#!/usr/bin/env bash
# Everything about sparse networks on a GPU in one call: packages, contract tests, and the tables of sparse.py over
# batch sizes. Without a GPU it does the same on the CPU with batches of 1, which shows that the script works.
#
#   benchmarks/gpu.sh [FILE]      (default: ../shared/data/sbnd_sample.h5 beside the project)
#
# PYTHON names the interpreter [python3], SPCONV the wheel of spconv for this CUDA version [spconv-cu126], BATCHES the
# batch sizes [1 4 16 64 128], ROUNDS the repeats [3], EACH the seconds of a measurement [4]. Set SPCONV to nothing to install no package.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
file=${1:-../shared/data/sbnd_sample.h5}
[ -r "$file" ] || { echo "gpu.sh: cannot read '$file'; name a larcv3 file." >&2; exit 2; }

if "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    device=cuda batches=${BATCHES:-1 4 16 64 128} spconv=${SPCONV-spconv-cu126}
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
else
    echo "gpu.sh: PyTorch finds no GPU here; measuring the CPU instead." >&2
    device=cpu batches=${BATCHES:-1} spconv=${SPCONV-}
fi
[ -z "$spconv" ] || "$python" -m pip install --quiet "$spconv"

export PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH}
"$python" -m pytest -q tests/models/sparse/test_spconv_engine.py tests/models/sparse/test_gpu.py
# shellcheck disable=SC2086
"$python" benchmarks/sparse.py --file "$file" --device "$device" --batch $batches --rounds "${ROUNDS:-3}" --seconds "${EACH:-4}" ${ONLY:+--only $ONLY}
