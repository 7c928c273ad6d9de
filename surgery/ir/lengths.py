"""Lengths of requests: all alike, or as a trace has them.

In: pairs of tokens in and tokens out, with how often each occurs. Out: the means that costs are
made of. Not here: reading traces (`sources/trace.py`), what the means are for (`costing/terms.py`).

Two kinds of mean matter. Over requests: what a prompt takes. Over the requests that are being
served at some moment, where one that answers at length is met more often: its chance grows with the
tokens that it still has to say. So what a step sees, and what a cache holds, is weighed by tokens
out.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cached_property, lru_cache
from math import ceil

from msgspec import Struct

GROUPS = 64
"""Lengths that a cache is reckoned with, at most: those of a trace are rounded up to them."""


class Lengths(Struct, frozen=True, dict=True, cache_hash=True):
    """Requests as (tokens in, tokens out, how many), sorted; tokens out may be fractions."""

    requests: tuple[tuple[int, float, int], ...]

    @staticmethod
    def fixed(prefill: int, decode: float) -> Lengths:
        """All requests alike."""
        return Lengths(((prefill, decode, 1),))

    def longer(self, factor: Fraction) -> Lengths:
        """The same questions with answers so many times as long, of one token at least."""
        return self if factor == 1 else _longer(self, factor)

    @cached_property
    def count(self) -> int:
        """Requests in all."""
        return sum(n for *_, n in self.requests)

    @cached_property
    def prefill(self) -> float:
        """Mean tokens in."""
        return self.mean(lambda prefill: prefill)

    @cached_property
    def decode(self) -> float:
        """Mean tokens out."""
        return sum(d * n for _, d, n in self.requests) / self.count

    @property
    def longest(self) -> int:
        """Most tokens of one request, in and out."""
        return max(p + ceil(d) for p, d, _ in self.requests)

    def chunks(self, chunk: int) -> float:
        """Mean number of steps that a prompt is read in, `chunk` tokens each."""
        return self.mean(lambda prefill: max(1, ceil(prefill / chunk)))

    def mean(self, of: Callable[[int], float]) -> float:
        """The mean over requests of something about their prompts."""
        return sum(of(p) * n for p, _, n in self.requests) / self.count

    def held(self, window: int | None) -> float:
        """Mean tokens that a step of one sequence sees: its prompt and half of its answer."""
        total = sum(d * n for _, d, n in self.requests)
        most = float("inf") if window is None else window
        return sum(min(p + d / 2, most) * d * n for p, d, n in self.requests) / total

    @cached_property
    def resident(self) -> tuple[tuple[int, Fraction], ...]:
        """Lengths at the end, with the part of the sequences in service that have them.

        At most `GROUPS`, each rounded up to the longest of its group.
        """
        ends = sorted((p + ceil(d), Fraction(d) * n) for p, d, n in self.requests)
        total, found = sum(weight for _, weight in ends), dict[int, Fraction]()
        done = Fraction(0)
        tops = list(range(1, GROUPS + 1))
        waiting = Fraction(0)
        for place, (tokens, weight) in enumerate(ends):
            done, waiting = done + weight, waiting + weight
            last = place == len(ends) - 1
            if last or done * GROUPS >= tops[0] * total:
                found[tokens] = found.get(tokens, Fraction(0)) + waiting / total
                waiting = Fraction(0)
                while tops and done * GROUPS >= tops[0] * total:
                    tops.pop(0)
        return tuple(found.items())


@lru_cache(maxsize=16)
def _longer(lengths: Lengths, factor: Fraction) -> Lengths:
    return Lengths(tuple((p, max(1.0, float(d * factor)), n) for p, d, n in lengths.requests))
