#!/usr/bin/env bash
# One machine: a rank for each GPU, or else for every THREADS cores.
#
#   example_submission/workstation.sh [--dry-run] [options of train]
#
# --dry-run prints the launch line. RANKS, THREADS (cores a rank, 4), LOCAL_BATCH (images a rank, 1) and FILE
# (larcv3 files) can be set in the environment; whatever else is given goes to the program.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
show() { printf '%q ' "$@" && echo; }
run=()
[[ ${1:-} == --dry-run ]] && run=(show) && shift

threads=${THREADS:-4}
gpus=0
command -v nvidia-smi >/dev/null && gpus=$(nvidia-smi --list-gpus | wc -l)
if ((gpus > 0)); then
    ranks=${RANKS:-$gpus}
    device=GPU
else
    cores=$(getconf _NPROCESSORS_ONLN)
    ranks=${RANKS:-$((cores > threads ? cores / threads : 1))}
    device=CPU
fi

# The program binds each rank to its part of the cores, and to its GPU.
"${run[@]}" mpirun -n "$ranks" python bin/exec.py train -d -m "$device" \
    --file "${FILE:-events.h5}" -mb $((ranks * ${LOCAL_BATCH:-1})) "$@"
