#!/usr/bin/env bash
#PBS -N cosmictagger
#PBS -l select=2
#PBS -l place=scatter
#PBS -l walltime=01:00:00
# PBS Pro, nodes like Polaris's: 32 cores, 4 GPUs, the PALS launcher.
#
#   qsub -A PROJECT [-l select=8 ...] example_submission/pbs_polaris.sh
#   PBS_NODEFILE=nodes.txt example_submission/pbs_polaris.sh --dry-run [options of train]
#
# The size is that of the allocation; OPTIONS (in the environment: qsub -v OPTIONS="--preset a21") go to the program too.
set -euo pipefail

cd "${PBS_O_WORKDIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
show() { printf '%q ' "$@" && echo; }
run=()
[[ ${1:-} == --dry-run ]] && run=(show) && shift
read -ra options <<<"${OPTIONS:-}"

nodes=$(sort -u "${PBS_NODEFILE:?is set by PBS; submit this script with qsub}" | wc -l)
per_node=${RANKS_PER_NODE:-4}
cores=$((32 / per_node))
ranks=$((nodes * per_node))

# The GPUs are numbered against the cores: cores 0-7 are nearest to GPU 3. Each rank sees the one that is nearest.
# shellcheck disable=SC2016 # for the rank's own shell
nearest='export CUDA_VISIBLE_DEVICES=$((3 - PMI_LOCAL_RANK % 4)); exec "$@"'

"${run[@]}" mpiexec -n "$ranks" --ppn "$per_node" --depth "$cores" --cpu-bind depth --env OMP_NUM_THREADS="$cores" \
    bash -c "$nearest" rank python bin/exec.py train -d -m GPU --io-groups "$nodes" \
    --file "${FILE:-events.h5}" -mb $((ranks * ${LOCAL_BATCH:-1})) "${options[@]}" "$@"
