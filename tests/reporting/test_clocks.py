import numpy as np
import pytest

from cosmictagger.errors import UserError
from cosmictagger.reporting.clocks import (
    MATRIX_COLUMNS,
    STEP_CLOCKS,
    Clocks,
    require_timed_steps,
    slowest_over_mean,
    summarize,
    wait_fraction,
)

FORWARD, STEP = MATRIX_COLUMNS.index("forward"), MATRIX_COLUMNS.index("step")


def make(clock, **options):
    return Clocks(lambda: None, now=clock, **options)


def run_step(clocks, clock, images=2, **seconds):
    for name, duration in seconds.items():
        with clocks.measure(name):
            clock.pass_(duration)
    clocks.end_step(images)


def test_each_clock_of_a_step_is_recorded(clock):
    clocks = make(clock)
    clocks.start()
    run_step(clocks, clock, io_wait=1.0, forward=2.0, backward=4.0)
    assert clocks.to_matrix().tolist() == [[1.0, 0.0, 2.0, 4.0, 0.0, 0.0, 0.0, 7.0]]
    assert clocks.last_step["backward"] == 4.0


def test_a_clock_that_runs_twice_in_a_step_adds_up(clock):
    clocks = make(clock)
    clocks.start()
    run_step(clocks, clock, images=0, forward=2.0)
    with clocks.measure("forward"):
        clock.pass_(1.0)
    run_step(clocks, clock, forward=3.0)
    assert clocks.to_matrix()[:, FORWARD].tolist() == [2.0, 4.0]


def test_the_step_includes_time_that_no_clock_measures(clock):
    clocks = make(clock)
    clocks.start()
    clock.pass_(5.0)
    run_step(clocks, clock, forward=2.0)
    assert clocks.to_matrix()[0, STEP] == 7.0


def test_time_before_start_belongs_to_no_step(clock):
    clocks = make(clock)
    with clocks.measure("io_wait"):
        clock.pass_(50.0)
    clocks.start()
    run_step(clocks, clock, forward=2.0)
    assert clocks.to_matrix()[0].sum() == 4.0
    assert clocks.timed_seconds == 2.0


def test_warmup_steps_are_counted_and_left_out(clock):
    clocks = make(clock, warmup_steps=2)
    clocks.start()
    for seconds in (90.0, 80.0, 1.0, 3.0):
        run_step(clocks, clock, images=6, forward=seconds)
    throughput = clocks.throughput(ranks=3)
    assert (throughput.steps, throughput.warmup_steps, throughput.images, throughput.seconds) == (2, 2, 12, 4.0)
    assert (throughput.images_per_second, throughput.images_per_second_per_rank) == (3.0, 1.0)
    assert clocks.summary()["forward"].mean == 2.0


def test_a_run_that_ends_in_its_warmup_has_no_throughput(clock):
    clocks = make(clock, warmup_steps=2)
    clocks.start()
    run_step(clocks, clock, forward=1.0)
    throughput = clocks.throughput()
    assert (throughput.images_per_second, throughput.steps, throughput.warmup_steps) == (None, 0, 1)
    assert clocks.last_step["forward"] == 1.0
    assert wait_fraction(clocks.summary()) is None


def test_validation_and_checkpoint_pause_the_step(clock):
    clocks = make(clock)
    clocks.start()
    with clocks.measure("validation"):
        clock.pass_(30.0)
    run_step(clocks, clock, forward=2.0, checkpoint=10.0)
    summary = clocks.summary()
    assert summary["step"].total == 2.0
    assert (summary["validation"].total, summary["validation"].count) == (30.0, 1)
    assert summary["checkpoint"].mean == 10.0


def test_validation_between_two_steps_is_paid_by_neither(clock):
    clocks = make(clock)
    clocks.start()
    run_step(clocks, clock, forward=2.0)
    with clocks.measure("validation"):
        clock.pass_(30.0)
    run_step(clocks, clock, forward=3.0)
    assert clocks.to_matrix()[:, STEP].tolist() == [2.0, 3.0]


