"""The settings of a run, one frozen dataclass per concern.

Every field is a flag, a YAML key and a line of `--help`; see `options.option`. The names are those that
users of the field know. Sections never change after they are made: what is derived from them (the shape of
the images in a file, the buffer length) is worked out once, in the builder of the part that needs it.
"""

import dataclasses
from typing import Literal

from cosmictagger.config.options import check_section, option
from cosmictagger.errors import UserError

# What was done before an option existed: of the network, where the default is something else, and of what it sees.
BEFORE = {"norm_statistics": "batch"}
BEFORE_INPUTS = {"zero_suppression": 0.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Run: how long, on what, and where the results go."""

    iterations: int = option(100, "steps to run; one step is one optimizer update", short="-i", minimum=1)
    compute_mode: Literal["CPU", "GPU"] = option("CPU", "device that the network runs on", short="-m")
    distributed: bool = option(False, "run under mpirun, srun or aprun; also works on one process", short="-d")
    log_directory: str = option("./log", "directory for results, logs and checkpoints; made when missing", short="-ld")
    checkpoint_directory: str | None = option(
        None, "directory for checkpoints [checkpoints/ in the log directory]", short="-cd"
    )
    verbosity: int = option(
        1, "0: results and errors, 1: progress, 2: details, and tracebacks of errors", minimum=0, maximum=2
    )
    logging_iteration: int = option(1, "steps between progress lines", short="-li", minimum=1)
    summary_iteration: int = option(1, "steps between TensorBoard scalars", short="-si", minimum=1)
    image_iteration: int = option(25, "steps between TensorBoard pictures of truth and prediction; 0: none", minimum=0)
    checkpoint_iteration: int = option(100, "steps between checkpoints", short="-ci", minimum=1)
    keep_checkpoints: int = option(3, "checkpoints kept; older ones are deleted", minimum=1)
    resume: bool = option(True, "go on from the latest checkpoint of the checkpoint directory, if there is one")
    target_metric: (
        Literal[
            "validation.accuracy",
            "validation.non_background_accuracy",
            "validation.neutrino_accuracy",
            "validation.cosmic_iou",
            "validation.neutrino_iou",
            "validation.mean_iou",
        ]
        | None
    ) = option(None, "stop after the validation in which this metric reaches --target, and say how long it took")
    target: float | None = option(None, "value of --target-metric to train to", above=0, maximum=1)
    warmup_steps: int = option(2, "first steps left out of the timing, counted and reported", minimum=0)
    seed: int = option(0, "seed of parameters, shuffling and everything else that is random", minimum=0)
    deterministic: bool = option(False, "bit-equal repeats on the same machine, at some cost in speed")
    sparse_engine: Literal["auto", "torch", "cpu", "spconv"] = option(
        "auto", "what computes sparse networks; auto: the fastest that works here"
    )
    inter_op_parallelism_threads: int | None = option(
        None, "threads that run operations side by side [PyTorch's choice]", minimum=1
    )
    intra_op_parallelism_threads: int | None = option(
        None, "threads within one operation [all cores this process may use]", minimum=1
    )

    def __post_init__(self) -> None:
        check_section(self)
        if (self.target_metric is None) != (self.target is None):
            raise UserError("--target-metric: needs --target, the value to reach, and the other way round.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data: larcv3 files, and how their events become batches."""

    file: tuple[str, ...] = option((), "larcv3 files to read: paths or globs, several allowed", short="-f")
    aux_file: tuple[str, ...] = option((), "larcv3 files to validate on while training")
    aux_iteration: int = option(25, "steps between validations", minimum=1)
    aux_minibatch_size: int | None = option(None, "images in a validation batch [--minibatch-size]", minimum=1)
    aux_images: int = option(0, "images of --aux-file used in each validation; 0: all", minimum=0)
    minibatch_size: int = option(2, "images in a step, over all ranks together", short="-mb", minimum=1)
    synthetic: bool = option(False, "simulated images from memory instead of --file: times the computing alone")
    reader: Literal["h5py", "larcv"] = option("h5py", "h5py: this project's own fast reader; larcv: the larcv library")
    image_producer: str = option("sbndwire", "producer of the images (product sparse2d)")
    label_producer: str = option("sbnd_cosmicseg", "producer of the per-pixel labels; none: read no labels")
    particle_producer: str = option("sbndneutrino", "producer of the true particles, where a file has them")
    nplanes: int = option(3, "wire planes in an image", minimum=1)
    downsample: int | None = option(
        None,
        "halve the images K times: charge averaged, labels max-pooled [1, or what --shape asks for]",
        minimum=0,
        maximum=8,
    )
    shape: tuple[int, int] | None = option(
        None, "height (ticks) and width (wires) of the network's images [the file's, downsampled]", minimum=1
    )
    max_voxels: int | None = option(
        None, "pixels kept for each plane of an image [80000 at full resolution, else 35000]", minimum=1
    )
    on_overflow: Literal["error", "truncate"] = option(
        "error", "what to do with a plane of more than --max-voxels pixels; truncations are counted"
    )
    data_format: Literal["channels_last", "channels_first"] = option("channels_last", "memory layout of dense images")
    io_threads: int = option(2, "background threads that read and decompress", minimum=1)
    prefetch: int = option(3, "batches read ahead", minimum=1)
    io_verbosity: int = option(0, "0: quiet, 1: say what is read from --file", minimum=0, maximum=3)
    aux_io_verbosity: int = option(0, "the same for --aux-file", minimum=0, maximum=3)

    def __post_init__(self) -> None:
        check_section(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Network: a UResNet. Start from --preset and change what you like."""

    preset: Literal["a21", "uresnet", "polaris", "scc21", "original", "tagger"] | None = option(
        None,
        "a network the field knows, or tagger, for --sparse, that which comes with the program (docs/quality.md says how to "
        "train it); the other options of this group change it",
    )
    sparse: bool = option(False, "compute on the active pixels alone (submanifold convolutions)")
    conv_mode: Literal["2D", "3D"] = option(
        "2D", "2D: planes apart until the deepest level; 3D: planes as a third axis, kernels [1,3,3]"
    )
    share_weights: bool = option(True, "use the same weights for every plane")
    n_initial_filters: int = option(8, "channels at full resolution", minimum=1)
    growth_rate: Literal["multiplicative", "linear"] = option(
        "linear", "channels at level k: initial × 2^k (multiplicative) or initial × (k + 1) (linear)"
    )
    network_depth: int = option(5, "times the image is halved on the way down", minimum=1, maximum=10)
    res_blocks_per_layer: int = option(2, "blocks at each level, on the way down and on the way up", minimum=0)
    res_blocks_deepest_layer: int = option(4, "blocks at the deepest level", minimum=0)
    res_blocks_final: int = option(2, "blocks at full resolution after the way up", minimum=0)
    residual: bool = option(True, "residual blocks of two convolutions instead of single convolutions")
    block_concat: bool = option(
        False, "keep the planes apart at the deepest level too, instead of concatenating them there"
    )
    bottleneck_size: int = option(-1, "channels of a 1×1 bottleneck around the deepest blocks; -1: none", minimum=-1)
    filter_size_deepest: int = option(3, "kernel size of the deepest blocks (odd)", minimum=1)
    filter_size_initial: int = option(5, "kernel size of the first convolution (odd)", minimum=1)
    exchange_levels: int = option(
        0,
        "at the deepest N levels of the way up, let the planes tell each other the strongest features of each tick",
        minimum=0,
    )
    crossing_levels: tuple[int, ...] = option(
        (),
        "levels (0: full resolution) on whose way up each pixel is told what the other planes see at its tick where their "
        "wires cross its own; for 3 planes, as of SBND, and with --zero-suppression; several allowed, in ascending order",
        minimum=0,
    )
    crossing_offset: float | None = option(
        None,
        "wire of plane 0 + wire of plane 1 - wire of plane 2 where they cross, in pixels of the network's images "
        "[that of SBND: 1024.7 wires]",
        minimum=-10000,
        maximum=10000,
    )
    doubled_levels: int = option(
        0, "at the N levels above the deepest, twice the blocks on the way down and on the way up", minimum=0
    )
    supervised_levels: tuple[int, ...] = option(
        (),
        "levels (0: full resolution) at which, in training, each pixel must tell whether there is cosmic or neutrino charge "
        "in it (deep supervision): the network learns sooner, at hardly any cost, and tags as without; 2 3 4 and so on "
        "down to the last but one, in ascending order",
        minimum=0,
    )
    connections: Literal["sum", "concat", "none"] = option("sum", "how the way down joins the way up at each level")
    connect_pre_res_blocks_down: bool = option(
        True, "take the connection before (true) or after (false) the blocks of the way down"
    )
    connect_pre_res_blocks_up: bool = option(True, "join it before (true) or after (false) the blocks of the way up")
    downsampling: Literal["convolutional", "max_pooling"] = option("convolutional", "how a level halves the image")
    upsampling: Literal["convolutional", "interpolation"] = option("convolutional", "how a level doubles the image")
    batch_norm: bool = option(True, "normalization after each convolution")
    norm_statistics: Literal["batch", "image"] = option(
        "image",
        "mean and variance to normalize by: those of each image, all planes together, everywhere (image), or those of the "
        "images of a rank, and running averages of them in validation and inference (batch, as the presets have it)",
    )
    use_bias: bool = option(True, "biases in the convolutions")

    def __post_init__(self) -> None:
        check_section(self)
        for key in ("filter_size_deepest", "filter_size_initial"):
            if getattr(self, key) % 2 == 0:
                raise UserError(
                    f"--{key.replace('_', '-')}: {getattr(self, key)} is even; kernels must be odd, such as 3 or 5."
                )
        for key in ("exchange_levels", "doubled_levels"):
            if getattr(self, key) > self.network_depth:
                raise UserError(
                    f"--{key.replace('_', '-')}: {getattr(self, key)}, but there are {self.network_depth} levels on the "
                    "way up (--network-depth)."
                )
        for key in ("crossing_levels", "supervised_levels"):
            self._check_levels(f"--{key.replace('_', '-')}", getattr(self, key))
        if self.bottleneck_size == 0:
            raise UserError("--bottleneck-size: 0 channels cannot carry anything; take -1 for no bottleneck.")
        if self.conv_mode == "3D" and not self.share_weights:
            raise UserError(
                "--no-share-weights: a 3D convolution runs over all planes with one kernel; use --conv-mode 2D."
            )

    def _check_levels(self, flag: str, levels: tuple[int, ...]) -> None:
        if list(levels) != sorted(set(levels)):
            raise UserError(f"{flag}: {' '.join(map(str, levels))} is not in ascending order, each level once.")
        if any(level >= self.network_depth for level in levels):
            raise UserError(
                f"{flag}: {max(levels)}, but levels on the way up are 0 to {self.network_depth - 1} (--network-depth)."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Training: loss, optimizer, schedule and precision."""

    learning_rate: float = option(3e-4, "learning rate at its peak", short="-lr", above=0)
    optimizer: Literal["adam", "adamw", "rmsprop", "lars", "lamb", "muon"] = option(
        "adamw",
        "adam adds --regularize-weights to the gradient, which lets weights of small gradients die; adamw does not; "
        "muon learns more from as many images, at a learning rate about 1e-2 (docs/quality.md)",
    )
    regularize_weights: float = option(
        1e-4, "weight decay (decoupled for adamw, lamb and muon, else L2)", short="-rw", minimum=0
    )
    lr_schedule: Literal["constant", "cosine", "one-cycle"] = option(
        "constant", "cosine: linear warm-up, then cosine decay to 1%"
    )
    lr_warmup_steps: int | None = option(
        None, "steps of learning-rate warm-up [cosine: 10% of --iterations, one-cycle: 30%, constant: 0]", minimum=0
    )
    lr_scaling: Literal["none", "linear", "sqrt"] = option(
        "none", "multiply --learning-rate by (images in a step / --lr-base-images), or by its square root"
    )
    lr_base_images: int | None = option(
        None, "images in a step that --learning-rate was chosen for; --lr-scaling needs it", minimum=1
    )
    gradient_accumulation: int = option(
        1, "micro-steps whose gradients are averaged into one step, of --minibatch-size images each", minimum=1
    )
    batch_norm_momentum: float = option(
        0.1,
        "weight of a step in the running statistics (--norm-statistics batch); 1 / (steps that they average), so less "
        "with small batches",
        above=0,
        maximum=1,
    )
    calibration_steps: int = option(
        0,
        "take the running statistics (--norm-statistics batch) anew from the images of the last N steps, before each "
        "validation and checkpoint; 0: their running averages",
        minimum=0,
    )
    gradient_clip: float | None = option(None, "largest norm of the gradient [no limit]", above=0)
    balance_loss: bool = option(True, "weigh the classes in the loss, as --loss-balance-scheme says", short="-bl")
    loss_balance_scheme: Literal["none", "light", "even", "focal", "iou"] = option(
        "light",
        "light: class weights 1, 1.5, 10; even: each class of an image weighs the same; focal: hard pixels weigh more; "
        "iou: unweighted, plus 1 - IoU of cosmic and neutrino pixels, with probabilities for predictions",
    )
    supervision_weight: float = option(
        1.0, "weight in the loss of what each of --supervised-levels tells, the pixels' own being 1", above=0
    )
    precision: Literal["float32", "bfloat16", "mixed"] = option(
        "float32", "float32; bfloat16: parameters and computing; mixed: float32 parameters, 16-bit computing"
    )
    model_half_precision: bool = option(False, "the field's older name of --precision bfloat16")
    input_half_precision: bool = option(False, "convert the images to 16 bits on their way to the device")
    loss_scale: float | None = option(
        None, "factor on the loss against underflow in float16 [dynamic for float16, else 1]", above=0
    )
    augment: tuple[Literal["drift-mirror", "beam-mirror", "time-shift", "charge-scale", "noise"], ...] = option(
        (),
        "change the training images at random: drift-mirror (ticks in reverse), beam-mirror (wires in reverse, induction "
        "planes swapped), time-shift (a few ticks), charge-scale (up to 10%), noise; several allowed; all of them where a few "
        "hundred events come often",
    )
    input_transform: Literal["none", "log"] = option(
        "log", "log: the network sees log(1 + charge / 10); none: the charge itself"
    )
    zero_suppression: float = option(
        0.0,
        "the network sees pixels alone in whose 3×3 surroundings there is this much charge or more (in units of the file, "
        "after --downsample); a sparse one counts the others as background, to a dense one they are empty. 0: all. At 640 × "
        "1024, 4 leaves out nearly half of the pixels of SBND events, and 1 to 5 % of those of neutrinos; "
        "scripts/zero_suppression.py shows what of a file",
        minimum=0.0,
    )

    def __post_init__(self) -> None:
        check_section(self)
        if self.lr_scaling != "none" and self.lr_base_images is None:
            raise UserError(
                f"--lr-scaling: {self.lr_scaling} needs --lr-base-images, the images in a step that "
                "--learning-rate was chosen for."
            )
        if self.model_half_precision and self.precision == "mixed":
            raise UserError(
                "--model-half-precision: means --precision bfloat16 and contradicts --precision mixed; drop one."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """Inference: where the trained network is and what is written."""

    weights_location: str | None = option(
        None,
        "checkpoint file, or directory whose latest one is taken, or pretrained: the network that comes with the "
        "program [inference: the checkpoint directory, without one pretrained; train: start afresh]",
    )
    output_file: str | None = option(None, "larcv3 file of the predictions [inference.h5 in the log directory]")
    output_producer: str = option("cosmictagger", "producer name of the predictions in that file")
    views: int = option(
        1,
        "in inference and validations, look at each image so many times, moved by some pixels, and average: better, at so "
        "many times the cost (sparse networks)",
        minimum=1,
        maximum=64,
    )
    mirror_views: bool = option(
        False,
        "every second of several --views has its ticks in reverse: for images that stack two drift volumes, as SBND's do",
    )
    displays: int = option(4, "event displays (PNG) drawn, from the first entry on", minimum=0)

    def __post_init__(self) -> None:
        check_section(self)
        if self.mirror_views and self.views == 1:
            raise UserError("--mirror-views: has no view to mirror; add --views 2 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistributionConfig:
    """Distribution: how the ranks of a job (--distributed) share files, batches and gradients."""

    distributed_mode: Literal["auto", "mpi", "horovod", "ddp"] = option(
        "auto", "what averages the gradients; auto: ddp over NCCL on GPUs without CUDA-aware MPI, else mpi"
    )
    io_groups: int = option(
        1,
        "groups of ranks, each with one rank that reads and scatters; as many as ranks: each reads its own",
        minimum=1,
    )
    compress_gradients: Literal["none", "bfloat16"] = option(
        "none", "bfloat16: gradients travel in 16 bits and are summed in 32 (mpi) or 16 (ddp)"
    )
    bucket_size_mb: float = option(8.0, "gradients that travel together, in MB", above=0)
    gpu_buffers: Literal["auto", "direct", "pinned"] = option(
        "auto", "mpi on GPUs: hand gradients to a CUDA-aware MPI (direct), or copy them through host memory (pinned)"
    )
    sync_batch_norm: bool = option(
        False, "normalization over the images of all ranks, while training (--norm-statistics batch)"
    )
    bind: Literal["auto", "none"] = option(
        "auto", "auto: split a host's cores evenly between its ranks, unless the launcher has bound them"
    )
    stall_timeout: float = option(
        600.0, "seconds that a rank waits for the others before it ends the job; 0: for ever", minimum=0
    )

    def __post_init__(self) -> None:
        check_section(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """Simulation: larcv3 files of simulated events, and the images of --synthetic."""

    events: int = option(100, "events to simulate", minimum=1)
    output: str = option("simulated.h5", "larcv3 file to write", short="-o")
    first_event: int = option(0, "number of the first event; event i of a seed is the same in every file", minimum=0)
    workers: int | None = option(None, "processes that simulate [all cores this process may use]", minimum=1)
    mix: tuple[float, float, float, float] = option(
        (0.3, 0.3, 0.25, 0.15), "shares of ν_e CC, ν_μ CC, NC and cosmic-only events", minimum=0
    )
    neutrinos: int = option(
        1,
        "interactions in each event that is not cosmic-only; several of them teach a new network sooner "
        "(docs/quality.md); reports name such an event by the first",
        minimum=1,
        maximum=50,
    )
    detector: str | None = option(None, "YAML file of detector constants that differ from the SBND-like default")
    truth_3d: bool = option(False, "write the true charge and label in space too (sparse3d)")
    synthetic_events: int = option(64, "different images that --synthetic keeps in memory", minimum=1)

    def __post_init__(self) -> None:
        check_section(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a run was asked for. `given` holds the keys that were asked for and not left at their default."""

    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()
    distribution: DistributionConfig = DistributionConfig()
    simulation: SimulationConfig = SimulationConfig()
    given: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        if self.training.optimizer == "muon" and not self.network.share_weights:
            raise UserError(
                "--optimizer: muon would mix the planes, whose kernels --no-share-weights keeps in one; take adamw."
            )
