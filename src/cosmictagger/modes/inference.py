"""Tag all events of the input with a trained network: a larcv3 file, a table, and pictures."""

import dataclasses
from pathlib import Path
from typing import Any

from cosmictagger.config.sections import Config, NetworkConfig
from cosmictagger.data.batch import PADDING, unpack
from cosmictagger.data.events import Event, PlanePixels
from cosmictagger.data.loader import Loader
from cosmictagger.data.open import NO_PRODUCER, Dataset, open_dataset, without_missing_labels
from cosmictagger.metrics.sums import MetricSums
from cosmictagger.metrics.values import image_rows
from cosmictagger.models.build import build_network, parameter_count
from cosmictagger.modes.build import describe_model, make_serial_loader, make_unpacker, reading
from cosmictagger.modes.predictions import PredictionWriter
from cosmictagger.modes.session import Session, checkpoint_directory
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.reporting.results import Checkpoint as CheckpointResult
from cosmictagger.reporting.results import MetricGroup, Metrics
from cosmictagger.training import checkpoints
from cosmictagger.training.checkpoints import Checkpoint
from cosmictagger.training.evaluation import Evaluated, apply
from cosmictagger.training.loss import balance_scheme
from cosmictagger.training.precision import resolve_precision


def run(config: Config) -> int:
    """Tag every event of the input and return the exit code."""
    path = checkpoints.find(Path(config.inference.weights_location or checkpoint_directory(config)))
    checkpoint = checkpoints.load(path)
    config = _settle(config, checkpoint, path)
    with Session("inference", config) as session:
        session.console.info(f"Network: '{path}', after {checkpoint.step} steps")
        Inference(session, checkpoint, path).run()
    return session.exit_code


class Inference:
    """One pass of a trained network over all entries of the input."""

    def __init__(self, session: Session, checkpoint: Checkpoint, path: Path) -> None:
        config = session.config
        self.session, self.config = session, config
        data = without_missing_labels(config.data, config.data.file) if config.data.file else config.data
        self.labelled = data.label_producer != NO_PRODUCER
        self.dataset: Dataset = open_dataset(data, config.data.file)
        layout = self.dataset.layout
        self.precision = resolve_precision(config.training, session.resources.device)
        network = build_network(config.network, layout.planes, layout.shape, config.data.data_format)
        checkpoints.load_parameters(network, checkpoint, path)
        self.network = self.precision.prepare(network).to(session.resources.device)
        self.unpack = make_unpacker(layout, session.resources, self.precision, config.training)
        self.sums = MetricSums(layout.planes)
        self.loss = 0.0
        session.findings.model = describe_model(config.network, parameter_count(network))
        session.findings.checkpoint = CheckpointResult(path=str(path), step=checkpoint.step)

    def run(self) -> None:
        """Tag all events and write what was found."""
        if not self.labelled:
            self.session.console.info("The input has no labels: predictions are written, metrics are not.")
        loader = make_serial_loader(self.config.data, self.dataset, self.config.data.minibatch_size)
        steps = -(-len(self.dataset.reader) // self.config.data.minibatch_size)
        # A short input is not refused: its predictions are what counts. At least one step is timed.
        clocks = Clocks(self.session.resources.synchronize, warmup_steps=min(self.config.run.warmup_steps, steps - 1))
        output = self._writer()
        with output:
            self._tag_all(loader, clocks, output, steps)
        self._summarize(loader, clocks)

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

    def _tag_all(self, loader: Loader, clocks: Clocks, output: PredictionWriter, steps: int) -> None:
        console, run = self.session.console, self.config.run
        console.begin_steps(0, steps)
        clocks.start()
        feed = self.session.distribution.make_feed(loader)
        for step, answer in enumerate(apply(self.network, feed, self.unpack, self.precision, clocks), start=1):
            with clocks.measure("logging"):
                values = self._write_batch(answer, output)
            clocks.end_step(int(answer.batch.valid.sum()))
            if step % run.logging_iteration == 0 or step == steps:
                console.step_line(step, values, int(answer.batch.valid.sum()) / clocks.last_step["step"])
            if self.session.stopping:
                raise KeyboardInterrupt
        console.end_steps()

    def _write_batch(self, answer: Evaluated, output: PredictionWriter) -> dict[str, float]:
        rows: list[dict[str, Any] | None] = [None] * len(answer.records)
        if self.labelled:
            confusion = answer.batch.confusion(answer.logits)
            self.sums.add(confusion, answer.batch.valid)
            loss = answer.batch.loss(answer.logits, balance_scheme(self.config.training), normalizer=1.0)
            self.loss += float(loss)
            rows = list(image_rows(confusion.cpu().numpy()))
        for image, row in enumerate(rows):
            if answer.records["entry"][image] == PADDING:
                continue
            event = self._event(answer, image)
            scores = [
                answer.batch.scores(answer.logits, image, number, plane.index)
                for number, plane in enumerate(event.planes)
            ]
            output.write(event, scores, row)
        return {name: rows[0][name] for name in ("cosmic_iou", "neutrino_iou")} if rows and rows[0] else {}

    def _event(self, answer: Evaluated, image: int) -> Event:
        event = unpack(answer.records[image], self.dataset.layout.shape)
        if self.labelled:
            return event
        planes = tuple(PlanePixels(plane.index, plane.value, None) for plane in event.planes)
        return dataclasses.replace(event, planes=planes)

    def _summarize(self, loader: Loader, clocks: Clocks) -> None:
        findings = self.session.findings
        findings.timing, findings.throughput = clocks.summary(), clocks.throughput()
        findings.io = reading(self.dataset.reader, loader.counts, findings.timing, findings.throughput)
        if self.labelled:
            group = MetricGroup.from_means(self.sums.means(), loss=self.loss / self.sums.images)
            findings.metrics = Metrics(validation=group)
        self.session.say_findings(loader.counts)


def _settle(config: Config, checkpoint: Checkpoint, path: Path) -> Config:
    """Take the network from the checkpoint; options that were given must agree with it."""
    data_keys = {"nplanes", "downsample"}
    known = {field.name for field in dataclasses.fields(NetworkConfig)}
    held = {key: value for key, value in checkpoint.network.items() if key in known}
    asked = {key: getattr(config.network, key) for key in config.given & known}
    network = NetworkConfig(**(held | asked))
    inputs = dict(checkpoint.inputs)
    inputs |= {key: getattr(config.data, key) for key in config.given & data_keys}
    inputs |= {key: getattr(config.training, key) for key in config.given & {"input_transform"}}
    checkpoints.check_network(checkpoint, network, inputs, path)
    return dataclasses.replace(
        config,
        network=network,
        data=dataclasses.replace(config.data, nplanes=inputs["nplanes"], downsample=inputs["downsample"]),
        training=dataclasses.replace(config.training, input_transform=inputs["input_transform"]),
    )
