"""W0803 unfrozen-router: `recover` trains the router of layers that may lose experts."""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import ast
from surgery.rules.rule import Rule, Subject
from surgery.source import Span

_TRAINING = ("distill", "reinforce")


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report every step that trains and does not freeze the router."""
    items = subject.tree.items
    pruned = next((each for each in items if _prunes(each)), None)
    if pruned is None:
        return
    for item in items:
        if isinstance(item, ast.Recover):
            for step in item.steps:
                known = _freezes(step) or subject.tree.has_hole(step.span)
                if step.kind.text in _TRAINING and not known:
                    yield _trains(step, pruned)


def _prunes(item: ast.Item) -> bool:
    return (
        isinstance(item, ast.Choose)
        and item.site.text == "experts"
        and any(isinstance(each, ast.Edit) for each in item.alternatives)
    )


def _frozen(step: ast.Step) -> ast.Field | None:
    return next((field for field in step.fields if field.name.text == "freeze"), None)


def _freezes(step: ast.Step) -> bool:
    field = _frozen(step)
    return field is not None and any(
        isinstance(node, ast.Name) and node.text == "router" for node in ast.walk(field.value)
    )


def _trains(step: ast.Step, pruned: ast.Item) -> Diagnostic:
    field, source = _frozen(step), step.span.source
    if field is None:
        at = step.span.end - 1
        edit = Edit(Span(source, at, at), "  freeze = [router]\n  ")
    else:
        at = field.value.span.start + 1
        rest = source.text[at : field.value.span.end - 1].strip()
        edit = Edit(Span(source, at, at), "router, " if rest else "router")
    labels = (
        Label(step.kind.span, "trains the router too", primary=True),
        Label(pruned.head, "experts are removed here"),
    )
    return Diagnostic(
        catalog.W0803,
        f"`{step.kind.text}` trains the router of layers that may have lost experts",
        labels,
        notes=("which experts stay was decided by what this router does",),
        helps=(Help("leave the router as it is", Fix((edit,), Safety.UNSAFE)),),
    )


RULE = Rule(catalog.W0803, check)
