"""The meaning of a spec as one text, and its hash.

In: the records of `surgery.ir` and `expr.py`. Out: canonical text, equal for equal meaning: places,
units, doc comments and messages are left out, layers picked in several pieces are joined, and the
caller sorts what has no order. Two specs with one digest ask for the same plan.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import cast

from msgspec import Struct

from surgery.expr import Pick
from surgery.source import Span
from surgery.units import Dimension

_SPELLING = frozenset({"span", "unit", "message", "lengths"})
"""Fields that say how something was written or what to tell people, or that a hash beside them
covers."""

_NOTHING = object()
_UNSAID: Mapping[str, object] = {
    "clients": None,
    "verbosity": Fraction(1),
    "trace": None,
    "skew": Fraction(7, 10),
    "routing": None,
    "energy": 0,
}
"""Fields of scenarios and dimensions that came later: told where they say something, so that the
specs of earlier plans are still theirs."""


def canonical(value: object) -> str:
    """A value as text: the same for the same meaning."""
    match value:
        case Dimension():
            return _dimension(value)
        case Struct():
            return _record(value)
        case None:
            return "-"
        case bool() | int() | Fraction():
            return str(value)
        case str():
            return _quoted(str(value))
        case tuple():
            items = cast("tuple[object, ...]", value)
            if items and type(items[0]) is Pick and all(isinstance(item, Pick) for item in items):
                items = _joined(cast("tuple[Pick, ...]", items))
            return f"[{','.join([canonical(item) for item in items])}]"
        case _:
            raise TypeError(f"{type(value).__name__} has no canonical text")


@functools.lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    return json.dumps(text)


def _record(value: Struct) -> str:
    kind = type(value)
    found = [(key, cast("object", getattr(value, key))) for key in _telling(kind)]
    told = [
        f"{key}={canonical(part)}"
        for key, part in found
        if type(part) is not Span and _UNSAID.get(key, _NOTHING) != part
    ]
    return f"{kind.__name__}({','.join(told)})"


@functools.cache
def _dimension(value: Dimension) -> str:
    """Every expression has a dimension, and there are few."""
    return _record(value)


@functools.cache
def _telling(kind: type[Struct]) -> tuple[str, ...]:
    """The fields of a record that can say more than how it was written."""
    return tuple(key for key in kind.__struct_fields__ if key not in _SPELLING)


def _joined(picks: tuple[Pick, ...]) -> tuple[tuple[int, int], ...]:
    """Overlapping and neighbouring picks of one sign as one."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted((pick.low, pick.high) for pick in picks):
        if joined and (joined[-1][1] < 0) == (low < 0) and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return tuple(joined)


def digest(parts: Iterable[object]) -> str:
    """SHA-256 over the canonical texts of all parts, in an order of their own, as 64 hex digits."""
    import hashlib

    lines = sorted(canonical(part) for part in parts)
    return hashlib.sha256("\n".join(["surg 1", *lines]).encode()).hexdigest()
