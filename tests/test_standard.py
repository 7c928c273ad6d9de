"""Exact forms and their knapsacks: nothing is lost on the way."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.solving.linear import Linear
from surgery.solving.standard import Knapsack

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
