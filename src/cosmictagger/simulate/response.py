"""From deposits to pixels: drift, projection on three planes, diffusion, and the response of the electronics."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import COSMIC, NEUTRINO
from cosmictagger.simulate.deposits import Deposits
from cosmictagger.simulate.detector import Detector

Floats32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]
SMALLEST = 0.1  # charge below which a contribution is dropped
SPAN, CELLS = 6.0, 3000  # sigmas to either side that the tables cover, and their cells there
_PLACES = np.linspace(-SPAN, SPAN, 2 * CELLS + 1)
_GAUSS = np.array([0.5 + 0.5 * math.erf(x / math.sqrt(2)) for x in _PLACES], np.float32)  # integral of a Gaussian
_TWICE = (_PLACES * _GAUSS + np.exp(-(_PLACES**2) / 2) / math.sqrt(2 * math.pi)).astype(np.float32)  # and of that


@dataclasses.dataclass(frozen=True)
class Drifted:
    """Deposits at the anodes: the `deposits` that arrive, and for each its `tick` (with fraction).

    `drift_time` is in microseconds; `charge` is what is left of the charge after the electron lifetime.
    """

    deposits: Deposits
    tick: Floats32
    drift_time: Floats32
    charge: Floats32


class PlaneCharge(NamedTuple):
    """What one plane sees, before noise: `pixel` (tick * wires + wire, any order) and for each its charges.

    `total` and `neutrino` are after the response of the electronics. `cosmic_truth` is the cosmic charge before
    it, as the part of the tick sees it where labels look, and `instance` the particle that left most charge.
    """

    pixel: Indices
    total: Floats32
    neutrino: Floats32
    cosmic_truth: Floats32
    instance: npt.NDArray[np.int32]


def drift(detector: Detector, deposits: Deposits) -> Drifted:
    """Drift deposits of the active volume to their anode, and keep what arrives in that volume's readout window."""
    x = deposits.position[:, 0]
    high = x >= 0
    late = deposits.time / np.float32(detector.tick_time)
    middle = detector.n_ticks // 2
    tick = middle + x / np.float32(detector.tick_length) + np.where(high, -late, late)
    arrives = np.where(high, (tick >= middle) & (tick < detector.n_ticks), (tick >= 0) & (tick < middle))
    kept = deposits.select(arrives)
    drift_time = (np.float32(detector.half_width) - np.abs(kept.position[:, 0])) / np.float32(detector.drift_velocity)
    charge = kept.charge * np.exp(-drift_time / np.float32(detector.electron_lifetime))
    return Drifted(kept, tick[arrives].astype(np.float32), drift_time, charge)


class Contributions(NamedTuple):
    """Charge on pixels, several to a pixel, each of one label and one instance.

    `sampled` is the charge that a pixel would have if all of its tick were like the part where labels look.
    """

    pixel: Indices
    charge: Floats32
    sampled: Floats32
    label: npt.NDArray[np.uint8]
    instance: npt.NDArray[np.int32]


