"""Training from the command line: what it leaves, and the contracts that make its figures mean something."""

import math

import jsonschema
import numpy as np
import pytest
import torch

from cosmictagger.reporting.results import load_schema
from cosmictagger.training import checkpoints, growing

from .conftest import metrics_lines, results

# Sums in another order: float32 rounding, amplified by a few optimizer steps.
TOLERANCE = 2e-5


def parameters(log, step):
    return checkpoints.load(log / "checkpoints" / f"checkpoint-{step:08d}.pt").model


def difference(first, second):
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def test_a_training_learns_and_leaves_its_record(run, tmp_path, capsys):
    log = tmp_path / "log"
    assert run("train", "-i", 30, "-mb", 2, "-lr", 5e-3, "--aux-file", tmp_path.parent / "none", log=log) == 2
    assert run("train", "-i", 30, "-mb", 2, "-lr", 5e-3, "-ci", 10, "--keep-checkpoints", 2, log=log) == 0
    found = results(log)
    jsonschema.validate(found, load_schema())
    lines = metrics_lines(log)
    assert [line["step"] for line in lines] == list(range(1, 31))
    assert np.mean([line["loss"] for line in lines[-5:]]) < 0.5 * lines[0]["loss"]
    assert found["status"] == "completed"
    assert found["metrics"]["train"]["images"] == 20  # ten steps of two
    assert found["throughput"]["steps"] == 28
    assert found["throughput"]["warmup_steps"] == 2
    assert found["throughput"]["images"] == 56
    assert found["model"]["kind"] == "dense"
    assert sorted(path.name for path in (log / "checkpoints").iterdir()) == [
        "checkpoint-00000020.pt",
        "checkpoint-00000030.pt",
    ]
    assert (log / "report.html").stat().st_size > 10_000
    assert list((log / "tensorboard").iterdir())
    out = capsys.readouterr().out
    rate = found["throughput"]["images_per_second"]
    shown = next(
        float(line.split(": ")[1]) for line in out.splitlines() if line.startswith("Total img/sec on 1 rank(s): ")
    )
    assert shown == pytest.approx(rate, rel=1e-3)


def test_throughput_is_images_over_the_time_of_the_timed_steps(run, tmp_path):
    assert run("train", "-i", 6, "-mb", 2, "--gradient-accumulation", 2, "--warmup-steps", 3) == 0
    found = results(tmp_path / "log")
    assert found["throughput"]["images"] == 3 * 2 * 2
    seconds = found["timing"]["step"]["total"]
    assert found["throughput"]["images_per_second"] == pytest.approx(12 / seconds, rel=1e-6)
    parts = [
        found["timing"][name]["total"] for name in ("io_wait", "unpack", "forward", "backward", "optimizer", "logging")
    ]
    assert 0.5 * seconds < sum(parts) <= seconds


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_equals_an_uninterrupted_one(run, tmp_path, capsys, optimizer):
    options = ("-mb", 2, "--lr-schedule", "cosine", "--optimizer", optimizer)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run("train", "-i", 9, *options, log=whole) == 0
    # Stopped after step 5 of 9: the schedule must not see an end that is not there.
    stopped = ("-i", 9, *options, "-ci", 5)
    assert run("train", *stopped, log=parts) == 0
    (parts / "checkpoints" / "checkpoint-00000009.pt").unlink()
    assert run("train", *stopped, "--verbosity", 1, log=parts) == 0
    assert "after step 5 of 9" in capsys.readouterr().out
    assert difference(parameters(whole, 9), parameters(parts, 9)) == 0
    assert [line["loss"] for line in metrics_lines(parts)] == [line["loss"] for line in metrics_lines(whole)]


def test_a_training_goes_on_with_the_optimizer_it_began_with(run, tmp_path, capsys):
    checkpoints_at = ("--checkpoint-directory", tmp_path / "checkpoints")
    assert run("train", "-i", 3, "--optimizer", "adamw", *checkpoints_at, log=tmp_path / "a") == 0
    assert run("train", "-i", 4, "--optimizer", "muon", *checkpoints_at, log=tmp_path / "b") == 2
    assert "was trained by --optimizer adamw; repeat that, or take --no-resume." in capsys.readouterr().err


