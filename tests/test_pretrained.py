"""The network that comes with the program: small, found without being asked for, and as good as docs/quality.md says."""

import json
import os
import subprocess
import sys

import pytest

from cosmictagger.config.presets import PRESETS
from cosmictagger.errors import UserError
from cosmictagger.simulate.files import Simulation, simulate_file
from cosmictagger.training import checkpoints

MEGABYTES = 10
EVENTS, SEED = 12, 77  # neither in the training sets (seeds 501, 601, 701) nor in the validation set (102)
# Means over few events scatter; docs/quality.md has those over many.
SIMULATED = {"accuracy": 0.999, "non_background_accuracy": 0.95, "cosmic_iou": 0.92, "neutrino_iou": 0.60}
SBND = {"accuracy": 0.999, "non_background_accuracy": 0.93, "cosmic_iou": 0.88, "neutrino_iou": 0.60}


def tag(project, file, log, *words):
    command = [sys.executable, project / "bin" / "exec.py", "inference", "-f", file, "-ld", log, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(w) for w in command], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "the network that comes with the program" in done.stdout
    return json.loads((log / "results.json").read_text())["metrics"]["validation"]["mean"]["average"]


def test_it_is_small_and_holds_no_state_of_its_training():
    path = checkpoints.pretrained()
    assert path.stat().st_size < MEGABYTES * 1e6
    held = checkpoints.load(path)
    assert held.optimizer == held.random == {}
    assert held.network["sparse"] is True
    assert {key: held.network[key] for key in PRESETS["tagger"]} == PRESETS["tagger"]


@pytest.mark.slow
def test_inference_works_out_of_the_box(project, tmp_path):
    simulate_file(tmp_path / "events.h5", EVENTS, Simulation(seed=SEED))
    found = tag(project, tmp_path / "events.h5", tmp_path / "log", "--displays", 1)
    for name, least in SIMULATED.items():
        assert found[name] > least, name


@pytest.mark.slow
def test_it_tags_events_of_another_simulation(project, sbnd_sample, tmp_path):
    found = tag(project, sbnd_sample, tmp_path / "log", "--weights-location", "pretrained", "--displays", 0)
    for name, least in SBND.items():
        assert found[name] > least, name


def test_a_log_directory_without_a_checkpoint_is_refused_where_it_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint; .* pretrained"):
        checkpoints.find(tmp_path)
