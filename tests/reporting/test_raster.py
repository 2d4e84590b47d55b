import numpy as np
import pytest

from cosmictagger.data.events import PlanePixels
from cosmictagger.reporting.raster import (
    charge_image,
    charge_range,
    class_image,
    fit_factor,
    max_pool,
    paint_charge,
    paint_classes,
)


def test_charges_stand_at_tick_and_wire(event):
    image = charge_image(event.planes[0], event.shape)
    assert image.shape == (8, 10)
    assert (image[0, 0], image[1, 2], image[1, 3], image[7, 9]) == (5.0, 40.0, 60.0, 30.0)
    assert np.count_nonzero(image) == 4


def test_noise_differs_from_absent_pixels(event):
    plane = event.planes[0]
    image = class_image(plane, plane.label, event.shape)
    assert (image[0, 0], image[1, 2], image[7, 9], image[4, 4]) == (1, 2, 3, 0)


def test_a_single_neutrino_pixel_survives_pooling():
    image = np.full((7, 10), 2, dtype=np.uint8)
    image[6, 9] = 3
    pooled = max_pool(image, 4)
    assert pooled.tolist() == [[2, 2, 2], [2, 2, 3]]


def test_pooling_by_one_changes_nothing():
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert max_pool(image, 1).tolist() == image.tolist()


@pytest.mark.parametrize(
    ("shape", "factor"), [((1280, 2048), 4), ((640, 1024), 2), ((320, 512), 1), ((321, 512), 2), ((8, 10), 1)]
)
def test_pictures_are_made_to_fit(shape, factor):
    assert fit_factor(shape, 320, 512) == factor


def test_classes_have_colours_of_their_own():
    colours = paint_classes(np.arange(4, dtype=np.uint8)[None])
    assert colours.shape == (1, 4, 3)
    assert len({tuple(colour) for colour in colours[0].tolist()}) == 4
    assert colours[0, 0].tolist() == [255, 255, 255]


def test_larger_charges_are_darker_and_absent_pixels_white():
    colours = paint_charge(np.array([[0.0, 5.0, 50.0, 500.0, 9000.0]], dtype=np.float32), 5.0, 500.0)
    brightness = colours[0].astype(int).sum(axis=1)
    assert colours[0, 0].tolist() == [255, 255, 255]
    assert brightness[1] > brightness[2] > brightness[3]
    assert brightness[4] == brightness[3]


def test_the_charge_scale_of_an_empty_image_is_usable(event):
    low, high = charge_range((event.planes[1],))
    assert 0 < low < high


def test_the_charge_scale_of_a_single_pixel_is_usable():
    one = PlanePixels(np.array([3], dtype=np.int32), np.array([7.0], dtype=np.float32), None)
    low, high = charge_range((one,))
    assert low == 7.0
    assert high > low