def test_the_same_seed_gives_the_same_training_and_another_seed_another(run, tmp_path):
    for log, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("train", "-i", 4, "--seed", seed, "--deterministic", log=tmp_path / log) == 0
    first, again, other = (parameters(tmp_path / log, 4) for log in "abc")
    assert difference(first, again) == 0
    assert difference(first, other) > 1e-3


@pytest.mark.parametrize("kind", [(), ("--sparse",), ("--sparse", "--supervised-levels", 0, 1)], ids=str)
def test_accumulated_steps_equal_one_large_batch(run, tmp_path, kind):
    # Batch normalization sees the micro-batch: off, as the contract needs.
    options = ("-i", 3, "--warmup-steps", 1, "--no-batch-norm", "-lr", 1e-3, *kind)
    assert run("train", *options, "-mb", 4, log=tmp_path / "large") == 0
    assert run("train", *options, "-mb", 1, "--gradient-accumulation", 4, log=tmp_path / "small") == 0
    assert difference(parameters(tmp_path / "large", 3), parameters(tmp_path / "small", 3)) < TOLERANCE
    assert results(tmp_path / "small")["throughput"]["images"] == 8


@pytest.mark.parametrize("kind", ["--sparse", "--no-sparse"])
def test_what_levels_tell_counts_by_its_weight(run, tmp_path, kind):
    losses = []
    for weight in (0.5, 1, 2):
        log = tmp_path / str(weight)
        options = ("-i", 1, "--warmup-steps", 0, "--supervised-levels", 0, 1, "--supervision-weight", weight)
        assert run("train", kind, *options, log=log) == 0
        losses.append(metrics_lines(log)[0]["loss"])
    assert losses[2] - losses[1] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-4)
    assert losses[1] - losses[0] > 0.05


def test_validation_is_the_same_for_any_batch_size(run, tmp_path, events_file):
    logs = []
    for size in (1, 3, 5):
        log = tmp_path / str(size)
        options = ("--aux-file", events_file, "--aux-minibatch-size", size, "--aux-iteration", 2)
        assert run("train", "-i", 4, *options, log=log) == 0
        logs.append(metrics_lines(log, "validation"))
    assert [line["step"] for line in logs[0]] == [2, 4]
    for log in logs[1:]:
        for first, second in zip(logs[0], log, strict=True):
            assert {k: v for k, v in first.items() if k.endswith(("iou", "accuracy"))} == {
                k: v for k, v in second.items() if k.endswith(("iou", "accuracy"))
            }
            assert first["loss"] == pytest.approx(second["loss"], rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        *(("--loss-balance-scheme", scheme) for scheme in ("none", "even", "focal")),
        ("--no-balance-loss",),
        *(("--optimizer", name) for name in ("rmsprop", "lars", "lamb", "muon")),
        ("--lr-schedule", "one-cycle"),
        *(("--precision", name) for name in ("bfloat16", "mixed")),
        ("--model-half-precision",),
        ("--input-half-precision",),
        ("--loss-scale", "64"),
        ("--gradient-clip", "0.1"),
        ("--input-transform", "none"),
        ("--data-format", "channels_first"),
        ("--conv-mode", "3D"),
        ("--no-share-weights",),
        ("--downsample", "0"),
        ("--shape", "32", "64"),
        ("--aux-images", "1"),
    ],
    ids=" ".join,
)
def test_every_option_trains(run, tmp_path, options):
    assert run("train", "-i", 4, "-mb", 2, *options) == 0
    lines = metrics_lines(tmp_path / "log")
    assert len(lines) == 4
    assert all(math.isfinite(line["loss"]) for line in lines)


