"""The log directory: made when missing, and never shared by two trainings with different settings.

Each mode leaves ``config.<mode>.yaml`` and ``results.<mode>.json``; ``results.json`` is a copy of the latest
run's, whatever its mode. So train, inference and iotest may share a directory. Only a training that has a
checkpoint there is protected: another training may go on from it, or replace it, with the same settings alone.
"""

from pathlib import Path
from typing import Any

import yaml

from cosmictagger.config.resolve import all_options, to_dict, to_yaml
from cosmictagger.config.sections import BEFORE, Config
from cosmictagger.errors import UserError
from cosmictagger.reporting.files import write_atomically

# What may change between a training and its resumption: how long, how it is watched, what machine it runs on.
FREE_OPTIONS = frozenset(
    {
        *(
            "iterations",
            "compute_mode",
            "sparse_engine",
            "distributed",
            "log_directory",
            "checkpoint_directory",
            "verbosity",
        ),
        *("logging_iteration", "summary_iteration", "image_iteration", "checkpoint_iteration", "keep_checkpoints"),
        *("resume", "warmup_steps", "inter_op_parallelism_threads", "intra_op_parallelism_threads"),
        *("target_metric", "target"),
        *("aux_file", "aux_iteration", "aux_minibatch_size", "aux_images"),
        *("reader", "io_threads", "prefetch", "io_verbosity", "aux_io_verbosity"),
        *("output_file", "output_producer", "views", "mirror_views", "displays"),
        *("distributed_mode", "io_groups", "bucket_size_mb", "gpu_buffers", "bind", "stall_timeout"),
    }
)
SHOWN_DIFFERENCES = 4


def config_path(log_directory: Path, mode: str) -> Path:
    """Name the file that holds the resolved configuration of the latest run of a mode."""
    return log_directory / f"config.{mode}.yaml"


def prepare_log_directory(config: Config, mode: str, *, has_checkpoint: bool) -> Path:
    """Make the log directory and write the configuration into it; for rank 0 alone, at the start of a run.

    `has_checkpoint` says whether the checkpoint directory of this configuration holds a checkpoint. Raises
    UserError where the directory cannot be written, and for a training with other settings than the one
    whose checkpoint is there.
    """
    path = Path(config.run.log_directory)
    record = config_path(path, mode)
    if mode == "train" and has_checkpoint and record.exists():
        refuse_other_settings(record, config)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(record, to_yaml(config))
    except OSError as error:
        raise UserError(
            f"--log-directory: cannot write in '{path}': {error.strerror}; choose another directory."
        ) from None
    return path


def refuse_other_settings(record: Path, config: Config) -> None:
    """Raise UserError naming the options in which `config` differs from the one in the file `record`, if any."""
    changes = differences(_read_record(record), to_dict(config))
    if not changes:
        return
    shown = ", ".join(changes[:SHOWN_DIFFERENCES])
    rest = len(changes) - SHOWN_DIFFERENCES
    more = f" and {rest} more" if rest > 0 else ""
    raise UserError(
        f"--log-directory: '{record.parent}' holds a training with other settings ({shown}{more}); repeat them to "
        "go on with it, or choose another directory."
    )


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List the options that matter and differ, such as ``--learning-rate 0.001, there 0.0003``.

    Options that the older record does not know count as having their default there, or what was done before them.
    """
    found = []
    for key, (section, item) in all_options().items():
        default = BEFORE.get(key, list(item.default) if isinstance(item.default, tuple) else item.default)
        before, now = (old.get(section) or {}).get(key, default), new[section][key]
        if key not in FREE_OPTIONS and before != now:
            found.append(f"{item.flag} {_word(now)}, there {_word(before)}")
    return found


def _word(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"--log-directory: cannot read '{path}' ({' '.join(str(error).split())}); choose another directory."
        ) from None
    return document if isinstance(document, dict) else {}
