import dataclasses

import pytest
import torch

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.errors import UserError
from cosmictagger.models import build_network
from cosmictagger.training import growing
from cosmictagger.training.checkpoints import load_parameters

from .conftest import INPUTS, make


@pytest.mark.parametrize("options", [{}, {"batch_norm": False}, {"connect_pre_res_blocks_up": False}], ids=str)
@pytest.mark.parametrize("option", ["exchange_levels", "crossing_levels", "doubled_levels", "supervised_levels"])
def test_a_network_grows_and_goes_on_where_it_was(option, options):
    config = NetworkConfig(network_depth=3, n_initial_filters=2, preset=None, **options)
    module = build_network(config, 3, (32, 32))
    with torch.no_grad():  # so that no branch is zero, as those of a new network are
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    plain = make(1, module, network=dataclasses.asdict(config))
    levels, too_many = ((1, 2), (4,)) if option in ("crossing_levels", "supervised_levels") else (2, 4)
    more = growing.grown(plain, option, levels)
    larger = build_network(NetworkConfig(**more.network), 3, (32, 32))
    load_parameters(larger, more, "there")
    assert {name[: len("levels.0")] for name in more.model.keys() - plain.model.keys()} == {"levels.1", "levels.2"}
    if option == "crossing_levels":
        assert more.network["crossing_offset"] == 512.1
        full = dataclasses.replace(plain, inputs=INPUTS | {"downsample": 0})
        assert growing.grown(full, option, levels).network["crossing_offset"] == 1024.7
        assert growing.grown(full, option, levels, 7.0).network["crossing_offset"] == 7
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(larger.eval()(images), module.eval()(images))
    flag = "--" + option.replace("_", "-")
    with pytest.raises(UserError, match=f"{flag}: the network has such levels already"):
        growing.grown(more, option, levels)
    with pytest.raises(UserError, match=f"{flag}: .* options of another version: later"):
        growing.grown(dataclasses.replace(plain, network=plain.network | {"later": 1}), option, levels)
    with pytest.raises(UserError, match=f"{flag}: 4, but (there are 3 levels|levels on the way up are 0 to 2)"):
        growing.grown(plain, option, too_many)


@pytest.mark.parametrize("options", [{"residual": False}, {"res_blocks_per_layer": 0}], ids=str)
def test_blocks_that_would_change_a_network_are_refused(options):
    plain = make(1, network=dataclasses.asdict(NetworkConfig(**options)))
    with pytest.raises(UserError, match="--doubled-levels: only a network of residual blocks"):
        growing.grown(plain, "doubled_levels", 1)


def test_a_network_is_given_other_pixels():
    trained = make(1, metrics={"mean_iou": 0.5})
    assert growing.with_suppression(trained, 4.0).inputs == INPUTS | {"zero_suppression": 4.0}
    assert growing.with_suppression(trained, 4.0).metrics == {}
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="--zero-suppression: "):
            growing.with_suppression(trained, wrong)
