"""Crossings of wires against a plain search, and against the geometry of SBND."""

import itertools

import numpy as np
import pytest
import torch

from cosmictagger.models.crossings import SBND_OFFSET, crossing_maximum, offset_of_pixels
from cosmictagger.simulate.detector import Detector


def searched(values, offset):
    """All pairs of wires of the other two planes, one after the other; the wire in the middle lies in the image."""
    width = values.shape[4]
    result = np.zeros(values.shape)
    for w0, w1, w2 in itertools.product(range(width), repeat=3):
        wires = (w0, w1, w2)
        if abs(w0 + w1 - w2 - offset) > 1:
            continue
        for plane in range(3):
            middle = w2 + offset - w0 if plane == 2 else w0 + w1 - offset
            if 0 <= middle < width:
                a, b = (values[:, other, :, :, wires[other]] for other in range(3) if other != plane)
                here = result[:, plane, :, :, wires[plane]]
                np.maximum(here, np.minimum(a, b), out=here)
    return result


@pytest.mark.parametrize("offset", [-30, -3, 0, 7, 12, 25, 60])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_the_largest_of_all_crossings_is_found(offset, share):
    rng = np.random.default_rng(1)
    values = rng.random((2, 3, 2, 3, 13)) * (rng.random((2, 3, 2, 3, 13)) < share)
    expected = searched(values, offset)
    assert np.array_equal(crossing_maximum(torch.from_numpy(values), offset).numpy(), expected)
    assert (expected.max() > 0) == (-13 < offset < 25)


def test_the_slope_goes_to_the_value_that_was_taken():
    values = torch.rand(1, 3, 2, 2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: crossing_maximum(values, 5), (values,))


def test_no_crossing_no_slope():
    values = torch.zeros(1, 3, 1, 1, 4, dtype=torch.float64, requires_grad=True)
    crossing_maximum(values, 3).sum().backward()
    assert not values.grad.any()


@pytest.mark.parametrize("halvings", range(6))
def test_points_in_space_cross_at_every_level(halvings):
    """The wires of the simulation, by y (up) and z (along the beam): those of a point miss the offset by 1 at most."""
    rng = np.random.default_rng(2)
    detector = Detector()
    y, z = rng.uniform(-200, 200, 100000), rng.uniform(0, 500, 100000)
    axes = (detector.wire_axis(plane) for plane in range(3))
    wires = [np.floor(a * y + b * z + c + 0.5) for a, b, c in axes]
    w0, w1, w2 = (np.floor(wire / 2**halvings) for wire in wires)
    missed = w0 + w1 - w2 - round(offset_of_pixels(SBND_OFFSET, halvings))
    assert np.abs(missed).max() <= 1


def test_the_first_of_equal_values_gets_the_slope():
    values = torch.ones(1, 3, 1, 1, 6, dtype=torch.float64, requires_grad=True)
    crossing_maximum(values, 3)[0, 0, 0, 0, 2].backward()  # its first crossing is with wire 1, around wire 0 of plane 2
    assert values.grad[0, :, 0, 0].nonzero().tolist() == [[1, 1]]
