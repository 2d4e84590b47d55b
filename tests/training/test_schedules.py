import pytest
import torch

from cosmictagger.config.sections import TrainingConfig
from cosmictagger.errors import UserError
from cosmictagger.training.schedules import learning_rate, learning_rate_factor, set_learning_rate

PEAK = 0.5


def rates(schedule, total, warmup=None):
    config = TrainingConfig(learning_rate=PEAK, lr_schedule=schedule, lr_warmup_steps=warmup)
    return [learning_rate(step, total, config) for step in range(total)]


def test_constant():
    assert rates("constant", 5) == [PEAK] * 5


def test_constant_with_warmup():
    assert rates("constant", 6, warmup=4) == [PEAK / 4, PEAK / 2, 3 * PEAK / 4, PEAK, PEAK, PEAK]


def test_cosine_named_steps():
    found = rates("cosine", 101)
    assert found[0] == pytest.approx(PEAK / 10)
    assert found[4] == pytest.approx(PEAK / 2)
    assert found[9] == PEAK  # the last step of the warm-up
    assert found[100] == pytest.approx(PEAK / 100)
    assert found[9:] == sorted(found[9:], reverse=True)


def test_cosine_without_warmup_starts_at_its_peak_and_is_halfway_in_the_middle():
    found = rates("cosine", 21, warmup=0)
    assert found[0] == PEAK
    assert found[10] == pytest.approx(PEAK * (1 + 0.01) / 2)
    assert found[20] == pytest.approx(PEAK / 100)


@pytest.mark.parametrize("total", [10, 37, 200])
def test_one_cycle_equals_that_of_pytorch(total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=PEAK, total_steps=total)
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < total:
            theirs.step()
    assert rates("one-cycle", total) == pytest.approx(expected, rel=1e-9)


def test_one_cycle_named_steps():
    found = rates("one-cycle", 100)
    assert found[0] == pytest.approx(PEAK / 25)
    assert found[29] == pytest.approx(PEAK)
    assert found[99] == pytest.approx(PEAK / 25e4)
    assert rates("one-cycle", 100, warmup=11)[10] == pytest.approx(PEAK)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
@pytest.mark.parametrize("warmup", [None, 0, 1, 3, 10])
def test_short_runs_stay_between_zero_and_the_peak(schedule, warmup):
    for total in (1, 2, 3, 4):
        assert all(0 < rate <= PEAK for rate in rates(schedule, total, warmup))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_after_the_last_planned_step_the_rate_stays(schedule):
    config = TrainingConfig(lr_schedule=schedule)
    assert learning_rate(150, 100, config) == learning_rate(99, 100, config)


def test_set_learning_rate_reaches_every_group():
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=1.0)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("rule", "images", "factor"), [("none", 64, 1.0), ("linear", 64, 16.0), ("sqrt", 64, 4.0), ("linear", 2, 0.5)]
)
def test_the_learning_rate_grows_with_the_step_as_the_rule_says(rule, images, factor):
    config = TrainingConfig(lr_scaling=rule, lr_base_images=4)
    assert learning_rate_factor(images, config) == factor


def test_scaling_needs_to_know_what_the_learning_rate_was_chosen_for():
    with pytest.raises(UserError, match="--lr-scaling: linear needs --lr-base-images"):
        TrainingConfig(lr_scaling="linear")
