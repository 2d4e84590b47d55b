"""Defaults, presets, YAML and flags become one Config."""

import dataclasses

import pytest
import yaml

from cosmictagger.config.presets import PRESETS
from cosmictagger.config.resolve import SECTIONS, resolve, to_dict, to_yaml
from cosmictagger.config.sections import Config, NetworkConfig
from cosmictagger.errors import UserError


@pytest.fixture
def yaml_file(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_defaults_alone():
    assert resolve({}) == Config()


def test_flags_override_yaml_and_yaml_overrides_defaults(yaml_file):
    path = yaml_file("network: {network_depth: 6, n_initial_filters: 4}\nrun: {iterations: 9}\n")
    config = resolve({"network_depth": 3}, path)
    assert (config.network.network_depth, config.network.n_initial_filters, config.run.iterations) == (3, 4, 9)


def test_a_preset_sets_the_network_and_flags_change_it():
    config = resolve({"preset": "a21", "network_depth": 5})
    assert (config.network.network_depth, config.network.bottleneck_size, config.network.residual) == (5, 256, False)


def test_a_preset_flag_overrides_the_network_of_the_yaml(yaml_file):
    config = resolve({"preset": "uresnet"}, yaml_file("network: {preset: a21, n_initial_filters: 3, use_bias: false}"))
    assert (config.network.preset, config.network.n_initial_filters, config.network.use_bias) == ("uresnet", 16, False)


def test_a_config_survives_its_own_yaml(yaml_file):
    config = resolve({"preset": "polaris", "file": ("a.h5", "b.h5"), "shape": (640, 1024), "learning_rate": 1e-5})
    assert resolve({}, yaml_file(to_yaml(config))) == config


def test_saved_config_is_plain_yaml():
    assert yaml.safe_load(to_yaml(Config())) == to_dict(Config())


def test_keys_stand_in_one_section_only():
    keys = [field.name for section in SECTIONS.values() for field in dataclasses.fields(section)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset):
    assert isinstance(resolve({"preset": preset}).network, NetworkConfig)


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().run.iterations = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("netwrok: {}", "unknown section 'netwrok' (did you mean 'network'?)"),
        ("iterations: 5", "unknown section 'iterations'; write it under 'run:'"),
        ("network: {network_dept: 5}", "unknown key 'network.network_dept' (did you mean 'network_depth'?)"),
        ("run: {network_depth: 5}", "'network_depth' belongs under 'network:', not under 'run:'"),
        ("network: {network_depth: deep}", "network.network_depth: 'deep' is not a whole number"),
        ("network: [1, 2]", "section 'network' must hold keys and values"),
        ("- 1", "must hold the sections"),
        ("run: {iterations: 5", "is not YAML"),
        ("run: {iterations: null}", "run.iterations: a value is needed"),
        ("network: {preset: a22}", "--preset: 'a22' is not one of"),
        ("run: {iterations: 0}", "--iterations: 0 is too small"),
        ("network: {filter_size_deepest: 4}", "--filter-size-deepest: 4 is even"),
    ],
)
def test_mistakes_in_yaml_get_one_clear_line(yaml_file, text, message):
    with pytest.raises(UserError) as caught:
        resolve({}, yaml_file(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_yaml_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read '.*none.yaml': No such file"):
        resolve({}, str(tmp_path / "none.yaml"))


def test_a_yaml_that_would_run_code_is_refused(yaml_file):
    with pytest.raises(UserError, match="is not YAML"):
        resolve({}, yaml_file("run: !!python/object/apply:os.system ['true']"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"bottleneck_size": 0}, "--bottleneck-size: 0"),
        ({"exchange_levels": 6}, "--exchange-levels: 6, but there are 5 levels"),
        ({"doubled_levels": 6}, "--doubled-levels: 6, but there are 5 levels"),
        ({"crossing_levels": (2, 1)}, "--crossing-levels: 2 1 is not in ascending order, each level once"),
        ({"crossing_levels": (1, 1)}, "--crossing-levels: 1 1 is not in ascending order, each level once"),
        ({"supervised_levels": (2, 2)}, "--supervised-levels: 2 2 is not in ascending order, each level once"),
        ({"supervised_levels": (5,)}, "--supervised-levels: 5, but levels on the way up are 0 to 4"),
        ({"crossing_levels": (1, 5)}, "--crossing-levels: 5, but levels on the way up are 0 to 4"),
        ({"conv_mode": "3D", "share_weights": False}, "--no-share-weights"),
        ({"optimizer": "muon", "share_weights": False}, "--optimizer: muon would mix the planes"),
        ({"mirror_views": True}, "--mirror-views: has no view to mirror"),
        ({"model_half_precision": True, "precision": "mixed"}, "--model-half-precision"),
    ],
)
def test_contradictions_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        resolve(flags)
