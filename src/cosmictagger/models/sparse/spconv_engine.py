"""The adapter of the spconv library (https://github.com/traveller59/spconv): its convolutions, and PyTorch for the rest.

The only module that imports spconv. On GPUs it takes spconv's implicit-GEMM kernels; on CPUs its native ones, whose
backward pass needs a stub (see `_let_backward_run_on_cpus`). bfloat16, which spconv has no
kernels for, is computed in float32. Sums on GPUs are not in a fixed order: results vary from run to run.
"""

import dataclasses
import importlib
import types
from typing import Any

import torch
from torch import Tensor

from cosmictagger.models.sparse.engine import Sites, place
from cosmictagger.models.sparse.sites import Level, SiteTables
from cosmictagger.models.sparse.torch_engine import TorchEngine, TorchLevel, biased, common, make_level

# Of kernels with more taps spconv has no implicit GEMM: their masks are 32 bits wide.
MAX_MASKED_TAPS = 32
TYPES = (torch.float32, torch.float16)


@dataclasses.dataclass(frozen=True)
class SpconvLevel(TorchLevel):
    """The tables of a level, and spconv's own for each kernel size."""

    pairs: "dict[int, Pairs]"


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Which sites a submanifold convolution joins, as spconv made them for one of its algorithms."""

    algorithm: Any
    data: tuple[Any, ...]


class SpconvEngine(TorchEngine):
    """Submanifold convolutions by spconv; see `engine.Engine` for the methods."""

    name = "spconv"

    def __init__(self) -> None:
        self._ops: Any = importlib.import_module("spconv.pytorch.ops")
        self._functional: Any = importlib.import_module("spconv.pytorch.functional")
        self._algorithms: Any = importlib.import_module("spconv.core").ConvAlgo
        self._timer: Any = importlib.import_module("spconv.tools").CUDAKernelTimer(False)

    def prepare(self, tables: SiteTables, device: torch.device) -> Sites:
        """Bring the site sets to the device, where spconv sorts the pairs of each kernel size."""
        planes = tables.images * tables.planes
        return place(tables, device, tuple(self._level(level, planes, device) for level in tables.levels))

    def convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None, sites: Sites, level: int) -> Tensor:
        """Convolve over the active neighbours."""
        result_type = common(values, weight, bias)[0].dtype
        dtype = result_type if result_type in TYPES else torch.float32
        if not len(values):
            return super().convolve(values, weight, bias, sites, level)
        pairs: Pairs = sites.levels[level].pairs[weight.shape[-1]]
        # spconv would convert everything to float16 within autocast, whatever type that asks for.
        with torch.autocast(values.device.type, enabled=False):
            taps = weight.to(dtype).permute(0, 2, 3, 1).contiguous()
            result = self._convolve(values.to(dtype).contiguous(), taps, pairs).to(result_type)
        return biased(result, None if bias is None else bias.to(result_type))

    def _convolve(self, values: Tensor, taps: Tensor, pairs: Pairs) -> Tensor:
        result: Tensor
        if pairs.algorithm == self._algorithms.Native:
            result = self._functional.indice_subm_conv(values, taps, *pairs.data, len(values), pairs.algorithm)
        else:
            result = self._functional.implicit_gemm(
                values, taps, *pairs.data[:-1], len(values), pairs.data[-1], True, True, self._timer, True
            )
        return result

    def _level(self, level: Level, planes: int, device: torch.device) -> SpconvLevel:
        plain = make_level(level, device)
        pixel = torch.from_numpy(level.pixel).to(device)
        width = level.shape[1]
        cells = torch.stack((torch.from_numpy(level.image_plane).to(device), pixel // width, pixel % width), dim=1)
        pairs = {size: self._pairs(cells.contiguous(), planes, level.shape, size) for size in level.sizes}
        return SpconvLevel(**vars(plain), pairs=pairs if len(level) else {})

    def _pairs(self, cells: Tensor, planes: int, shape: tuple[int, int], size: int) -> Pairs:
        common_arguments = (list(shape), [size, size], [1, 1], [size // 2] * 2, [1, 1], [0, 0], True)
        if not len(cells):
            return Pairs(self._algorithms.Native, ())
        if cells.is_cuda and size * size <= MAX_MASKED_TAPS:
            algorithm = self._algorithms.MaskImplicitGemm
            found = self._ops.get_indice_pairs_implicit_gemm(
                cells, planes, common_arguments[0], algorithm, *common_arguments[1:], is_train=True
            )
            return Pairs(algorithm, tuple(found[2:9]))
        algorithm = self._algorithms.Native
        found = self._ops.get_indice_pairs(cells, planes, common_arguments[0], algorithm, *common_arguments[1:])
        return Pairs(algorithm, tuple(found[1:3]))


def load(device: torch.device) -> SpconvEngine | str:
    """Return the engine, or why it does not work here."""
    try:
        constants = importlib.import_module("spconv.cppconstants")
        engine = SpconvEngine()
    except ImportError as error:
        return f"spconv does not import ({error}); install it by 'pip install spconv-cu126', or spconv for a CPU"
    if device.type == "cpu":
        _let_backward_run_on_cpus(importlib.import_module("spconv.pytorch.ops"))
    elif constants.CPU_ONLY_BUILD:
        return "this spconv is built for CPUs alone; install that of your CUDA version, such as spconv-cu126"
    return engine


def _let_backward_run_on_cpus(ops: types.ModuleType) -> None:
    """Stub spconv's question for the CUDA stream, which fails without CUDA before its CPU code is reached."""
    if not torch.cuda.is_available():
        vars(ops)["get_current_stream"] = lambda: 0
