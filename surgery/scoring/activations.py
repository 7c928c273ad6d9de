"""Statistics of what flows through FFN channels and experts, in one pass and constant memory.

In: a loaded parent, tokens, the layers to watch. Out: per layer, one score per FFN channel or
expert, and how many tokens it saw. Sums are float64, so that how samples are batched does not
matter. Not here: who survives (`passes/rank.py`).

Criteria (X: input of the down projection; g: router weight, f: output of an expert, both over
the tokens routed to it):

* `channel_contribution`: mean |X_i| * ||W_down[:, i]||: what channel i adds to the output
  (paper B, appendix A).
* `router_contribution`: sum of g * ||f||, the weighted expert-activation norm: our choice, since
  paper A only says "activation-based".
* `reap`: the same as a mean over the routed tokens (Router-weighted Expert Activation Pruning).
* `frequency`: the number of routed tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, cast

import torch
from msgspec import Struct
from torch import Tensor, nn

from surgery.ir import Site
from surgery.scoring.arrays import numbers
from surgery.scoring.model import Parent

Watched = tuple[int, Site]
"""A layer and the site of it whose statistics are wanted."""


class Statistics(Struct, frozen=True):
    """Sums over tokens, float64 [channels or experts].

    `weight` adds up |X_i| * ||W_down[:, i]||, or g * ||f||; `count` the tokens that an expert
    was given (a channel sees all of them).
    """

    weight: Tensor
    count: Tensor

    def scores(self, criterion: str) -> list[float]:
        """One score per channel or expert, the higher the more it matters."""
        match criterion:
            case "channel_contribution" | "reap":
                values = self.weight / self.count.clamp(min=1)
            case "router_contribution":
                values = self.weight
            case "frequency":
                values = self.count
            case _:
                raise ValueError(f"no criterion {criterion!r}")
        return numbers(values)


class _Router(Protocol):
    """The mixture-of-experts module of a layer: `experts(hidden, indices, weights)`."""

    experts: nn.Module


def collect(
    parent: Parent, batches: Iterable[Tensor], watched: Iterable[Watched]
) -> dict[Watched, Statistics]:
    """Run the parent over int64 batches [batch, length] and add up what the watched blocks do."""
    found: dict[Watched, Statistics] = {}
    hooks = [_watch(parent, layer, site, found) for layer, site in watched]
    try:
        with torch.inference_mode():
            for tokens in batches:
                hidden, state = parent.module.begin(tokens)
                parent.module.run(hidden, state, 0, len(parent.model.layers))
    finally:
        for remove in hooks:
            remove()
    return found


def _watch(
    parent: Parent, layer: int, site: Site, found: dict[Watched, Statistics]
) -> Callable[[], None]:
    mlp = cast("nn.Module", parent.module.model.layers[layer].mlp)

    def add(weight: Tensor, count: Tensor) -> None:
        before = found.get((layer, site))
        if before is not None:
            weight, count = before.weight + weight, before.count + count
        found[layer, site] = Statistics(weight, count)

    if site is Site.FFN:
        down = cast("nn.Linear", mlp.down_proj)
        norms = down.weight.double().square().sum(0).sqrt()

        def channels(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].flatten(0, -2)
            total = values.abs().sum(0, dtype=torch.float64)
            add(total * norms, torch.full_like(total, len(values)))

        return down.register_forward_pre_hook(channels).remove

    experts = cast("_Router", mlp).experts

    def routed(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        add(*_routed(module, *inputs))

    return experts.register_forward_pre_hook(routed).remove


def _routed(
    experts: nn.Module, hidden: Tensor, indices: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum of g * ||f|| and token count per expert: hidden [T, H], indices and weights [T, k].

    Each expert is asked for its own output on its own tokens, through the model's own code: one
    expert per token, with weight 1.
    """
    count = cast("Tensor", experts.gate_up_proj).shape[0]
    total = torch.zeros(count, dtype=torch.float64)
    seen = torch.zeros(count, dtype=torch.float64)
    for expert in range(count):
        rows, places = torch.where(indices == expert)
        if not len(rows):
            continue
        alone = torch.full((len(rows), 1), expert, dtype=indices.dtype)
        # `forward`, not a call: the hook that brought us here must not see its own question.
        output = cast("Tensor", experts.forward(hidden[rows], alone, torch.ones(len(rows), 1)))
        norms = output.double().square().sum(-1).sqrt()
        total[expert] = (weights[rows, places].double() * norms).sum()
        seen[expert] = len(rows)
    return total, seen
