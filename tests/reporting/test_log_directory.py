import pytest

from cosmictagger.config.resolve import all_options, resolve
from cosmictagger.errors import UserError
from cosmictagger.reporting.log_directory import FREE_OPTIONS, prepare_log_directory


def configured(tmp_path, **flags):
    return resolve({"log_directory": str(tmp_path / "log"), **flags})


def test_the_directory_is_made_and_holds_the_configuration(tmp_path):
    config = configured(tmp_path / "deep", network_depth=3)
    path = prepare_log_directory(config, "train", has_checkpoint=False)
    assert path == tmp_path / "deep" / "log"
    assert resolve({}, str(path / "config.train.yaml")) == config


def test_a_training_with_other_settings_is_refused_and_says_which(tmp_path):
    prepare_log_directory(configured(tmp_path), "train", has_checkpoint=False)
    other = configured(tmp_path, learning_rate=0.001, network_depth=3)
    with pytest.raises(UserError) as refusal:
        prepare_log_directory(other, "train", has_checkpoint=True)
    message = str(refusal.value)
    assert "(--network-depth 3, there 5, --learning-rate 0.001, there 0.0003)" in message
    assert "\n" not in message
    # The record of the training that is there stays as it was.
    assert resolve({}, str(tmp_path / "log" / "config.train.yaml")).network.network_depth == 5


def test_many_differences_are_cut_short(tmp_path):
    prepare_log_directory(configured(tmp_path), "train", has_checkpoint=False)
    with pytest.raises(UserError, match="and 6 more"):
        prepare_log_directory(configured(tmp_path, preset="a21"), "train", has_checkpoint=True)


def test_a_training_may_go_on_longer_and_be_watched_otherwise(tmp_path):
    prepare_log_directory(configured(tmp_path), "train", has_checkpoint=False)
    longer = configured(tmp_path, iterations=500, verbosity=2, checkpoint_iteration=7, views=8, mirror_views=True)
    prepare_log_directory(longer, "train", has_checkpoint=True)
    assert resolve({}, str(tmp_path / "log" / "config.train.yaml")).run.iterations == 500


def test_without_a_checkpoint_there_is_nothing_to_protect(tmp_path):
    prepare_log_directory(configured(tmp_path), "train", has_checkpoint=False)
    prepare_log_directory(configured(tmp_path, network_depth=3), "train", has_checkpoint=False)
    assert resolve({}, str(tmp_path / "log" / "config.train.yaml")).network.network_depth == 3


def test_other_modes_share_the_directory_of_a_training(tmp_path):
    prepare_log_directory(configured(tmp_path), "train", has_checkpoint=False)
    prepare_log_directory(configured(tmp_path, minibatch_size=64), "iotest", has_checkpoint=True)
    assert resolve({}, str(tmp_path / "log" / "config.train.yaml")).data.minibatch_size == 2
    assert resolve({}, str(tmp_path / "log" / "config.iotest.yaml")).data.minibatch_size == 64


def test_options_younger_than_the_record_count_as_default(tmp_path):
    path = prepare_log_directory(configured(tmp_path), "train", has_checkpoint=False) / "config.train.yaml"
    path.write_text(path.read_text().replace("  gradient_accumulation: 1\n", ""))
    prepare_log_directory(configured(tmp_path), "train", has_checkpoint=True)
    path.write_text(path.read_text().replace("  gradient_accumulation: 1\n", ""))
    with pytest.raises(UserError, match="--gradient-accumulation 4, there 1"):
        prepare_log_directory(configured(tmp_path, gradient_accumulation=4), "train", has_checkpoint=True)


def test_a_record_from_before_statistics_of_images_is_of_those_of_batches(tmp_path):
    batch = configured(tmp_path, norm_statistics="batch")
    path = prepare_log_directory(batch, "train", has_checkpoint=False) / "config.train.yaml"
    path.write_text(path.read_text().replace("  norm_statistics: batch\n", ""))
    with pytest.raises(UserError, match="--norm-statistics image, there batch"):
        prepare_log_directory(configured(tmp_path), "train", has_checkpoint=True)
    prepare_log_directory(batch, "train", has_checkpoint=True)


def test_a_damaged_record_is_a_user_error(tmp_path):
    path = prepare_log_directory(configured(tmp_path), "train", has_checkpoint=False) / "config.train.yaml"
    path.write_text("a: [")
    with pytest.raises(UserError, match="cannot read"):
        prepare_log_directory(configured(tmp_path), "train", has_checkpoint=True)


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "log").write_text("a file, not a directory")
    with pytest.raises(UserError, match="--log-directory: cannot write in '.*log': File exists; choose another"):
        prepare_log_directory(configured(tmp_path), "train", has_checkpoint=False)


def test_every_free_option_exists():
    assert set(all_options()) >= FREE_OPTIONS
