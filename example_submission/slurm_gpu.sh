#!/usr/bin/env bash
#SBATCH --job-name=cosmictagger
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --signal=TERM@120
# Slurm, GPU nodes: a rank for each GPU; 120 s before its time is up the run saves a checkpoint and ends.
#
#   sbatch [--nodes=8 ...] example_submission/slurm_gpu.sh [options of train]
#   SLURM_NTASKS=8 SLURM_CPUS_PER_TASK=8 SLURM_JOB_NUM_NODES=2 example_submission/slurm_gpu.sh --dry-run
#
# The size is that of the allocation. MPI_TYPE is what srun starts MPI with (pmi2: MPICH, pmix: Open MPI), LOCAL_BATCH
# the images a rank, FILE the larcv3 files.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
show() { printf '%q ' "$@" && echo; }
run=()
[[ ${1:-} == --dry-run ]] && run=(show) && shift

ranks=${SLURM_NTASKS:?is set by Slurm; submit this script with sbatch}
cores=${SLURM_CPUS_PER_TASK:-1}
nodes=${SLURM_JOB_NUM_NODES:?is set by Slurm}
export OMP_NUM_THREADS=$cores

# All GPUs of a node are visible to its ranks, so that NCCL can use the links between them; each takes its own by its
# local rank. A reading rank on every node.
"${run[@]}" srun --mpi="${MPI_TYPE:-pmi2}" --ntasks="$ranks" --cpus-per-task="$cores" --cpu-bind=cores \
    --gpu-bind=none --kill-on-bad-exit=1 python bin/exec.py train -d -m GPU --io-groups "$nodes" \
    --file "${FILE:-events.h5}" -mb $((ranks * ${LOCAL_BATCH:-1})) "$@"
