"""Apply a network to batches without training it: for validation, inference and calibration."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cosmictagger.data.batch import Records
from cosmictagger.distributed.communicator import Communicator, Feed
from cosmictagger.distributed.state import average_buffers
from cosmictagger.metrics.sums import MetricSums
from cosmictagger.models.parameters import normalizations, set_momentum
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.training.batches import Batch, Unpack
from cosmictagger.training.loss import Scheme
from cosmictagger.training.precision import Precision
from cosmictagger.training.prefetch import Batches, Unpacking


class Evaluated(NamedTuple):
    """A batch with the network's answer: logits as the batch's `scores` and `confusion` take them."""

    records: Records
    batch: Batch
    logits: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
    """A network, and all that lies between a feed and its answers; its methods close the feed that they are given.

    `look_again`, if there is one, makes the answers to a batch better ones (`training.views`).
    """

    network: nn.Module
    unpack: Unpack
    unpacking: Unpacking
    precision: Precision
    clocks: Clocks
    look_again: Callable[[Evaluated], Evaluated] | None = None

    def batches(self, feed: Feed) -> Batches:
        """Unpack all batches of `feed`; close it to end the thread that may do so."""
        return self.unpacking(iter(feed), self.unpack, self.clocks)

    def apply(self, feed: Feed) -> Iterator[Evaluated]:
        """Run the network over all batches of `feed`, in evaluation mode and without gradients."""
        was_training = self.network.training
        self.network.eval()
        try:
            with contextlib.closing(self.batches(feed)) as batches:
                for records, batch in batches:
                    with torch.inference_mode(), self.precision.autocast(), self.clocks.measure("forward"):
                        logits = self.network(batch.inputs)
                    evaluated = Evaluated(records, batch, logits)
                    yield self.look_again(evaluated) if self.look_again else evaluated
        finally:
            feed.close()
            self.network.train(was_training)

    def validate(
        self, feed: Feed, communicator: Communicator, *, planes: int, scheme: Scheme
    ) -> tuple[float, MetricSums]:
        """Measure loss and metrics over every image of `feed`, on all ranks together; padding is not counted."""
        sums = MetricSums(planes)
        loss = torch.zeros((), dtype=torch.float64)
        for _, batch, logits in self.apply(feed):
            sums.add(batch.confusion(logits), batch.valid)
            loss += batch.loss(logits, scheme, normalizer=1.0).cpu()
        totals = communicator.sum(sums.to_vector())
        summed_loss = communicator.sum(loss.reshape(1).numpy())[0]
        result = MetricSums.from_vector(totals, planes)
        return float(summed_loss / max(result.images, 1)), result

    def calibrate(self, feed: Feed, communicator: Communicator, momentum: float) -> None:
        """Make the running statistics the averages over all batches of `feed`, on all ranks; in training mode.

        Those that training leaves are of a network that has moved on since, and with small batches they scatter.
        Both show in validation and inference alone. Afterwards batches weigh `momentum` again.
        """
        try:
            with contextlib.closing(self.batches(feed)) as batches:
                for number, (_, batch) in enumerate(batches):
                    set_momentum(self.network, 1 / (number + 1))  # which makes a plain average of all so far
                    with torch.no_grad(), self.precision.autocast():
                        self.network(batch.inputs)
        finally:
            feed.close()
            set_momentum(self.network, momentum)
        average_buffers(communicator, [buffer for norm in normalizations(self.network) for buffer in norm.buffers()])
