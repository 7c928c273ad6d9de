"""Statistics of the experts of one layer: what each adds, and what removing it would do.

In: a mixture module, how its family routes, what enters it. Out: `Routing`, sums over tokens in
constant memory, and one score per expert under each criterion. Sums are float64, so that how tokens
are batched does not matter. Not here: who survives (`passes/rank.py`) and running the model
(`activations.py`).

A router is linear; the best of a softmax over all experts are chosen, and in most families their
weights are divided by their sum. Every expert is asked for its output on its own tokens through the
model's own code. Each token is also sent to the expert that it would fall to next: the output
without one of its experts is then known exactly, by re-routing and renormalising. Where weights are
not divided by their sum, the softmax over the remaining experts makes all of them grow: then the
removal of an expert also changes tokens that were never sent to it.

Criteria. T: all tokens; X_e: those routed to expert e; g: router weight, as it is used; f: output
of the expert; y, y_-e: output of the layer, and of the layer whose router cannot choose e.

| name                  | score of expert e                              | whose               |
|-----------------------|------------------------------------------------|---------------------|
| `removal`             | 1/(T d) sum over T of ||y - y_-e||^2           | exact removal       |
| `router_contribution` | sum over X_e of g ||f||                        | weighted EAN        |
| `reap`                | mean over X_e of g ||f||                       | REAP                |
| `ean`                 | sum over X_e of ||f||                          | expert activation   |
| `man`, `msan`         | mean over X_e of ||f||, ||f||^2                | gate-free means     |
| `frequency`           | |X_e|                                          |                     |
| `weighted_frequency`  | sum over X_e of g                              |                     |
| `ranked_choice`       | when it is voted out: the last one stays longest | router only         |

The formula of paper A is not public ("activation-based"); `removal` measures the operation that
is carried out, which is why it is the one that `std/moe.surg` recommends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from msgspec import Struct
from torch import Tensor, nn

from surgery.scoring.arrays import numbers

MAX_BALLOTS = 16_384
"""Ranked choice keeps whole orders of preference, so it hears this many evenly spaced tokens."""

_CHUNK = 2048
"""Tokens whose expert outputs are held at once."""


class Mixture(Protocol):
    """The mixture-of-experts module of a layer; its router has the name that the family says."""

    experts: nn.Module


class Router(Protocol):
    """A linear router, perhaps with a `bias`: logits over experts, of which `top_k` are chosen."""

    weight: Tensor
    top_k: int


class Style(Struct, frozen=True):
    """How a family routes: what the router is called, whether weights are divided by their sum."""

    module: str
    renormalised: bool


class Routing(Struct, frozen=True):
    """Sums over tokens, float64 [experts], and `ballots` int16 [voters, experts], best first."""

    tokens: int
    top_k: int
    count: Tensor
    gate: Tensor
    contribution: Tensor
    norm: Tensor
    square: Tensor
    removal: Tensor
    ballots: Tensor

    def __add__(self, other: Routing) -> Routing:
        return Routing(
            self.tokens + other.tokens,
            self.top_k,
            self.count + other.count,
            self.gate + other.gate,
            self.contribution + other.contribution,
            self.norm + other.norm,
            self.square + other.square,
            self.removal + other.removal,
            torch.cat((self.ballots, other.ballots)),
        )

    def scores(self, criterion: str) -> list[float]:
        """One score per expert, the higher the more it matters; `ValueError` for no criterion."""
        if criterion == "ranked_choice":
            return ranked_choice(self.ballots, self.top_k)
        routed = self.count.clamp(min=1)
        by_name = {
            "removal": self.removal / max(self.tokens, 1),
            "router_contribution": self.contribution,
            "reap": self.contribution / routed,
            "ean": self.norm,
            "man": self.norm / routed,
            "msan": self.square / routed,
            "frequency": self.count,
            "weighted_frequency": self.gate,
        }
        if criterion not in by_name:
            raise ValueError(f"no criterion {criterion!r}")
        return numbers(by_name[criterion])


def watch(
    mixture: nn.Module, style: Style, total: int, add: Callable[[Routing], None]
) -> Callable[[], None]:
    """Call `add` with the statistics of whatever enters the mixture; returns how to stop.

    `total` is how many tokens will come: it decides which of them vote.
    """
    stride = max(1, -(-total // MAX_BALLOTS))
    seen = 0

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        rows = inputs[0].flatten(0, -2)
        for start in range(0, len(rows), _CHUNK):
            hidden = rows[start : start + _CHUNK]
            add(measure(module, style, hidden, (-seen) % stride, stride))
            seen += len(hidden)

    return mixture.register_forward_pre_hook(hook).remove


def measure(
    module: nn.Module, style: Style, hidden: Tensor, first: int = 0, stride: int = 1
) -> Routing:
    """Statistics of float32 [tokens, hidden]; tokens first, first + stride, ... vote."""
    mixture = cast("Mixture", module)
    router = cast("Router", getattr(module, style.module))
    bias = cast("Tensor | None", getattr(router, "bias", None))
    logits = nn.functional.linear(hidden, router.weight, bias)
    reach = min(router.top_k + 1, logits.shape[-1])
    best = logits.topk(reach, dim=-1)
    outputs = _outputs(mixture.experts, hidden, best.indices, logits.shape[-1])
    used = best.indices[:, : router.top_k]
    chances = logits.double().log_softmax(-1)
    weights = _weights(chances.gather(-1, used), style)
    norms = outputs[:, : router.top_k].square().sum(-1).sqrt()

    def summed(values: Tensor) -> Tensor:
        sums = torch.zeros(logits.shape[-1], dtype=torch.float64)
        return sums.index_add_(0, used.flatten(), values.flatten())

    return Routing(
        len(hidden),
        router.top_k,
        summed(torch.ones_like(weights)),
        summed(weights),
        summed(weights * norms),
        summed(norms),
        summed(norms.square()),
        removals(chances, best.indices, outputs, router.top_k, style),
        logits[first::stride].argsort(dim=-1, descending=True, stable=True).to(torch.int16),
    )


def used_weights(router: Router, style: Style, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The experts that each token is sent to, best first, and their weights as they are used.

    [tokens, hidden] -> int64 and float64 [tokens, `top_k`].
    """
    bias = cast("Tensor | None", getattr(router, "bias", None))
    logits = nn.functional.linear(hidden, router.weight, bias)
    used = logits.topk(router.top_k, dim=-1).indices
    return used, _weights(logits.double().log_softmax(-1).gather(-1, used), style)


