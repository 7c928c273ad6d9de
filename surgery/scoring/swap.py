"""Replace one block, measure, put it back: the damage of single candidates.

In: a loaded parent, samples, candidates. Out: per candidate the mean KL(parent || child) of each
sample, float64 [samples] (paper B: replace-1-block scores with KL over tokens). Not here: which
candidates need measuring, where results are kept (`passes/score.py`).

Why it is fast. The parent stays resident and only the changed layer is replaced; the hidden
states that enter every edited layer are computed once per sample, so a child runs from its edit
to the end only; the parent's distribution is computed once. Samples that do not fit the memory
budget together are taken in groups, each of which serves all candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from msgspec import Struct
from torch import Tensor, nn

from surgery.ir import Candidate, Experts, Ffn, Layer, Linear, Model
from surgery.scoring.arrays import from_numpy
from surgery.scoring.data import Samples
from surgery.scoring.divergence import (
    Distribution,
    divergence,
    negative_log_likelihood,
    predict,
)
from surgery.scoring.model import Parent, make_layer, rotated, swapped

MEMORY = 3 * 2**30
"""Bytes that cached hidden states and distributions of one group may take."""

BATCH = 2048
"""Tokens that run through the layers together."""


class Batch(Struct, frozen=True):
    """Some samples and what the parent makes of them.

    `entering[i]` is float32 [batch, length, hidden] before layer i, for layers of interest;
    `predicted` covers the last `tail` tokens of every sample, flattened.
    """

    state: object
    entering: dict[int, Tensor]
    predicted: Distribution
    size: int


Damages = dict[str, Tensor]
"""Candidate address -> mean KL of each sample, float64 [samples of the group]."""


def batch_size(length: int) -> int:
    """Samples of `length` tokens that run together."""
    return max(1, BATCH // length)


def sample_bytes(model: Model, length: int, tail: int, layers: int) -> int:
    """Bytes that one sample keeps resident, with `layers` cached layer inputs."""
    return 4 * (length * model.hidden * layers + tail * (model.vocab + model.hidden))


def groups(
    model: Model, count: int, length: int, tail: int, layers: int, *, memory: int = MEMORY
) -> list[slice]:
    """`count` samples in runs whose caches fit `memory` bytes; at least one batch each.

    A run is whole batches. Otherwise the shape of a batch, and with it the last bits of a
    measurement, would depend on how many layers have candidates that are still missing.
    """
    step = batch_size(length)
    fit = max(step, memory // sample_bytes(model, length, tail, layers) // step * step)
    return [slice(start, min(start + fit, count)) for start in range(0, count, fit)]


def prepare(
    parent: Parent, samples: Samples, part: slice, tail: int, layers: frozenset[int]
) -> list[Batch]:
    """Run the parent once over a group of samples and keep what every child needs."""
    step = batch_size(samples.length)
    made: list[Batch] = []
    with torch.inference_mode():
        for start in range(part.start, part.stop, step):
            stop = min(start + step, part.stop)
            tokens = from_numpy(samples.tokens[start:stop])
            made.append(_prepare(parent, tokens, tail, layers))
    return made


def _prepare(parent: Parent, tokens: Tensor, tail: int, layers: frozenset[int]) -> Batch:
    hidden, state = parent.module.begin(tokens)
    entering: dict[int, Tensor] = {}
    for index in range(len(parent.model.layers)):
        if index in layers:
            entering[index] = hidden
        hidden = parent.module.run(hidden, state, index, index + 1)
    return Batch(state, entering, predict(_final(parent, hidden, tail), parent.head), len(tokens))


def _final(parent: Parent, hidden: Tensor, tail: int) -> Tensor:
    """States after the final norm of the last `tail` tokens: [batch * tail, hidden]."""
    return parent.normalised(hidden[:, -tail:]).flatten(0, 1)


def damage(parent: Parent, batches: Sequence[Batch], *candidates: Candidate) -> Tensor:
    """Mean KL(parent || child) in nats per token of each sample, float64 [samples].

    All candidates belong to one layer, which the child differs in.
    """
    index, layer = make_layer(parent, candidates)
    with torch.inference_mode(), swapped(parent, {index: layer}):
        return torch.cat([_damage(parent, batch, index) for batch in batches])


def _damage(parent: Parent, batch: Batch, index: int) -> Tensor:
    count = len(parent.model.layers)
    hidden = parent.module.run(batch.entering[index], batch.state, index, count)
    tail = len(batch.predicted.states) // batch.size
    tokens = divergence(batch.predicted, _final(parent, hidden, tail), parent.head)
    return tokens.view(batch.size, tail).mean(dim=1)


def sweep(
    parent: Parent,
    samples: Samples,
    tail: int,
    candidates: Sequence[Candidate],
    *,
    memory: int = MEMORY,
    after: Callable[[Candidate], None] = lambda _candidate: None,
) -> Iterator[tuple[Candidate, Tensor]]:
    """Every candidate with its damages, float64 [samples], as they are finished.

    `after` hears of every swap: a candidate is swapped once per group of samples.
    """
    layers = frozenset(candidate.layer for candidate in candidates)
    count = len(samples.tokens)
    parts = groups(parent.model, count, samples.length, tail, len(layers), memory=memory)
    found: dict[str, list[Tensor]] = {candidate.address: [] for candidate in candidates}
    for part in parts:
        batches = prepare(parent, samples, part, tail, layers)
        for candidate in candidates:
            values = damage(parent, batches, candidate)
            found[candidate.address].append(values)
            after(candidate)
            if len(found[candidate.address]) == len(parts):
                yield candidate, torch.cat(found[candidate.address])


# ---- Whole children --------------------------------------------------------------------------


class Judged(Struct, frozen=True):
    """Means over the tokens of each sample, float64 [samples]: KL, and both models' losses."""

    kl: Tensor
    parent: Tensor
    child: Tensor