def test_loss_scaling_changes_nothing_in_float32(run, tmp_path):
    assert run("train", "-i", 4, log=tmp_path / "plain") == 0
    assert run("train", "-i", 4, "--loss-scale", 1024, log=tmp_path / "scaled") == 0
    assert difference(parameters(tmp_path / "plain", 4), parameters(tmp_path / "scaled", 4)) == 0  # a power of two


def test_the_learning_rate_follows_its_schedule(run, tmp_path):
    assert run("train", "-i", 10, "--lr-schedule", "cosine", "--lr-warmup-steps", 4, "-lr", 1e-3) == 0
    rates = [line["learning_rate"] for line in metrics_lines(tmp_path / "log")]
    assert rates[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert rates[-1] == pytest.approx(1e-5)


def test_training_starts_from_given_weights(run, tmp_path):
    assert run("train", "-i", 4, log=tmp_path / "first") == 0
    options = ("--weights-location", tmp_path / "first", "-lr", 1e-12, "--optimizer", "rmsprop")
    assert run("train", "-i", 3, *options, log=tmp_path / "second") == 0
    old, new = parameters(tmp_path / "first", 4), parameters(tmp_path / "second", 3)
    weights = [name for name in old if name.endswith("weight")]
    assert max(float((old[name] - new[name]).abs().max()) for name in weights) < 1e-6


def test_a_finished_run_is_left_alone(run, tmp_path, capsys):
    assert run("train", "-i", 4) == 0
    before = (tmp_path / "log" / "results.json").read_bytes()
    assert run("train", "-i", 4) == 0
    assert "All 4 steps are done; raise --iterations to train on." in capsys.readouterr().out
    assert (tmp_path / "log" / "results.json").read_bytes() == before


def test_more_iterations_go_on_from_the_end(run, tmp_path):
    assert run("train", "-i", 4) == 0
    assert run("train", "-i", 8) == 0
    assert [line["step"] for line in metrics_lines(tmp_path / "log")] == list(range(1, 9))


def test_threads_are_as_asked(run, tmp_path):
    assert run("train", "-i", 3) == 0
    assert results(tmp_path / "log")["system"]["threads"] == 1
    assert torch.get_num_threads() >= 1


def test_larcv_reader_trains_alike(run, tmp_path):
    pytest.importorskip("larcv", reason="the larcv library is not installed (make larcv)")
    for reader in ("h5py", "larcv"):
        assert run("train", "-i", 4, "--reader", reader, log=tmp_path / reader) == 0
    assert difference(parameters(tmp_path / "h5py", 4), parameters(tmp_path / "larcv", 4)) == 0


def test_a_training_stops_at_its_target_and_says_how_long_it_took(run, events_file, tmp_path, capsys):
    words = ("train", "-i", 60, "-mb", 2, "-lr", 5e-3, "--aux-file", events_file, "--aux-iteration", 5)
    assert run(*words, "--target-metric", "validation.accuracy", "--target", 0.5) == 0
    found = results(tmp_path / "log")
    target, validation = found["target"], found["metrics"]["validation"]
    assert target["reached"]
    assert target["best"] == validation["mean"]["average"]["accuracy"] >= 0.5
    assert target["step"] == validation["step"] == found["checkpoint"]["step"] < 60
    assert 0 < target["seconds"] < 600
    assert f"after {target['step']} steps" in capsys.readouterr().out


def test_a_target_out_of_reach_is_said(run, events_file, tmp_path, capsys):
    words = ("train", "-i", 4, "-mb", 2, "--aux-file", events_file, "--aux-iteration", 2)
    assert run(*words, "--target-metric", "validation.neutrino_iou", "--target", 1.0) == 0
    target = results(tmp_path / "log")["target"]
    assert (target["reached"], target["step"], target["seconds"]) == (False, None, None)
    assert 0 <= target["best"] < 1
    assert "target not reached" in capsys.readouterr().err


def test_a_target_needs_a_value_and_a_file_to_validate_on(run, capsys):
    assert run("train", "--target-metric", "validation.accuracy") == 2
    assert "needs --target" in capsys.readouterr().err
    assert run("train", "--target-metric", "validation.accuracy", "--target", 0.9) == 2
    assert "--aux-file" in capsys.readouterr().err


def test_augmented_images_are_the_same_after_a_resumption(run, events_file, tmp_path):
    words = ("-mb", 2, "-lr", 5e-3, "--warmup-steps", 0, "-ci", 100, "--file", events_file)
    augment = ("--augment", "drift-mirror", "beam-mirror", "time-shift", "charge-scale", "noise")
    assert run("train", "-i", 4, *words, *augment, log=tmp_path / "whole") == 0
    for steps in (2, 4):
        assert run("train", "-i", steps, *words, *augment, log=tmp_path / "parts") == 0
    assert run("train", "-i", 4, *words, log=tmp_path / "plain") == 0
    whole, parts, plain = (parameters(tmp_path / name, 4) for name in ("whole", "parts", "plain"))
    assert difference(whole, parts) == 0
    assert difference(whole, plain) > 1e-3


@pytest.mark.parametrize("kind", ["--sparse", "--no-sparse"])
def test_one_image_at_a_time_trains_alike_by_batch_and_by_image(run, events_file, tmp_path, kind):
    for statistics in ("batch", "image"):
        words = ("-i", 3, "-mb", 1, "--warmup-steps", 1, "--norm-statistics", statistics, kind)
        assert run("train", "--file", events_file, *words, log=tmp_path / statistics) == 0
    by_batch, image = (checkpoints.load(checkpoints.find(tmp_path / name)) for name in ("batch", "image"))
    turned = growing.by_image(by_batch)
    assert turned.network == image.network
    assert turned.model.keys() == image.model.keys() < by_batch.model.keys()
    assert all(torch.equal(turned.model[name], image.model[name]) for name in image.model)


@pytest.mark.parametrize("option", [("--calibration-steps", 3), ("--sync-batch-norm",)])
def test_options_about_statistics_of_the_batch_are_refused_where_images_have_their_own(
    run, events_file, capsys, option
):
    assert run("train", "--file", events_file, *option) == 2
    message = f"{option[0]}: is about statistics of the batch, and --norm-statistics image takes those of each image"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("micro_steps", [1, 2])
def test_calibrated_statistics_are_those_of_the_last_steps(run, events_file, tmp_path, micro_steps):
    """They follow from parameters and step alone: a resumed training ends with the same."""
    words = ("-mb", 2, "-lr", 5e-3, "--gradient-accumulation", micro_steps, "--norm-statistics", "batch")
    words += ("-ci", 100, "--calibration-steps", 3)
    aux = ("--aux-file", events_file, "--aux-iteration", 4)
    assert run("train", "-i", 8, *words, *aux, log=tmp_path / "whole") == 0
    for steps in (5, 8):
        assert run("train", "-i", steps, *words, *aux, log=tmp_path / "parts") == 0
    assert run("train", "-i", 8, *words[:-2], log=tmp_path / "without") == 0
    whole, parts, without = (parameters(tmp_path / name, 8) for name in ("whole", "parts", "without"))
    assert difference(whole, parts) == 0
    running = {name for name in whole if "running" in name}
    assert (
        difference(
            {n: v for n, v in whole.items() if n not in running}, {n: without[n] for n in whole.keys() - running}
        )
        == 0
    )
    assert difference({n: whole[n] for n in running}, {n: without[n] for n in running}) > 1e-3


@pytest.mark.parametrize(("precision", "times", "said"), [("mixed", 2.04, 1), ("mixed", 0.6, 0), ("float32", None, 0)])
def test_bfloat16_that_is_slower_is_spoken_about(run, capsys, monkeypatch, precision, times, said):
    if times is not None:
        monkeypatch.setattr("cosmictagger.modes.build.bfloat16_time", lambda _: times)
    assert run("train", "-i", 3, "--precision", precision, "--verbosity", 1) == 0
    advice = "Products in bfloat16 take 2.0 times as long as in float32 on this processor: --precision float32 may be faster."
    assert capsys.readouterr().out.count(advice) == said
