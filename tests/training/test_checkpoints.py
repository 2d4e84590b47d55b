import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from cosmictagger.config.sections import NetworkConfig, TrainingConfig
from cosmictagger.errors import UserError
from cosmictagger.training import checkpoints
from cosmictagger.training.checkpoints import (
    CheckpointStore,
    check_network,
    load,
    load_parameters,
    set_random_state,
)
from cosmictagger.training.optimizers import build_optimizer

from .conftest import INPUTS, make


def trained(optimizer_name="adam"):
    """A module and its optimizer after one step."""
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(module, TrainingConfig(optimizer=optimizer_name))
    module(torch.rand(2, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    return module, optimizer


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "log" / "checkpoints", keep=2)


@pytest.mark.parametrize("optimizer_name", ["adam", "adamw", "rmsprop", "lars", "lamb", "muon"])
def test_what_was_saved_comes_back(store, optimizer_name):
    module, optimizer = trained(optimizer_name)
    path = store.save(make(100, module, optimizer))
    assert path.name == "checkpoint-00000100.pt"
    found = load(path)
    assert (found.step, found.sampler["seed"], found.metrics) == (100, 7, {"mean_iou": 0.5})
    assert found.inputs == INPUTS
    fresh, other = trained(optimizer_name)
    load_parameters(fresh, found, path)
    other.load_state_dict(found.optimizer)
    for mine, theirs in zip(module.state_dict().values(), fresh.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(torch.as_tensor(mine[key]), torch.as_tensor(theirs[key])) for key in mine)


def test_the_last_ones_are_kept_and_the_latest_is_found(store):
    assert store.latest() is None
    for step in (9, 100, 20, 99999999, 100000000):
        store.save(make(step))
    assert store.steps() == [99999999, 100000000]
    assert store.latest() == store.path(100000000)


def test_a_run_started_anew_does_not_lose_its_own_checkpoints(store):
    for step in (80, 90, 10, 20, 30):
        store.save(make(step))
    assert store.steps() == [20, 30, 80, 90]


def test_other_names_are_no_checkpoints(store):
    store.save(make(5))
    for name in ("checkpoint-00000009.pt.tmp", "checkpoint-9.pt", "checkpoint-0000000x.pt", "notes.txt"):
        (store.directory / name).touch()
    (store.directory / "checkpoint-00000010.pt").mkdir()
    assert store.latest() == store.path(5)


def test_what_a_killed_run_left_behind_is_cleared(store):
    store.save(make(5))
    (store.directory / "checkpoint-00000006.pt.tmp").touch()
    store.save(make(7))
    assert sorted(path.name for path in store.directory.iterdir()) == [
        "checkpoint-00000005.pt",
        "checkpoint-00000007.pt",
    ]


def test_a_failed_save_leaves_the_old_checkpoint_and_no_half_one(store, monkeypatch):
    store.save(make(5, metrics={"mean_iou": 0.25}))

    def fail(document, file):
        file.write(b"half")
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos")  # as PyTorch's archive writer does

    monkeypatch.setattr(checkpoints.torch, "save", fail)
    with pytest.raises(UserError, match=r"checkpoint-00000005\.pt' cannot be written: No space left"):
        store.save(make(5))
    assert [path.name for path in store.directory.iterdir()] == ["checkpoint-00000005.pt"]
    assert load(store.path(5)).metrics == {"mean_iou": 0.25}


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory; .*--checkpoint-directory"):
        CheckpointStore(tmp_path / "file" / "checkpoints", keep=1).save(make(1))


def test_what_could_not_be_read_back_is_refused_when_saving(store):
    with pytest.raises(TypeError, match="cannot hold a TrainingConfig"):
        store.save(make(1, training={"config": TrainingConfig()}))
    assert store.steps() == []


def test_missing(tmp_path):
    with pytest.raises(UserError, match="is missing"):
        load(tmp_path / "checkpoint-00000001.pt")


@pytest.mark.parametrize("content", [b"", b"weights", b"\x80\x02}q\x00."])
def test_not_a_checkpoint(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a checkpoint"):
        load(path)


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.999])
def test_cut_short(store, fraction):
    path = store.save(make(1, *trained()))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(UserError, match="cut short or damaged"):
        load(path)


def test_a_flipped_bit_in_a_weight(store):
    module, optimizer = trained()
    path = store.save(make(1, module, optimizer))
    content = bytearray(path.read_bytes())
    place = content.index(module[0].weight.detach().numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="cut short or damaged"):
        load(path)


