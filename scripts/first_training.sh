#!/usr/bin/env bash
# Simulate a small data set, train a small sparse network on it, and tag events that it has not seen.
# Usage: scripts/first_training.sh PYTHON DIRECTORY     (EVENTS and STEPS in the environment change its size)
set -euo pipefail
python=$1 directory=$2
events=${EVENTS:-2000} steps=${STEPS:-3000}
exec_py="$(dirname "$0")/../bin/exec.py"
data="$directory/data"
sample="$(dirname "$0")/../../shared/data/sbnd_sample.h5"

run() { "$python" "$exec_py" "$@"; }
simulate() { [ -e "$3" ] || run simulate --events "$1" --seed "$2" --output "$3" --logging-iteration 10; }

mkdir -p "$data"
simulate "$events" 1 "$data/train.h5"
simulate 20 2 "$data/validation.h5"

run train --sparse --file "$data/train.h5" --aux-file "$data/validation.h5" --aux-iteration 500 \
    --iterations "$steps" --minibatch-size 1 --learning-rate 3e-3 --lr-schedule one-cycle --lr-warmup-steps 200 \
    --gradient-clip 1 --loss-balance-scheme iou --precision mixed \
    --network-depth 6 --res-blocks-per-layer 1 --res-blocks-deepest-layer 2 --res-blocks-final 0 --bottleneck-size 64 \
    --logging-iteration 20 --checkpoint-iteration 500 --log-directory "$directory/train"

infer() {
    run inference --file "$1" --weights-location "$directory/train" --log-directory "$2" --minibatch-size 4 \
        --logging-iteration 5
}
infer "$data/validation.h5" "$directory/validation"
if [ -e "$sample" ]; then
    infer "$sample" "$directory/sbnd"
fi

printf '\nTraining:   %s\n' "$directory/train/report.html"
printf 'Unseen simulated events:  %s\n' "$directory/validation/report.html"
if [ -e "$directory/sbnd/report.html" ]; then
    printf 'SBND simulation events:   %s\n' "$directory/sbnd/report.html"
fi
printf 'Pictures:   %s\n' "$directory"/*/displays
