"""How alike the experts of a layer are, over tokens.

In: a mixture module, how its family routes, what enters it. Out: `Similarity`, sums over tokens in
constant memory, and distances under each criterion. Sums are float64, so that how tokens are
batched does not matter. Not here: which experts become one (`clusters.py`), running the model
(`activations.py`).

| name      | distance of experts a and b                                         | whose   |
|-----------|---------------------------------------------------------------------|---------|
| `outputs` | ||mean of f_a - mean of f_b||, over all tokens, routed there or not | HC-SMoE |
| `routing` | 1 - cosine of their router logits over all tokens                   | M-SMoE  |

HC-SMoE is arXiv 2410.08589, M-SMoE arXiv 2310.01334. Every expert sees every token for `outputs`,
so this pass costs as much as a model that activates all of its experts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from msgspec import Struct
from torch import Tensor, nn

from surgery.scoring.arrays import numbers
from surgery.scoring.routing import Mixture, Router, Style, used_weights

_CHUNK = 2048
"""Tokens that one expert sees at once."""


class Similarity(Struct, frozen=True):
    """Sums over tokens, float64: tokens routed to each expert, `count` [experts]; `outputs`
    [experts, hidden]; products of the logits of every two, `logits` [experts, experts]."""

    tokens: int
    count: Tensor
    outputs: Tensor
    logits: Tensor

    def __add__(self, other: Similarity) -> Similarity:
        return Similarity(
            self.tokens + other.tokens,
            self.count + other.count,
            self.outputs + other.outputs,
            self.logits + other.logits,
        )

    def scores(self, criterion: str) -> list[float]:
        """Distances [experts, experts], flattened; `ValueError` for no criterion."""
        match criterion:
            case "outputs":
                means = self.outputs / max(self.tokens, 1)
                found = (means[:, None] - means[None]).square().sum(-1).sqrt()
            case "routing":
                norms = self.logits.diagonal().sqrt().clamp(min=1e-30)
                found = (1 - self.logits / (norms[:, None] * norms[None])).clamp(min=0)
            case _:
                raise ValueError(f"no criterion {criterion!r}")
        return numbers(found.flatten())


def watch(
    mixture: nn.Module, style: Style, add: Callable[[Similarity], None]
) -> Callable[[], None]:
    """Call `add` with the statistics of whatever enters the mixture; returns how to stop."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].flatten(0, -2)
        for start in range(0, len(rows), _CHUNK):
            add(measure(module, style, rows[start : start + _CHUNK]))

    return mixture.register_forward_pre_hook(hook).remove


def measure(module: nn.Module, style: Style, hidden: Tensor) -> Similarity:
    """Statistics of float32 [tokens, hidden]."""
    mixture = cast("Mixture", module)
    router = cast("Router", getattr(module, style.module))
    bias = cast("Tensor | None", getattr(router, "bias", None))
    logits = nn.functional.linear(hidden, router.weight, bias).double()
    count = logits.shape[-1]
    sums = torch.zeros(count, hidden.shape[-1], dtype=torch.float64)
    for expert in range(count):
        alone = torch.full((len(hidden), 1), expert)
        output = cast("Tensor", mixture.experts.forward(hidden, alone, torch.ones(len(hidden), 1)))
        sums[expert] = output.sum(0, dtype=torch.float64)
    used, _ = used_weights(router, style, hidden)
    tokens = torch.bincount(used.flatten(), minlength=count).double()
    return Similarity(len(hidden), tokens, sums, logits.T @ logits)
