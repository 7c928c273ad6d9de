"""Fitted factors: how far kernels stay behind the limits of a machine, by kernel class.

In: `data/fitted.json`, made by `surgery/study.py`. Out: `Factors`, which turn `Terms` into seconds
and say how sure that is. A kernel that nobody measured takes the factors of the same format in
another engine, or else the limit itself: then `unmeasured` names it, and the error band is wide.
The engine `ideal` has a factor of 1 for every limit and no launches: no machine can be faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files

import msgspec
from msgspec import Struct

from surgery.costing.terms import Terms

LIMITS = (".memory", ".compute", ".bytes", "activation")
"""Ends of the names of terms that are limits of the machine; the others are launches."""

FLOOR = 1 / 0.95
"""No kernel is known to reach more than 95 % of the memory or compute of a data sheet."""

SWITCHED = 0.5
"""A switch that adds up what passes it moves half of what a ring does."""


class Factor(Struct, frozen=True):
    """A factor with the interval that 90 % of resampled fits lie in."""

    value: float
    low: float
    high: float


class Bands(Struct, frozen=True):
    """Relative errors that 9 in 10 predictions stay below, by what was known beforehand.

    `measured` of points that the fit has not seen, `machine` on a machine that it has not seen,
    `kernel` where it has not seen the kernels either.
    """

    measured: float
    machine: float
    kernel: float


class Fitted(Struct, frozen=True):
    """The file: factors by term, bands, and on which machines they were measured."""

    factors: Mapping[str, Factor]
    bands: Bands
    machines: tuple[str, ...]


class Factors(Struct, frozen=True):
    """Factors by term."""

    values: Mapping[str, float]

    def of(self, name: str) -> float:
        """The factor of a term."""
        found = self.values.get(name)
        if found is not None:
            return found
        others = [self.values[other] for other in self._like(name)]
        if others:
            return sum(others) / len(others)
        return FLOOR if name.endswith(LIMITS) else 0.0

    def _like(self, name: str) -> Iterator[str]:
        """The same kernel class, or launches, of other engines."""
        parts = name.split(".")
        for other in sorted(self.values):
            theirs = other.split(".")
            if len(theirs) == len(parts) and [*theirs[:1], *theirs[2:]] == [*parts[:1], *parts[2:]]:
                yield other

    def seconds(self, terms: Terms) -> float:
        """The time of what the terms say."""
        return sum(self.of(name) * value for name, value in terms.items())

    def split(self, terms: Terms) -> dict[str, float]:
        """The same, term by term."""
        return {name: self.of(name) * value for name, value in sorted(terms.items())}


class Ideal(Factors, frozen=True):
    """Every limit reached, nothing launched."""

    def of(self, name: str) -> float:
        """1 for limits, 0 for launches."""
        if name.endswith(".bytes"):
            return SWITCHED
        return 1.0 if name.endswith(LIMITS) else 0.0


def unmeasured(terms: Iterable[str], known: Mapping[str, object]) -> tuple[str, ...]:
    """Kernel classes among the terms that no factor was fitted for."""
    classes = {".".join(name.split(".")[:3]) for name in terms if name.startswith("moe.")}
    have = {".".join(name.split(".")[:3]) for name in known if name.startswith("moe.")}
    return tuple(sorted(classes - have))


@cache
def fitted() -> Fitted:
    """The factors that come with surgery."""
    text = files("surgery.costing").joinpath("data/fitted.json").read_bytes()
    return msgspec.json.decode(text, type=Fitted)


def factors(engine: str) -> Factors:
    """The factors for an engine."""
    if engine == "ideal":
        return Ideal({})
    return Factors({name: factor.value for name, factor in fitted().factors.items()})
