"""Problem -> what simpler ways of choosing make of it, to set beside the optimum.

In: a problem with at least one solution. Out: `Rival`s: choices of the same candidates that keep
the same requirements, exactly. A way that finds no such choice has none. Not here: measuring,
children of other candidates (`baseline.py`).

* `greedy`: the baseline of paper A (its ablations). Every requirement's room is split evenly over
  the sites; sites are taken in the order of their mean damage, least first; each takes what costs
  least within its part, and leaves what it saves to those after it.
* `random`: the choice that a lot drawn per candidate makes cheapest (paper A's random library
  blocks), one per seed. Drawing choices until one keeps all requirements would never end.
* `largest`: most parameters, the ablation that looks at sizes alone.
* `uniform`: one alternative per kind of site, the same wherever it is offered.
* `periodic`: the same, with the parent's attention in every second, third or fourth layer that
  could lose it, as models that mix windows are designed by hand.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product

from msgspec import Struct

from surgery.ir import Site
from surgery.passes.constrain import Problem
from surgery.passes.solve import Solver
from surgery.solving.linear import ZERO, Linear

WAYS = ("greedy", "largest", "uniform", "periodic")
"""Those that make one choice or none."""
SEEDS = 3
"""Lots that are drawn unless somebody asks for more."""
_PERIODS = (2, 3, 4)


class Rival(Struct, frozen=True):
    """A choice (one column per site) under the name of how it was made; the objective is exact."""

    name: str
    chosen: tuple[int, ...]
    objective: Fraction


def run(problem: Problem, seeds: int) -> tuple[Rival, ...]:
    """The rivals that there are, in the order above; `seeds` lots are drawn, from 0 on."""
    found: list[tuple[str, tuple[int, ...] | None]] = [("greedy", greedy(problem))]
    found += [(f"random, seed {seed}", _random(problem, seed)) for seed in range(seeds)]
    found += [("largest", _largest(problem))]
    found += [("uniform", _best(problem, _uniform(problem)))]
    found += [("periodic", _best(problem, _periodic(problem)))]
    return tuple(
        Rival(name, chosen, problem.objective.at(problem.columns.active(chosen)))
        for name, chosen in found
        if chosen is not None and keeps(problem, chosen)
    )


def keeps(problem: Problem, chosen: Sequence[int]) -> bool:
    """Whether a choice keeps every row, exactly."""
    active = problem.columns.active(chosen)
    return all(row.at(active) <= 0 for row in problem.rows)


# ---- greedy ----------------------------------------------------------------------------------


def greedy(problem: Problem) -> tuple[int, ...] | None:
    """Site by site within even parts; `None` where sites interact, and so have no part."""
    columns = problem.columns
    if columns.grids:
        return None
    goal = problem.goal
    rows = [row.settled(columns.groups) for row in problem.rows]
    room = [-row.constant for row in rows]
    if any(each < 0 for each in room):
        return None
    order = sorted(columns.sites, key=lambda site: (_mean(goal, site), site))
    chosen: list[int] = []
    for taken, site in enumerate(order):
        part = [each / (len(order) - taken) for each in room]
        best = min(site, key=lambda column: (_over(rows, part, column), goal.terms.get(column, 0)))
        room = [r - row.terms.get(best, ZERO) for r, row in zip(room, rows, strict=True)]
        chosen.append(best)
    return tuple(sorted(chosen))


def _mean(goal: Linear, site: Sequence[int]) -> Fraction:
    return sum((goal.terms.get(column, ZERO) for column in site), ZERO) / len(site)


def _over(rows: Sequence[Linear], part: Sequence[Fraction], column: int) -> Fraction:
    """How far a column is over its parts, the worst of them; 0 within all."""
    over = (row.terms.get(column, ZERO) - p for row, p in zip(rows, part, strict=True))
    return max((each for each in over if each > 0), default=ZERO)


# ---- by another objective --------------------------------------------------------------------


def _random(problem: Problem, seed: int) -> tuple[int, ...] | None:
    draw = random.Random(seed)
    count = len(problem.columns.candidates)
    return _least(problem, {n: Fraction(draw.getrandbits(30)) for n in range(count)})


def _largest(problem: Problem) -> tuple[int, ...] | None:
    candidates = problem.columns.candidates
    return _least(problem, {n: Fraction(-c.cost.params) for n, c in enumerate(candidates)})


def _least(problem: Problem, costs: dict[int, Fraction]) -> tuple[int, ...] | None:
    found = Solver(problem.columns).minimise(problem.rows, Linear(ZERO, costs))
    return found.chosen if found.status == "optimal" else None


# ---- by a pattern ----------------------------------------------------------------------------


def _best(problem: Problem, choices: Iterator[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The least goal of those that keep the rows."""
    kept = (chosen for chosen in choices if keeps(problem, chosen))
    active = problem.columns.active
    return min(kept, key=lambda chosen: (problem.goal.at(active(chosen)), chosen), default=None)


def _uniform(problem: Problem) -> Iterator[tuple[int, ...]]:
    kinds = _kinds(problem)
    for texts in product(*(kinds[site] for site in kinds)):
        wanted = dict(zip(kinds, texts, strict=True))
        yield tuple(
            _take(problem, site, wanted[problem.columns.candidates[site[0]].site])
            for site in problem.columns.sites
        )


def _periodic(problem: Problem) -> Iterator[tuple[int, ...]]:
    """Uniform choices with some attention blocks left as they are."""
    columns = problem.columns
    offered = [
        number
        for number, site in enumerate(columns.sites)
        if len(site) > 1 and columns.candidates[site[0]].site is Site.ATTENTION
    ]
    for chosen in _uniform(problem):
        for period in _PERIODS:
            for phase in range(period):
                kept = {number for place, number in enumerate(offered) if place % period == phase}
                yield tuple(
                    _take(problem, site, "") if number in kept else column
                    for number, (site, column) in enumerate(zip(columns.sites, chosen, strict=True))
                )


def _kinds(problem: Problem) -> dict[Site, list[str]]:
    """The alternatives of every kind of site, by what a plan calls them; "" leaves it as it is."""
    found: dict[Site, dict[str, None]] = {}
    for candidate in problem.columns.candidates:
        texts = found.setdefault(candidate.site, {"": None})
        if candidate.changed:
            texts[candidate.text] = None
    return {site: list(texts) for site, texts in found.items()}


def _take(problem: Problem, site: Sequence[int], text: str) -> int:
    """The column of a site with this text, or the one that changes nothing."""
    candidates = problem.columns.candidates
    same = (n for n in site if candidates[n].changed and candidates[n].text == text)
    own = (n for n in site if not candidates[n].changed)
    return next(same, next(own, site[0]))
