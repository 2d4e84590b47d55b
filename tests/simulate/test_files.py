import h5py
import numpy as np
import pytest

from cosmictagger.data.hdf5_reader import Hdf5Reader
from cosmictagger.errors import UserError
from cosmictagger.simulate.event import simulate_event
from cosmictagger.simulate.files import Simulation, simulate_file, simulate_products
from cosmictagger.simulate.neutrino import Mix
from cosmictagger.simulate.products import IMAGE, PARTICLE, VERTEX, vertex_pixel
from cosmictagger.simulate.reader import SimulatedReader

EVENTS, SEED = 4, 3
PRODUCERS = {"image_producer": "sbndwire", "label_producer": "sbnd_cosmicseg", "particle_producer": "sbndneutrino"}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "events.h5"
    done = []
    simulate_file(path, EVENTS, Simulation(seed=SEED, truth3d=True), progress=done.append)
    assert done == [1, 2, 3, 4]
    return path


def test_any_number_of_workers_writes_the_same_bytes(file, tmp_path):
    simulate_file(tmp_path / "two.h5", EVENTS, Simulation(seed=SEED, truth3d=True), workers=2)
    assert (tmp_path / "two.h5").read_bytes() == file.read_bytes()


def test_events_do_not_depend_on_how_many_are_made(file, tmp_path):
    simulate_file(tmp_path / "last.h5", 1, Simulation(seed=SEED), first_event=EVENTS - 1)
    with Hdf5ReaderContext(file) as whole, Hdf5ReaderContext(tmp_path / "last.h5") as last:
        one, other = whole.read(EVENTS - 1), last.read(0)
        assert one.event_id == other.event_id == (1, 0, EVENTS - 1)
        for a, b in zip(one.planes, other.planes, strict=True):
            assert np.array_equal(a.index, b.index)
            assert np.array_equal(a.value, b.value)


class Hdf5ReaderContext:
    def __init__(self, path, downsample=0):
        self.reader = Hdf5Reader([path], downsample=downsample, **PRODUCERS)

    def __enter__(self):
        return self.reader

    def __exit__(self, *_):
        self.reader.close()


@pytest.mark.parametrize("downsample", [0, 1])
def test_a_file_reads_back_as_simulated_on_the_fly(file, downsample):
    live = SimulatedReader(EVENTS, SEED, downsample=downsample)
    with Hdf5ReaderContext(file, downsample) as stored:
        assert stored.shape == live.shape
        for entry in range(EVENTS):
            one, other = stored.read(entry), live.read(entry)
            assert one.event_id == other.event_id
            for a, b in zip(one.planes, other.planes, strict=True):
                assert np.array_equal(a.index, b.index)
                assert np.array_equal(a.value, b.value)
                assert np.array_equal(a.label, b.label)
            assert np.array_equal(stored.particles(entry), live.particles(entry))


def test_truth_is_kept(file):
    with h5py.File(file) as stored:
        groups = set(stored["Data"])
        kinds = {"sparse2d_sbndwire", "sparse2d_sbnd_cosmicseg", "particle_sbndneutrino", "cluster2d_sbndsegmerged"}
        kinds |= {"bbox2d_bbox_neutrino", "sparse3d_sbndcharge", "sparse3d_sbndlabel"}
        assert groups == {f"{kind}_group" for kind in kinds}


def test_a_neutrino_has_one_vertex_a_plane_and_a_cosmic_event_none():
    for kind, boxes in (("nue_cc", 1), ("cosmic", 0)):
        mix = Mix(**{name: float(name == kind) for name in ("nue_cc", "numu_cc", "nc", "cosmic")})
        products = next(simulate_products(Simulation(mix=mix), range(1), 1))
        assert [len(plane) for plane in products[VERTEX].planes] == [boxes] * 3
        assert len(products[IMAGE].planes) == 3


def test_several_neutrinos_are_told_apart_in_the_truth():
    simulation = Simulation(mix=Mix(nc=0, cosmic=0, neutrinos=3))
    event = simulate_event(simulation.detector, simulation.mix, 0, 0)
    products = next(simulate_products(simulation, range(1), 1))
    records = products[PARTICLE].records
    neutrinos = [number for number, record in enumerate(records) if abs(record["pdg"]) in (12, 14)]
    assert len(neutrinos) == 3
    for number, record in enumerate(records):
        own = max(neutrino for neutrino in neutrinos if neutrino <= number)
        assert tuple(record["vtx"]) == tuple(records[own]["vtx"])
        if number != own:
            parent = record["parent_trackid"]
            assert own <= parent < number
            assert record["parent_pdg"] == records[parent]["pdg"]
            assert (record["ancestor_trackid"], record["ancestor_pdg"]) == (own, records[own]["pdg"])
            assert record["process"] == (b"primary" if parent == own else b"Decay")
    assert (records["energy_deposit"][neutrinos] > 0.05).all()  # GeV, of ν_e and ν_μ CC: each has its own
    assert len(set(records["energy_deposit"][neutrinos])) == 3
    for plane, boxes in enumerate(products[VERTEX].planes):
        places = [vertex_pixel(simulation.detector, event.particles[number], plane) for number in neutrinos]
        assert [tuple(box[:2]) for box in boxes] == places


@pytest.mark.parametrize("name", ["missing/events.h5", "."])
def test_an_unwritable_output_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="Cannot write"):
        simulate_file(tmp_path / name, 1, Simulation())


def test_no_events_make_no_file(tmp_path):
    with pytest.raises(UserError, match="at least 1"):
        simulate_file(tmp_path / "none.h5", 0, Simulation())


def test_a_failure_leaves_neither_file_nor_workers(tmp_path):
    class StopHereError(Exception):
        pass

    def stop(done):
        raise StopHereError

    with pytest.raises(StopHereError):
        simulate_file(tmp_path / "events.h5", 100, Simulation(), workers=2, progress=stop)
    assert list(tmp_path.iterdir()) == []
