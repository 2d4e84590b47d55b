#!/usr/bin/env bash
#PBS -N cosmictagger
#PBS -l select=2
#PBS -l place=scatter
#PBS -l walltime=01:00:00
# PBS Pro, nodes like Aurora's: two sockets of 52 cores, the PALS launcher. The program computes on their cores: it
# does not know their GPUs.
#
#   qsub -A PROJECT [-l select=8 ...] example_submission/pbs_aurora.sh
#   PBS_NODEFILE=nodes.txt example_submission/pbs_aurora.sh --dry-run [options of train]
#
# The size is that of the allocation; OPTIONS (in the environment: qsub -v OPTIONS="--sparse") go to the program too.
set -euo pipefail

cd "${PBS_O_WORKDIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
show() { printf '%q ' "$@" && echo; }
run=()
[[ ${1:-} == --dry-run ]] && run=(show) && shift
read -ra options <<<"${OPTIONS:-}"

nodes=$(sort -u "${PBS_NODEFILE:?is set by PBS; submit this script with qsub}" | wc -l)
per_node=12
cores=8
ranks=$((nodes * per_node))

# Six ranks of eight cores on each socket; the first core of a socket (0, 52) is left to the system.
bind=list
for socket in 0 52; do
    for ((rank = 0; rank < per_node / 2; rank++)); do
        first=$((socket + 1 + rank * cores))
        bind+=":$first-$((first + cores - 1))"
    done
done

"${run[@]}" mpiexec -n "$ranks" --ppn "$per_node" --cpu-bind "$bind" --env OMP_NUM_THREADS="$cores" \
    python bin/exec.py train -d -m CPU --io-groups "$nodes" \
    --file "${FILE:-events.h5}" -mb $((ranks * ${LOCAL_BATCH:-1})) "${options[@]}" "$@"
