"""One training step: micro-steps of forward, loss and backward, the averaged gradient, one update."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cosmictagger.config.sections import TrainingConfig
from cosmictagger.data.batch import Records
from cosmictagger.distributed.communicator import GradientStrategy
from cosmictagger.models.uresnet import UResNet
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.training.batches import Batch
from cosmictagger.training.loss import balance_scheme, mean_of_images
from cosmictagger.training.precision import LossScaler, Precision


@dataclasses.dataclass(frozen=True)
class StepOutcome:
    """What a step leaves on this rank: its loss (a scalar on the device), and its micro-batches with their logits.

    `records` are those of the last micro-batch, valid until the next batch is taken.
    """

    loss: Tensor
    batches: tuple[tuple[Batch, Tensor], ...]
    records: Records

    def confusion(self) -> Tensor:
        """Count the pixels of all images of the step by truth and prediction: int64 [N, P, 3, 3]."""
        return torch.cat([batch.confusion(logits) for batch, logits in self.batches])


class _MicroStep(NamedTuple):
    records: Records
    batch: Batch
    logits: Tensor
    loss: Tensor


class TrainStep:
    """Everything that an update of the parameters takes; call it once a step.

    `supervision` is the weight of what the supervised levels of a UResNet tell; 0: it has none.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        config: TrainingConfig,
        *,
        precision: Precision,
        scaler: LossScaler,
        gradients: GradientStrategy,
        clocks: Clocks,
        supervision: float = 0.0,
    ) -> None:
        self.network, self.optimizer, self.scaler = network, optimizer, scaler
        self._precision, self._gradients, self._clocks = precision, gradients, clocks
        self._supervision = supervision
        self._scheme = balance_scheme(config)
        self._micro_steps, self._clip = config.gradient_accumulation, config.gradient_clip

    def __call__(self, batches: Iterator[tuple[Records, Batch]]) -> StepOutcome:
        """Take the micro-batches of one step and update the parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        done = [
            self._micro_step(*next(batches), last=number == self._micro_steps - 1)
            for number in range(self._micro_steps)
        ]
        with self._clocks.measure("communication"):
            self._gradients.finish()
        with self._clocks.measure("optimizer"):
            self._update()
        loss = torch.stack([micro.loss for micro in done]).sum()
        return StepOutcome(loss, tuple((micro.batch, micro.logits) for micro in done), done[-1].records)

    def _micro_step(self, records: Records, batch: Batch, last: bool) -> "_MicroStep":
        # Dividing by the images of all micro-steps makes their summed gradients those of one large batch.
        images = float(len(batch.valid) * self._micro_steps)
        with self._gradients.micro_step(last):
            with self._clocks.measure("forward"):
                with self._precision.autocast():
                    logits, told = self._forward(batch)
                loss = batch.loss(logits, self._scheme, normalizer=images)
                if told is not None:
                    loss = loss + self._supervision * mean_of_images(told, batch.valid, images)
            with self._clocks.measure("backward"):
                self.scaler.backward(loss)
        return _MicroStep(records, batch, logits.detach(), loss.detach())

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the logits, and the losses of the supervised levels for each image, if there are any."""
        if not self._supervision:
            return self.network(batch.inputs), None
        assert isinstance(self.network, UResNet)
        return self.network.supervised(batch.inputs, batch.present())

    def _update(self) -> None:
        self.scaler.unscale(self.optimizer)
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._clip)
        self.scaler.step(self.optimizer)
