#!/usr/bin/env bash
# Simulate two small data sets, train a small sparse network on one after the other, and tag events it has not seen.
# Usage: scripts/first_training.sh PYTHON DIRECTORY     (EVENTS and STEPS in the environment change its size)
#
# The first set has six neutrinos in an event, where the network learns sooner what they look like; the second has one,
# as the events to tag have. A quarter of all steps is spent on the second.
set -euo pipefail
python=$1 directory=$2
at_least() { echo $(($1 > $2 ? $1 : $2)); }
events=${EVENTS:-3000} steps=${STEPS:-1500}
# Three steps are the fewest that can be timed, the first two being warm-up.
last_events=$(at_least 1 $((events / 3))) last_steps=$(at_least 3 $((steps / 4)))
first_events=$(at_least 1 $((events - last_events))) first_steps=$(at_least 3 $((steps - last_steps)))
exec_py="$(dirname "$0")/../bin/exec.py"
data="$directory/data"
sample="$(dirname "$0")/../../shared/data/sbnd_sample.h5"

run() { "$python" "$exec_py" "$@"; }
simulate() {
    [ -e "$4" ] || run simulate --events "$1" --neutrinos "$2" --seed "$3" --output "$4" --logging-iteration 10
}
train() {
    run train --sparse --aux-file "$data/validation.h5" --aux-iteration 500 --minibatch-size 4 --optimizer muon \
        --lr-schedule one-cycle --gradient-clip 1 --loss-balance-scheme iou --precision mixed \
        --network-depth 6 --res-blocks-per-layer 1 --res-blocks-deepest-layer 2 --res-blocks-final 0 \
        --bottleneck-size 64 --zero-suppression 4 --crossing-levels 1 2 3 --supervised-levels 2 3 4 5 \
        --logging-iteration 20 --checkpoint-iteration 500 "$@"
}

mkdir -p "$data"
six="$data/six-neutrinos-$first_events.h5" one="$data/one-neutrino-$last_events.h5"
simulate "$first_events" 6 1 "$six"
simulate "$last_events" 1 3 "$one"
simulate 20 1 2 "$data/validation.h5"

train --file "$six" --iterations "$first_steps" --learning-rate 1e-2 \
    --lr-warmup-steps $((first_steps / 10)) --log-directory "$directory/six-neutrinos"
train --file "$one" --iterations "$last_steps" --learning-rate 4e-3 \
    --lr-warmup-steps $((last_steps / 20)) --seed 1 --weights-location "$directory/six-neutrinos" \
    --log-directory "$directory/one-neutrino"

infer() {
    run inference --file "$1" --weights-location "$directory/one-neutrino" --log-directory "$2" --minibatch-size 4 \
        --logging-iteration 5
}
infer "$data/validation.h5" "$directory/validation"
if [ -e "$sample" ]; then
    infer "$sample" "$directory/sbnd"
fi

printf '\n'
printf 'Training:   %s\n' "$directory/six-neutrinos/report.html" "$directory/one-neutrino/report.html"
printf 'Unseen simulated events:  %s\n' "$directory/validation/report.html"
if [ -e "$directory/sbnd/report.html" ]; then
    printf 'SBND simulation events:   %s\n' "$directory/sbnd/report.html"
fi
printf 'Pictures:   %s\n' "$directory"/*/displays
