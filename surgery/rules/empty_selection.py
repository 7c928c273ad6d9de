"""W0701: layers that are asked about, or left out, and of which there are none.

In: the spec, the parent, its space. Out: findings about folds of requirements that no result has
a layer for, and about an `except` that takes no layer away. What a `choose` or an `expect` selects
is looked at by `passes/expand.py` and `evaluate.py`. Counting nothing is an answer, so `count` and
`some` are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from msgspec.structs import replace

from surgery import catalog
from surgery.diagnostics import Diagnostic, Label, Stop
from surgery.evaluate import layers_of, parent_context
from surgery.expr import Fold, LayerSet, Selector
from surgery.facts import Context
from surgery.ir import Model, Space, Spec
from surgery.rules.rule import Rule, Subject
from surgery.solving import folds
from surgery.solving.columns import Columns
from surgery.solving.rows import most


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding per empty set of layers."""
    spec, model, space = subject.spec, subject.model, subject.space
    if spec is None or model is None:
        return
    yield from _idle_excepts(spec, model)
    if space is not None and not spec.not_yet:
        yield from _empty_folds(subject, spec, space)


def _idle_excepts(spec: Spec, model: Model) -> Iterator[Diagnostic]:
    context = parent_context(spec, model)
    selectors = [offer.selector for offer in (*spec.choices, *spec.facets) if offer.selector]
    for selector in selectors:
        for part in selector.excludes:
            inside = _members(selector.include, model, context)
            outside = _members(part, model, context)
            if inside and outside is not None and not inside & outside:
                message = "this `except` takes no layer away"
                here = "selects none" if not outside else "none of these is selected before it"
                yield Diagnostic(catalog.W0701, message, (Label(part.span, here, primary=True),))


def _members(part: LayerSet, model: Model, context: Context) -> set[int] | None:
    try:
        return set(layers_of(Selector(part.span, part), model.layers, context))
    except Stop:
        return None


def _empty_folds(subject: Subject, spec: Spec, space: Space) -> Iterator[Diagnostic]:
    columns, context = Columns(space), parent_context(spec, space.model)
    for _, parts in subject.required:
        for part in parts:
            if not isinstance(part, Fold) or part.kind in ("count", "some"):
                continue
            if _always_empty(part, columns, context):
                message = f"`{part.kind}` looks at layers that no result has"
                here = f"none of {len(space.model.layers)} layers, whatever is chosen"
                label = Label(part.selector.span, here, primary=True)
                yield Diagnostic(catalog.W0701, message, (label,))


def _always_empty(fold: Fold, columns: Columns, context: Context) -> bool:
    """Whether no choice makes a layer that the fold selects."""
    counting = replace(fold, kind="count", body=None)
    try:
        return most(folds.total(counting, columns, context, lambda _: Fraction(1)), columns) <= 0
    except Stop:
        return False


RULE = Rule(catalog.W0701, check)
