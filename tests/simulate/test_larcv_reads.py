"""The real larcv library reads all that `simulate` writes, and finds the values that were simulated."""

import numpy as np
import pytest

from cosmictagger.data.hdf5_reader import Hdf5Reader
from cosmictagger.data.larcv_reader import LarcvReader
from cosmictagger.data.products import Sparse3D
from cosmictagger.simulate.files import Simulation, simulate_file, simulate_products
from cosmictagger.simulate.products import CHARGE_3D, CLUSTER, LABEL_3D, PARTICLE, VERTEX

pytestmark = pytest.mark.larcv
larcv = pytest.importorskip("larcv", reason="the larcv library is not installed (make larcv)")

EVENTS = 3
SIMULATION = Simulation(seed=8, truth3d=True)
PRODUCERS = {"image_producer": "sbndwire", "label_producer": "sbnd_cosmicseg", "particle_producer": "sbndneutrino"}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "events.h5"
    simulate_file(path, EVENTS, SIMULATION)
    return path


@pytest.fixture(scope="module")
def manager(file):
    manager = larcv.IOManager(larcv.IOManager.kREAD, "simulated")
    settings = larcv.IOManager.default_config() | {"Verbosity": 5}
    settings["Input"]["InputFiles"] = [str(file)]
    manager.configure(settings)
    assert manager.initialize()
    return manager


def test_images_labels_and_particles_are_the_same_through_both_readers(file):
    ours, theirs = Hdf5Reader([file], **PRODUCERS), LarcvReader([file], **PRODUCERS)
    assert len(ours) == len(theirs) == EVENTS
    for entry in range(EVENTS):
        assert ours.read(entry).event_id == theirs.read(entry).event_id
        for mine, its in zip(ours.read(entry).planes, theirs.read(entry).planes, strict=True):
            assert np.array_equal(mine.index, its.index)
            assert np.array_equal(mine.value, its.value)
            assert np.array_equal(mine.label, its.label)
        assert ours.particles(entry)["pdg"].tolist() == theirs.particles(entry)["pdg"].tolist()


@pytest.mark.parametrize("entry", range(EVENTS))
def test_truth_for_reconstruction_is_read(manager, entry):
    truth = list(simulate_products(SIMULATION, range(EVENTS), 1))[entry]
    assert manager.get_n_entries() == EVENTS
    manager.clear_entry()
    assert manager.read_entry(entry, True)

    records = truth[PARTICLE].records
    particles = manager.get_data(*PARTICLE).as_vector()
    assert [p.pdg_code() for p in particles] == records["pdg"].tolist()
    assert [p.energy_deposit() for p in particles] == records["energy_deposit"].tolist()

    boxes = manager.get_data(*VERTEX)
    for plane, expected in enumerate(truth[VERTEX].planes):
        assert [list(box.centroid()) for box in boxes.at(plane).as_vector()] == expected[:, :2].tolist()

    clusters = manager.get_data(*CLUSTER)
    for plane, parts in enumerate(truth[CLUSTER].planes):
        sizes = [clusters.at(plane).voxel_set(number).size() for number in range(clusters.at(plane).size())]
        assert sizes == [len(pixels.index) for pixels in parts]

    for product in (CHARGE_3D, LABEL_3D):
        expected = truth[product]
        assert isinstance(expected, Sparse3D)
        voxels = manager.get_data(*product).at(0)
        assert voxels.indexes().tolist() == expected.voxels.index.tolist()
        assert voxels.values().tolist() == expected.voxels.value.tolist()
