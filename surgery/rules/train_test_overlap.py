"""W0713 train-test-overlap: `recover` trains on text that a score or the judge measures with.

After training, such a measurement says how well the text was learnt, and no more what was lost.
Two datasets of one place count as one: their samples may be the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Label
from surgery.grammar import ast
from surgery.rules.rule import Rule, Subject


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report every field of `recover` that names such a dataset."""
    items = subject.tree.items
    datasets = (item for item in items if isinstance(item, ast.Dataset))
    places = {each.name.text: each.call.span.text for each in datasets}
    uses = tuple(_uses(subject.tree))
    for item in items:
        if isinstance(item, ast.Recover):
            for step in item.steps:
                for field in step.fields:
                    if isinstance(field.value, ast.Name) and field.value.text in places:
                        yield from _overlaps(step, field.value, uses, places)


def _uses(tree: ast.Spec) -> Iterator[tuple[ast.Name, str]]:
    """Datasets where they measure, and in words what they do there."""
    for item in tree.items:
        if isinstance(item, ast.Score):
            for name in ast.walk(item.call):
                if isinstance(name, ast.Name):
                    yield name, f"with which the score `{item.name.text}` measures"
        elif isinstance(item, ast.Emit):
            for field in item.fields:
                if field.name.text == "judge" and isinstance(field.value, ast.Name):
                    yield field.value, "which judges the child"


def _overlaps(
    step: ast.Step,
    data: ast.Name,
    uses: tuple[tuple[ast.Name, str], ...],
    places: dict[str, str],
) -> Iterator[Diagnostic]:
    found = [(name, what) for name, what in uses if places.get(name.text) == places[data.text]]
    if not found:
        return
    name, what = found[0]
    other = "" if name.text == data.text else f"`{name.text}` comes from the same place: "
    labels = [Label(data.span, "trained on here", primary=True)]
    labels += [Label(each.span, "measured with here") for each, _ in found]
    yield Diagnostic(
        catalog.W0713,
        f"`{step.kind.text}` trains on `{name.text}`, {what}",
        tuple(labels),
        notes=(f"{other}what is measured with it afterwards says nothing about other text",),
        helps=(Help("train on a dataset of its own"),),
    )


RULE = Rule(catalog.W0713, check)
