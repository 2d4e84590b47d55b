"""From fixed-size records to what a network takes: dense images on the device."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cosmictagger.data.batch import PADDING, Records
from cosmictagger.metrics.confusion import CLASSES, confusion, sparse_confusion, tag
from cosmictagger.models.sparse.engine import Engine, SparseFeatures
from cosmictagger.models.sparse.sites import Sizes, build_sites
from cosmictagger.models.sparse.tables import best_builder
from cosmictagger.training.loss import Scheme, dense_loss, sparse_loss
from cosmictagger.training.suppression import above_threshold, pixels_of

Transform = Literal["none", "log"]

# The charge at which the logarithm takes over: just above the noise (median 6 to 8), below tracks (40 to 70).
CHARGE_SCALE = 10.0


class Batch(Protocol):
    """A batch on the device. Dense and sparse networks differ in what these do, and in nothing else."""

    @property
    def inputs(self) -> object:
        """What the network is called with."""

    @property
    def valid(self) -> Tensor:
        """Which images are real and not padding: bool [N], on the CPU."""

    @property
    def kept(self) -> npt.NDArray[np.bool_] | None:
        """Which pixels of the records, in turn, zero suppression leaves active; None: all."""

    def loss(self, logits: Tensor, scheme: Scheme, normalizer: float | None = None) -> Tensor:
        """Compute the loss of the network's output; `normalizer` as in `dense_loss`."""

    def present(self) -> list[Any]:
        """Say where cosmic, and where neutrino pixels are: 1 there and 0 elsewhere, in the form of `inputs`."""

    def confusion(self, logits: Tensor) -> Tensor:
        """Count pixels by truth and prediction: int64 [N, P, 3, 3]."""

    def scores(self, logits: Tensor, image: int, plane: int, index: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Take the softmax scores of the pixels `index` (tick * width + wire) of a plane: float32 [len(index), 3]."""


Unpack = Callable[[Records], Batch]


@dataclasses.dataclass(frozen=True)
class DenseBatch:
    """Images [N, P, H, W] in the network's input type and labels [N, P, H, W] (uint8)."""

    inputs: Tensor
    labels: Tensor
    valid: Tensor
    kept: npt.NDArray[np.bool_] | None = None  # a dense network has an answer for every pixel

    def loss(self, logits: Tensor, scheme: Scheme, normalizer: float | None = None) -> Tensor:
        """Compute the loss over all pixels."""
        return dense_loss(logits, self.labels, scheme, valid=self.valid, normalizer=normalizer)

    def present(self) -> list[Tensor]:
        """Say where cosmic, and where neutrino pixels are."""
        return [(self.labels == kind).to(self.inputs.dtype) for kind in range(1, CLASSES)]

    def confusion(self, logits: Tensor) -> Tensor:
        """Count pixels by truth and prediction."""
        return confusion(tag(logits.flatten(0, 1)).view(self.labels.shape), self.labels)

    def scores(self, logits: Tensor, image: int, plane: int, index: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Take the softmax scores of the pixels `index` of a plane."""
        wanted = torch.from_numpy(index).to(logits.device, torch.int64)
        chosen = logits[image, plane].flatten(1).index_select(1, wanted)
        return torch.softmax(chosen.float(), dim=0).t().cpu().numpy()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseUnpacker:
    """Makes a DenseBatch of records: pixels are scattered into images that are zero elsewhere.

    `dtype` is the type in which values travel to the device, `model_dtype` that of the network's parameters.
    """

    shape: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    model_dtype: torch.dtype
    transform: Transform
    zero_suppression: float = 0.0

    def __call__(self, records: Records) -> DenseBatch:
        """Unpack one batch."""
        images, planes, _ = records["index"].shape
        height, width = self.shape
        pixels = height * width
        held = pixels_of(records)
        value = held.value
        if self.zero_suppression:
            value = np.where(above_threshold(held, self.shape, self.zero_suppression), value, np.float32(0))
        index = self._send(held.index).to(torch.int64)
        plane = torch.arange(images * planes, device=self.device).view(images, planes, 1)
        # Unused slots all go to one extra pixel behind the last image.
        spare = images * planes * pixels
        target = torch.where(index == PADDING, spare, index + plane * pixels).flatten()
        values = self._send(_transformed(value, self.transform), self.dtype)
        labels = self._send(held.label)
        return DenseBatch(
            inputs=self._scatter(target, values, spare).view(images, planes, height, width).to(self.model_dtype),
            labels=self._scatter(target, labels, spare).view(images, planes, height, width),
            valid=torch.from_numpy(records["entry"] != PADDING),
        )

    def _send(self, values: npt.NDArray[np.generic], dtype: torch.dtype | None = None) -> Tensor:
        # A copy, even on the CPU: the records are filled again while the network computes.
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, dtype)

    def _scatter(self, target: Tensor, values: Tensor, spare: int) -> Tensor:
        plain = torch.zeros(spare + 1, dtype=values.dtype, device=self.device)
        return plain.index_copy_(0, target, values.flatten())[:spare]


@dataclasses.dataclass(frozen=True)
class SparseBatch:
    """The charge of the active pixels in the network's input type, and their labels [S] (uint8).

    Pixels that zero suppression leaves out are not active.
    """

    inputs: SparseFeatures
    labels: Tensor
    valid: Tensor
    pixels: npt.NDArray[np.int32]  # [S], tick * width + wire
    starts: npt.NDArray[np.int64]  # [N * P + 1], where each plane starts in them
    shape: tuple[int, int]
    kept: npt.NDArray[np.bool_] | None = None
    left_out: Tensor | None = None  # [N, P, 3], pixels of the records that are not active, by label

    def loss(self, logits: Tensor, scheme: Scheme, normalizer: float | None = None) -> Tensor:
        """Compute the loss over the active pixels."""
        sites = self.inputs.sites
        return sparse_loss(
            logits,
            self.labels,
            sites.image_plane,
            sites.images,
            sites.planes,
            scheme,
            valid=self.valid,
            normalizer=normalizer,
        )

    def present(self) -> list[SparseFeatures]:
        """Say where cosmic, and where neutrino pixels are, of those that are active."""
        kinds = [(self.labels == kind)[:, None] for kind in range(1, CLASSES)]
        return [self.inputs.with_values(pixels.to(self.inputs.values.dtype)) for pixels in kinds]

    def confusion(self, logits: Tensor) -> Tensor:
        """Count pixels by truth and prediction; those that are not active are background, and tagged so."""
        sites = self.inputs.sites
        pixels = self.shape[0] * self.shape[1]
        counts = sparse_confusion(tag(logits), self.labels, sites.image_plane, sites.images, sites.planes, pixels)
        if self.left_out is not None:
            counts[:, :, :, 0] += self.left_out
            counts[:, :, 0, 0] -= self.left_out.sum(dim=2)
        return counts

    def scores(self, logits: Tensor, image: int, plane: int, index: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Take the softmax scores of the pixels `index` of a plane: background for sure where one is not active."""
        start, end = self.starts[image * self.inputs.sites.planes + plane :][:2]
        active = self.pixels[start:end]
        chosen = torch.softmax(logits[start:end].float(), dim=1).cpu().numpy()
        if np.array_equal(active, index):
            return chosen
        scores = np.zeros((len(index), chosen.shape[1]), np.float32)
        scores[:, 0] = 1
        where = np.searchsorted(active, index)
        known = np.append(active, PADDING)[where] == index
        scores[known] = chosen[where[known]]
        return scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseUnpacker:
    """Makes a SparseBatch of records; types as in `DenseUnpacker`, what levels need as in `models.sparse.sites`.

    `threads`: how many find neighbours.
    """

    shape: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    model_dtype: torch.dtype
    transform: Transform
    engine: Engine
    sizes: Sizes
    ticks_at: frozenset[int] = frozenset()
    zero_suppression: float = 0.0
    threads: int = 1

    def __call__(self, records: Records) -> SparseBatch:
        """Unpack one batch."""
        builder = best_builder(self.threads)
        pixels = held = pixels_of(records)
        chosen = None
        if self.zero_suppression:
            chosen = above_threshold(held, self.shape, self.zero_suppression, builder)
            pixels = held.only(chosen)
        counts, used = pixels.counts, pixels.used
        tables = build_sites(pixels.index, counts, self.shape, self.sizes, builder, ticks_at=self.ticks_at)
        charge = torch.from_numpy(_transformed(pixels.value[used], self.transform))
        charge = charge.to(self.device, self.dtype).to(self.model_dtype)
        return SparseBatch(
            inputs=SparseFeatures(charge[:, None], self.engine.prepare(tables, self.device)),
            labels=torch.from_numpy(pixels.label[used]).to(self.device),
            valid=torch.from_numpy(records["entry"] != PADDING),
            pixels=tables.levels[0].pixel,
            starts=np.concatenate(([0], np.cumsum(counts.reshape(-1), dtype=np.int64))),
            shape=self.shape,
            kept=None if chosen is None else chosen[held.used],
            left_out=None
            if chosen is None
            else torch.from_numpy(held.count_labels(held.used & ~chosen)).to(self.device),
        )


def _transformed(charge: npt.NDArray[np.float32], transform: Transform) -> npt.NDArray[np.float32]:
    return np.log1p(charge / np.float32(CHARGE_SCALE)) if transform == "log" else charge