def judge(
    parent: Parent,
    tokens: Tensor,
    layers: Mapping[int, nn.Module],
    tail: int,
    rotary: nn.Module | None = None,
) -> Judged:
    """Compare parent and child on int64 tokens [batch, length]; losses in nats per token.

    The KL is about the last `tail` tokens of each sample, the losses about all but the first.
    `rotary` is the child's rotary embedding where it is not the parent's.
    """
    size, length = tokens.shape
    count = len(parent.model.layers)
    embedded, state = parent.module.begin(tokens)
    before = _final(parent, parent.module.run(embedded, state, 0, count), length)
    with swapped(parent, layers), rotated(parent, rotary):
        embedded, state = parent.module.begin(tokens)
        after = _final(parent, parent.module.run(embedded, state, 0, count), length)

    def last(states: Tensor) -> Tensor:
        return states.view(size, length, -1)[:, -tail:].flatten(0, 1)

    kl = divergence(predict(last(before), parent.head), last(after), parent.head)
    targets = tokens[:, 1:].flatten()

    def loss(states: Tensor) -> Tensor:
        seen = states.view(size, length, -1)[:, :-1].flatten(0, 1)
        return negative_log_likelihood(seen, targets, parent.head).view(size, -1).mean(dim=1)

    return Judged(kl.view(size, tail).mean(dim=1), loss(before), loss(after))


# ---- Estimate --------------------------------------------------------------------------------


def operations(model: Model, candidates: Sequence[Candidate], samples: int, length: int) -> float:
    """Floating-point operations of a sweep: each child from its edit to the end, and the head.

    Two per weight and token, and 4 * heads * head_dim per token and attended token.
    """
    tokens = samples * length
    per_layer = [_layer_operations(model, layer, length) for layer in model.layers]
    head = 2.0 * model.hidden * model.vocab
    return sum(tokens * (sum(per_layer[c.layer :]) + head) for c in candidates)


def _layer_operations(model: Model, layer: Layer, length: int) -> float:
    total = 0.0
    if (attention := layer.attends) is not None:
        wide = attention.heads * attention.head_dim
        total += 2.0 * model.hidden * (2 * wide + 2 * attention.kv_heads * attention.head_dim)
        # Dense kernels compute what a mask hides, so a window saves nothing here.
        total += 4.0 * wide * length
    elif layer.attention is not None:
        total += 2.0 * model.hidden * model.hidden
    match layer.mlp:
        case Ffn(width=width):
            total += 6.0 * model.hidden * width
        case Experts(active=active, width=width):
            total += 6.0 * model.hidden * width * active
        case Linear():
            total += 2.0 * model.hidden * model.hidden
        case None:
            pass
    return total
