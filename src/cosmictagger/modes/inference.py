"""Tag all events of the input with a trained network: a larcv3 file, a table, and pictures."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from cosmictagger.config.sections import Config, DataConfig, NetworkConfig
from cosmictagger.data.batch import PADDING, Records, unpack
from cosmictagger.data.events import Event, PlanePixels, Product
from cosmictagger.data.open import Dataset, open_dataset, without_missing_labels
from cosmictagger.distributed.communicator import Feed
from cosmictagger.distributed.connect import connect
from cosmictagger.metrics.interactions import Interaction, InteractionGroup, columns, group_rows
from cosmictagger.metrics.sums import MetricSums
from cosmictagger.metrics.values import image_rows
from cosmictagger.models.build import build_network, parameter_count
from cosmictagger.modes.answers import answer_dtype, fill
from cosmictagger.modes.build import (
    describe_model,
    make_engine,
    make_evaluator,
    make_precision,
    make_serial_feed,
    refuse_dense_views,
)
from cosmictagger.modes.figures import gather_figures
from cosmictagger.modes.predictions import PredictionWriter
from cosmictagger.modes.session import Session, checkpoint_directory
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.reporting.results import Checkpoint as CheckpointResult
from cosmictagger.reporting.results import MetricGroup, Metrics
from cosmictagger.training import checkpoints
from cosmictagger.training.checkpoints import Checkpoint, CheckpointStore
from cosmictagger.training.evaluation import Evaluated
from cosmictagger.training.loss import balance_scheme


def run(config: Config) -> int:
    """Tag every event of the input and return the exit code."""
    with connect(config) as distribution:
        found = checkpoints.load_on_all(distribution.communicator, lambda: _weights(config))
        assert found is not None, "find raises where there is none"
        path, checkpoint = found
        config = _settle(config, checkpoint, path)
        refuse_dense_views(config)
        with Session("inference", config, distribution) as session:
            session.console.info(f"Network: '{path}', after {checkpoint.step} steps")
            if path == checkpoints.pretrained():
                session.console.info("This is the network that comes with the program (docs/quality.md).")
            Inference(session, checkpoint, path).run()
    return session.exit_code


class Inference:
    """One pass of a trained network over all entries of the input."""

    def __init__(self, session: Session, checkpoint: Checkpoint, path: Path) -> None:
        config = session.config
        self.session, self.config = session, config
        self.dataset: Dataset = session.distribution.data.open(lambda: _open(config.data))
        self.labelled = self.dataset.labelled
        layout = self.dataset.layout
        self.precision = make_precision(config, session.resources, session.console.info)
        self.engine = make_engine(config, session.resources, session.console.info)
        network = build_network(config.network, layout.planes, layout.shape, config.data.data_format, self.engine)
        checkpoints.load_parameters(network, checkpoint, path)
        self.network = self.precision.prepare(network).to(session.resources.device)
        self.sums = MetricSums(layout.planes)
        self.loss = 0.0
        self.interactions: tuple[InteractionGroup, ...] = ()
        self._answers = np.zeros(0, answer_dtype(layout))  # of one batch, made once the first one is here
        session.findings.model = describe_model(config.network, parameter_count(network), self.engine)
        session.findings.checkpoint = CheckpointResult(path=str(path), step=checkpoint.step)

    def run(self) -> None:
        """Tag all events and write what was found."""
        if not self.labelled:
            self.session.console.info("The input has no labels: predictions are written, metrics are not.")
        data = self.config.data
        feed = make_serial_feed(self.session.distribution, data, self.dataset, data.minibatch_size)
        steps = -(-len(self.dataset.reader) // self.config.data.minibatch_size)
        # A short input is not refused: its predictions are what counts. At least one step is timed.
        clocks = Clocks(self.session.resources.synchronize, warmup_steps=min(self.config.run.warmup_steps, steps - 1))
        if self.session.is_root:
            with self._writer() as output:
                self._tag_all(feed, clocks, output, steps)
            if self._has_particles:
                self.interactions = group_rows(output.rows)
        else:
            self._tag_all(feed, clocks, None, steps)
        self._summarize(feed, clocks)

    def _writer(self) -> PredictionWriter:
        directory, chosen = self.session.log_directory, self.config.inference
        layout = self.dataset.layout
        height, width = (size << layout.downsample for size in layout.shape)
        return PredictionWriter(
            Path(chosen.output_file) if chosen.output_file else directory / "inference.h5",
            chosen.output_producer,
            layout.shape,
            (float(width), float(height)),
            table=directory / "inference.csv" if self.labelled else None,
            log_directory=directory,
            displays=chosen.displays,
        )

    def _tag_all(self, feed: Feed, clocks: Clocks, output: PredictionWriter | None, steps: int) -> None:
        """Go through all entries; `output` is where rank 0 writes the answers of all ranks."""
        console, run = self.session.console, self.config.run
        console.begin_steps(0, steps)
        clocks.start()
        evaluator = make_evaluator(
            self.config,
            self.dataset.layout,
            self.session.resources,
            self.precision,
            self.engine,
            self.network,
            clocks,
        )
        for step, evaluated in enumerate(evaluator.apply(feed), start=1):
            with clocks.measure("logging"):
                own = self._answer(evaluated)
            with clocks.measure("communication"):
                answers = self.session.distribution.communicator.gather(own)
            images, values = 0, {}
            with clocks.measure("logging"):
                if output is not None and answers is not None:
                    answers = _in_order(answers)
                    images, values = len(answers), self._write(answers, output)
            clocks.end_step(images)
            if step % run.logging_iteration == 0 or step == steps:
                console.step_line(step, values, images / clocks.last_step["step"])
            self.session.stop_here()
        console.end_steps()

    def _answer(self, evaluated: Evaluated) -> Records:
        """Put the answers of this rank's images into records, which are used again for the next batch."""
        if len(self._answers) != len(evaluated.records):
            self._answers = np.zeros(len(evaluated.records), answer_dtype(self.dataset.layout))
        fill(self._answers, evaluated, balance_scheme(self.config.training) if self.labelled else None)
        return self._answers

    def _write(self, answers: Records, output: PredictionWriter) -> dict[str, float]:
        rows: list[dict[str, Any] | None] = [None] * len(answers)
        if self.labelled:
            self.sums.add(answers["confusion"])
            self.loss += float(answers["loss"].sum())
            measured = image_rows(answers["confusion"])
            if self._has_particles:
                measured = [row | self._truth(answer, row) for answer, row in zip(answers, measured, strict=True)]
            rows = list(measured)
        for answer, row in zip(answers, rows, strict=True):
            event = self._event(answer["record"])
            output.write(event, [answer["scores"][n, : len(plane.index)] for n, plane in enumerate(event.planes)], row)
        return {name: rows[0][name] for name in ("cosmic_iou", "neutrino_iou")} if rows and rows[0] else {}

    @functools.cached_property
    def _has_particles(self) -> bool:
        product = Product("particle", self.config.data.particle_producer)
        return self.labelled and self.session.is_root and product in self.dataset.reader.products()

    def _truth(self, answer: Any, row: dict[str, Any]) -> dict[str, Any]:
        return columns(Interaction.of(self.dataset.reader.particles(int(answer["record"]["entry"]))), row)

    def _event(self, record: Any) -> Event:
        event = unpack(record, self.dataset.layout.shape)
        if self.labelled:
            return event
        planes = tuple(PlanePixels(plane.index, plane.value, None) for plane in event.planes)
        return dataclasses.replace(event, planes=planes)

    def _summarize(self, feed: Feed, clocks: Clocks) -> None:
        counts = gather_figures(self.session, clocks, self.dataset, feed)
        if self.labelled and self.sums.images:
            group = MetricGroup.from_means(self.sums.means(), loss=self.loss / self.sums.images)
            self.session.findings.metrics = Metrics(validation=group, interactions=self.interactions or None)
        self.session.say_findings(counts)


