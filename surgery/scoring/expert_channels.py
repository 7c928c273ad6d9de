"""Statistics of the channels of experts: what each adds to the output of its layer.

In: a mixture module, how its family routes, what enters it. Out: `Channels`, sums over tokens in
constant memory; they are also what a dense FFN has. Sums are float64, so that how tokens are
batched does not matter. Not here: who survives (`passes/rank.py`), running the model
(`activations.py`).

Paper B, appendix A, scores channel i of an FFN by ||Y - Y without i||, which is |X_i| * ||W_i||: X
enters the down projection, whose row (or column) for the channel is W_i. The output of a mixture is
Y = sum over chosen experts of g_e * (X_e W_e + b_e), so leaving out channel i of expert e moves it
by g_e * |X_e,i| * ||W_e,i||, where g_e is the router's weight as it is used, and by nothing where
the expert is not chosen. The score is the mean over the tokens of the expert. Channels are compared
within their expert only, so what all of them have in common does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from msgspec import Struct
from torch import Tensor, nn

from surgery.scoring.arrays import numbers
from surgery.scoring.routing import Mixture, Router, Style, used_weights

_CHUNK = 4096
"""Tokens of one expert whose channels are held at once."""


class Experts(Protocol):
    """The experts of a layer as Transformers keeps them, every parameter for all of them.

    [experts, hidden, 2 * width] and [experts, width, hidden] where they are transposed, else
    [experts, 2 * width, hidden] and [experts, hidden, width].
    """

    gate_up_proj: Tensor
    gate_up_proj_bias: Tensor
    down_proj: Tensor
    has_bias: bool
    is_transposed: bool

    def _apply_gate(self, gate_up: Tensor) -> Tensor: ...


class Channels(Struct, frozen=True):
    """Sums over tokens, float64 [channels]: of what each channel adds, and of tokens.

    Channels of experts come expert by expert.
    """

    weight: Tensor
    count: Tensor

    def __add__(self, other: Channels) -> Channels:
        return Channels(self.weight + other.weight, self.count + other.count)

    def scores(self, criterion: str) -> list[float]:
        """One score per channel, the higher the more it matters; `ValueError` for no criterion."""
        if criterion != "channel_contribution":
            raise ValueError(f"no criterion {criterion!r}")
        return numbers(self.weight / self.count.clamp(min=1))


def watch(mixture: nn.Module, style: Style, add: Callable[[Channels], None]) -> Callable[[], None]:
    """Call `add` with the statistics of whatever enters the mixture; returns how to stop."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        add(measure(module, style, inputs[0].flatten(0, -2)))

    return mixture.register_forward_pre_hook(hook).remove


def measure(module: nn.Module, style: Style, hidden: Tensor) -> Channels:
    """Statistics of float32 [tokens, hidden], for the experts that the router chooses."""
    mixture = cast("Mixture", module)
    router = cast("Router", getattr(module, style.module))
    chosen, weights = used_weights(router, style, hidden)
    experts = cast("Experts", mixture.experts)
    norms = _norms(experts)
    sums, counts = torch.zeros_like(norms), torch.zeros(len(norms), 1, dtype=torch.float64)
    for expert in range(len(norms)):
        rows, places = torch.where(chosen == expert)
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            inner = _inner(experts, expert, hidden[rows[part]])
            shares = weights[rows[part], places[part]].unsqueeze(-1)
            sums[expert] += (shares * inner.double().abs()).sum(0)
        counts[expert] = len(rows)
    return Channels((sums * norms).flatten(), counts.expand_as(norms).flatten())


def _norms(experts: Experts) -> Tensor:
    """Of every channel's row of the down projection: float64 [experts, width]."""
    return experts.down_proj.double().square().sum(-1 if experts.is_transposed else -2).sqrt()


def _inner(experts: Experts, expert: int, hidden: Tensor) -> Tensor:
    """What enters the down projection of one expert: [tokens, hidden] -> [tokens, width]."""
    weight = experts.gate_up_proj[expert]
    gate_up = hidden @ (weight if experts.is_transposed else weight.T)
    if experts.has_bias:
        gate_up = gate_up + experts.gate_up_proj_bias[expert]
    return experts._apply_gate(gate_up)  # pyright: ignore[reportPrivateUsage] (its only name)
