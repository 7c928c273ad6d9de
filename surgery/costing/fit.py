"""Factors of the time model from measured points: non-negative, robust, with intervals.

In: terms of points and their measured times. Out: factors by term. The fit minimises the sum of
absolute relative errors,

    minimise  sum_p |sum_t f_t x_pt / y_p - 1|  +  ridge * sum_p sum_t f_t x_pt / y_p
    with      f_t >= floor_t   for terms t of points p,

which is what predictions are judged by (their median error), does not follow single bad
measurements, and is a linear program. scipy's HiGHS solves it in tens of milliseconds; the same in
cvxpy takes ten times that to state, which a few hundred resamples would feel. `floor` is 1/0.95 for
memory and compute: no kernel beats its machine, whatever would fit better. The small ridge decides
between terms that the points cannot tell apart, in favour of the fewest seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from surgery.costing.factors import FLOOR, SWITCHED
from surgery.costing.terms import Terms

RIDGE = 0.003
_Array = npt.NDArray[np.float64]
_FREE = ("gemm.memory", "kv.memory")
"""Terms that everything has, and that the ridge leaves alone."""


class _Program(Protocol):
    def __call__(self, c: _Array, **arguments: Any) -> Any: ...


def columns(terms: Sequence[Terms]) -> tuple[str, ...]:
    """The names of all terms, in order."""
    return tuple(sorted({name for each in terms for name in each}))


def matrix(terms: Sequence[Terms], names: Sequence[str]) -> _Array:
    """Points by terms, in seconds."""
    return np.array([[each.get(name, 0.0) for name in names] for each in terms])


def floor(name: str) -> float:
    """The least factor that a term can have."""
    if name.endswith(".bytes"):
        return SWITCHED
    return FLOOR if name.endswith((".memory", ".compute")) else 0.0


def fit(terms: Sequence[Terms], seconds: Sequence[float]) -> dict[str, float]:
    """The factors that points are explained by best. Deterministic."""
    names = columns(terms)
    values = solve(matrix(terms, names), np.array(seconds), names)
    return dict(zip(names, (float(value) for value in values), strict=True))


def solve(matrix: _Array, seconds: _Array, names: Sequence[str]) -> _Array:
    """The linear program on arrays: one row per point, one column per term."""
    from scipy import optimize, sparse  # pyright: ignore[reportMissingTypeStubs] - it has none

    relative = matrix / seconds[:, None]
    points, width = relative.shape
    ridge = RIDGE * np.array([0.0 if name in _FREE else 1.0 for name in names])
    costs = np.concatenate([ridge * np.abs(relative).sum(axis=0), np.ones(points)])
    library: Any = sparse
    wide, slack = library.csr_matrix(relative), library.eye(points)
    rows = library.vstack(
        [library.hstack([wide, -slack]), library.hstack([-wide, -slack])], format="csr"
    )
    limits = np.concatenate([np.ones(points), -np.ones(points)])
    bounds = [(floor(name), None) for name in names] + [(0.0, None)] * points
    linprog = cast("_Program", cast("Any", optimize).linprog)
    found = linprog(costs, A_ub=rows, b_ub=limits, bounds=bounds, method="highs")
    if found.status != 0:
        raise ArithmeticError(f"the fit of {points} points failed: {found.message}")
    return np.asarray(found.x[:width], dtype=np.float64)


def intervals(
    terms: Sequence[Terms], seconds: Sequence[float], groups: Sequence[str], draws: int, seed: int
) -> Mapping[str, tuple[float, float]]:
    """5th and 95th percentile of factors over resamples of the points, within each group."""
    names = columns(terms)
    table, times = matrix(terms, names), np.array(seconds)
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(np.array(groups) == group) for group in sorted(set(groups))]
    found: list[_Array] = []
    for _ in range(draws):
        picked = np.concatenate([random.choice(each, len(each)) for each in members])
        found.append(solve(table[picked], times[picked], names))
    low, high = np.quantile(np.stack(found), [0.05, 0.95], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}
