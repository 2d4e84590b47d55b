import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cosmictagger.errors import UserError
from cosmictagger.reporting.raster import PALETTE
from cosmictagger.reporting.tensorboard import GAP, GAP_GREY, TensorBoard, mosaic


def scalars(directory, tag):
    events = EventAccumulator(str(directory / "tensorboard"))
    events.Reload()
    return [(event.step, round(event.value, 6)) for event in events.Scalars(tag)]


@pytest.fixture
def predictions():
    return [np.array([0, 1, 2, 2], dtype=np.uint8), np.empty(0, dtype=np.uint8)]


def test_scalars_can_be_read_back(tmp_path):
    with TensorBoard(tmp_path) as board:
        board.scalars(1, "train", {"loss": 0.5, "cosmic_iou": None})
        board.scalars(2, "train", {"loss": 0.25})
    assert scalars(tmp_path, "train/loss") == [(1, 0.5), (2, 0.25)]


def test_a_resumed_run_hides_the_steps_it_does_again(tmp_path):
    with TensorBoard(tmp_path) as board:
        for step in (1, 2, 3):
            board.scalars(step, "train", {"loss": 1.0})
    with TensorBoard(tmp_path, resume_step=1) as board:
        board.scalars(2, "train", {"loss": 2.0})
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 2.0)]


def test_pictures_are_recorded(tmp_path, event, predictions):
    with TensorBoard(tmp_path) as board:
        board.images(5, "validation", event, predictions)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (picture,) = events.Images("validation/event")
    assert (picture.step, picture.height, picture.width) == (5, 2 * 8 + GAP, 3 * 10 + 2 * GAP)


def test_the_mosaic_shows_truth_and_prediction_with_tick_0_at_the_bottom(event, predictions):
    picture = mosaic(event, predictions)
    assert picture.shape == (2 * 8 + GAP, 3 * 10 + 2 * GAP, 3)
    truth, prediction = 10 + GAP, 20 + 2 * GAP
    assert picture[0, truth + 9].tolist() == PALETTE[3].tolist()  # tick 7, wire 9
    assert picture[6, truth + 3].tolist() == PALETTE[2].tolist()  # tick 1, wire 3: cosmic …
    assert picture[6, prediction + 3].tolist() == PALETTE[3].tolist()  # … taken for a neutrino
    assert (picture[8 : 8 + GAP] == GAP_GREY).all()
    assert (picture[8 + GAP :, :10] == 255).all()  # the empty plane


def test_without_truth_there_is_a_column_less(event, predictions):
    blind = tuple(dataclasses.replace(plane, label=None) for plane in event.planes)
    assert mosaic(dataclasses.replace(event, planes=blind), predictions).shape[1] == 2 * 10 + GAP


def test_large_images_shrink(event, predictions):
    assert mosaic(dataclasses.replace(event, shape=(1280, 2048)), predictions).shape == (
        2 * 320 + GAP,
        3 * 512 + 2 * GAP,
        3,
    )


def test_importing_the_module_does_not_load_torch():
    code = "import sys, cosmictagger.reporting.tensorboard as t; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(UserError, match="--log-directory: cannot write"):
        TensorBoard(tmp_path)
