"""Train a network: steps, validations, checkpoints, and the record of it all."""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cosmictagger.config.sections import Config
from cosmictagger.data.batch import Records, unpack
from cosmictagger.data.open import NO_PRODUCER, open_dataset
from cosmictagger.data.sampler import ShuffledSampler
from cosmictagger.distributed.communicator import Feed, Vector
from cosmictagger.distributed.connect import connect
from cosmictagger.distributed.state import summing
from cosmictagger.errors import UserError
from cosmictagger.metrics.sums import MetricSums
from cosmictagger.metrics.values import METRICS
from cosmictagger.models.build import build_network, parameter_count
from cosmictagger.models.parameters import set_momentum
from cosmictagger.models.synchronized import synchronize
from cosmictagger.modes import aim
from cosmictagger.modes.build import (
    describe_model,
    make_augmentation,
    make_engine,
    make_evaluator,
    make_feed,
    make_precision,
    make_serial_feed,
    open_input,
    refuse_dense_views,
    with_crossings,
)
from cosmictagger.modes.figures import gather_figures
from cosmictagger.modes.normalization import advice, refuse_batch_options
from cosmictagger.modes.recorder import Recorder, due
from cosmictagger.modes.session import Session, checkpoint_directory
from cosmictagger.reporting.clocks import Clocks, require_timed_steps
from cosmictagger.reporting.console import Console
from cosmictagger.reporting.log_directory import config_path, refuse_other_settings
from cosmictagger.reporting.results import Checkpoint as CheckpointResult
from cosmictagger.reporting.results import MetricGroup
from cosmictagger.training import checkpoints
from cosmictagger.training.batches import Batch
from cosmictagger.training.checkpoints import Checkpoint, CheckpointStore, load_on_all
from cosmictagger.training.loss import balance_scheme
from cosmictagger.training.optimizers import build_optimizer
from cosmictagger.training.schedules import learning_rate, learning_rate_factor, set_learning_rate
from cosmictagger.training.step import StepOutcome, TrainStep
from cosmictagger.training.streams import seed_step

# The training metrics of results.json are means over the images of this many logged steps, up to the last one.
LAST_STEPS = 10


def run(config: Config) -> int:
    """Train as `config` says and return the exit code."""
    require_timed_steps(config.run.iterations, config.run.warmup_steps)
    if config.data.label_producer == NO_PRODUCER:
        raise UserError("--label-producer: training needs labels; name their producer instead of none.")
    if config.run.target_metric is not None and not config.data.aux_file:
        raise UserError("--target-metric: is measured in validations; name their files with --aux-file.")
    refuse_batch_options(config)
    refuse_dense_views(config)
    with connect(config) as distribution:
        # Rank 0 looks at the directories: others may not see them.
        if distribution.communicator.any(distribution.is_root and _is_done(config)):
            return 0
        with Session("train", config, distribution) as session:
            training = Training(session)
            training.run(training.first_step())
    return session.exit_code


