"""How far keys and values reach: what an FP8 cache must be scaled by.

In: a loaded parent, tokens, the layers to watch. Out: per layer, what K (after rotation) and V are
divided by 448 to get a scale: their reach. One pass in constant memory; what is counted are whole
numbers, and the largest value is exact, so that how samples are batched does not matter. Samples
hold real tokens only (`data.py` neither pads nor warms up), and every token counts once. Not here:
scales (`passes/calibrate.py`).

| method            | reach                                                                |
|-------------------|----------------------------------------------------------------------|
| `max`             | the largest absolute value                                           |
| `percentile_99.9` | the least that 99.9 % of the absolute values do not exceed           |
| `mse`             | of a fixed grid, the one with the least mean square error when read  |

Percentiles and errors come from a histogram of absolute values over 65,536 bins that are equal
parts of every power of two, 0.4 % wide at most; E4M3 itself is precise to 6 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Protocol, cast

import torch
from msgspec import Struct
from torch import Tensor

from surgery.scoring.model import Parent

Watched = tuple[int, int]
"""A layer, and the number of KV heads that its own are averaged into (its own: none are)."""

BINS = 2**16
_DROPPED = 15
"""Bits of a float32 that do not count: its sign is 0, so 16 are left."""
_INFINITE = 0x7F80_0000 >> _DROPPED
"""The first bin of what is not finite."""
_GRID = tuple(2.0 ** (-step / 8) for step in range(-8, 49))
"""Reaches that `mse` tries, in parts of the largest value: an octave above it to six below."""


class Reach(Struct, frozen=True):
    """Absolute values: how many fall into each bin, int64 [BINS], and the largest."""

    counts: Tensor
    largest: float

    def __add__(self, other: Reach) -> Reach:
        return Reach(self.counts + other.counts, max(self.largest, other.largest))

    @property
    def count(self) -> int:
        """How many values there were."""
        return int(self.counts.sum())

    def of(self, method: str) -> float:
        """What becomes the largest number that FP8 holds; `ValueError` for no method.

        NaN where a value was not finite.
        """
        if self.counts[_INFINITE:].any():
            return math.nan
        if method == "max" or not self.largest:
            return self.largest
        if method == "mse":
            return self._least_error()
        name, _, percent = method.partition("_")
        if name != "percentile":
            raise ValueError(f"no method {method!r}")
        return self._percentile(Fraction(percent))

    def _percentile(self, percent: Fraction) -> float:
        wanted = math.ceil(self.count * percent / 100)
        reached = int(torch.searchsorted(self.counts.cumsum(0), wanted))
        return min(float(_edges()[1][reached]), self.largest)

    def _least_error(self) -> float:
        from surgery_runtime.hf.layerwise import LARGEST_E4M3, fp8

        used = self.counts.nonzero()[:, 0]
        low, high = _edges()
        values, weights = ((low + high) / 2)[used], self.counts[used].double()
        errors: list[float] = []
        for part in _GRID:
            read = fp8(values, self.largest * part / LARGEST_E4M3)
            errors.append(float(((read - values).double().square() * weights).sum()))
        # The first of equals, which cuts off least.
        return self.largest * _GRID[errors.index(min(errors))]


class Reaches(Struct, frozen=True):
    """Keys and values of one layer."""

    k: Reach
    v: Reach

    def __add__(self, other: Reaches) -> Reaches:
        return Reaches(self.k + other.k, self.v + other.v)


class _Layer(Protocol):
    """A decoder layer of the runtime: `stored` sees its keys and values (`layerwise.py`)."""

    stored: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None


def collect(
    parent: Parent, batches: Iterable[Tensor], watched: Iterable[Watched]
) -> dict[Watched, Reaches]:
    """Run the parent over int64 batches [batch, length] and look at all keys and values."""
    found: dict[Watched, Reaches] = {}
    by_layer: dict[int, list[int]] = {}
    for layer, heads in watched:
        by_layer.setdefault(layer, []).append(heads)
    layers = {n: cast("_Layer", parent.module.model.layers[n]) for n in by_layer}
    try:
        for index, layer in layers.items():
            layer.stored = _watch(index, by_layer[index], found)
        with torch.inference_mode():
            for tokens in batches:
                hidden, state = parent.module.begin(tokens)
                parent.module.run(hidden, state, 0, len(parent.model.layers))
    finally:
        for layer in layers.values():
            layer.stored = None
    return found


def _watch(
    layer: int, counts: list[int], found: dict[Watched, Reaches]
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def look(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        for heads in counts:
            seen = Reaches(measure(pooled(keys, heads)), measure(pooled(values, heads)))
            before = found.get((layer, heads))
            found[layer, heads] = seen if before is None else before + seen
        return keys, values

    return look


def pooled(values: Tensor, heads: int) -> Tensor:
    """[batch, KV heads, length, head_dim] with neighbouring heads averaged into `heads`.

    What pooled projections give: rotation is linear, and the same for every head.
    """
    batch, own, length, size = values.shape
    if own == heads:
        return values
    return values.view(batch, heads, own // heads, length, size).mean(2)


def measure(values: Tensor) -> Reach:
    """The histogram and the largest of the absolute values; NaN where there is one."""
    magnitudes = values.abs().float().contiguous().flatten()
    bins = magnitudes.view(torch.int32) >> _DROPPED
    return Reach(torch.bincount(bins, minlength=BINS), float(magnitudes.max()))


def _edges() -> tuple[Tensor, Tensor]:
    """The least and the largest float32 of every bin."""
    first = torch.arange(BINS, dtype=torch.int64) << _DROPPED
    low, high = (bits.to(torch.int32).view(torch.float32) for bits in (first, first | 0x7FFF))
    return low, high
