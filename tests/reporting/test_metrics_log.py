import json

import pytest

from cosmictagger.errors import UserError
from cosmictagger.reporting.metrics_log import MetricsLog, metrics_path, read_lines


def steps(path):
    return [line["step"] for line in read_lines(path)]


def write(directory, *numbers, **options):
    log = MetricsLog(directory, **options)
    for number in numbers:
        log.write(number, "train", {"loss": number / 2})
    return log


def test_a_line_is_in_the_file_before_it_is_closed(tmp_path):
    log = MetricsLog(tmp_path, now=lambda: 12.3456)
    log.write(1, "train", {"loss": 0.5, "cosmic_iou": float("nan")})
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line == {"step": 1, "split": "train", "time": 12.346, "loss": 0.5, "cosmic_iou": None}
    log.close()


def test_a_new_run_begins_an_empty_file(tmp_path):
    write(tmp_path, 1, 2).close()
    write(tmp_path, 1).close()
    assert steps(metrics_path(tmp_path)) == [1]


def test_a_resumed_run_drops_the_steps_it_does_again(tmp_path):
    write(tmp_path, 1, 2, 3, 4).close()
    write(tmp_path, 3, resume_step=2).close()
    assert steps(metrics_path(tmp_path)) == [1, 2, 3]


def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path):
    write(tmp_path, 1, 2).close()
    path = metrics_path(tmp_path)
    path.write_text(path.read_text() + '{"step": 3, "spl')
    write(tmp_path, 3, resume_step=2).close()
    assert steps(path) == [1, 2, 3]
    assert path.read_text().endswith("\n")


def test_a_resumed_run_without_a_file_begins_one(tmp_path):
    write(tmp_path, 6, resume_step=5).close()
    assert steps(metrics_path(tmp_path)) == [6]


def test_modes_do_not_share_a_file(tmp_path):
    write(tmp_path, 1).close()
    write(tmp_path, 9, mode="iotest").close()
    assert steps(tmp_path / "metrics.jsonl") == [1]
    assert steps(tmp_path / "metrics.iotest.jsonl") == [9]


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--log-directory: cannot write"):
        MetricsLog(tmp_path / "file")
