#!/usr/bin/env bash
#SBATCH --job-name=cosmictagger
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --signal=TERM@120
# A container (cosmictagger.def) on the ranks of a Slurm job, or without Slurm on RANKS ranks of this machine.
#
#   sbatch example_submission/apptainer.sh [options of train]
#   RANKS=2 example_submission/apptainer.sh [--dry-run] [options of train]
#
# IMAGE names the container. HOST_MPI may name the lib folder of a host MPI of MPICH's ABI, which then replaces the
# container's: for fast networks. DEVICE is CPU or GPU.
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
show() { printf '%q ' "$@" && echo; }
run=()
[[ ${1:-} == --dry-run ]] && run=(show) && shift

options=(--bind "$PWD")
[[ ${DEVICE:-CPU} == GPU ]] && options+=(--nv)
if [[ -n ${HOST_MPI:-} ]]; then
    options+=(--bind "$HOST_MPI" --env "MPI4PY_LIBMPI=$HOST_MPI/libmpi.so.12")
fi
image=${IMAGE:-cosmictagger.sif}

if [[ -n ${SLURM_NTASKS:-} ]]; then
    ranks=$SLURM_NTASKS
    launch=(srun --mpi="${MPI_TYPE:-pmi2}" --ntasks="$ranks" --cpu-bind=cores --gpu-bind=none --kill-on-bad-exit=1)
    launch+=(apptainer run "${options[@]}" "$image")
else
    # mpirun of the container: nothing is needed on the host.
    ranks=${RANKS:-2}
    launch=(apptainer exec "${options[@]}" "$image" mpirun -n "$ranks" python /opt/cosmictagger/bin/exec.py)
fi

"${run[@]}" "${launch[@]}" train -d -m "${DEVICE:-CPU}" \
    --file "${FILE:-events.h5}" -mb $((ranks * ${LOCAL_BATCH:-1})) "$@"
