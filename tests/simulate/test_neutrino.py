import numpy as np
import pytest

from cosmictagger.errors import UserError
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.neutrino import E_MINUS, GAMMA, MU_MINUS, NU_E, NU_MU, PI_ZERO, Mix, interact, to_follow

DETECTOR = Detector()


def events(kind: str, count: int = 200):
    return [interact(DETECTOR, kind, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize(("kind", "neutrino", "lepton"), [("nue_cc", NU_E, E_MINUS), ("numu_cc", NU_MU, MU_MINUS)])
def test_charged_current_makes_the_lepton(kind, neutrino, lepton):
    for particles in events(kind):
        assert (particles[0].pdg, particles[1].pdg) == (neutrino, lepton)
        assert particles[0].current == 0
        assert particles[0].parent == -1


def test_neutral_current_makes_no_lepton():
    for particles in events("nc"):
        assert particles[1].pdg in (NU_E, NU_MU)
        assert particles[0].current == 1


@pytest.mark.parametrize("kind", ["nue_cc", "numu_cc", "nc"])
def test_no_energy_is_made(kind):
    """The lepton's energy, the hadrons' kinetic energy and the pions' masses stay below the neutrino's energy."""
    for particles in events(kind):
        hadrons = [p for p in particles[2:] if p.parent == 0]
        used = particles[1].energy + sum(
            p.kinetic / 1000 + (p.energy - p.kinetic / 1000) * (abs(p.pdg) < 1000) for p in hadrons
        )
        assert used <= particles[0].energy + 0.01


def test_neutral_pions_decay_to_their_mass():
    found = 0
    for particles in events("numu_cc"):
        for place, pion in enumerate(particles):
            if pion.pdg != PI_ZERO:
                continue
            photons = [p for p in particles if p.parent == place]
            assert [p.pdg for p in photons] == [GAMMA, GAMMA]
            total = np.sum([p.momentum for p in photons], axis=0)
            assert total == pytest.approx(pion.momentum, abs=1e-9)
            mass = np.sqrt(sum(p.energy for p in photons) ** 2 - total @ total)
            assert mass == pytest.approx(0.134977, rel=1e-6)
            found += 1
    assert found > 10


def test_vertices_fill_the_volume_and_the_beam_window():
    starts = np.array([particles[0].vertex for particles in events("nc", 400)])
    assert (np.abs(starts[:, :2]) <= 200).all()
    assert starts.mean(axis=0) == pytest.approx([0, 0, 250], abs=25)
    times = np.array([particles[0].time for particles in events("nc", 400)])
    assert 0 <= times.min() < times.max() <= 10_000


def test_energies_lie_in_the_beam():
    energies = np.array([particles[0].energy for particles in events("nc", 400)])
    assert 0.2 <= energies.min() < energies.max() <= 3.0
    assert 0.8 < energies.mean() < 1.3


def test_followed_particles_keep_their_number():
    particles = interact(DETECTOR, "numu_cc", np.random.default_rng(3))
    tracks, _ = to_follow(particles, np.random.default_rng(0), 0)
    assert tracks.origin.instance[0] == 1
    assert tracks.energy[0] == pytest.approx(particles[1].kinetic)


def test_mix_draws_its_shares():
    rng = np.random.default_rng(1)
    kinds = [Mix(nue_cc=1, numu_cc=1, nc=2, cosmic=0).draw(rng) for _ in range(4000)]
    assert [kinds.count(kind) / 4000 for kind in ("nue_cc", "numu_cc", "nc", "cosmic")] == pytest.approx(
        [0.25, 0.25, 0.5, 0], abs=0.03
    )


@pytest.mark.parametrize("shares", [{"nue_cc": -1.0}, {"nue_cc": 0.0, "numu_cc": 0.0, "nc": 0.0, "cosmic": 0.0}])
def test_impossible_mixes_are_refused(shares):
    with pytest.raises(UserError, match="mix"):
        Mix(**shares)