def _in_order(answers: Records) -> Records:
    """Take the answers of all ranks, which share images as suits them, in the order of the input, without padding."""
    entries = answers["record"]["entry"]
    order = np.argsort(entries)
    chosen: Records = answers[order[entries[order] != PADDING]]
    return chosen


def _weights(config: Config) -> Path:
    """Find the network: the one named, that of a training in the log directory, or the one of the program."""
    named = config.inference.weights_location
    own = CheckpointStore(checkpoint_directory(config), keep=1).latest()
    if named is None and own is None and config.run.checkpoint_directory is None:
        return checkpoints.pretrained()
    return checkpoints.find(Path(named or checkpoint_directory(config)))


def _open(config: DataConfig) -> Dataset:
    return open_dataset(without_missing_labels(config, config.file) if config.file else config, config.file)


def _settle(config: Config, checkpoint: Checkpoint, path: Path) -> Config:
    """Take the network from the checkpoint; options that were given must agree with it."""
    data_keys, training_keys = {"nplanes", "downsample"}, {"input_transform", "zero_suppression"}
    known = {field.name for field in dataclasses.fields(NetworkConfig)}
    held = {key: value for key, value in checkpoint.network.items() if key in known}
    asked = {key: getattr(config.network, key) for key in config.given & known}
    network = NetworkConfig(**(held | asked))
    inputs = dict(checkpoint.inputs)
    inputs |= {key: getattr(config.data, key) for key in config.given & data_keys}
    inputs |= {key: getattr(config.training, key) for key in config.given & training_keys}
    checkpoints.check_network(checkpoint, network, inputs, path)
    return dataclasses.replace(
        config,
        network=network,
        data=dataclasses.replace(config.data, nplanes=inputs["nplanes"], downsample=inputs["downsample"]),
        training=dataclasses.replace(config.training, **{key: inputs[key] for key in training_keys}),
    )
