"""The metrics of each kind of interaction, as the rows of a table."""

from cosmictagger.metrics.interactions import InteractionGroup
from cosmictagger.reporting.progress import format_value

INTERACTION_COLUMNS = (
    "interaction",
    "energy (GeV)",
    "images",
    "cosmic IoU",
    "neutrino IoU",
    "neutrino accuracy",
    "> 10 neutrino pixels in each plane",
)
TITLES = {"nue_cc": "ν_e CC", "numu_cc": "ν_μ CC", "nc": "NC", "cosmic": "cosmic only"}


def interaction_words(kind: str, energy: float | None) -> str:
    """Say what happened in an event."""
    return TITLES[kind] if energy is None else f"{TITLES[kind]}, {energy:.2f} GeV"


def interaction_cells(group: InteractionGroup) -> list[str]:
    """Write one row."""
    if group.energy_from is None:
        energy = "all"
    else:
        energy = f"{group.energy_from:g} – {group.energy_to:g}" if group.energy_to else f"above {group.energy_from:g}"
    values = (group.cosmic_iou, group.neutrino_iou, group.neutrino_accuracy)
    return [TITLES[group.kind], energy, str(group.images), *map(format_value, values), f"{100 * group.found:.1f} %"]
