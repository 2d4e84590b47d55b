#!/usr/bin/env bash
# Simulate two small data sets, train a small sparse network on one after the other, and tag events that it has not seen.
# Usage: scripts/first_training.sh PYTHON DIRECTORY     (EVENTS and STEPS in the environment change its size)
#
# The first set has six neutrinos in an event, where the network learns sooner what they look like; the second has one,
# as the events to tag have. A third of all steps is spent on the second.
set -euo pipefail
python=$1 directory=$2
events=${EVENTS:-2000} steps=${STEPS:-3000}
last_events=$(((events + 2) / 3)) last_steps=$(((steps + 2) / 3))
exec_py="$(dirname "$0")/../bin/exec.py"
data="$directory/data"
sample="$(dirname "$0")/../../shared/data/sbnd_sample.h5"

run() { "$python" "$exec_py" "$@"; }
simulate() {
    [ -e "$4" ] || run simulate --events "$1" --neutrinos "$2" --seed "$3" --output "$4" --logging-iteration 10
}
train() {
    run train --sparse --aux-file "$data/validation.h5" --aux-iteration 500 --minibatch-size 1 --optimizer muon \
        --lr-schedule one-cycle --gradient-clip 1 --loss-balance-scheme iou --precision mixed \
        --network-depth 6 --res-blocks-per-layer 1 --res-blocks-deepest-layer 2 --res-blocks-final 0 \
        --bottleneck-size 64 --logging-iteration 20 --checkpoint-iteration 500 "$@"
}

mkdir -p "$data"
simulate "$((events - last_events))" 6 1 "$data/six-neutrinos.h5"
simulate "$last_events" 1 3 "$data/train.h5"
simulate 20 1 2 "$data/validation.h5"

train --file "$data/six-neutrinos.h5" --iterations "$((steps - last_steps))" --learning-rate 1e-2 \
    --lr-warmup-steps 200 --log-directory "$directory/six-neutrinos"
train --file "$data/train.h5" --iterations "$last_steps" --learning-rate 6e-3 --lr-warmup-steps 50 --seed 1 \
    --weights-location "$directory/six-neutrinos" --log-directory "$directory/train"

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
