"""Multiple-choice knapsacks on arrays: every step against brute force."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import inf
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from surgery.solving.knapsack import core, dual, labels, lattice, repair, search
from surgery.solving.knapsack.instance import Floats, Instance
from surgery.solving.knapsack.search import Policy

Every = tuple[NDArray[np.int64], Floats, NDArray[np.bool_]]

# ---- instances at random ---------------------------------------------------------------------

KINDS = ("at most", "at least", "exactly", "between", "count", "exceptions", "none")


def instance(seed: int) -> Instance:
    """Up to six groups of up to four items, with up to three requirements of any kind."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, rng.integers(1, 7))
    count = int(sizes.sum())
    start = np.concatenate([[0], np.cumsum(sizes)])
    scale = float(rng.choice([1.0, 1e-4, 1e6]))
    cost = rng.choice([0.0, 0.25, 0.5, *rng.random(6)], count) * scale
    rows: list[Floats] = []
    rooms: list[float] = []
    for _ in range(int(rng.integers(0, 4))):
        kind = str(rng.choice(KINDS))
        largest = 2 if kind in ("count", "exceptions") else int(rng.choice([10, 10**6, 10**12]))
        weight = rng.integers(0, largest, count).astype(np.float64)
        some = weight[rng.integers(start[:-1], start[1:])].sum()
        share = float(rng.choice([1.0, 1.0, 0.9, 0.6]))
        if kind in ("at most", "between", "exactly", "exceptions"):
            rows.append(weight)
            rooms.append(np.floor(some * (1 if kind == "exactly" else share)))
        if kind in ("at least", "between", "exactly", "count"):
            rows.append(-weight)
            rooms.append(-some + (float(largest // 5) if kind == "between" else 0.0))
    weights = np.array(rows).reshape(len(rows), count)
    return Instance.of(cost, weights, np.array(rooms), start)


def everything(made: Instance) -> Every:
    """Every choice (positions), its cost, and whether it fits."""
    ranges = [range(a, b) for a, b in zip(made.start[:-1], made.start[1:], strict=True)]
    choices = np.array(list(product(*ranges)))
    used = made.weight[:, choices].sum(axis=2)
    return choices, made.cost[choices].sum(axis=1), (used <= made.room[:, None]).all(axis=0)


def least(made: Instance) -> float:
    """The least cost of a choice that fits, by looking at all of them."""
    _, costs, fits = everything(made)
    return float(costs[fits].min(initial=inf))


POLICIES = (
    Policy(),
    Policy(width=2),
    Policy(width=0),
    Policy(width=0, presolve=False),
    Policy(crowd=0),
    Policy(crowd=0, width=2),
)


@pytest.mark.parametrize("block", range(4))
def test_brute_force_agrees_on_2000_instances(block: int) -> None:
    """Labels on all; on every other one labels that overflow, HiGHS with and without presolve, or
    splits wherever there can be any, with labels and with HiGHS."""
    feasible = 0
    for seed in range(500 * block, 500 * (block + 1)):
        made = instance(seed)
        expected = least(made)
        feasible += expected < inf
        for policy in (POLICIES[0], POLICIES[1 + seed // 2 % 5])[: 1 + seed % 2]:
            answer = search.solve(made, policy)
            if expected == inf:
                assert answer.status == "infeasible", seed
                continue
            assert answer.status == "optimal", seed
            assert answer.chosen is not None
            assert made.fits(answer.chosen)
            assert made.total(answer.chosen) <= expected * (1 + 1e-9), seed
            assert answer.bound <= expected * (1 + 1e-12), seed
            assert answer.bound >= expected * (1 - 1e-8), seed
    assert 250 < feasible < 480


@pytest.mark.parametrize("gap", [0.3, 0.01])
def test_a_gap_is_kept_and_bounds_are_true(gap: float) -> None:
    for seed in range(150):
        made = instance(seed)
        answer = search.solve(made, Policy(gap=gap, effort=0))
        expected = least(made)
        if answer.chosen is None:
            assert expected == inf
            continue
        assert answer.bound <= expected * (1 + 1e-12)
        assert made.total(answer.chosen) - answer.bound <= gap * made.total(answer.chosen) + 1e-12


def test_a_warm_start_changes_no_optimum() -> None:
    for seed in range(100):
        made = instance(seed)
        cold = search.solve(made, Policy())
        rng = np.random.default_rng(seed)
        warm = search.solve(made, Policy(), rng.random((2, len(made.room))))
        assert warm.status == cold.status
        if cold.chosen is not None and warm.chosen is not None:
            assert made.total(warm.chosen) == pytest.approx(made.total(cold.chosen), rel=1e-9)


def test_whole_costs_are_proved_by_rounding_up() -> None:
    """Counts of edits: the bound 2.3 of whole numbers is 3."""
    for seed in range(200):
        made = instance(seed)
        whole = Instance(np.rint(made.cost * 1e6) % 3, *_rest(made))
        answer = search.solve(whole, Policy(), step=1.0)
        expected = least(whole)
        assert (answer.chosen is None) is (expected == inf)
        if answer.chosen is not None:
            assert whole.total(answer.chosen) == expected == answer.bound


def _rest(made: Instance) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]:
    return made.weight, made.room, made.start, made.item


# ---- the steps -------------------------------------------------------------------------------

seeds = st.integers(0, 10**6)


@given(seeds, st.lists(st.floats(0, 4), min_size=6, max_size=6))
@settings(deadline=None, max_examples=60)
def test_any_multipliers_bound_and_exclude_nothing_good(seed: int, prices: list[float]) -> None:
    """Weak duality and reduced-cost fixing hold for whatever multipliers."""
    made = instance(seed)
    price = np.array(prices[: len(made.room)]) / np.maximum(made.room, 1)
    choices, costs, fits = everything(made)
    bound = dual.lagrangian(made, price).value
    assert not fits.any() or bound <= costs[fits].min()
    for cutoff in np.unique(costs[fits])[:3]:
        kept = dual.within(made, price[None], float(cutoff))
        assert kept[choices[fits & (costs <= cutoff)]].all()


@given(seeds)
@settings(deadline=None, max_examples=60)
def test_kelley_reaches_the_bound_of_the_relaxation(seed: int) -> None:
    from scipy.optimize import linprog  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType] - it has none

    made = instance(seed)
    sites = np.zeros((made.groups, len(made.cost)))
    sites[made.home, np.arange(len(made.cost))] = 1
    unit = np.maximum(made.room, 1)
    rows = made.weight / unit[:, None], made.room / unit
    solve = cast("Callable[..., Any]", linprog)
    solved = solve(made.cost, *(rows if len(unit) else (None, None)), sites, np.ones(made.groups))
    bundle = dual.kelley(made)
    if solved.status == 2:
        assert bundle.unfit
        return
    fun = float(solved.fun)
    assert bundle.bound <= fun + 1e-6 * max(made.cost.max(), abs(fun))
    assert bundle.bound >= fun - 1e-4 * made.cost.sum()


@given(seeds)
@settings(deadline=None, max_examples=60)
def test_repair_makes_choices_that_fit(seed: int) -> None:
    made = instance(seed)
    bundle = dual.kelley(made)
    chosen = None if bundle.unfit else repair.best(made, bundle)
    assert chosen is None or (made.fits(chosen) and (made.home[chosen] == range(made.groups)).all())


@given(seeds, st.floats(0, 1.5))
@settings(deadline=None, max_examples=60)
def test_labels_find_the_best_within_a_cutoff_or_prove_there_is_none(
    seed: int, share: float
) -> None:
    made = instance(seed)
    expected = least(made)
    cutoff = share * (expected if expected < inf else float(made.cost.sum()))
    found = labels.search(made, np.zeros((1, len(made.room))), cutoff, 10**6)
    assert found.proved
    if expected <= cutoff:
        assert found.chosen is not None
        assert made.fits(found.chosen)
        assert made.total(found.chosen) == pytest.approx(expected, rel=1e-12)
    elif found.chosen is not None:
        assert made.total(found.chosen) > cutoff


@given(seeds)
@settings(deadline=None, max_examples=40)
def test_covers_lose_no_choice_that_fits(seed: int) -> None:
    made = instance(seed)
    choices, _, fits = everything(made)
    for chosen in choices[~fits][:3]:
        covered = core.covered(made, chosen)
        assert not (covered.used(chosen)[len(made.room) :] <= covered.room[len(made.room) :]).any()
        assert all(covered.fits(each) for each in choices[fits])


def test_totals_that_floats_cannot_hold_are_refused() -> None:
    weight = np.array([[0.0, 2.0**52, 0.0, 2.0**52]])
    with pytest.raises(ValueError, match="2\\*\\*53"):
        Instance.of(np.zeros(4), weight, np.zeros(1), np.array([0, 2, 4]))


@given(seeds)
@settings(deadline=None, max_examples=60)
def test_the_mixture_of_steps_is_a_point_of_the_relaxation(seed: int) -> None:
    """It keeps every row and costs what the bound says; where it is whole, it is a choice."""
    made = instance(seed)
    bundle = dual.kelley(made)
    if not bundle.unfit:
        unit = np.maximum(made.room, 1)
        assert (bundle.mixed(made.weight) <= made.room + 1e-3 * unit).all()
        assert bundle.mixed(made.cost[None])[0] == pytest.approx(
            bundle.bound, rel=1e-3, abs=1e-3 * float(made.cost.max())
        )


# ---- splits ----------------------------------------------------------------------------------


def library(layers: int, noise: float, seed: int) -> tuple[Instance, Floats]:
    """Layers of three heads times five widths with noisy weights, and the grid's numbers."""
    rng = np.random.default_rng(seed)
    heads, widths = (each.ravel() for each in np.meshgrid([0, 1, 2], range(5), indexing="ij"))
    grid = np.tile(np.array([heads, widths]), layers).astype(np.float64)
    noisy = 1 + noise * rng.uniform(-1, 1, (2, grid.shape[1]))
    weight = np.rint(np.array([[70e6, 33e6], [4e6, 0.0]]) @ grid * noisy)
    harm = rng.uniform(0.5, 1.5, (2, layers)).repeat(15, axis=1)
    cost = ((np.array([[2.0], [4.0]]) - grid) ** 1.5 * harm).sum(axis=0)
    start = np.arange(layers + 1) * 15
    most = np.maximum.reduceat(weight, start[:-1], axis=1).sum(axis=1)
    return Instance.of(cost, weight, np.floor(most * [0.62, 0.7]), start), grid


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.01])
def test_labels_tell_the_numbers_of_a_grid(noise: float) -> None:
    made, grid = library(12, noise, 1)
    assert np.array_equal(lattice.labels(made), grid)


def test_no_labels_where_there_is_no_grid() -> None:
    made, _ = library(12, 0.0, 1)
    weight = np.random.default_rng(0).integers(0, 10**6, made.weight.shape).astype(np.float64)
    assert not len(lattice.labels(Instance.of(made.cost, weight, made.room / 1e3, made.start)))


@pytest.mark.parametrize("seed", range(3))
def test_splits_agree_with_labels_alone_and_with_highs(seed: int) -> None:
    made, _ = library(14, 0.002, seed)
    answers = [
        search.solve(made, Policy(crowd=crowd, width=width))
        for crowd, width in ((0, 10**6), (10**9, 10**6), (10**9, 0))
    ]
    assert {answer.status for answer in answers} == {"optimal"}
    assert len(answers[0].leaves) > 1
    for answer in answers:
        assert answer.chosen is not None
        assert made.total(answer.chosen) == pytest.approx(answers[1].bound, rel=1e-8)
        assert answer.bound == pytest.approx(answers[1].bound, rel=1e-8)


@given(seeds)
@settings(deadline=None, max_examples=60)
def test_no_item_of_a_tie_is_lost(seed: int) -> None:
    """Splits leave out what is too dear, and never what is as good as the best."""
    made = instance(seed)
    choices, costs, fits = everything(made)
    answer = search.solve(made, Policy(crowd=0))
    if answer.chosen is not None:
        cutoff = made.total(answer.chosen) * (1 + search.TIE)
        kept = answer.within(len(made.cost), cutoff)
        assert kept[choices[fits & (costs <= cutoff)]].all()


@pytest.mark.parametrize("effort", [0, 10, 10**6])
def test_without_patience_the_search_stops_and_claims_nothing_false(effort: int) -> None:
    made, _ = library(14, 0.01, 0)
    best = search.solve(made, Policy())
    answer = search.solve(made, Policy(effort=effort, patience=False))
    again = search.solve(made, Policy(effort=effort, patience=False))
    assert answer.status == ("optimal" if effort == 10**6 else "stopped")
    assert answer.chosen is not None
    assert again.chosen is not None
    assert np.array_equal(answer.chosen, again.chosen)
    assert made.fits(answer.chosen)
    assert answer.bound <= best.bound * (1 + 1e-12)
    assert made.total(answer.chosen) >= best.bound * (1 - 1e-12)
