"""Energy left in the argon, as short straight segments."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cosmictagger.simulate.detector import Detector


@dataclasses.dataclass(frozen=True)
class Deposits:
    """Segments of tracks: n of them, in columns.

    `position` [n, 3] is the middle in cm, `step` [n, 3] the way from start to end, `time` in microseconds after
    the trigger, `energy` in MeV, `charge` the MeV that a minimum-ionizing particle would need to leave as many
    electrons, `label` 0 background, 1 cosmic, 2 neutrino, `instance` the number of the particle that started it.
    """

    position: npt.NDArray[np.float32]
    step: npt.NDArray[np.float32]
    time: npt.NDArray[np.float32]
    energy: npt.NDArray[np.float32]
    charge: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.time)

    def select(self, chosen: npt.NDArray[np.bool_]) -> "Deposits":
        """Keep the segments where `chosen` is true."""
        return Deposits(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))

    def within(self, detector: Detector) -> "Deposits":
        """Keep the segments in the active volume."""
        x, y, z = self.position.T
        inside = (
            (np.abs(x) < detector.half_width) & (np.abs(y) < detector.half_height) & (z > 0) & (z < detector.length)
        )
        return self.select(inside)


def join(parts: Sequence[Deposits]) -> Deposits:
    """Lay several lists of deposits end to end."""
    return Deposits(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(Deposits)))


def make(
    position: npt.NDArray[np.floating],
    step: npt.NDArray[np.floating],
    energy: npt.NDArray[np.floating],
    charge: npt.NDArray[np.floating],
    like: "Origin",
) -> Deposits:
    """Put columns together, converting them to their types; `like` gives time, label and instance of each."""
    return Deposits(
        position.astype(np.float32, copy=False),
        step.astype(np.float32, copy=False),
        like.time.astype(np.float32, copy=False),
        energy.astype(np.float32, copy=False),
        charge.astype(np.float32, copy=False),
        like.label.astype(np.uint8, copy=False),
        like.instance.astype(np.int32, copy=False),
    )


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a particle hands down to all that it makes: time (microseconds), label and instance, one each."""

    time: npt.NDArray[np.float64]
    label: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.int32]

    def take(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Origin":
        """Pick particles by number or by mask, with repeats where a number repeats."""
        return Origin(self.time[index], self.label[index], self.instance[index])
