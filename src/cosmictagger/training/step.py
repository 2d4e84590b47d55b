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
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.training.batches import Batch
from cosmictagger.training.loss import balance_scheme
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
    """Everything that an update of the parameters takes; call it once a step."""

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
    ) -> None:
        self.network, self.optimizer, self.scaler = network, optimizer, scaler
        self._precision, self._gradients, self._clocks = precision, gradients, clocks
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
        with self._gradients.micro_step(last):
            with self._clocks.measure("forward"):
                with self._precision.autocast():
                    logits = self.network(batch.inputs)
                # Dividing by the images of all micro-steps makes their summed gradients those of one large batch.
                loss = batch.loss(logits, self._scheme, normalizer=float(len(batch.valid) * self._micro_steps))
            with self._clocks.measure("backward"):
                self.scaler.backward(loss)
        return _MicroStep(records, batch, logits.detach(), loss.detach())

    def _update(self) -> None:
        self.scaler.unscale(self.optimizer)
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._clip)
        self.scaler.step(self.optimizer)
