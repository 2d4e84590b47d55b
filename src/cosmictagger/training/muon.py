"""The muon optimizer: steps that are alike in all directions of a kernel.

Written here because the published ones orthogonalize in bfloat16, which costs processors without instructions for it
more than the rest of a step.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cosmictagger.training.eager import AdamW

MOMENTUM = 0.95
STEP_SIZE = 0.2  # root mean square of adamw's steps, in learning rates: what those of matrices are scaled to
# Of a polynomial a x + b x³ + c x⁵ that, five times over, takes singular values from 0.002 to 1 to about 1 (K. Jordan).
LINEAR, CUBIC, QUINTIC = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


class Muon(AdamW):
    """Steps along the orthogonalized momentum for groups with `orthogonal`, and adamw's steps for the others.

    A kernel is a matrix of its first axis by all others. Its gradient is mostly strong along few directions;
    made orthogonal, its step goes as far along the weak ones. Steps have the size of adamw's, so that one learning
    rate serves both.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["orthogonal"]:
                self._step_matrices(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        # Matrices of a shape together: most are so small that the calls cost more than the numbers.
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                direction = _as_wide_matrix(self._direction(parameter))
                alike[direction.shape[0], direction.shape[1]].append((parameter, direction))
        for (_, columns), pairs in alike.items():
            steps = orthogonalized(torch.stack([direction for _, direction in pairs]))
            for (parameter, _), step in zip(pairs, steps, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                tall = len(parameter) > step.shape[0]
                change = (step.T if tall else step).reshape(parameter.shape)
                parameter.add_(change.to(parameter.dtype), alpha=-group["lr"] * STEP_SIZE * columns**0.5)

    def _direction(self, parameter: Tensor) -> Tensor:
        """Nesterov's: the momentum that includes this gradient, and the gradient once more."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            # AdamW, which reads states from checkpoints, expects each to count its steps.
            state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(parameter)
        state["step"] += 1
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Take matrices [n, rows, columns], rows ≤ columns, to nearly orthogonal rows.

    Singular values above 0.002 of the norm become 0.7 to 1.2. In float32 (float64 stays), by Newton and Schulz's
    iteration on the small product of a matrix with its transpose; the matrix itself is multiplied once, at the end.
    What is zero stays zero.
    """
    matrices = matrices.to(torch.promote_types(matrices.dtype, torch.float32))
    matrices = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    product = matrices @ matrices.mT
    polynomial = factor = _polynomial(product)
    for _ in range(ITERATIONS - 1):
        product = polynomial @ product @ polynomial  # of what the matrix has become
        polynomial = _polynomial(product)
        factor = polynomial @ factor
    return factor @ matrices


def _polynomial(product: Tensor) -> Tensor:
    """Compute what multiplies a matrix X in a X + b (X Xᵀ) X + c (X Xᵀ)² X."""
    result = torch.baddbmm(product, product, product, beta=CUBIC, alpha=QUINTIC)
    result.diagonal(dim1=1, dim2=2).add_(LINEAR)
    return result


def _as_wide_matrix(kernel: Tensor) -> Tensor:
    matrix = kernel.flatten(1)
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
