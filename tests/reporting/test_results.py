import json

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from cosmictagger.errors import UserError
from cosmictagger.metrics.sums import MetricSums
from cosmictagger.metrics.values import METRICS
from cosmictagger.reporting.results import (
    SCHEMA_VERSION,
    MetricGroup,
    Metrics,
    load_schema,
    read_results,
    write_results,
)

BARE = dict.fromkeys(("model", "throughput", "timing", "io", "memory", "checkpoint")) | {"metrics": Metrics()}


def validate(document):
    Draft202012Validator(load_schema()).validate(document)


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(load_schema())
    assert load_schema()["properties"]["schema_version"]["const"] == SCHEMA_VERSION


def test_a_completed_run_keeps_to_the_schema(results):
    validate(results.to_dict())


def test_a_run_that_failed_at_once_keeps_to_the_schema(make_results):
    validate(make_results(status="failed", reason="no such file", **BARE).to_dict())


def test_what_the_schema_does_not_know_is_refused(results):
    errors = list(Draft202012Validator(load_schema()).iter_errors(results.to_dict() | {"extra": 1}))
    assert "'extra' was unexpected" in errors[0].message


def test_the_document_says_what_was_measured(results):
    document = results.to_dict()
    assert document["throughput"] == {
        "images_per_second": 2.0,
        "images_per_second_per_rank": 1.0,
        "slowest_over_mean": None,
        "steps": 2,
        "warmup_steps": 1,
        "images": 8,
        "seconds": 4.0,
    }
    ranks = {"rank_minimum": 1.5, "rank_mean": 1.5}
    forward = {"count": 2, "mean": 1.5, "median": 1.5, "p95": 1.5, "total": 3.0, **ranks}
    assert document["timing"]["forward"] == forward
    never = dict.fromkeys(("mean", "median", "p95", "rank_minimum", "rank_mean"))
    assert document["timing"]["validation"] == {"count": 0, "total": 0.0, **never}
    assert document["config"]["data"]["minibatch_size"] == 2
    assert document["system"]["hosts"] == ["a"]
    assert document["metrics"]["train"]["mean"]["average"]["accuracy"] == 0.98
    assert document["metrics"]["train"]["mean"]["planes"][1]["cosmic_iou"] is None
    assert document["metrics"]["validation"] is None


def test_metric_sums_fit_the_schema(make_results):
    sums = MetricSums(planes=2)
    sums.add(np.broadcast_to(np.diag([90, 6, 4]), (3, 2, 3, 3)))
    group = MetricGroup.from_means(sums.means(), step=9, loss=0.5)
    document = make_results(metrics=Metrics(validation=group)).to_dict()
    validate(document)
    written = document["metrics"]["validation"]
    assert (written["step"], written["images"], written["loss"]) == (9, 3, 0.5)
    assert tuple(written["mean"]["average"]) == METRICS
    assert [plane["cosmic_iou"] for plane in written["pooled"]["planes"]] == [1.0, 1.0]


def test_a_run_that_did_not_complete_gives_a_reason(make_results):
    with pytest.raises(ValueError, match="'interrupted' with reason None"):
        make_results(status="interrupted")


def test_the_latest_run_is_results_json_whatever_its_mode(tmp_path, results, make_results):
    write_results(tmp_path, results)
    path = write_results(tmp_path, make_results(mode="iotest", model=None))
    assert path == tmp_path / "results.json"
    assert read_results(path)["mode"] == "iotest"
    assert json.loads((tmp_path / "results.train.json").read_text()) == results.to_dict()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path, results):
    with pytest.raises(UserError, match="cannot write '.*results.json': No such file"):
        write_results(tmp_path / "missing", results)


def test_a_results_file_of_another_version_is_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"schema_version": 99}')
    with pytest.raises(UserError, match="schema version 99, not 1"):
        read_results(path)


def test_a_file_that_is_not_json_is_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("{")
    with pytest.raises(UserError, match="is not a results file"):
        read_results(path)


def test_no_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_results(tmp_path / "results.json")


def test_the_documentation_names_every_field(project):
    text = (project / "docs" / "results.md").read_text()
    missing = [name for name in field_names(load_schema()) if f"`{name}`" not in text]
    assert missing == []


def field_names(schema):
    for name, value in schema.get("properties", {}).items():
        yield name
        yield from field_names(value)
    for value in schema.get("$defs", {}).values():
        yield from field_names(value)