def test_code_in_a_file_is_not_run(tmp_path):
    path = tmp_path / "checkpoint-00000001.pt"
    torch.save({"format": nn.Linear(1, 1)}, path)
    with pytest.raises(UserError, match="holds more than numbers"):
        load(path)


def test_another_program_and_another_version(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UserError, match="not a checkpoint of this program"):
        load(path)
    torch.save({"format": checkpoints.FORMAT, "format_version": 99, "version": "9.0"}, path)
    with pytest.raises(UserError, match=r"version 99, this program reads version 1; use cosmictagger 9\.0"):
        load(path)
    torch.save({"format": checkpoints.FORMAT, "format_version": 1}, path)
    with pytest.raises(UserError, match="it lacks inputs, metrics, model"):
        load(path)


def test_every_error_is_one_line_that_names_the_file(store):
    path = store.save(make(1, *trained()))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_network_passes_whatever_its_preset_and_vocabulary(tmp_path):
    checkpoint = make(1, inputs=INPUTS | {"shape": [640, 1024]})
    check_network(checkpoint, NetworkConfig(preset="original", sparse=True), INPUTS, tmp_path)


def test_every_differing_option_is_named_with_both_values(tmp_path):
    asked = NetworkConfig(network_depth=6, residual=False, connect_pre_res_blocks_up=False)
    inputs = {"nplanes": 2, "shape": (1280, 2048)}
    with pytest.raises(UserError) as caught:
        check_network(make(1), asked, inputs, tmp_path / "c.pt")
    assert str(caught.value).endswith(
        "c.pt' is of another network: --connect-pre-res-blocks-up: checkpoint true, asked false; "
        "--network-depth: checkpoint 5, asked 6; --nplanes: checkpoint 3, asked 2; "
        "--residual: checkpoint true, asked false; --shape: checkpoint 640 1024, asked 1280 2048."
    )


def test_options_of_other_versions(tmp_path):
    network = dataclasses.asdict(NetworkConfig())
    del network["use_bias"]
    check_network(make(1, network=network), NetworkConfig(), {}, tmp_path)
    with pytest.raises(UserError, match="--use-bias: checkpoint true, asked false"):
        check_network(make(1, network=network), NetworkConfig(use_bias=False), {}, tmp_path)
    with pytest.raises(UserError, match="--flux: checkpoint 3, not an option of this version"):
        check_network(make(1, network=network | {"flux": 3}), NetworkConfig(), {}, tmp_path)


def test_a_checkpoint_from_before_statistics_of_images_is_of_those_of_batches(store):
    network = dataclasses.asdict(NetworkConfig())
    del network["norm_statistics"]
    found = load(store.save(make(1, network=network)))
    assert found.network == network | {"norm_statistics": "batch"}
    with pytest.raises(UserError, match="--norm-statistics: checkpoint batch, asked image"):
        check_network(found, NetworkConfig(), {}, store.directory)


def test_a_checkpoint_from_before_zero_suppression_saw_all_pixels(store):
    before = {key: value for key, value in INPUTS.items() if key != "zero_suppression"}
    found = load(store.save(make(1, inputs=before)))
    assert found.inputs["zero_suppression"] == 0
    with pytest.raises(UserError, match="--zero-suppression: checkpoint 0.0, asked 4.0"):
        check_network(found, NetworkConfig(), {"zero_suppression": 4.0}, store.directory)


def test_parameters_that_do_not_fit_are_named(tmp_path):
    module, _ = trained()
    with pytest.raises(UserError, match="'0.weight' is 4×1×3×3 there, 4×1×5×5 here"):
        load_parameters(nn.Sequential(nn.Conv2d(1, 4, 5), nn.BatchNorm2d(4)), make(1, module), tmp_path)
    with pytest.raises(UserError, match="'1.bias' is 4 there, absent here"):
        load_parameters(nn.Sequential(nn.Conv2d(1, 4, 3)), make(1, module), tmp_path)


def test_parameters_take_the_format_of_the_module(tmp_path):
    module, _ = trained()
    half = copy.deepcopy(module).bfloat16()
    load_parameters(half, make(1, module), tmp_path)
    assert torch.equal(half[0].weight, module[0].weight.bfloat16())


def test_random_numbers_go_on_where_they_were(store):
    path = store.save(make(1))
    expected = (torch.rand(3), np.random.rand(3))
    set_random_state(load(path).random)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])