def _outputs(experts: nn.Module, hidden: Tensor, indices: Tensor, count: int) -> Tensor:
    """Output of every chosen expert: float64 [tokens, chosen, hidden]."""
    found = torch.zeros((*indices.shape, hidden.shape[-1]), dtype=torch.float64)
    for expert in range(count):
        rows, places = torch.where(indices == expert)
        if not len(rows):
            continue
        alone = torch.full((len(rows), 1), expert, dtype=indices.dtype)
        output = cast("Tensor", experts.forward(hidden[rows], alone, torch.ones(len(rows), 1)))
        found[rows, places] = output.double()
    return found


def removals(chances: Tensor, indices: Tensor, outputs: Tensor, top_k: int, style: Style) -> Tensor:
    """Mean square change of the output when each expert is removed, summed over tokens: [experts].

    `chances` are the logarithms of the softmax over all experts, [tokens, experts]; `indices` the
    `top_k` best and the next, whose `outputs` are [tokens, indices, hidden].
    """
    best, used = chances.gather(-1, indices), indices[:, :top_k]
    whole = _mixed(_weights(best[:, :top_k], style), outputs[:, :top_k])
    sums = torch.zeros(chances.shape[-1], dtype=torch.float64)
    if not style.renormalised:
        # Whatever a token was not sent to takes its share of the softmax along: all weights grow.
        share = chances.exp().scatter(-1, used, 0.0)
        sums += (share / (1 - share)).square().T @ whole.square().mean(-1)
    for place in range(top_k):
        rest = [i for i in range(indices.shape[-1]) if i != place]
        left = best[:, rest]
        if not style.renormalised:
            # Not log(1 - p), which is nothing where the router is sure.
            others = chances.scatter(-1, used[:, place, None], -torch.inf)
            left = left - others.logsumexp(-1, keepdim=True)
        without = _mixed(_weights(left, style), outputs[:, rest])
        sums.index_add_(0, used[:, place], (whole - without).square().mean(-1))
    return sums


def _weights(chances: Tensor, style: Style) -> Tensor:
    return chances.softmax(-1) if style.renormalised else chances.exp()


def _mixed(weights: Tensor, outputs: Tensor) -> Tensor:
    return (weights.unsqueeze(-1) * outputs).sum(-2)


def ranked_choice(ballots: Tensor, top_k: int) -> list[float]:
    """When each expert is voted out, from 0 (first): int16 [voters, experts], best first.

    Every voter votes for the `top_k` of its experts that are still in, as its router would; the
    expert with the fewest votes leaves, of several the one with the highest index.
    """
    experts = ballots.shape[-1]
    orders = ballots.long()
    scores = [0.0] * experts
    alive = torch.ones(experts, dtype=torch.bool)
    for turn in range(experts):
        still = alive[orders]
        chosen = orders[still & (still.cumsum(-1) <= top_k)]
        votes = numbers(torch.bincount(chosen, minlength=experts))
        least = min((e for e in range(experts) if alive[e]), key=lambda e: (votes[e], -e))
        scores[least] = float(turn)
        alive[least] = False
    return scores
