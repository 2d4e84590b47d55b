import threading

import numpy as np
import pytest

from cosmictagger.data.products import Sparse2D
from cosmictagger.errors import UserError
from cosmictagger.simulate.neutrino import Mix
from cosmictagger.simulate.reader import SimulatedReader


def test_cache_returns_the_same_event():
    reader = SimulatedReader(2, 1)
    assert reader.read(1) is reader.read(1)
    assert len(reader) == 2
    assert reader.bytes_read == reader.unmatched_labels == 0


def test_without_cache_events_are_equal():
    reader = SimulatedReader(2, 1, cache=False)
    first, second = reader.read(0), reader.read(0)
    assert first is not second
    assert np.array_equal(first.planes[0].value, second.planes[0].value)


def test_the_mix_may_have_several_neutrinos():
    mix = Mix(cosmic=0, neutrinos=2)
    particles = SimulatedReader(1, 1, mix=mix).particles(0)
    assert np.count_nonzero(particles["interaction_type"] > 0) == 2
    assert np.count_nonzero(SimulatedReader(1, 1, mix=Mix(cosmic=0)).particles(0)["interaction_type"] > 0) == 1


def test_threads_get_what_one_thread_gets():
    reader, alone = SimulatedReader(4, 1), SimulatedReader(4, 1)
    threads = [threading.Thread(target=reader.read, args=(entry,)) for entry in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for entry in range(4):
        for a, b in zip(reader.read(entry).planes, alone.read(entry).planes, strict=True):
            assert np.array_equal(a.index, b.index)
            assert np.array_equal(a.value, b.value)


def test_halved_images_pool_labels_and_average_charge():
    full, half = SimulatedReader(1, 1).read(0), SimulatedReader(1, 1, downsample=1).read(0)
    assert half.shape == (640, 1024)
    for a, b in zip(full.planes, half.planes, strict=True):
        assert a.value.sum(dtype=float) / 4 == pytest.approx(b.value.sum(dtype=float), rel=1e-5)
    assert len(Sparse2D.charges(half.planes).planes) == 3


@pytest.mark.parametrize("entry", [-1, 2])
def test_entries_outside_are_an_error(entry):
    with pytest.raises(IndexError):
        SimulatedReader(2, 1).read(entry)


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="at least 1"):
        SimulatedReader(0)
    with pytest.raises(UserError, match="--downsample"):
        SimulatedReader(1, downsample=20)
