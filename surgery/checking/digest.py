"""The meaning of a spec as one text, and its hash.

In: the records of `surgery.ir` and `expr.py`. Out: canonical text, equal for equal meaning: places,
units, doc comments and messages are left out, layers picked in several pieces are joined, and the
caller sorts what has no order. Two specs with one digest ask for the same plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from fractions import Fraction
from typing import cast

from msgspec import Struct

from surgery.expr import Pick
from surgery.source import Span

_SPELLING = frozenset({"span", "unit", "message"})
"""Fields that say how something was written or what to tell people."""


def canonical(value: object) -> str:
    """A value as text: the same for the same meaning."""
    match value:
        case None:
            return "-"
        case bool() | int() | Fraction():
            return str(value)
        case str():
            return json.dumps(str(value))
        case tuple():
            items = cast("tuple[object, ...]", value)
            if items and all(isinstance(item, Pick) for item in items):
                items = _joined(cast("tuple[Pick, ...]", items))
            return f"[{','.join(canonical(item) for item in items)}]"
        case Struct():
            keys = value.__struct_fields__
            parts = ((key, cast("object", getattr(value, key))) for key in keys)
            told = ",".join(f"{key}={canonical(part)}" for key, part in parts if _means(key, part))
            return f"{type(value).__name__}({told})"
        case _:
            raise TypeError(f"{type(value).__name__} has no canonical text")


def _means(key: str, part: object) -> bool:
    return key not in _SPELLING and not isinstance(part, Span)


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
    lines = sorted(canonical(part) for part in parts)
    return hashlib.sha256("\n".join(["surg 1", *lines]).encode()).hexdigest()
