"""The advice about statistics of few images."""

import dataclasses

import pytest

from cosmictagger.config.sections import Config, DataConfig, DistributionConfig, NetworkConfig
from cosmictagger.modes.normalization import advice

BATCH = NetworkConfig(norm_statistics="batch")


def config_of(images: int, network: NetworkConfig = BATCH, *, synchronized: bool = False) -> Config:
    distribution = DistributionConfig(sync_batch_norm=synchronized)
    return Config(data=DataConfig(minibatch_size=images), network=network, distribution=distribution)


@pytest.mark.parametrize(("images", "ranks", "seen"), [(2, 2, "1 image "), (2, 1, "2 images "), (12, 4, "3 images ")])
def test_few_images_by_batch_are_told_apart_from_training(images, ranks, seen):
    text = advice(config_of(images), ranks)
    assert f"sees {seen}at a time" in text
    assert "--norm-statistics image" in text


def test_nothing_is_said_where_there_is_nothing_to_mend():
    assert advice(config_of(16), 4) is None
    assert advice(config_of(4, synchronized=True), 4) is None
    assert advice(config_of(1, NetworkConfig()), 1) is None
    assert advice(config_of(1, dataclasses.replace(BATCH, batch_norm=False)), 1) is None
