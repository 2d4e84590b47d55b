"""The UResNet, written once over a vocabulary of blocks; `dense` supplies one such vocabulary."""

from cosmictagger.models.build import build_network, check_shape, parameter_count

__all__ = ["build_network", "check_shape", "parameter_count"]
