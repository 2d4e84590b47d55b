#!/usr/bin/env bash
#COBALT -n 2
#COBALT -t 60
#COBALT --attrs mcdram=cache:numa=quad
# Cobalt and aprun, CPU nodes like Theta's: 64 cores of 4 hardware threads, one rank a node.
#
#   qsub -A PROJECT [-n 128 ...] example_submission/cobalt_theta.sh [options of train]
#   COBALT_JOBSIZE=2 example_submission/cobalt_theta.sh --dry-run
#
# The size is that of the allocation. RANKS_PER_NODE (1), LOCAL_BATCH (images a rank) and FILE can be set.
set -euo pipefail

cd "${COBALT_STARTDIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
show() { printf '%q ' "$@" && echo; }
run=()
[[ ${1:-} == --dry-run ]] && run=(show) && shift

nodes=${COBALT_JOBSIZE:?is set by Cobalt; submit this script with qsub}
per_node=${RANKS_PER_NODE:-1}
cores=$((64 / per_node))
ranks=$((nodes * per_node))
# One hardware thread of each core; a thread stays on its core, and spins no longer than it must.
export OMP_NUM_THREADS=$cores KMP_BLOCKTIME=1 KMP_AFFINITY=granularity=fine,compact,1,0

# As many reading ranks as a file system stripe serves well; one for each 64 nodes.
"${run[@]}" aprun -n "$ranks" -N "$per_node" -d "$cores" -j 1 -cc depth \
    python bin/exec.py train -d -m CPU --io-groups $(((nodes + 63) / 64)) \
    --file "${FILE:-events.h5}" -mb $((ranks * ${LOCAL_BATCH:-1})) "$@"