class Training:
    """One training: its data, network and optimizer, and what happens from step to step."""

    def __init__(self, session: Session) -> None:
        config = session.config
        self.session = session
        data = session.distribution.data
        data.share(config.data.minibatch_size)
        self.dataset = data.open(lambda: open_input(config))
        aux_file = config.data.aux_file
        self.validation = data.open(lambda: open_dataset(config.data, aux_file)) if aux_file else None
        layout = self.dataset.layout
        self.config = config = with_crossings(config, layout.downsample)
        self.augmentation = make_augmentation(config, layout)
        self.precision = make_precision(config, session.resources, session.console.info)
        self.engine = make_engine(config, session.resources, session.console.info)
        network = build_network(config.network, layout.planes, layout.shape, config.data.data_format, self.engine)
        self.network = self.precision.prepare(network).to(session.resources.device)
        set_momentum(self.network, config.training.batch_norm_momentum)
        if config.distribution.sync_batch_norm:
            synchronize(self.network, summing(session.distribution.communicator))
        self.optimizer = build_optimizer(self.network, config.training)
        self.clocks = Clocks(session.resources.synchronize, warmup_steps=config.run.warmup_steps)
        self.evaluator = make_evaluator(
            config, layout, session.resources, self.precision, self.engine, self.network, self.clocks
        )
        self.step = TrainStep(
            self.network,
            self.optimizer,
            config.training,
            precision=self.precision,
            scaler=self.precision.scaler(),
            gradients=session.distribution.gradients,
            clocks=self.clocks,
            supervision=config.training.supervision_weight if config.network.supervised_levels else 0.0,
        )
        self.recorder: Recorder | None = None
        # One vector for each logged step: the sums of its metrics, then its loss times its images.
        self._recent: deque[Vector] = deque(maxlen=LAST_STEPS)
        self._validated: dict[str, float] = {}
        self._calibrated = 0  # the step after which statistics were taken anew
        session.findings.target = aim.set_out(config.run)
        self._describe()

    def first_step(self) -> int:
        """Go on from the latest checkpoint, or start afresh; returns the number of steps that are done."""
        done = 0
        communicator = self.session.distribution.communicator
        latest = load_on_all(communicator, self.session.store.latest if self.config.run.resume else lambda: None)
        weights = self.config.inference.weights_location
        if latest is not None:
            done = self._restore(*latest)
            self.session.console.info(
                f"Resuming from '{latest[0]}', after step {done} of {self.config.run.iterations}."
            )
        elif weights is not None and (named := load_on_all(communicator, lambda: checkpoints.find(Path(weights)))):
            self._load_network(*named)
            self.session.console.info(f"Starting with the parameters of '{named[0]}'.")
        self.session.distribution.gradients.prepare(self.network, self.optimizer)
        return done

    def run(self, done: int) -> None:
        """Train from step `done` to the last one, or until asked to stop."""
        config, session = self.config, self.session
        micro_steps = config.training.gradient_accumulation
        sampler = self._shuffled()
        steps = range(done * micro_steps, config.run.iterations * micro_steps)
        feed = make_feed(session.distribution, config.data, self.dataset, sampler, steps, self.augmentation)
        if session.is_root:
            self.recorder = Recorder(session.console, session.log_directory, config.run, done)
        try:
            with contextlib.closing(self.evaluator.batches(feed)) as batches:
                self._steps(done, batches)
        finally:
            feed.close()
            if self.recorder is not None:
                self.recorder.close()
        self._summarize(feed)

    def _steps(self, done: int, batches: Iterator[tuple[Records, Batch]]) -> None:
        run, last = self.config.run, self.config.run.iterations
        factor = learning_rate_factor(self._images_per_step, self.config.training)
        self.network.train()
        self.clocks.start()
        reached = False
        for step in range(done + 1, last + 1):
            set_learning_rate(self.optimizer, factor * learning_rate(step - 1, last, self.config.training))
            seed_step(run.seed, self.session.distribution.communicator.rank, step)
            outcome = self.step(batches)
            with self.clocks.measure("logging"):
                self._record(step, outcome)
            self.clocks.end_step(self._images_per_step)
            stopping = self.session.stopping
            if self.validation is not None and due(step, self.config.data.aux_iteration, last):
                with self.clocks.measure("validation"):
                    self._calibrate(step)
                    self._validate(step)
                    reached = self._aim(step)
            if due(step, run.checkpoint_iteration, last) or stopping or reached:
                with self.clocks.measure("checkpoint"):
                    self._calibrate(step)
                    self._save(step)
            if stopping:
                self.session.console.warning(f"asked to stop: step {step} is done and saved; run again to go on.")
            if stopping or reached:
                return

    def _record(self, step: int, outcome: StepOutcome) -> None:
        run = self.config.run
        if not (due(step, run.logging_iteration, run.iterations) or due(step, run.summary_iteration, run.iterations)):
            return
        sums = MetricSums(self.dataset.layout.planes)
        sums.add(outcome.confusion())
        local = np.append(sums.to_vector(), float(outcome.loss) * sums.images)
        total = self.session.distribution.communicator.sum(local)
        self._recent.append(total)
        if self.recorder is None:
            return
        loss, means = self._means(total)
        rate = {"learning_rate": self.optimizer.param_groups[0]["lr"]}
        seconds = self.clocks.last_step.get("step")
        self.recorder.step(step, {"loss": loss, **means, **rate}, self._images_per_step / seconds if seconds else None)
        if due(step, run.image_iteration, run.iterations):
            self._picture(step, outcome)

    def _means(self, total: Vector) -> tuple[float, dict[str, float]]:
        sums = MetricSums.from_vector(total[:-1], self.dataset.layout.planes)
        means = sums.means()
        return float(total[-1] / sums.images), {name: means[name] for name in METRICS}

    def _picture(self, step: int, outcome: StepOutcome) -> None:
        assert self.recorder is not None
        event = unpack(outcome.records[0], self.dataset.layout.shape)
        batch, logits = outcome.batches[-1]
        tags = [
            batch.scores(logits, 0, plane, pixels.index).argmax(axis=1).astype(np.uint8)
            for plane, pixels in enumerate(event.planes)
        ]
        self.recorder.picture(step, event, tags)

    def _shuffled(self) -> ShuffledSampler:
        return ShuffledSampler(len(self.dataset.reader), self.config.data.minibatch_size, self.config.run.seed)

    def _calibrate(self, step: int) -> None:
        """Take the statistics anew, once a step; they follow from the parameters and the step alone."""
        number, micro_steps = self.config.training.calibration_steps, self.config.training.gradient_accumulation
        if not number or self._calibrated == step:
            return
        self._calibrated = step
        steps = range(max(step - number, 0) * micro_steps, step * micro_steps)
        distribution = self.session.distribution
        feed = make_feed(distribution, self.config.data, self.dataset, self._shuffled(), steps)
        self.evaluator.calibrate(feed, distribution.communicator, self.config.training.batch_norm_momentum)

    def _validate(self, step: int) -> None:
        assert self.validation is not None
        data = self.config.data
        distribution = self.session.distribution
        loss, sums = self.evaluator.validate(
            make_serial_feed(
                distribution, data, self.validation, data.aux_minibatch_size or data.minibatch_size, data.aux_images
            ),
            distribution.communicator,
            planes=self.validation.layout.planes,
            scheme=balance_scheme(self.config.training),
        )
        means = sums.means()
        self._validated = {"loss": loss, **{name: means[name] for name in METRICS}}
        metrics = self.session.findings.metrics
        group = MetricGroup.from_means(means, loss=loss, step=step)
        self.session.findings.metrics = dataclasses.replace(metrics, validation=group)
        if self.recorder is not None:
            self.recorder.validation(step, self._validated)

    def _aim(self, step: int) -> bool:
        """Say whether the validation after `step` has reached --target."""
        findings, before = self.session.findings, self.session.findings.target
        if before is None:
            return False
        findings.target = aim.compare(before, self._validated, step, self.session.seconds)
        aim.say(findings.target, self.session.console, is_last=step == self.config.run.iterations)
        return findings.target.reached

    def _save(self, step: int) -> None:
        if not self.session.is_root:
            return
        checkpoint = Checkpoint(
            step=step,
            model=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.step.scaler.state_dict(),
            network=dataclasses.asdict(self.config.network),
            inputs=self._inputs(),
            training=dataclasses.asdict(self.config.training),
            sampler=self._sampler(step),
            random=checkpoints.random_state(),
            metrics=self._validated,
        )
        path = self.session.store.save(checkpoint)
        self.session.findings.checkpoint = CheckpointResult(path=str(path), step=step)
        self.session.console.detail(f"Checkpoint: {path}")

    def _restore(self, path: Path, checkpoint: Checkpoint) -> int:
        self._load_network(path, checkpoint)
        checkpoints.check_training(checkpoint, self._sampler(checkpoint.step), self.config.training.optimizer, path)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.step.scaler.load_state_dict(checkpoint.scaler)
        checkpoints.set_random_state(checkpoint.random)
        self._validated = checkpoint.metrics
        return checkpoint.step

    def _load_network(self, path: Path, checkpoint: Checkpoint) -> None:
        checkpoints.check_network(checkpoint, self.config.network, self._inputs(), path)
        checkpoints.load_parameters(self.network, checkpoint, path)

    @property
    def _images_per_step(self) -> int:
        return self.config.data.minibatch_size * self.config.training.gradient_accumulation

    def _inputs(self) -> dict[str, object]:
        layout = self.dataset.layout
        training = {key: getattr(self.config.training, key) for key in ("input_transform", "zero_suppression")}
        return {"nplanes": layout.planes, "downsample": layout.downsample} | training

    def _sampler(self, step: int) -> dict[str, int]:
        return {
            "step": step,
            "seed": self.config.run.seed,
            "images_per_step": self._images_per_step,
            "events": len(self.dataset.reader),
        }

    def _describe(self) -> None:
        layout, parameters = self.dataset.layout, parameter_count(self.network)
        model = describe_model(self.config.network, parameters, self.engine)
        self.session.findings.model = model
        self.session.console.info(
            f"Data: {len(self.dataset.reader)} events of {layout.planes} planes of {layout.shape[0]} × {layout.shape[1]} "
            f"(ticks × wires)\nNetwork: {model.preset or 'custom'}, {model.kind} (engine {model.engine}), "
            f"{model.parameters:,} parameters"
        )
        if text := advice(self.config, self.session.distribution.communicator.size):
            self.session.console.info(text)

    def _summarize(self, feed: Feed) -> None:
        findings = self.session.findings
        counts = gather_figures(self.session, self.clocks, self.dataset, feed)
        if self._recent:
            total = np.sum(self._recent, axis=0)
            sums = MetricSums.from_vector(total[:-1], self.dataset.layout.planes)
            group = MetricGroup.from_means(sums.means(), loss=float(total[-1] / sums.images))
            findings.metrics = dataclasses.replace(findings.metrics, train=group)
        self.session.say_findings(counts)


def _is_done(config: Config) -> bool:
    """Say whether every step has been done before; refuse to mix two trainings in one directory."""
    store = CheckpointStore(checkpoint_directory(config), config.run.keep_checkpoints)
    steps = store.steps()
    if not steps:
        return False
    if not config.run.resume:
        raise UserError(f"--no-resume: '{store.directory}' holds checkpoints; choose another directory or remove them.")
    record = config_path(Path(config.run.log_directory), "train")
    if record.exists():
        refuse_other_settings(record, config)
    if steps[-1] < config.run.iterations:
        return False
    Console(config.run.verbosity).result(f"All {steps[-1]} steps are done; raise --iterations to train on.")
    return True
