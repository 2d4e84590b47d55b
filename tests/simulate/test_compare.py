import numpy as np
import pytest
from scipy import ndimage

from cosmictagger.data.events import Event, EventId, PlanePixels
from cosmictagger.simulate.compare import Row, agreement, connected, summarize, track_lengths
from cosmictagger.simulate.reader import SimulatedReader


@pytest.mark.parametrize("density", [0.05, 0.2, 0.4])
def test_connected_groups_are_those_of_scipy(density):
    image = np.random.default_rng(1).random((60, 70)) < density
    index = np.flatnonzero(image).astype(np.int32)
    expected, count = ndimage.label(image, np.ones((3, 3)))
    found = connected(index, 70)
    assert found.max() + 1 == count
    pairs = set(zip(found.tolist(), expected.flat[index].tolist(), strict=True))
    assert len(pairs) == count


def test_no_pixels_no_groups():
    assert len(connected(np.zeros(0, np.int32), 10)) == 0


def test_length_of_a_diagonal_track():
    tick = np.arange(30)
    index = (tick * 100 + 2 * tick).astype(np.int32)
    both = np.sort(np.concatenate([index, index + 1]))
    plane = PlanePixels(both, np.ones(60, np.float32), np.ones(60, np.uint8))
    event = Event(0, EventId(1, 0, 0), (40, 100), (plane,))
    assert track_lengths(event, 0, 1) == pytest.approx([np.hypot(30, 60)])
    assert len(track_lengths(event, 0, 2)) == 0


def test_a_sample_agrees_with_itself():
    summary = summarize(SimulatedReader(3, 1))
    rows = agreement(summary, summary)
    assert len(rows) == 18
    assert all(row.ratio == 1 or np.isnan(row.ratio) for row in rows)
    assert summary.halves.sum(axis=2) == pytest.approx(summary.pixels.sum(axis=2))


@pytest.mark.parametrize(("simulated", "agrees"), [(1.5, True), (1.51, False), (0.67, True), (0.66, False)])
def test_the_factor_is_1_5(simulated, agrees):
    assert Row("pixels", 0, "cosmic", simulated, 1.0).agrees is agrees
