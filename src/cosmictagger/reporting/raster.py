"""Pixels of a plane as small pictures in which a track one pixel wide can still be seen."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import PlanePixels

# Okabe and Ito's colours, which people with any kind of colour blindness can tell apart; absent pixels are white.
PALETTE = np.array([(255, 255, 255), (187, 187, 187), (0, 114, 178), (230, 85, 0)], dtype=np.uint8)
CHARGE_COLOURS = "magma_r"  # light for small charges, dark for large ones; readable in grey and to the colour-blind
CHARGE_QUANTILES = (0.02, 0.995)

Labels = npt.NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)


def charge_image(plane: PlanePixels, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return the charges as float32 [ticks, wires], absent pixels 0."""
    return _scatter(plane.index, plane.value, shape)


def class_image(plane: PlanePixels, labels: Labels, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return uint8 [ticks, wires]: 0 absent, 1 noise, 2 cosmic, 3 neutrino; a larger number hides a smaller one.

    `labels` (uint8 [pixels]) names the class of each active pixel: truth or prediction.
    """
    return _scatter(plane.index, labels.astype(np.uint8) + np.uint8(1), shape)


def max_pool(image: npt.NDArray[Scalar], factor: int) -> npt.NDArray[Scalar]:
    """Shrink [H, W] to [ceil(H / factor), ceil(W / factor)], keeping the maximum of each block; values are >= 0."""
    height, width = image.shape
    padded = np.pad(image, ((0, -height % factor), (0, -width % factor)))
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    pooled: npt.NDArray[Scalar] = blocks.max(axis=(1, 3))
    return pooled


def fit_factor(shape: tuple[int, int], height: int, width: int) -> int:
    """Return the smallest pooling factor that brings an image of `shape` to `height` × `width` or below."""
    return max(1, -(-shape[0] // height), -(-shape[1] // width))


def paint_classes(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Colour a class image, uint8 [H, W] to RGB uint8 [H, W, 3]."""
    return PALETTE[image]


def paint_charge(image: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Colour a charge image on a logarithmic scale from `low` to `high`, to RGB uint8 [H, W, 3]; 0 is white."""
    from matplotlib import colormaps  # takes a quarter of a second, which a run without pictures need not spend

    span = np.log(high / low) if high > low else 1.0
    scaled = np.log(np.maximum(image, low) / low) / span
    rgb: npt.NDArray[np.uint8] = (colormaps[CHARGE_COLOURS](scaled)[..., :3] * 255).astype(np.uint8)
    rgb[image <= 0] = 255
    return rgb


def charge_range(planes: tuple[PlanePixels, ...]) -> tuple[float, float]:
    """Return the charges at the ends of the colour scale: all but the most extreme ones lie between."""
    values = np.concatenate([plane.value for plane in planes])
    values = values[values > 0]
    if not len(values):
        return 1.0, 10.0
    low, high = (float(value) for value in np.quantile(values, CHARGE_QUANTILES))
    return low, max(high, 1.01 * low)


def _scatter(index: npt.NDArray[np.int32], values: npt.NDArray[Scalar], shape: tuple[int, int]) -> npt.NDArray[Scalar]:
    flat = np.zeros(shape[0] * shape[1], dtype=values.dtype)
    flat[index] = values
    return flat.reshape(shape)
