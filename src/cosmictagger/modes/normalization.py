"""What the choice of --norm-statistics means for a training."""

from cosmictagger.config.sections import Config
from cosmictagger.errors import UserError

FEW_IMAGES = 4


def refuse_batch_options(config: Config) -> None:
    """Refuse what is about the statistics of a batch where every image has its own; raises UserError."""
    if not config.network.batch_norm or config.network.norm_statistics == "batch":
        return
    for flag, asked in (
        ("--calibration-steps", config.training.calibration_steps > 0),
        ("--sync-batch-norm", config.distribution.sync_batch_norm),
    ):
        if asked:
            raise UserError(
                f"{flag}: is about statistics of the batch, and --norm-statistics image takes those of each image; "
                f"leave out {flag}, or take --norm-statistics batch."
            )


def advice(config: Config, ranks: int) -> str | None:
    """Say what statistics of few images do to validation and inference; None where they are not few."""
    images = config.data.minibatch_size // (1 if config.distribution.sync_batch_norm else ranks)
    if not config.network.batch_norm or config.network.norm_statistics == "image" or images >= FEW_IMAGES:
        return None
    return (
        f"Normalization by batch sees {images} {'image' if images == 1 else 'images'} at a time: validation and inference, "
        "which take running averages, will score worse than training; --norm-statistics image avoids that."
    )
