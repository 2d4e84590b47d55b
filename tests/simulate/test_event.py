import numpy as np
import pytest

from cosmictagger.data.events import NEUTRINO
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.event import FIRST_COSMIC, simulate_event
from cosmictagger.simulate.neutrino import Mix
from cosmictagger.simulate.response import Canvas

DETECTOR = Detector()


def same(first, second) -> bool:
    return all(
        np.array_equal(a.index, b.index) and np.array_equal(a.value, b.value) and np.array_equal(a.label, b.label)
        for a, b in zip(first.planes, second.planes, strict=True)
    )


def test_an_event_depends_on_seed_and_number_alone():
    canvas = Canvas(DETECTOR.shape)
    alone = simulate_event(DETECTOR, Mix(), 7, 3)
    later = [simulate_event(DETECTOR, Mix(), 7, number, canvas) for number in (0, 5, 3)][-1]
    assert same(alone, later)
    assert not same(alone, simulate_event(DETECTOR, Mix(), 8, 3))
    assert not same(alone, simulate_event(DETECTOR, Mix(), 7, 4))


@pytest.mark.parametrize("kind", ["nue_cc", "numu_cc", "nc"])
def test_pixels_are_as_readers_promise(kind):
    event = simulate_event(
        DETECTOR, Mix(**{name: float(name == kind) for name in ("nue_cc", "numu_cc", "nc", "cosmic")}), 1, 0
    )
    assert event.kind == kind
    for plane, instances in zip(event.planes, event.instances, strict=True):
        assert plane.index.dtype == np.int32
        assert plane.value.dtype == np.float32
        assert plane.label.dtype == np.uint8
        assert (np.diff(plane.index) > 0).all()
        assert plane.value.min() >= DETECTOR.threshold
        assert set(np.unique(plane.label)) <= {0, 1, 2}
        assert len(instances) == len(plane.index)
        own = instances[(plane.label == NEUTRINO) & (instances >= 0)]
        assert np.mean(own < FIRST_COSMIC) > 0.95


def test_cosmic_only_events_have_no_neutrino():
    event = simulate_event(DETECTOR, Mix(nue_cc=0, numu_cc=0, nc=0, cosmic=1), 1, 0)
    assert event.particles == ()
    assert all((plane.label != NEUTRINO).all() for plane in event.planes)


def test_more_neutrinos_leave_the_first_as_it_is():
    one, three = (simulate_event(DETECTOR, Mix(nue_cc=1, nc=0, cosmic=0, neutrinos=count), 1, 0) for count in (1, 3))
    assert three.particles[: len(one.particles)] == one.particles
    neutrinos = [number for number, particle in enumerate(three.particles) if particle.parent < 0]
    assert len(neutrinos) == 3
    assert len({three.particles[number].vertex for number in neutrinos}) == 3
    for plane in range(3):
        first, all_three = (np.count_nonzero(event.planes[plane].label == NEUTRINO) for event in (one, three))
        assert all_three > first
    # Each pixel's owner is one of the particles in the list, so that they can be told apart.
    owners = np.unique(np.concatenate(three.instances))
    owners = owners[(owners >= 0) & (owners < FIRST_COSMIC)]
    assert set(np.searchsorted(neutrinos, owners, side="right")) == {1, 2, 3}
    assert owners.max() < len(three.particles)


def test_more_neutrinos_are_none_in_a_cosmic_only_event():
    event = simulate_event(DETECTOR, Mix(nue_cc=0, numu_cc=0, nc=0, cosmic=1, neutrinos=3), 1, 0)
    assert event.particles == ()


def test_an_empty_detector_gives_empty_planes():
    silent = Detector(
        cosmic_intensity=0.0,
        cosmic_showers=0.0,
        cosmic_protons=0.0,
        radiological_blips=0.0,
        noise_pixels_low=(0.0, 0.0, 0.0),
        noise_pixels_high=(0.0, 0.0, 0.0),
    )
    event = simulate_event(silent, Mix(nue_cc=0, numu_cc=0, nc=0, cosmic=1), 1, 0)
    assert [len(plane.index) for plane in event.planes] == [0, 0, 0]


def test_charge_of_a_plane_is_energy_times_gain():
    """Over all particles of one readout: what arrives, after lifetime, recombination and the threshold's cut."""
    quiet = Detector(
        cosmic_intensity=0.0, cosmic_showers=0.0, cosmic_protons=0.0, radiological_blips=0.0, beam_window=(0.0, 0.0)
    )
    for number in range(3):
        event = simulate_event(quiet, Mix(nue_cc=1, numu_cc=0, nc=0, cosmic=0), 2, number)
        energy = event.deposits.energy.sum()
        for plane, gain in zip(event.planes, quiet.gain, strict=True):
            seen = plane.value[plane.label == NEUTRINO].sum()
            assert 0.6 < seen / (energy * gain) < 1.05
