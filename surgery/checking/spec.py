"""What was checked -> Spec: canonical order, what belongs to it, its digest.

In: the checked statements. Out: an `ir.Spec`. The machines, scenarios, datasets and scores of the
spec itself all belong to it; those of imported files when it refers to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias, TypeVar

from msgspec import Struct

from surgery import affine, ir
from surgery.checking.define import input_text
from surgery.checking.names import resolve
from surgery.checking.scope import Check
from surgery.checking.values import Decl, Entity, EntityType, Failed
from surgery.expr import Expr, Metric, ScoreTotal
from surgery.grammar import ast
from surgery.ir.digest import canonical

_D = TypeVar("_D")
_O = TypeVar("_O", ir.Choice, ir.Facet)
_SITES = {site: place for place, site in enumerate(ir.Site)}
_Key: TypeAlias = tuple[EntityType, str]


class Wishes(Struct, frozen=True):
    """`expect`s, `require`s and the objective, if they are right."""

    expects: tuple[ir.Requirement, ...]
    requirements: tuple[ir.Requirement, ...]
    objective: ir.Objective | None


def assemble(
    check: Check,
    model: ir.ModelDecl,
    offers: tuple[ir.Choice | ir.Facet, ...],
    wishes: Wishes,
    emits: tuple[ir.Emit, ...],
) -> ir.Spec:
    """The spec; there must be an objective."""
    assert wishes.objective is not None
    used = _used(check, offers, wishes)
    world = _reached(check, (*used, *(("dataset", each.judge) for each in emits if each.judge)))
    machines = _sorted(world, ir.Machine)
    scenarios = _sorted(world, ir.Scenario)
    datasets = _sorted(world, ir.Dataset)
    scores = _sorted(world, ir.Score)
    inputs = _inputs(check)
    # Not the emits: where a child is written, in which shards and what judges it decide nothing.
    decided = _reached(check, used)
    told = (*(entity.decl for entity in decided if entity.type != "model"), *inputs, *offers)
    expected = (("expect", each) for each in wishes.expects)
    meaning = (model, *told, *wishes.requirements, wishes.objective, *expected, *check.meaning)
    return ir.Spec(
        source=check.main.source,
        description=check.main.tree.description,
        model=model,
        inputs=inputs,
        machines=machines,
        scenarios=scenarios,
        datasets=datasets,
        scores=scores,
        choices=_ordered(o for o in offers if isinstance(o, ir.Choice)),
        expects=tuple(sorted(wishes.expects, key=_by_label)),
        requirements=tuple(sorted(wishes.requirements, key=_by_label)),
        objective=wishes.objective,
        emits=tuple(sorted(emits, key=lambda each: (each.kind, each.path))),
        not_yet=tuple(sorted(check.not_yet, key=lambda each: (each.what, each.span.start))),
        meaning=meaning,
        facets=_ordered(o for o in offers if isinstance(o, ir.Facet)),
    )


def _ordered(offers: Iterable[_O]) -> tuple[_O, ...]:
    """Choices by site and first layer written, then by what they mean, which takes a while."""
    found: dict[tuple[int, int], list[_O]] = {}
    for offer in offers:
        picks = offer.selector.include.picks if offer.selector else None
        first = min((pick.low for pick in picks or ()), default=0)
        found.setdefault((_SITES[offer.site], first), []).append(offer)
    groups = [group for _, group in sorted(found.items())]
    return tuple(
        each
        for group in groups
        for each in (sorted(group, key=canonical) if len(group) > 1 else group)
    )


def _by_label(each: ir.Requirement) -> tuple[str, str]:
    # No label is given twice.
    return (each.label, "") if each.label else ("", canonical(each))


def _inputs(check: Check) -> tuple[ir.InputValue, ...]:
    found: list[ir.InputValue] = []
    for item in check.main.items.values():
        if not isinstance(item, ast.Input):
            continue
        value = resolve(check, check.main, item.name.text, item.head)
        if not isinstance(value, Failed):
            text = input_text(value, item.type.text)
            found.append(ir.InputValue(item.head, item.name.text, text))
    return tuple(sorted(found, key=lambda each: each.name))


# ---- what belongs to the spec ----------------------------------------------------------------


def _sorted(world: list[Entity], kind: type[_D]) -> tuple[_D, ...]:
    """The records of one kind, by name."""
    found = sorted(world, key=lambda each: each.name)
    return tuple(each.decl for each in found if isinstance(each.decl, kind))


def _used(
    check: Check, offers: tuple[ir.Choice | ir.Facet, ...], wishes: Wishes
) -> tuple[_Key, ...]:
    """What the spec declares and what it refers to."""
    return (
        *(key for key in check.entities if key[1] in check.main.items),
        *(key for offer in offers for one in offer.alternatives for key in _texts(one)),
        *(key for each in (*wishes.expects, *wishes.requirements) for key in _names(each.expr)),
        *(_names(wishes.objective.expr) if wishes.objective else ()),
    )


def _reached(check: Check, used: Iterable[_Key]) -> list[Entity]:
    """What is used, and what that refers to."""
    waiting = list(used)
    found: dict[_Key, Entity] = {}
    while waiting:
        key = waiting.pop()
        if key not in found and key in check.entities:
            found[key] = check.entities[key]
            waiting += _needed(found[key].decl)
    return list(found.values())


def _texts(one: ir.Alternative) -> Iterator[_Key]:
    """The datasets that an alternative is ranked and initialised with."""
    for name in (one.by.dataset if one.by else None, one.init_dataset):
        if name:
            yield ("dataset", name)


def _names(expr: Expr) -> Iterator[_Key]:
    """The scores and scenarios in a formula."""
    for part in affine.walk(expr):
        if isinstance(part, ScoreTotal):
            yield ("score", part.score)
        elif isinstance(part, Metric) and part.scenario:
            yield ("scenario", part.scenario)


def _needed(decl: Decl) -> Iterator[_Key]:
    """What a declared thing names."""
    match decl:
        case ir.Score(dataset=name):
            yield ("dataset", name)
        case ir.Scenario(machine=name, routing=text):
            yield ("machine", name)
            if text:
                yield ("dataset", text)
        case _:
            pass
