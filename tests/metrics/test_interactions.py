"""Events are sorted by what happened in them, and their metrics averaged apart."""

import numpy as np
import pytest

from cosmictagger.data.products import blank_particles
from cosmictagger.metrics.interactions import KINDS, Interaction, columns, group_rows
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.event import simulate_event
from cosmictagger.simulate.neutrino import Mix
from cosmictagger.simulate.products import particle_records


def particles(*codes, current=0, energy=1.5):
    records = blank_particles(len(codes))
    records["pdg"], records["current_type"], records["energy_init"] = codes, current, energy
    return records


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (particles(12, 11, 2212), ("nue_cc", 1.5)),
        (particles(-14, -13), ("numu_cc", 1.5)),
        (particles(14, 14, current=1), ("nc", 1.5)),
        (particles(12, current=1), ("nc", 1.5)),
        (particles(13), ("cosmic", None)),
        (particles(), ("cosmic", None)),
    ],
)
def test_the_first_neutrino_names_the_interaction(records, expected):
    found = Interaction.of(records)
    assert (found.kind, found.energy) == expected


def row(kind, energy, tagged, iou):
    metrics = {"non_background_accuracy": 0.5, "neutrino_accuracy": 0.25, "cosmic_iou": 0.75, "neutrino_iou": iou}
    metrics |= {f"plane{plane}_tagged_neutrino": count for plane, count in enumerate(tagged)}
    return metrics | columns(Interaction(kind=kind, energy=energy), metrics)


def test_an_event_is_found_where_every_plane_has_more_than_ten_pixels():
    assert row("nc", 1.0, (11, 11, 11), 0)["neutrino_found"] == 1
    assert row("nc", 1.0, (500, 10, 500), 0)["neutrino_found"] == 0


def test_rows_are_averaged_by_kind_and_energy():
    rows = [
        row("cosmic", None, (0, 0, 0), 1.0),
        row("cosmic", None, (20, 20, 20), 0.0),
        row("nue_cc", 0.4, (20, 20, 20), 0.25),
        row("nue_cc", 2.0, (20, 20, 20), 0.75),
    ]
    groups = group_rows(rows)
    found = [(g.kind, g.energy_from, g.energy_to, g.images, g.neutrino_iou, g.found) for g in groups]
    assert found == [
        ("nue_cc", None, None, 2, 0.5, 1.0),
        ("nue_cc", 0.0, 0.5, 1, 0.25, 1.0),
        ("nue_cc", 2.0, None, 1, 0.75, 1.0),
        ("cosmic", None, None, 2, 0.5, 0.5),
    ]
    assert np.isclose(groups[0].cosmic_iou, 0.75)


@pytest.mark.parametrize("kind", KINDS)
def test_the_simulation_names_interactions_alike(kind):
    mix = Mix(**{name: float(name == kind) for name in KINDS})
    event = simulate_event(Detector(), mix, seed=3, number=0)
    found = Interaction.of(particle_records(event.particles))
    assert found.kind == event.kind == kind
    assert (found.energy is None) == (kind == "cosmic")
