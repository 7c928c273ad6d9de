"""Experts of a layer -> groups that become one: clusters of those that are alike.

In: how far every two experts are apart, how many tokens each has. Out: `Merging`. Pure arithmetic
on numbers that a library keeps: loads neither torch nor numpy. Not here: the distances
(`similarity.py`), the averages (`ops.py`).

The clusters are those of HC-SMoE (arXiv 2410.08589): agglomerative, with average linkage, so the
distance of two clusters is the mean over their pairs. Of equal distances the pair of the lowest
experts goes first. Clusters of n are clusters of n + 1 with two of them joined: nested, as kept
sets are. The survivor of a group is its expert with the most tokens (REAM, arXiv 2604.04356, also
lets the weightiest represent its group), the lowest of several; each expert counts by its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from surgery.ir import Merging


def merging(distances: Sequence[float], tokens: Sequence[float], size: int) -> Merging:
    """`size` groups of len(`tokens`) experts; `distances` are [experts, experts], flattened."""
    groups = [
        sorted(((e, int(tokens[e])) for e in cluster), key=lambda m: (-m[1], m[0]))
        for cluster in clusters(distances, len(tokens), size)
    ]
    # Nobody's tokens: then all count alike.
    fair = [g if any(w for _, w in g) else [(e, 1) for e, _ in g] for g in groups]
    return Merging(tuple(sorted((g[0], *sorted(g[1:])) for g in fair)))


def clusters(distances: Sequence[float], count: int, size: int) -> list[list[int]]:
    """`size` clusters of the numbers below `count`."""
    far = {(a, b): distances[a * count + b] for a in range(count) for b in range(a + 1, count)}
    found = {n: [n] for n in range(count)}
    # The nearest cluster above each, so that a step looks at every cluster once.
    nearest = {a: _nearest(far, a, found) for a in range(count - 1)}
    while len(found) > size:
        a = min(nearest, key=lambda n: (nearest[n][0], n))
        b = nearest[a][1]
        mine, theirs = len(found[a]), len(found[b])
        for c in found:
            if c not in (a, b):
                one, other = (min(a, c), max(a, c)), (min(b, c), max(b, c))
                far[one] = (mine * far[one] + theirs * far[other]) / (mine + theirs)
        found[a] += found.pop(b)
        nearest.pop(b, None)
        # Means are no nearer than the nearer of both, so that no other row has a new nearest one.
        for c in [n for n in nearest if n == a or nearest[n][1] in (a, b)]:
            nearest[c] = _nearest(far, c, found)
        nearest = {c: pair for c, pair in nearest.items() if pair[1] >= 0}
    return [sorted(cluster) for _, cluster in sorted(found.items())]


def _nearest(
    far: dict[tuple[int, int], float], a: int, found: dict[int, list[int]]
) -> tuple[float, int]:
    """Distance and name of the nearest cluster above `a`; -1 where there is none."""
    return min(((far[a, b], b) for b in found if b > a), default=(0.0, -1))
