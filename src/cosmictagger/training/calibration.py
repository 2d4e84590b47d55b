"""Statistics of batch normalization for evaluation, taken anew from the network as it is.

The running statistics are those of a network that has moved on since, and with small batches they scatter. Both
show in validation and inference, and not in training, which takes the statistics of its batches.
"""

import contextlib

import torch
from torch import nn

from cosmictagger.distributed.communicator import Communicator, Feed
from cosmictagger.distributed.state import average_buffers
from cosmictagger.models.parameters import Normalization
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.training.batches import Unpack
from cosmictagger.training.precision import Precision
from cosmictagger.training.prefetch import Unpacking


def calibrate(
    network: nn.Module,
    feed: Feed,
    unpack: Unpack,
    unpacking: Unpacking,
    precision: Precision,
    communicator: Communicator,
    clocks: Clocks,
) -> None:
    """Make the running statistics the averages over all batches of `feed`, on all ranks; `network` is in training mode."""
    norms = [module for module in network.modules() if isinstance(module, Normalization)]
    momenta = [norm.momentum for norm in norms]
    try:
        with contextlib.closing(unpacking(iter(feed), unpack, clocks)) as batches:
            for number, (_, batch) in enumerate(batches):
                for norm in norms:
                    norm.momentum = 1 / (number + 1)  # which makes a plain average of all so far
                with torch.no_grad(), precision.autocast():
                    network(batch.inputs)
    finally:
        feed.close()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    average_buffers(communicator, [buffer for norm in norms for buffer in norm.buffers()])
