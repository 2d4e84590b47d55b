import dataclasses

import numpy as np
import pytest
from matplotlib.image import imread

from cosmictagger.data.events import PlanePixels
from cosmictagger.errors import UserError
from cosmictagger.reporting.displays import Window, display_path, draw_event, zoom_window
from cosmictagger.reporting.raster import PALETTE


def pixels_like(path, colour):
    """Count the pixels of a PNG that have a colour of the palette."""
    picture = np.rint(imread(path)[..., :3] * 255).astype(int)
    return int((abs(picture - PALETTE[colour].astype(int)).max(axis=-1) <= 1).sum())


def plane_of(ticks, wires, labels, width):
    index = np.asarray(ticks) * width + np.asarray(wires)
    order = np.argsort(index)
    value = np.full(len(index), 20.0, dtype=np.float32)
    return PlanePixels(index[order].astype(np.int32), value, np.asarray(labels, dtype=np.uint8)[order])


@pytest.fixture
def thin_track(event):
    """An image of full size with a neutrino track one pixel wide, of 300 pixels, and nothing else."""
    wires = np.arange(500, 800)
    plane = plane_of(np.full(300, 700), wires, np.full(300, 2), 2048)
    return dataclasses.replace(event, shape=(1280, 2048), planes=(plane,))


def test_a_track_one_pixel_wide_can_be_seen(tmp_path, thin_track):
    path = tmp_path / "event.png"
    nothing = [np.zeros(300, dtype=np.uint8)]
    draw_event(path, thin_track, nothing)
    # 300 of 2048 wires of a picture some 600 dots wide: a line of 75 cells, besides the patch in the legend.
    legend = pixels_like_of_legend(tmp_path, thin_track)
    assert pixels_like(path, 3) - legend >= 75


def pixels_like_of_legend(tmp_path, event):
    path = tmp_path / "legend.png"
    unlabelled = PlanePixels(event.planes[0].index, event.planes[0].value, np.zeros(300, dtype=np.uint8))
    draw_event(path, dataclasses.replace(event, planes=(unlabelled,)), [unlabelled.label])
    return pixels_like(path, 3)


def test_an_empty_plane_and_a_missing_truth_are_drawn(tmp_path, event):
    blind = tuple(dataclasses.replace(plane, label=None) for plane in event.planes)
    predictions = [np.array([0, 1, 2, 2], dtype=np.uint8), np.empty(0, dtype=np.uint8)]
    full, short = tmp_path / "full.png", tmp_path / "short.png"
    draw_event(full, event, predictions, {"cosmic_iou": 0.9})
    draw_event(short, dataclasses.replace(event, planes=blind), predictions)
    # charge, truth, prediction and close-up; without truth one column less
    assert imread(full).shape[1] - imread(short).shape[1] == pytest.approx(4.3 * 150, abs=1)


def test_charge_alone_is_drawn_without_labels_and_predictions(tmp_path, event):
    blind = tuple(dataclasses.replace(plane, label=None) for plane in event.planes)
    path = tmp_path / "event.png"
    draw_event(path, dataclasses.replace(event, planes=blind))
    assert imread(path).shape[1] == pytest.approx(4.3 * 150, abs=1)


def test_the_close_up_ignores_strays():
    ticks = [*range(600, 660), 10, 1200]
    wires = [*range(900, 960), 5, 2000]
    plane = plane_of(ticks, wires, [2] * 62, 2048)
    window = zoom_window(plane, plane.label, (1280, 2048))
    assert window == Window(top=594, bottom=666, left=894, right=966)


def test_the_close_up_of_a_single_pixel_in_a_corner_stays_in_the_image():
    plane = plane_of([1279], [2047], [2], 2048)
    assert zoom_window(plane, plane.label, (1280, 2048)) == Window(1232, 1280, 2000, 2048)


def test_the_close_up_of_a_tiny_image_is_the_image(event):
    plane = event.planes[0]
    assert zoom_window(plane, plane.label, event.shape) == Window(0, 8, 0, 10)


def test_no_neutrino_no_close_up(event):
    plane = event.planes[0]
    assert zoom_window(plane, np.zeros(4, dtype=np.uint8), event.shape) is None


def test_names_sort_like_entries(tmp_path):
    names = [display_path(tmp_path, entry).name for entry in (2, 10)]
    assert names == sorted(names)


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path, event):
    (tmp_path / "displays").write_text("")
    with pytest.raises(UserError, match="--log-directory: cannot write"):
        draw_event(display_path(tmp_path, 1), event)
