"""What is written of a simulated event: the products of the field's files, and truth for tasks to come."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import NEUTRINO, EventId, Product
from cosmictagger.data.layout import Records
from cosmictagger.data.products import (
    AnyProduct,
    BBox2D,
    Cluster2D,
    Particles,
    Pixels,
    Sparse2D,
    Sparse3D,
    blank_particles,
)
from cosmictagger.simulate.deposits import Deposits
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.event import SimulatedEvent
from cosmictagger.simulate.neutrino import Particle

IMAGE = Product("sparse2d", "sbndwire")
LABEL = Product("sparse2d", "sbnd_cosmicseg")
PARTICLE = Product("particle", "sbndneutrino")
CLUSTER = Product("cluster2d", "sbndsegmerged")
VERTEX = Product("bbox2d", "bbox_neutrino")
CHARGE_3D = Product("sparse3d", "sbndcharge")
LABEL_3D = Product("sparse3d", "sbndlabel")
PRODUCTS = (IMAGE, LABEL, PARTICLE, CLUSTER, VERTEX)
RUN, SUBRUN = 1, 0
VOXEL = 1.0  # cm, side of the 3D truth's voxels
VERTEX_HALF = 5.0  # wires and ticks to each side of the vertex in its box
NO_PARENT = np.iinfo(np.uint32).max


def event_id(number: int) -> EventId:
    """Name a simulated event."""
    return EventId(RUN, SUBRUN, number)


def event_products(detector: Detector, event: SimulatedEvent, truth3d: bool = False) -> dict[Product, AnyProduct]:
    """Make everything that a file holds of one event, for `LarcvWriter.append`."""
    products: dict[Product, AnyProduct] = {
        IMAGE: Sparse2D.charges(event.planes),
        LABEL: Sparse2D.labels(event.planes),
        PARTICLE: Particles(particle_records(event.particles, event.deposits)),
        CLUSTER: _clusters(event),
        VERTEX: BBox2D(_vertex_boxes(detector, event.particles)),
    }
    if truth3d:
        products |= _space(detector, event.deposits)
    return products


def particle_records(particles: Sequence[Particle], deposits: Deposits | None = None) -> Records:
    """Make the larcv records of each neutrino and what came of it: energies in GeV, positions in cm, times in ns.

    `energy_deposit` is what a particle and its descendants left in the active volume.
    """
    records = blank_particles(len(particles))
    neutrino = 0
    for number, (record, particle) in enumerate(zip(records, particles, strict=True)):
        if particle.parent < 0:
            neutrino = number  # what follows, up to the next one, came of it
        record["id"] = record["trackid"] = number
        record["pdg"], record["energy_init"] = particle.pdg, particle.energy
        record["px"], record["py"], record["pz"] = particle.momentum
        record["vtx"] = (*particle.vertex, particle.time)
        record["interaction_type"], record["current_type"] = particle.interaction, particle.current
        record["process"] = b"Decay" if particle.parent > neutrino else b"primary"
        record["parent_trackid"] = NO_PARENT if particle.parent < 0 else particle.parent
        record["parent_pdg"] = 0 if particle.parent < 0 else particles[particle.parent].pdg
        if particle.parent >= 0:
            record["ancestor_trackid"], record["ancestor_pdg"] = neutrino, particles[neutrino].pdg
    if deposits is not None and len(particles):
        mine = deposits.label == NEUTRINO
        records["energy_deposit"] = _energy_by_particle(particles, deposits.select(mine)) / 1000
    return records


def vertex_pixel(detector: Detector, particle: Particle, plane: int) -> tuple[float, float]:
    """Project the start of a particle: (wire, tick), where its charge appears, its time included."""
    x, y, z = particle.vertex
    a, b, c = detector.wire_axis(plane)
    late = particle.time / 1000 / detector.tick_time
    tick = detector.n_ticks / 2 + x / detector.tick_length + (late if x < 0 else -late)
    return a * y + b * z + c, tick


def _vertex_boxes(detector: Detector, particles: Sequence[Particle]) -> list[npt.NDArray[np.float64]]:
    if not particles:
        return [np.zeros((0, 4))] * 3
    neutrinos = [particle for particle in particles if particle.parent < 0]
    return [
        np.array([[*vertex_pixel(detector, neutrino, plane), VERTEX_HALF, VERTEX_HALF] for neutrino in neutrinos])
        for plane in range(3)
    ]


def _clusters(event: SimulatedEvent) -> Cluster2D:
    """Group pixels by the particle that left most charge: first the particles of the list, then the cosmic ones.

    The number of a cluster is the same in all planes.
    """
    seen = np.unique(np.concatenate(event.instances))
    others = seen[seen >= len(event.particles)]
    numbers = np.concatenate([np.arange(len(event.particles)), others])
    planes = []
    for pixels, instances in zip(event.planes, event.instances, strict=True):
        order = np.argsort(instances, kind="stable")
        first = np.searchsorted(instances[order], numbers)
        last = np.searchsorted(instances[order], numbers, side="right")
        chosen = [order[a:b] for a, b in zip(first, last, strict=True)]
        planes.append([Pixels(pixels.index[these], pixels.value[these]) for these in chosen])
    return Cluster2D(planes)


def _energy_by_particle(particles: Sequence[Particle], deposits: Deposits) -> npt.NDArray[np.float64]:
    energy = np.bincount(deposits.instance, deposits.energy, len(particles)).astype(np.float64)
    for number in range(len(particles) - 1, 0, -1):
        if particles[number].parent >= 0:
            energy[particles[number].parent] += energy[number]
    return energy


def _space(detector: Detector, deposits: Deposits) -> dict[Product, AnyProduct]:
    """Energy (MeV) and label of the voxels of the active volume at their true places, whatever the time."""
    size = (2 * detector.half_width, 2 * detector.half_height, detector.length)
    shape = (int(np.ceil(size[0] / VOXEL)), int(np.ceil(size[1] / VOXEL)), int(np.ceil(size[2] / VOXEL)))
    origin = (-detector.half_width, -detector.half_height, 0.0)
    place = np.floor((deposits.position - np.array(origin, np.float32)) / VOXEL).astype(np.int64)
    place = np.clip(place, 0, np.array(shape) - 1)
    index, inverse = np.unique((place[:, 0] * shape[1] + place[:, 1]) * shape[2] + place[:, 2], return_inverse=True)
    energy = np.stack([np.bincount(inverse, deposits.energy * (deposits.label == c), len(index)) for c in (2, 1, 0)])
    label = 2 - energy.argmax(axis=0)  # the neutrino, being first, wins ties
    return {
        CHARGE_3D: Sparse3D(Pixels(index, energy.sum(axis=0).astype(np.float32)), shape, size, origin),
        LABEL_3D: Sparse3D(Pixels(index, label.astype(np.float32)), shape, size, origin),
    }
