"""W0708 missing-keep: a `choose` without `keep`, which forces every layer to change.

One with a single alternative decides nothing and has a lint of its own (W0719).
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import ast
from surgery.rules.rule import Rule, Subject
from surgery.source import Span


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report every choice among changes only."""
    for item in subject.tree.items:
        if not isinstance(item, ast.Choose) or _keeps(item) or not _several(item):
            continue
        # What could not be read may be the `keep`.
        if not subject.tree.has_hole(item.span):
            yield _no_keep(item)


def _keeps(item: ast.Choose) -> bool:
    return any(isinstance(each, ast.Keep) for each in item.alternatives)


def _several(item: ast.Choose) -> bool:
    return (
        sum(
            max(1, len(each.args)) if isinstance(each, ast.Edit) else 1
            for each in item.alternatives
        )
        > 1
    )


def _no_keep(item: ast.Choose) -> Diagnostic:
    first = item.alternatives[0].span
    text = first.source.text
    indent = text[text.rfind("\n", 0, first.start) + 1 : first.start]
    break_ = " " if indent.strip() else f"\n{indent}"
    fix = Fix((Edit(Span(first.source, first.start, first.start), f"keep{break_}"),), Safety.UNSAFE)
    label = Label(item.head, "no layer can stay as it is", primary=True)
    return Diagnostic(
        catalog.W0708,
        f"every layer selected here must change its {item.site.text}",
        (label,),
        helps=(Help("offer what the parent has as well", fix),),
    )


RULE = Rule(catalog.W0708, check)