class Canvas:
    """A table of one number a pixel, kept from plane to plane and event to event; for one thread at a time."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.table = np.zeros(shape[0] * shape[1], np.int32)


def plane_charge(detector: Detector, drifted: Drifted, plane: int, canvas: Canvas) -> PlaneCharge:
    """Spread the charge over the pixels of one plane."""
    split = _split(detector, drifted, plane)
    pixel, place = _distinct(split.pixel, canvas.table)
    total, neutrino, cosmic = (
        np.bincount(place, charge, len(pixel)).astype(np.float32)
        for charge in (split.charge, split.charge * (split.label == NEUTRINO), split.sampled * (split.label == COSMIC))
    )
    return PlaneCharge(pixel, total, neutrino, cosmic, _owners(len(pixel), place, split.charge, split.instance))


def _owners(
    count: int, place: npt.NDArray[np.int32], weight: Floats32, instance: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """Find for each cell the instance of its largest contribution; only disputed cells need sorting."""
    owner = np.zeros(count, np.int32)
    owner[place] = instance
    disputed = np.zeros(count, bool)
    disputed[place[owner[place] != instance]] = True
    among = np.flatnonzero(disputed[place])
    order = among[np.argsort(weight[among], kind="stable")]
    owner[place[order]] = instance[order]
    return owner


def _split(detector: Detector, drifted: Drifted, plane: int) -> Contributions:
    """Split every deposit over 3 x 3 pixels by its diffusion; neighbours along a track are summed at once."""
    deposits = drifted.deposits
    if not len(deposits):
        none = np.zeros(0, np.float32)
        return Contributions(np.zeros(0, np.int32), none, none, deposits.label, deposits.instance)
    row, tick_share, column, wire_share = _nine_shares(detector, drifted, plane)
    pixel = row * np.int32(detector.n_wires) + column
    new = np.ones(len(pixel), bool)
    new[1:] = (pixel[1:] != pixel[:-1]) | (deposits.instance[1:] != deposits.instance[:-1])
    new[1:] |= deposits.label[1:] != deposits.label[:-1]
    runs = np.flatnonzero(new)
    tick_share *= drifted.charge * np.float32(detector.gain[plane])
    shares = np.stack([np.add.reduceat(t * w, runs) for t in tick_share[:3] for w in wire_share])
    # Within a run all ticks share their wires alike, so that one ratio for each tick does for what labels see.
    seen = np.maximum(shares.reshape(3, 3, -1).sum(axis=1), np.float32(1e-6))
    ratio = np.stack([np.add.reduceat(t, runs) for t in tick_share[3:]]) / seen
    kept = np.flatnonzero(_readable(detector, plane, row[runs], column[runs]) & (shares > SMALLEST))
    which, run = np.divmod(kept, len(runs))
    shift = _OFFSETS @ np.array([detector.n_wires, 1], np.int32)
    charge, source = shares.ravel()[kept], runs[run]
    return Contributions(
        pixel[source] + shift[which],
        charge,
        charge * ratio[which // 3, run],
        deposits.label[source],
        deposits.instance[source],
    )


_OFFSETS = np.array([(tick, wire) for tick in (-1, 0, 1) for wire in (-1, 0, 1)], np.int32)


def _nine_shares(detector: Detector, drifted: Drifted, plane: int) -> tuple[Indices, Floats32, Indices, Floats32]:
    """Tick and wire of each deposit, each with the shares [3, n] of the bins below, at and above.

    Those of the ticks are followed by three more: the same, as seen by the part of a tick where labels look.
    """
    position, step = drifted.deposits.position, drifted.deposits.step
    a, b, c = (np.float32(factor) for factor in detector.wire_axis(plane))
    wire, wire_step = a * position[:, 1] + b * position[:, 2] + c, a * step[:, 1] + b * step[:, 2]
    tick_step = step[:, 0] / np.float32(detector.tick_length)
    across = np.float32(2 * detector.diffusion_transverse / detector.wire_pitch**2) * drifted.drift_time
    along = np.float32(2 * detector.diffusion_longitudinal / detector.tick_length**2) * drifted.drift_time
    tick_sigma, wire_sigma = np.sqrt(along + tick_step**2 / 12), np.sqrt(across + wire_step**2 / 12)
    row, start = _bins(drifted.tick)
    column, wire_start = _bins(wire + np.float32(0.5))  # wires are points, ticks are intervals
    seen = _box_shares(start, tick_sigma, detector.response_width[plane])
    sampled = _window_shares(start, tick_sigma, *detector.label_window)
    return row, np.concatenate([seen, sampled]), column, _window_shares(wire_start, wire_sigma, 0, 1)


def _readable(detector: Detector, plane: int, row: Indices, column: Indices) -> npt.NDArray[np.bool_]:
    """Say which of the 3 x 3 pixels around (row, column) lie on a connected wire and in the same drift volume."""
    half = detector.n_ticks // 2
    place = row % half
    ticks = (place > 0, np.ones(len(row), bool), place < half - 1)
    first, last = detector.wire_first[plane], detector.wire_last[plane]
    wires = [(column + shift >= first) & (column + shift <= last) for shift in (-1, 0, 1)]
    return np.stack([tick & wire for tick in ticks for wire in wires])


def _bins(place: Floats32) -> tuple[Indices, Floats32]:
    """Number of the bin of each place, and where that bin starts, seen from the place."""
    number = np.floor(place)
    return number.astype(np.int32), number - place


def _window_shares(start: Floats32, sigma: Floats32, low: float, high: float) -> Floats32:
    """Shares [3, n] of a Gaussian in the bins below, at and above, seen by the part (low, high) of each bin.

    They are scaled up to whole bins.
    """
    scale = np.reciprocal(np.maximum(sigma, np.float32(1e-3)))
    edges = [(start + np.float32(edge + shift)) * scale for shift in (-1, 0, 1) for edge in (low, high)]
    integrals = [np.take(_GAUSS, _cells(edge)) for edge in edges]
    factor = np.float32(1 / (high - low))
    return np.stack([(last - first) * factor for first, last in zip(integrals[::2], integrals[1::2], strict=True)])


def _box_shares(start: Floats32, sigma: Floats32, width: float) -> Floats32:
    """Shares [3, n] of a Gaussian folded with a box of half `width`, in the bins below, at and above."""
    spread = np.maximum(sigma, np.float32(0.03))
    half = np.float32(width)
    below = _box_integral(start, spread, half)
    upto = _box_integral(start + np.float32(1), spread, half)
    return np.stack([below, upto - below, 1 - upto])


def _box_integral(edge: Floats32, sigma: Floats32, half: np.float32) -> Floats32:
    """Share of a Gaussian around 0, folded with a box of half width `half`, below `edge`."""
    outer: Floats32 = (edge + half) / sigma
    inner: Floats32 = (edge - half) / sigma
    result: Floats32 = (_twice(outer) - _twice(inner)) * sigma / (2 * half)
    return result


def _twice(x: Floats32) -> Floats32:
    """Integral of the integral of a Gaussian up to `x`."""
    result: Floats32 = np.take(_TWICE, _cells(x)) + np.maximum(x - np.float32(SPAN), 0)
    return result


def _cells(x: Floats32) -> npt.NDArray[np.int32]:
    cells: npt.NDArray[np.int32] = np.clip((x + SPAN) * (CELLS / SPAN) + 0.5, 0, 2 * CELLS).astype(np.int32)
    return cells


def _distinct(pixel: Indices, table: npt.NDArray[np.int32]) -> tuple[Indices, npt.NDArray[np.int32]]:
    """List the different pixels, and for each element the place of its pixel in that list; no sorting.

    Of equal pixels the last one stays; the list keeps the order of those that stay.
    """
    numbers = np.arange(len(pixel), dtype=np.int32)
    table[pixel] = numbers
    cells = pixel[table[pixel] == numbers]
    table[cells] = np.arange(len(cells), dtype=np.int32)
    return cells, table[pixel]
