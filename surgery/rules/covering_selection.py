"""W0702: a condition on layers that every layer of this parent meets.

In: the tree, the spec, the parent. Out: findings about the `where` of a `choose` and the `when`
of an alternative, with fixes that take the condition away. A `where` that is true of any model is
told without one (`selection_covers_everything.py`); conditions inside `expect` and `require` are
questions, and true is an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety, Stop
from surgery.evaluate import holds, layers_of, parent_context
from surgery.expr import Expr, Selector
from surgery.facts import Context
from surgery.grammar import ast, scan
from surgery.ir import Alternative, Model
from surgery.rules.rule import Rule, Subject
from surgery.rules.selection_covers_everything import always, clause
from surgery.source import Span
from surgery.units import format_layers


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding per condition that leaves nothing out."""
    spec, model = subject.spec, subject.model
    if spec is None or model is None:
        return
    context = parent_context(spec, model)
    nodes = [item for item in subject.tree.items if isinstance(item, ast.Choose)]
    for choice in (*spec.choices, *spec.facets):
        node = next((each for each in nodes if each.head == choice.span), None)
        if node is not None and choice.selector is not None:
            yield from _where(choice.selector, node.where.include, model, context)
            yield from _when(choice.selector, choice.alternatives, node, model, context)


def _where(
    selector: Selector, node: ast.LayerSet, model: Model, context: Context
) -> Iterator[Diagnostic]:
    include = selector.include
    if include.where is None or node.where is None or always(include.where):
        return
    layers = _layers(Selector(include.span, replace(include, where=None)), model, context)
    if _true(include.where, layers, model, context):
        yield _finding("where", node.where.span, clause(node), layers)


def _when(
    selector: Selector,
    alternatives: Sequence[Alternative],
    node: ast.Choose,
    model: Model,
    context: Context,
) -> Iterator[Diagnostic]:
    layers = _layers(selector, model, context)
    for edit in node.alternatives:
        if isinstance(edit, ast.Keep) or edit.when is None:
            continue
        when = next((each.when for each in alternatives if each.clause == edit.span), None)
        if when is not None and _true(when, layers, model, context):
            place = _when_clause(edit.when.span, edit.span)
            yield _finding("when", edit.when.span, place, layers)


def _layers(selector: Selector, model: Model, context: Context) -> tuple[int, ...]:
    try:
        return layers_of(selector, model.layers, context)
    except Stop:
        return ()


def _true(condition: Expr, layers: Sequence[int], model: Model, context: Context) -> bool:
    """Whether a condition holds in all of some layers, of which there are any."""
    try:
        found = [holds(condition, replace(context, layer=model.layers[n])) for n in layers]
    except Stop:
        return False
    return bool(found) and all(found)


def _finding(word: str, condition: Span, place: Span, layers: Sequence[int]) -> Diagnostic:
    fix = Fix((Edit(place, ""),), Safety.SAFE)
    plural = "layer" if len(layers) == 1 else "layers"
    return Diagnostic(
        catalog.W0702,
        f"this `{word}` leaves no layer of this model out",
        (Label(condition, f"true of {plural} {format_layers(layers)}", primary=True),),
        helps=(Help("remove the condition", fix),),
    )


def _when_clause(condition: Span, edit: Span) -> Span:
    """The `when`, with the blanks before it and the parentheses around its condition."""
    text = condition.source.text
    before = scan.lexemes(text[edit.start : condition.start])
    at = max(n for n, each in enumerate(before) if each.text == "when")
    depth = sum(each.text == "(" for each in before[at:])
    after = scan.lexemes(text[condition.end : edit.end])[:depth]
    start = len(text[: edit.start + before[at].start].rstrip())
    return Span(condition.source, start, condition.end + (after[-1].end if after else 0))


RULE = Rule(catalog.W0702, check)
