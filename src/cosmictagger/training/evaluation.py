"""Apply a network to batches without training it: for validation and for inference."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cosmictagger.data.batch import Records
from cosmictagger.distributed.communicator import Communicator, Feed
from cosmictagger.metrics.sums import MetricSums
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.training.batches import Batch, Unpack
from cosmictagger.training.loss import Scheme
from cosmictagger.training.precision import Precision
from cosmictagger.training.prefetch import Unpacking


class Evaluated(NamedTuple):
    """A batch with the network's answer: logits as the batch's `scores` and `confusion` take them."""

    records: Records
    batch: Batch
    logits: Tensor


def apply(
    network: nn.Module, feed: Feed, unpack: Unpack, unpacking: Unpacking, precision: Precision, clocks: Clocks
) -> Iterator[Evaluated]:
    """Run the network over all batches of `feed`, in evaluation mode and without gradients."""
    was_training = network.training
    network.eval()
    try:
        with contextlib.closing(unpacking(iter(feed), unpack, clocks)) as batches:
            for records, batch in batches:
                with torch.inference_mode(), precision.autocast(), clocks.measure("forward"):
                    logits = network(batch.inputs)
                yield Evaluated(records, batch, logits)
    finally:
        feed.close()
        network.train(was_training)


def validate(
    network: nn.Module,
    feed: Feed,
    unpack: Unpack,
    unpacking: Unpacking,
    precision: Precision,
    communicator: Communicator,
    clocks: Clocks,
    *,
    planes: int,
    scheme: Scheme,
) -> tuple[float, MetricSums]:
    """Measure loss and metrics over every image of `feed`, on all ranks together; padding is not counted."""
    sums = MetricSums(planes)
    loss = torch.zeros((), dtype=torch.float64)
    for _, batch, logits in apply(network, feed, unpack, unpacking, precision, clocks):
        sums.add(batch.confusion(logits), batch.valid)
        loss += batch.loss(logits, scheme, normalizer=1.0).cpu()
    totals = communicator.sum(sums.to_vector())
    summed_loss = communicator.sum(loss.reshape(1).numpy())[0]
    result = MetricSums.from_vector(totals, planes)
    return float(summed_loss / max(result.images, 1)), result
