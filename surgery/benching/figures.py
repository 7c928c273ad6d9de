"""Times of rounds -> seconds of blocks, and how far sums of them are off.

In: shapes of children and the `Times` of their rounds. Out: `Figures` in parts of the parent's
step: of every block the mean over layers of medians over rounds (layers differ in which experts
their routers like, and a model has them all); the rest; and of held-out children the sum of the
parts beside what was measured. Needs no torch. Not here: seconds, which take the parent's step.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import TypeAlias

from msgspec import Struct

from surgery.benching.keys import Seconds, same
from surgery.benching.shapes import Shape, Times
from surgery.ir import Block

Parts: TypeAlias = "Mapping[Block, Seconds]"

_NINE_IN_TEN = 1.645 * 1.2533 / 1.349
"""From the range between quartiles to the error of a median that 9 in 10 stay below."""


class Figures(Struct, frozen=True):
    """Parts of the parent's step, and its seconds."""

    blocks: Mapping[Block, Seconds]
    rest: Seconds
    parent: float


def of(children: Sequence[Sequence[Shape]], times: Times) -> Figures:
    """What every block takes."""
    found: dict[Block, _Pool] = {}
    rest = _Pool()
    for n, (child, splits) in enumerate(zip(children, times.splits, strict=True)):
        for turn, split in enumerate(splits):
            rest.add(n, turn, split.rest)
            for layer, shape in enumerate(child):
                for site, block in enumerate(shape):
                    if block is not None:
                        pool = found.setdefault(same(block), _Pool())
                        pool.add(layer, turn, split.blocks[layer][site])
    blocks = {block: pool.figure() for block, pool in found.items()}
    return Figures(blocks, rest.figure(), statistics.median(times.parent))


class _Pool:
    """Times of one block, by layer and by round."""

    def __init__(self) -> None:
        self.layers: dict[int, list[float]] = {}
        self.rounds: dict[int, list[float]] = {}

    def add(self, layer: int, turn: int, value: float) -> None:
        self.layers.setdefault(layer, []).append(value)
        self.rounds.setdefault(turn, []).append(value)

    def figure(self) -> Seconds:
        mean = statistics.fmean(statistics.median(each) for each in self.layers.values())
        error = _error([statistics.fmean(each) for each in self.rounds.values()])
        return Seconds(mean, error / mean if mean > 0 else 0.0)


def _error(values: Sequence[float]) -> float:
    """Of the median of rounds."""
    if len(values) < 4:
        return max(values) - min(values)
    low, _, high = statistics.quantiles(values, n=4)
    return _NINE_IN_TEN * (high - low) / sqrt(len(values))


def total(child: Sequence[Shape], parts: Parts, rest: float) -> float:
    """The step of a child as the sum of its parts, in their unit."""
    blocks = (block for shape in child for block in shape if block is not None)
    return rest + sum(parts[same(block)].seconds for block in blocks)


def errors(
    children: Sequence[Sequence[Shape]], times: Times, parts: Parts, rest: float, parent: float
) -> tuple[float, ...]:
    """How far sums of parts, in seconds, are off for children that were measured whole."""
    return tuple(
        total(child, parts, rest) / (parent * statistics.median(wholes)) - 1
        for child, wholes in zip(children, times.wholes, strict=True)
    )


def quantile(values: Sequence[float], part: float) -> float:
    """A quantile of absolute values, the next larger one."""
    ordered = sorted(map(abs, values))
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
