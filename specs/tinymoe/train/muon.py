"""Muon: momentum whose matrix updates are orthogonalised.

In: groups of equally shaped parameters [.., rows, columns] with their gradients.
Out: the parameters, changed in place. Expert matrices are orthogonalised one by one, gates and ups
as separate matrices. Not here: vectors and embeddings, which AdamW updates (train.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(x: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of each matrix of x [n, rows, columns] near 1."""
    a, b, c = COEFFICIENTS
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2).contiguous() if tall else x
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        gram = torch.bmm(x, x.transpose(1, 2))
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return x.transpose(1, 2) if tall else x


class Muon:
    """The optimiser; `halves` names the parameters that hold two matrices side by side."""

    def __init__(self, named: Iterable[tuple[str, Tensor]], momentum: float = 0.95) -> None:
        self.parameters = list(named)
        self.momentum = momentum
        self.buffers = {name: torch.zeros_like(p) for name, p in self.parameters}

    def matrices(self, name: str, update: Tensor) -> list[Tensor]:
        """Split a parameter's update into stacks of matrices."""
        stack = update if update.dim() == 3 else update[None]
        return list(stack.chunk(2, dim=2)) if name.endswith("gate_up_proj") else [stack]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update every parameter; a unit update has root-mean-square 0.2 times the usual scale."""
        for name, parameter in self.parameters:
            if parameter.grad is None:
                continue
            buffer = self.buffers[name]
            buffer.lerp_(parameter.grad, 1 - self.momentum)
            update = parameter.grad.lerp(buffer, self.momentum)
            parts = [orthogonalise(part) for part in self.matrices(name, update)]
            update = torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
            parameter.add_(update.view_as(parameter), alpha=-rate)

    def state(self) -> dict[str, Tensor]:
        """Give the momentum buffers, for a checkpoint."""
        return self.buffers

    def load(self, state: dict[str, Tensor]) -> None:
        """Take the momentum buffers of a checkpoint."""
        for name, value in state.items():
            self.buffers[name].copy_(value)
