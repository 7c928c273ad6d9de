"""Folds over the layers of the result: `count`, `sum`, `every`, `some`, `min`, `max`.

In: a fold and what its body is worth on one layer, or a distance from a plan. Out: a linear form
(sums) or the table of an extreme. Predicates and bodies see the result, so every combination of a
layer's candidates is looked at, one layer at a time. Raises `Stop` (E0502) for a body that looks
beyond its layer.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import groupby

from msgspec.structs import replace

from surgery import evaluate
from surgery.affine import walk
from surgery.expr import Distance, Fold, Metric, ScoreTotal, Selector
from surgery.facts import Context
from surgery.ir import Layer
from surgery.solving.columns import Columns
from surgery.solving.linear import ZERO, Extreme, Linear, constant
from surgery.solving.refusals import not_linear


def total(
    fold: Fold, columns: Columns, context: Context, worth: Callable[[Context], Fraction]
) -> Linear:
    """The sum of `worth` over the selected layers; `context` is that of the parent model."""
    _check(fold)
    member, picked = _membership(fold.selector, context)
    form = constant(0)
    for layer in picked:

        def value(made: Layer) -> Fraction:
            here = replace(context, layer=made, sink=None)
            return worth(here) if member(here) else ZERO

        form = form.plus(columns.form(layer, value))
    return form


def extreme(
    fold: Fold, columns: Columns, context: Context, worth: Callable[[Context], Fraction]
) -> Extreme:
    """The values that a `min` or `max` ranges over, by the choices that bring them about."""
    _check(fold)
    member, picked = _membership(fold.selector, context)
    members: list[tuple[frozenset[int], Fraction]] = []
    for layer in picked:
        for chosen, made in columns.combinations(layer):
            here = replace(context, layer=made, sink=None)
            if member(here):
                members.append((frozenset(chosen), worth(here)))
    return Extreme(fold, tuple(members))


def apart(distance: Distance, columns: Columns) -> Linear:
    """In how many layers the choices and a plan differ; what the space does not offer differs."""
    column = {c.decision: n for n, c in enumerate(columns.candidates)}
    found = constant(0)
    for layer, decisions in groupby(distance.decided, key=lambda decision: decision[0]):
        chosen = [column.get(decision) for decision in decisions]
        offered = [n for n in chosen if n is not None]
        found = found.plus(constant(1))
        if len(offered) == len(chosen):
            found = found.plus(columns.same(layer, offered), -1)
    return found


def _membership(
    selector: Selector, context: Context
) -> tuple[Callable[[Context], bool], tuple[int, ...]]:
    """Whether the layer at hand is selected, and the layers for which that can be."""
    parts = [
        (evaluate.layers_of(Selector(selector.span, replace(p, where=None)), context.layers), p)
        for p in (selector.include, *selector.excludes)
    ]

    def member(here: Context) -> bool:
        index = here.layer.index if here.layer else -1
        inside, *outside = (
            index in picked and (part.where is None or evaluate.holds(part.where, here))
            for picked, part in parts
        )
        return inside and not any(outside)

    return member, parts[0][0]


def _check(fold: Fold) -> None:
    for node in walk((fold.selector, fold.body)):
        own = isinstance(node, Metric) and not node.parent
        if own or isinstance(node, ScoreTotal | Distance | Fold):
            raise not_linear(node.span, "this is about the whole result, not about one layer")
