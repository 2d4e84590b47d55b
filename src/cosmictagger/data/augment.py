"""Training images changed at random, as the detector itself might have changed them.

All is drawn from the seed, the step and the entry: neither the number of ranks nor that of threads changes it.
"""

import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import Event, PlanePixels
from cosmictagger.errors import UserError

Change = Literal["drift-mirror", "beam-mirror", "time-shift", "charge-scale", "noise"]

STREAM = 0x617567  # keeps these random numbers apart from others of the same seed
TIME_SHIFT = 0.004  # of the image's height, to either side: as late as neutrinos of one beam spill differ
CHARGE_SCALE = 0.1  # of the charge, to either side: gain and electron lifetime vary by so much
NOISE = 1.0  # charge (sigma): about the electronic noise in the mean over 2 × 2 pixels


class Augmentation:
    """Changes events, each of `changes` at random; `planes` is the number of planes they have.

    The two mirrors are symmetries of a detector whose image stacks two drift volumes with the cathode in the middle,
    with two induction planes at opposite angles followed by a collection plane; the noise moves with the tracks.

    * drift-mirror: with a chance of 1/2, ticks in reverse.
    * beam-mirror: with a chance of 1/2, wires in reverse, and the two induction planes change places.
    * time-shift: everything some ticks later or earlier; what leaves its drift volume is lost.
    * charge-scale: all charge times one factor.
    * noise: some more of it on each pixel.
    """

    def __init__(self, changes: tuple[Change, ...], seed: int, planes: int) -> None:
        if "beam-mirror" in changes and planes != 3:
            raise UserError(f"--augment: beam-mirror is for images of three wire planes, and these have {planes}.")
        self.changes, self.seed = frozenset(changes), seed

    def __call__(self, event: Event, step: int) -> Event:
        """Change an event for one step; what goes in stays as it is."""
        random = np.random.default_rng([self.seed, STREAM, step, event.entry])
        # All are drawn, wanted or not, so that one change does not depend on another.
        drift_mirror, beam_mirror = (random.integers(2, size=2) == 1).tolist()
        shift, scale = random.uniform(-1, 1, size=2).tolist()
        planes = event.planes
        if "beam-mirror" in self.changes and beam_mirror:
            planes = (planes[1], planes[0], planes[2])
        ticks = -1 if "drift-mirror" in self.changes and drift_mirror else 1
        wires = -1 if "beam-mirror" in self.changes and beam_mirror else 1
        late = round(shift * TIME_SHIFT * event.shape[0]) if "time-shift" in self.changes else 0
        factor = 1 + scale * CHARGE_SCALE if "charge-scale" in self.changes else 1
        planes = tuple(_move(pixels, event.shape, ticks, wires, late) for pixels in planes)
        if factor != 1:
            planes = tuple(dataclasses.replace(p, value=p.value * np.float32(factor)) for p in planes)
        if "noise" in self.changes:
            planes = tuple(dataclasses.replace(p, value=_noisy(p.value, random)) for p in planes)
        return dataclasses.replace(event, planes=planes)


def _move(pixels: PlanePixels, shape: tuple[int, int], ticks: int, wires: int, late: int) -> PlanePixels:
    """Reverse ticks and wires where their direction is -1, after charge has come `late` ticks later."""
    if (ticks, wires, late) == (1, 1, 0):
        return pixels
    height, width = shape
    tick, wire = np.divmod(pixels.index, np.int32(width))
    half = tick >= height // 2
    # Later means further from the anode: towards the cathode in the middle, from either side.
    tick += np.where(half, np.int32(-late), np.int32(late))
    kept = (tick >= 0) & (tick < height) & ((tick >= height // 2) == half)
    if ticks < 0:
        tick = height - 1 - tick
    if wires < 0:
        wire = width - 1 - wire
    index = (tick * width + wire)[kept].astype(np.int32)
    order = np.argsort(index)
    label = None if pixels.label is None else pixels.label[kept][order]
    return PlanePixels(index[order], pixels.value[kept][order], label)


def _noisy(charge: npt.NDArray[np.float32], random: np.random.Generator) -> npt.NDArray[np.float32]:
    # A pixel that is there has some charge.
    noisy = charge + np.float32(NOISE) * random.standard_normal(len(charge), np.float32)
    return np.maximum(noisy, np.minimum(charge, np.float32(0.1)))
