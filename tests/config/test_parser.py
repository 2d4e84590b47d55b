"""The command line: flags as the field knows them, and messages that say what to do."""

import subprocess
import sys

import pytest

from cosmictagger.config.parser import MODES, parse_command_line
from cosmictagger.config.resolve import all_options
from cosmictagger.errors import UserError

# The names users have in their scripts. A change here breaks them: think twice.
FIELD_FLAGS = """
iterations compute_mode distributed log_directory checkpoint_directory verbosity logging_iteration summary_iteration
checkpoint_iteration inter_op_parallelism_threads intra_op_parallelism_threads synthetic file aux_file aux_iteration
aux_minibatch_size minibatch_size io_verbosity aux_io_verbosity image_producer label_producer shape max_voxels
data_format sparse conv_mode nplanes share_weights n_initial_filters network_depth res_blocks_per_layer
res_blocks_deepest_layer res_blocks_final residual block_concat bottleneck_size filter_size_deepest growth_rate
connections connect_pre_res_blocks_down connect_pre_res_blocks_up downsampling upsampling batch_norm use_bias
learning_rate optimizer regularize_weights balance_loss model_half_precision input_half_precision loss_scale
downsample seed reader precision gradient_accumulation loss_balance_scheme lr_schedule warmup_steps weights_location preset
""".split()
FIELD_SHORT = {
    "-i": "iterations", "-m": "compute_mode", "-d": "distributed", "-ld": "log_directory", "-cd": "checkpoint_directory",
    "-li": "logging_iteration", "-si": "summary_iteration", "-ci": "checkpoint_iteration", "-f": "file",
    "-mb": "minibatch_size", "-lr": "learning_rate", "-rw": "regularize_weights", "-bl": "balance_loss", "-o": "output",
}  # fmt: skip
FIELD_DEFAULTS = {
    "compute_mode": "CPU", "distributed": False, "log_directory": "./log", "checkpoint_directory": None,
    "logging_iteration": 1, "summary_iteration": 1, "checkpoint_iteration": 100, "image_producer": "sbndwire",
    "label_producer": "sbnd_cosmicseg", "conv_mode": "2D", "nplanes": 3, "share_weights": True, "network_depth": 5,
    "res_blocks_per_layer": 2, "res_blocks_deepest_layer": 4, "res_blocks_final": 2, "residual": True,
    "block_concat": False, "bottleneck_size": -1, "connections": "sum", "connect_pre_res_blocks_down": True,
    "connect_pre_res_blocks_up": True, "batch_norm": True, "use_bias": True, "learning_rate": 3e-4,
    "regularize_weights": 1e-4, "warmup_steps": 2,
}  # fmt: skip


def flags(*words: str) -> dict[str, object]:
    return dict(parse_command_line(["train", *words]).flags)


def test_every_flag_of_the_field_is_there():
    assert set(FIELD_FLAGS) <= set(all_options())


def test_short_flags_of_the_field():
    assert {item.short: key for key, (_, item) in all_options().items() if item.short} == FIELD_SHORT


def test_defaults_of_the_field():
    assert {key: all_options()[key][1].default for key in FIELD_DEFAULTS} == FIELD_DEFAULTS


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--residual"], True),
        (["--no-residual"], False),
        (["--residual", "false"], False),
        (["--residual", "True"], True),
        (["--residual=false"], False),
    ],
)
def test_booleans_in_every_spelling(words, expected):
    assert flags(*words) == {"residual": expected}


def test_a_boolean_does_not_swallow_the_next_flag():
    assert flags("-d", "-i", "7") == {"distributed": True, "iterations": 7}


def test_values_are_typed():
    given = flags("--file", "a.h5", "b.h5", "--shape", "640", "1024", "-lr", "1e-3", "--preset", "a21")
    assert given == {"file": ("a.h5", "b.h5"), "shape": (640, 1024), "learning_rate": 1e-3, "preset": "a21"}


def test_only_given_flags_are_reported():
    assert flags() == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "Unknown mode 'trian' (did you mean 'train'?)"),
        (["train", "--learnin-rate", "1"], "Unknown argument '--learnin-rate' (did you mean '--learning-rate'?)"),
        (["train", "--no-residul"], "Unknown argument '--no-residul' (did you mean '--no-residual'?)"),
        (
            ["train", "--optimizer", "adm"],
            "--optimizer: 'adm' is not one of adam, adamw, rmsprop, lars, lamb, muon (did you",
        ),
        (["train", "-i", "many"], "--iterations: 'many' is not a whole number."),
        (["train", "-i", "2.5"], "--iterations: '2.5' is not a whole number."),
        (["train", "-i", "0"], "--iterations: 0 is too small; it must be at least 1."),
        (["train", "-lr", "0"], "--learning-rate: 0 is too small; it must be above 0."),
        (["train", "-lr", "nan"], "--learning-rate: 'nan' is not a number."),
        (["train", "--residual=maybe"], "--residual: 'maybe' is not true or false."),
        (["train", "--shape", "640"], "expected 2 arguments"),
        (["train", "stray"], "Unknown argument 'stray'"),
    ],
)
def test_mistakes_get_one_clear_line(words, message):
    with pytest.raises(UserError) as caught:
        parse_command_line(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", MODES)
def test_help_is_quick_and_imports_neither_torch_nor_mpi(project, mode):
    code = (
        "import sys; from cosmictagger.cli import main\n"
        f"try: main(['{mode}', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'mpi4py', 'h5py', 'larcv', 'horovod')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--log-directory" in done.stdout
    assert "Run: how long" in done.stdout
