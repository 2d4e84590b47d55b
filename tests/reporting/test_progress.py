import pytest

from cosmictagger.reporting.progress import (
    Pace,
    format_duration,
    format_rate,
    format_value,
    metric_title,
    step_words,
)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (123.4, "123.4"),
        (12345.67, "12345.7"),
        (15.4, "15.40"),
        (0.23456, "0.2346"),
        (0.0, "0.0"),
        (1e-12, "0.000000000"),
    ],
)
def test_rates_have_four_digits_and_a_decimal_point(rate, text):
    assert format_rate(rate) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5000"), (3e-4, "0.0003"), (1234.5678, "1235"), (0, "0.0000"), (None, "-")]
)
def test_values_are_short(value, text):
    assert format_value(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(59.6, "1:00"), (5, "0:05"), (3725, "1:02:05")])
def test_time_spans(seconds, text):
    assert format_duration(seconds) == text


def test_time_left_follows_from_the_steps_of_this_run_alone(clock):
    pace = Pace(first=100, steps=200, now=clock)
    assert pace.seconds_left(100) is None
    clock.pass_(20.0)
    assert pace.seconds_left(110) == 180.0


def test_a_step_is_told_in_one_line():
    assert step_words({"loss": 0.5}, 123.4, 61) == "loss 0.5000  123.4 images/s  ETA 1:01"
    assert step_words({"loss": 0.5}, None, None) == "loss 0.5000"


def test_metric_titles():
    assert metric_title("mean_iou") == "mean IoU"
