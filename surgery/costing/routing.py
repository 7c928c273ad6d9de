"""How many different experts a step reads: neither all of them nor `active`.

In: numbers of experts, experts per token, tokens, and how unequal experts are: the exponent of a
Zipf distribution (0 is uniform), or measured shares. Out: the expected number of distinct experts.
Tokens choose independently, each expert i with probability p_i; the sum of all p_i is `active`, so
E = sum over i of 1 - (1 - p_i)^tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

_ROUNDS = 64


@lru_cache(maxsize=65536)
def distinct(count: int, active: int, tokens: float, zipf: float) -> float:
    """Expected distinct experts of `count` when `tokens` tokens choose `active` each."""
    if count <= active:
        return float(count) if tokens > 0 else 0.0
    if zipf == 0:
        return count * (1 - (1 - active / count) ** tokens)
    return sum(1 - (1 - p) ** tokens for p in _chances(_zipf(count, zipf), active))


def distinct_of(shares: Sequence[float], active: int, tokens: float) -> float:
    """The same under measured shares (any scale), one per expert."""
    return _distinct_of(tuple(shares), active, tokens)


@lru_cache(maxsize=65536)
def _distinct_of(shares: tuple[float, ...], active: int, tokens: float) -> float:
    if len(shares) <= active:
        return float(len(shares)) if tokens > 0 else 0.0
    return sum(1 - (1 - p) ** tokens for p in _chances(shares, active))


@lru_cache(maxsize=1024)
def _zipf(count: int, exponent: float) -> tuple[float, ...]:
    return tuple((rank + 1) ** -exponent for rank in range(count))


@lru_cache(maxsize=8192)
def _chances(shares: tuple[float, ...], active: int) -> tuple[float, ...]:
    """Chances in proportion to shares that add up to `active`, none above 1."""
    certain: set[int] = set()
    for _ in range(_ROUNDS):
        rest = active - len(certain)
        total = sum(share for i, share in enumerate(shares) if i not in certain)
        if total <= 0:
            # Nobody was seen to choose the others, and some of them must be chosen.
            even = rest / (len(shares) - len(certain))
            return tuple(1.0 if i in certain else even for i in range(len(shares)))
        scale = rest / total
        above = {i for i, s in enumerate(shares) if i not in certain and s * scale > 1}
        if not above:
            return tuple(1.0 if i in certain else s * scale for i, s in enumerate(shares))
        certain |= above
    return tuple(min(1.0, share) for share in shares)
