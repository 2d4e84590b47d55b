"""From settings to a network: the one place that chooses the vocabulary."""

from typing import Literal

from torch import nn

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.errors import UserError
from cosmictagger.models.crossings import PLANES
from cosmictagger.models.dense.vocabulary import DenseVocabulary, store_channels_last
from cosmictagger.models.parameters import Layout
from cosmictagger.models.sparse.engine import Engine
from cosmictagger.models.sparse.torch_engine import TorchEngine
from cosmictagger.models.sparse.vocabulary import SparseVocabulary
from cosmictagger.models.uresnet import UResNet
from cosmictagger.models.vocabulary import Vocabulary


def build_network(
    config: NetworkConfig,
    nplanes: int,
    shape: tuple[int, int],
    data_format: Literal["channels_last", "channels_first"] = "channels_last",
    engine: Engine | None = None,
) -> UResNet:
    """Build a network for images of `nplanes` planes and `shape` (height, width), in training mode, on the CPU.

    Parameters are drawn from torch's global random generator: seed it first. Any other shape that divides by
    2^network_depth will do later, too. `engine` computes a sparse network [that of plain PyTorch]. With
    channels_last the kernels of a dense network are strided that way: flatten them by reshape, not by view.
    Raises UserError where the shape does not fit or there is no such network.
    """
    check_shape(config, shape)
    if config.crossing_levels and nplanes != PLANES:
        raise UserError(f"--crossing-levels: is for images of {PLANES} planes, these have {nplanes}.")
    network = UResNet(config, _vocabulary(config, nplanes, data_format, engine))
    if data_format == "channels_last" and not config.sparse:
        store_channels_last(network)
    return network


def check_shape(config: NetworkConfig, shape: tuple[int, int]) -> None:
    """Refuse a shape (height, width) that cannot be halved `network_depth` times, naming the depths that would do."""
    depths = [depth for depth in range(1, min(shape).bit_length()) if _fits(config, shape, depth)]
    if config.network_depth in depths:
        return
    step = 2**config.network_depth
    if any(size % step for size in shape):
        problem, cure = f"cannot be halved {config.network_depth} times", f"a --shape of multiples of {step}"
    else:
        problem, cure = "end as a single pixel, too little for normalization", "a larger --shape"
    advice = f"--network-depth {_alternatives(depths)}, or {cure}" if depths else cure
    raise UserError(
        f"--network-depth {config.network_depth}: images of {shape[0]}×{shape[1]} {problem}; take {advice}."
    )


def parameter_count(module: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _vocabulary(config: NetworkConfig, nplanes: int, data_format: str, engine: Engine | None) -> Vocabulary:
    layout = Layout(nplanes=nplanes, volumetric=config.conv_mode == "3D", shared=config.share_weights)
    if config.sparse:
        if not config.share_weights:
            raise UserError(
                "--no-share-weights: sparse networks have one set of weights for all planes; leave out one of it and --sparse."
            )
        return SparseVocabulary(layout, engine or TorchEngine())
    return DenseVocabulary(layout, channels_last=data_format == "channels_last")


def _fits(config: NetworkConfig, shape: tuple[int, int], depth: int) -> bool:
    step = 2**depth
    # Normalization of a single pixel has no variance to divide by.
    alone = config.batch_norm and shape[0] * shape[1] == step * step
    return shape[0] % step == 0 and shape[1] % step == 0 and not alone


def _alternatives(depths: list[int]) -> str:
    *most, last = map(str, depths)
    return f"{', '.join(most)} or {last}" if most else last
