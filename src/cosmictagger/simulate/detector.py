"""The detector, its surroundings and the beam as numbers: every constant of the simulation, overridable by YAML.

Coordinates in cm: x along the drift with the cathode at 0, y up, z along the beam. The images stack the two
drift volumes: ticks below half for x < 0, the others for x > 0. The defaults describe SBND; the gains, widths
and rates were tuned on simulated SBND events (see docs/simulation.md).
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import yaml

from cosmictagger.config.options import check_section, option, options_of, suggest
from cosmictagger.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detector:
    """A time-projection chamber of two drift volumes with three wire planes each, and what crosses it."""

    # The chamber and its readout
    half_width: float = option(200.0, "cm from the cathode to either anode", above=0)
    half_height: float = option(200.0, "cm from the middle to the top", above=0)
    length: float = option(500.0, "cm along the beam", above=0)
    wire_pitch: float = option(0.3, "cm between wires", above=0)
    wire_angle: float = option(
        60.0, "degrees of the induction wires to the vertical, + in plane 0, - in plane 1", above=0
    )
    wire_offset: tuple[float, float, float] = option(
        (31.0, 31.0, 192.0), "wire number at the corner where each plane starts", minimum=0
    )
    wire_first: tuple[int, int, int] = option((31, 31, 192), "first connected wire of each plane", minimum=0)
    wire_last: tuple[int, int, int] = option((2016, 2016, 1857), "last connected wire of each plane", minimum=0)
    n_wires: int = option(2048, "width of the images", minimum=1)
    n_ticks: int = option(1280, "height of the images, both drift volumes together (even)", minimum=2)
    tick_length: float = option(0.3125, "cm of drift in a tick", above=0)
    drift_velocity: float = option(0.16, "cm per microsecond", above=0)

    # From energy to charge
    gain: tuple[float, float, float] = option(
        (120.0, 120.0, 130.0), "charge on each plane for 1 MeV lost by a minimum-ionizing particle", above=0
    )
    electron_lifetime: float = option(10_000.0, "microseconds until drifting electrons are fewer by 1/e", above=0)
    diffusion_longitudinal: float = option(4.0e-6, "cm2 per microsecond along the drift", minimum=0)
    diffusion_transverse: float = option(12.0e-6, "cm2 per microsecond across the drift", minimum=0)
    response_width: tuple[float, float, float] = option(
        (0.78, 0.78, 0.70), "ticks to either side over which the electronics spread charge evenly", above=0
    )
    threshold: float = option(5.0, "charge below which a pixel is suppressed", minimum=0)
    label_window: tuple[float, float] = option(
        (0.375, 0.625), "part of a tick in which cosmic labels look for true charge", minimum=0, maximum=1
    )
    cosmic_label_charge: float = option(
        0.6, "true charge there, before the electronic response, that makes a pixel cosmic", minimum=0
    )
    neutrino_label_charge: float = option(5.5, "charge, after the response, that makes a pixel neutrino", minimum=0)

    # Noise: pixels above threshold of each plane, in the half of x < 0 and that of x > 0
    noise_pixels_low: tuple[float, float, float] = option(
        (950.0, 11_500.0, 190.0), "mean noise pixels in ticks of x < 0", minimum=0
    )
    noise_pixels_high: tuple[float, float, float] = option(
        (11_500.0, 850.0, 150.0), "mean noise pixels in ticks of x > 0", minimum=0
    )
    noise_loud_density: float = option(
        0.003, "share of noise pixels in a half, above which its noise is loud and correlated in time", minimum=0
    )
    noise_loud_sigma: float = option(2.07, "charge (sigma) of loud noise", above=0)
    noise_quiet_sigma: float = option(1.5, "charge (sigma) of the other halves", above=0)
    noise_chain: float = option(
        0.535, "chance that another noise pixel follows on the same wire (loud)", minimum=0, maximum=0.95
    )
    noise_adjacent: float = option(0.45, "chance that it follows in the next tick", minimum=0, maximum=1)
    noise_gap: float = option(7.0, "mean ticks to it otherwise", minimum=1)
    radiological_blips: float = option(60.0, "mean number of decays in the chamber and its readout time", minimum=0)
    radiological_energy: float = option(0.25, "mean MeV of such a decay", above=0)

    # What comes from the sky
    cosmic_intensity: float = option(
        70.0, "vertical muons per m2, s and sr; falls as cos2 of the zenith angle", minimum=0
    )
    muon_momentum_min: float = option(0.2, "GeV/c of the softest muons", above=0)
    muon_momentum_max: float = option(1000.0, "GeV/c of the hardest muons", above=0)
    cosmic_showers: float = option(1.0, "mean number of electromagnetic showers in the readout time", minimum=0)
    cosmic_shower_energy_min: float = option(30.0, "MeV of the softest showers", above=0)
    cosmic_shower_energy_max: float = option(3000.0, "MeV of the hardest showers", above=0)
    cosmic_protons: float = option(1.0, "mean number of protons that cosmic neutrons knock on", minimum=0)

    # What comes from the beam
    beam_window: tuple[float, float] = option((0.0, 10.0), "microseconds after the trigger at which neutrinos arrive")
    neutrino_energy_shape: float = option(4.0, "shape of the gamma distribution of neutrino energies", above=0)
    neutrino_energy_scale: float = option(0.27, "GeV, scale of that distribution", above=0)
    neutrino_energy_min: float = option(0.2, "GeV of the softest neutrinos", above=0)
    neutrino_energy_max: float = option(3.0, "GeV of the hardest neutrinos", above=0)

    # How finely particles are followed
    track_step: float = option(0.2, "cm of a step of muons, pions and protons", above=0)
    electron_step: float = option(0.2, "cm of a step of electrons", above=0)
    delta_ray_min: float = option(1.0, "MeV above which knock-on electrons are followed", above=0)
    photon_min: float = option(0.25, "MeV below which a photon is absorbed where it is", above=0)

    def __post_init__(self) -> None:
        check_section(self)
        if self.n_ticks % 2:
            raise UserError(f"detector: n_ticks: {self.n_ticks} is odd; two drift volumes of equal height share it.")
        for low, high in (
            ("muon_momentum_min", "muon_momentum_max"),
            ("cosmic_shower_energy_min", "cosmic_shower_energy_max"),
            ("neutrino_energy_min", "neutrino_energy_max"),
        ):
            if getattr(self, low) >= getattr(self, high):
                raise UserError(
                    f"detector: {low}: {getattr(self, low):g} must lie below {high}, {getattr(self, high):g}."
                )
        if self.label_window[0] >= self.label_window[1]:
            raise UserError("detector: label_window: is empty; give where it starts, then where it ends.")
        if self.beam_window[0] > self.beam_window[1]:
            raise UserError("detector: beam_window: starts after it ends; give the earlier time first.")
        if max(self.wire_last) >= self.n_wires:
            raise UserError(
                f"detector: wire_last: {max(self.wire_last)} lies outside an image of {self.n_wires} wires."
            )

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Detector":
        """Read the constants that differ from the default; raise UserError for keys or values that make no sense."""
        try:
            document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"detector: cannot read '{path}': {error.strerror}.") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"detector: '{path}' is not YAML: {' '.join(str(error).split())}.") from None
        if not isinstance(document, dict | None):
            raise UserError(f"detector: '{path}' must hold keys and values, such as 'wire_pitch: 0.3'.")
        return cls(**_parse(document or {}, str(path)))

    def to_yaml(self) -> str:
        """Write every constant with its meaning, as a YAML document that `from_yaml` reads back."""
        lines = []
        for item in options_of(type(self)):
            value = getattr(self, item.key)
            text = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True)
            lines.append(f"{item.key}: {text.splitlines()[0]}  # {item.help}")
        return "\n".join(lines) + "\n"

    @property
    def shape(self) -> tuple[int, int]:
        """(ticks, wires) of an image."""
        return self.n_ticks, self.n_wires

    @property
    def tick_time(self) -> float:
        """Microseconds in a tick."""
        return self.tick_length / self.drift_velocity

    @property
    def readout_time(self) -> float:
        """Microseconds around the trigger in which a particle may leave charge in the image (half before, half after)."""
        return self.n_ticks * self.tick_time

    def wire_axis(self, plane: int) -> tuple[float, float, float]:
        """Give (a, b, c) such that wire = a y + b z + c in cm, for `plane` 0, 1 or 2."""
        if plane == 2:
            return 0.0, 1 / self.wire_pitch, self.wire_offset[2]
        angle = math.radians(self.wire_angle)
        across, along = math.sin(angle) / self.wire_pitch, math.cos(angle) / self.wire_pitch
        return (-across if plane == 0 else across), along, self.wire_offset[plane] + self.half_height * across


def _parse(document: dict[Any, Any], path: str) -> dict[str, Any]:
    known = {item.key: item for item in options_of(Detector)}
    for key in document:
        if key not in known:
            raise UserError(f"detector: '{path}' has an unknown key '{key}'{suggest(key, known)}.")
    return {key: known[key].parse(value, f"detector: '{path}': {key}") for key, value in document.items()}
