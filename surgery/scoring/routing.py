"""Statistics of the experts of one layer: what each adds, and what removing it would do.

In: a mixture module, what enters it. Out: `Routing`, sums over tokens in constant memory, and one
score per expert under each criterion. Sums are float64, so that how tokens are batched does not
matter. Not here: who survives (`passes/rank.py`) and running the model (`activations.py`).

Every expert is asked for its output on its own tokens through the model's own code. Each token is
also sent to the expert that it would fall to next: the output without one of its experts is then
known exactly, by re-routing and renormalising (the native softmax over the selected logits).

Criteria. T: all tokens; X_e: those routed to expert e; g: router weight, after renormalisation; f:
output of the expert; y, y_-e: output of the layer, and of the layer whose router cannot choose e.

| name                  | score of expert e                              | whose               |
|-----------------------|------------------------------------------------|---------------------|
| `removal`             | 1/(T d) sum over X_e of ||y - y_-e||^2         | exact removal       |
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
    """The mixture-of-experts module of a layer."""

    router: Router
    experts: nn.Module


class Router(Protocol):
    """A linear router with a bias: logits over experts; the best `top_k` share a softmax."""

    weight: Tensor
    bias: Tensor
    top_k: int


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


def watch(mixture: nn.Module, total: int, add: Callable[[Routing], None]) -> Callable[[], None]:
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
            add(measure(module, hidden, (-seen) % stride, stride))
            seen += len(hidden)

    return mixture.register_forward_pre_hook(hook).remove


def measure(module: nn.Module, hidden: Tensor, first: int = 0, stride: int = 1) -> Routing:
    """Statistics of float32 [tokens, hidden]; tokens first, first + stride, ... vote."""
    mixture = cast("Mixture", module)
    router = mixture.router
    logits = nn.functional.linear(hidden, router.weight, router.bias)
    reach = min(router.top_k + 1, logits.shape[-1])
    best = logits.topk(reach, dim=-1)
    outputs = _outputs(mixture.experts, hidden, best.indices, logits.shape[-1])
    used = best.indices[:, : router.top_k]
    weights = best.values[:, : router.top_k].double().softmax(-1)
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
        summed(_removals(best.values.double(), outputs, router.top_k)),
        logits[first::stride].argsort(dim=-1, descending=True, stable=True).to(torch.int16),
    )


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


def _removals(logits: Tensor, outputs: Tensor, top_k: int) -> Tensor:
    """Mean square change of the output when each selected expert is removed: [tokens, top_k]."""
    whole = _mixed(logits[:, :top_k], outputs[:, :top_k])
    changes: list[Tensor] = []
    for place in range(top_k):
        rest = [i for i in range(logits.shape[-1]) if i != place]
        without = _mixed(logits[:, rest], outputs[:, rest])
        changes.append((whole - without).square().mean(-1))
    return torch.stack(changes, dim=-1)


def _mixed(logits: Tensor, outputs: Tensor) -> Tensor:
    return (logits.softmax(-1).unsqueeze(-1) * outputs).sum(-2)


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