def test_the_forward_passes_of_a_validation_are_not_those_of_the_step(clock):
    clocks = make(clock)
    clocks.start()
    with clocks.measure("validation"), clocks.measure("forward"):
        clock.pass_(30.0)
    run_step(clocks, clock, forward=2.0)
    assert clocks.summary()["forward"].total == 2.0
    assert clocks.summary()["validation"].total == 30.0


def test_nested_clocks_do_not_count_twice(clock):
    clocks = make(clock)
    clocks.start()
    with clocks.measure("backward"):
        clock.pass_(1.0)
        with clocks.measure("communication"):
            clock.pass_(3.0)
        clock.pass_(2.0)
    clocks.end_step(1)
    assert clocks.last_step["backward"] == 3.0
    assert clocks.last_step["communication"] == 3.0
    assert clocks.last_step["step"] == 6.0


def test_an_exception_in_a_block_stops_its_clock(clock):
    clocks = make(clock)
    clocks.start()
    with pytest.raises(KeyError), clocks.measure("validation"):
        clock.pass_(4.0)
        raise KeyError
    run_step(clocks, clock, forward=2.0)
    assert clocks.to_matrix()[0, FORWARD] == 2.0
    assert clocks.to_matrix()[0, STEP] == 2.0


def test_device_work_is_waited_for_within_the_clock_that_queued_it(clock):
    pending = 0.0

    def synchronize():
        nonlocal pending
        clock.pass_(pending)
        pending = 0.0

    clocks = Clocks(synchronize, now=clock)
    clocks.start()
    with clocks.measure("forward"):
        pending = 5.0
    pending = 1.0  # work outside any clock
    with clocks.measure("backward"):
        pending = 7.0
    pending = 2.0
    clocks.end_step(1)
    assert clocks.last_step["forward"] == 5.0
    assert clocks.last_step["backward"] == 7.0
    assert clocks.last_step["step"] == 15.0


def test_an_unknown_clock_is_refused(clock):
    with pytest.raises(ValueError, match="unknown clock 'forwards'; clocks: io_wait, unpack"):
        make(clock).measure("forwards").__enter__()


def test_end_step_before_start_is_refused(clock):
    with pytest.raises(RuntimeError, match="before Clocks.start"):
        make(clock).end_step(1)


def test_the_maximum_over_ranks_is_summarized(clock):
    ours = np.zeros((2, len(MATRIX_COLUMNS)))
    ours[:, FORWARD] = [1.0, 5.0]
    theirs = np.zeros_like(ours)
    theirs[:, FORWARD] = [3.0, 2.0]
    summary = make(clock).summary(np.maximum(ours, theirs))
    assert summary["forward"].total == 8.0


def test_throughput_takes_the_wall_time_of_the_slowest_rank(clock):
    clocks = make(clock)
    clocks.start()
    run_step(clocks, clock, images=3, forward=2.0)
    throughput = clocks.throughput(ranks=2, seconds=4.0, images=8, rank_rates=[1.0, 3.0])
    assert throughput.images_per_second == 2.0
    assert throughput.images_per_second_per_rank == 1.0
    assert throughput.slowest_over_mean == 0.5


def test_summary_of_known_records():
    summary = summarize(np.arange(101, dtype=np.float64))
    assert (summary.count, summary.mean, summary.median, summary.p95, summary.total) == (101, 50.0, 50.0, 95.0, 5050.0)


def test_wait_fraction_is_a_share_of_step_time(clock):
    clocks = make(clock)
    clocks.start()
    run_step(clocks, clock, io_wait=1.0, forward=3.0)
    assert wait_fraction(clocks.summary()) == 0.25


def test_no_ranks_have_no_spread():
    assert slowest_over_mean([]) is None


def test_a_long_run_stays_small(clock):
    clocks = make(clock)
    clocks.start()
    for _ in range(2000):
        clocks.end_step(1)
    record_bytes = clocks._records.itemsize * len(clocks._records) + clocks._images.itemsize * len(clocks._images)
    assert record_bytes == 2000 * 8 * (len(STEP_CLOCKS) + 2)


def test_a_run_of_warmup_alone_is_refused():
    require_timed_steps(3, 2)
    with pytest.raises(UserError, match="--warmup-steps: all of the 2 steps"):
        require_timed_steps(2, 2)
