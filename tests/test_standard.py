"""Exact forms and their floating-point arrays: nothing is lost on the way."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from solving_fixtures import attention, ffn, toy_space

from surgery.ir import Site
from surgery.solving.columns import Columns
from surgery.solving.linear import Linear
from surgery.solving.standard import Knapsack, standard

ONE_LAYER = [
    {
        Site.ATTENTION: [attention(text, 40, 0.0) for text in ("full", "window(16)", "noop")],
        Site.FFN: [ffn(text, 90, 0.0) for text in ("64", "32", "noop")],
    }
]
GROUPS = ((0, 1, 2), (3,), (4, 5))
fractions = st.fractions(-5, 5, max_denominator=60)
linears = st.builds(Linear, fractions, st.dictionaries(st.integers(0, 5), fractions))
CHOICES = [set(c) for c in product(*GROUPS)]


@given(linears)
@settings(deadline=None, max_examples=40)
def test_settled_forms_have_the_same_values(form: Linear) -> None:
    settled = form.settled(GROUPS)
    assert [settled.at(c) for c in CHOICES] == [form.at(c) for c in CHOICES]
    assert all(value > 0 for value in settled.terms.values())
    assert settled.constant <= min(form.at(c) for c in CHOICES)


@given(linears)
@settings(deadline=None, max_examples=40)
def test_knapsacks_hold_exactly_when_rows_do(form: Linear) -> None:
    knapsack = Knapsack.of(form, GROUPS)
    for choice in CHOICES:
        weight = sum(knapsack.weights.get(j, 0) for j in choice)
        assert (weight <= knapsack.room) is (form.at(choice) <= 0)


@given(linears)
@settings(deadline=None, max_examples=40)
def test_covers_cut_off_what_overfills_and_nothing_that_fits(form: Linear) -> None:
    knapsack = Knapsack.of(form, GROUPS)
    for choice in CHOICES if knapsack.room >= 0 else ():
        cover = knapsack.cover(choice, GROUPS)
        assert (cover is None) is (form.at(choice) <= 0)
        if cover is not None:
            assert cover.at(choice) > 0
            assert all(cover.at(c) <= 0 for c in CHOICES if form.at(c) <= 0)


@given(st.lists(st.floats(-2, 2), min_size=4, max_size=4), st.integers(0, 80))
@settings(deadline=None, max_examples=60)
def test_excluded_columns_are_in_no_good_choice(duals: list[float], room: int) -> None:
    """Reduced-cost fixing is right for any multipliers, not only the solver's."""
    space, _ = toy_space(ONE_LAYER)
    columns = Columns(space)
    weights = {0: 40, 1: 40, 3: 90, 4: 45}
    goal = Linear(Fraction(0), {j: Fraction(n, 7) for n, j in enumerate((2, 1, 5, 4), start=1)})
    form = standard(columns, [Knapsack(weights, room), Knapsack({2: 1, 5: 1}, 1)], goal)
    assert form is not None
    good = [
        set(c)
        for c in product(*columns.sites)
        if sum(weights.get(j, 0) for j in c) <= room and not {2, 5} <= set(c)
    ]
    for cutoff in {goal.at(c) for c in good}:
        excluded = form.too_dear(np.array(duals), float(cutoff))
        assert not any(c & set(excluded) for c in good if goal.at(c) <= cutoff)
