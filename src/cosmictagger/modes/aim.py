"""Time to quality: a training stops at --target, and says how long it took to get there."""

import dataclasses
from collections.abc import Mapping

from cosmictagger.config.sections import RunConfig
from cosmictagger.reporting.console import Console
from cosmictagger.reporting.results import Target

SPLIT = "validation."


def set_out(run: RunConfig) -> Target | None:
    """Return what is aimed at, before the first validation; None where nothing is."""
    if run.target_metric is None or run.target is None:
        return None
    return Target(metric=run.target_metric, value=run.target, best=None, reached=False, step=None, seconds=None)


def compare(target: Target, values: Mapping[str, float], step: int, seconds: float) -> Target:
    """Compare with the values of a validation after `step`, `seconds` into the run."""
    value = values[target.metric.removeprefix(SPLIT)]
    best = value if target.best is None else max(value, target.best)
    if value < target.value:
        return dataclasses.replace(target, best=best)
    return dataclasses.replace(target, best=best, reached=True, step=step, seconds=seconds)


def say(target: Target, console: Console, *, is_last: bool) -> None:
    """Say that the target is reached, or after the last validation that it is not."""
    if target.reached:
        console.result(
            f"Target reached: {target.metric} {target.best:.4f} (target {target.value:g}) after {target.step} steps and "
            f"{target.seconds:.1f} s"
        )
    elif is_last:
        console.warning(
            f"target not reached: {target.metric} was {target.best:.4f} at best, the target is {target.value:g}; "
            "raise --iterations to train on."
        )
