"""Metrics apart for each kind of interaction and range of neutrino energy, as physicists ask for them."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS = ("nue_cc", "numu_cc", "nc", "cosmic")
ENERGIES = (0.0, 0.5, 1.0, 2.0, np.inf)  # GeV, edges of the ranges
NEUTRINOS = {12: "nue_cc", -12: "nue_cc", 14: "numu_cc", -14: "numu_cc"}  # by PDG code
NEUTRAL_CURRENT = 1
# An event counts as found where more pixels than this are tagged neutrino in each plane: the field's cut.
FOUND_ABOVE = 10
AVERAGED = ("non_background_accuracy", "neutrino_accuracy", "cosmic_iou", "neutrino_iou")

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interaction:
    """What happened in an event, in truth: its kind, one of `KINDS`, and the neutrino's energy in GeV (or None)."""

    kind: str
    energy: float | None

    @classmethod
    def of(cls, particles: npt.NDArray[np.void]) -> "Interaction":
        """Take the first neutrino of an event's larcv particles; without any the event is cosmic-only."""
        for particle in particles:
            kind = NEUTRINOS.get(int(particle["pdg"]))
            if kind is not None:
                neutral = int(particle["current_type"]) == NEUTRAL_CURRENT
                return cls(kind="nc" if neutral else kind, energy=float(particle["energy_init"]))
        return cls(kind="cosmic", energy=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InteractionGroup:
    """Means over the images of one kind, with neutrino energies from `energy_from` to `energy_to` GeV (None: any).

    `found` is the share of images in which more than 10 pixels of each plane are tagged neutrino: an efficiency,
    and for cosmic-only events the share that passes by mistake.
    """

    kind: str
    energy_from: float | None
    energy_to: float | None
    images: int
    non_background_accuracy: float
    neutrino_accuracy: float
    cosmic_iou: float
    neutrino_iou: float
    found: float


def columns(interaction: Interaction, row: Row) -> dict[str, Any]:
    """Make what an event's row of `image_rows` gets besides: kind, energy, and whether a neutrino was found."""
    tagged = [value for name, value in row.items() if name.endswith("_tagged_neutrino")]
    return {
        "interaction": interaction.kind,
        "neutrino_energy": interaction.energy,
        "neutrino_found": int(min(tagged) > FOUND_ABOVE),
    }


def group_rows(rows: Sequence[Row]) -> tuple[InteractionGroup, ...]:
    """Average rows with `columns`: for each kind that occurs all energies, then each range of energy that occurs."""
    groups = []
    for kind in KINDS:
        of_kind = [row for row in rows if row["interaction"] == kind]
        if of_kind:
            groups.append(_group(kind, None, None, of_kind))
        for low, high in itertools.pairwise(ENERGIES):
            inside = [r for r in of_kind if r["neutrino_energy"] is not None and low <= r["neutrino_energy"] < high]
            if inside:
                groups.append(_group(kind, low, high if np.isfinite(high) else None, inside))
    return tuple(groups)


def _group(kind: str, low: float | None, high: float | None, rows: Sequence[Row]) -> InteractionGroup:
    means = {name: float(np.mean([row[name] for row in rows])) for name in AVERAGED}
    found = float(np.mean([row["neutrino_found"] for row in rows]))
    return InteractionGroup(kind=kind, energy_from=low, energy_to=high, images=len(rows), found=found, **means)
