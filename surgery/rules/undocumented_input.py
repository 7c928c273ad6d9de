"""W0902 undocumented-input: an `input` without a `##` comment.

Inputs are what others set without reading the spec, so each says what it means.
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Label
from surgery.grammar import ast
from surgery.rules.rule import Rule, Subject


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report every input without documentation."""
    for item in subject.tree.items:
        if isinstance(item, ast.Input) and not item.doc:
            name = item.name.text
            label = Label(item.head, "no `##` comment above", primary=True)
            helps = (Help(f"say what it means and what one might set: `## ... --set {name}=...`"),)
            message = f"the input `{name}` is not documented"
            yield Diagnostic(catalog.W0902, message, (label,), helps=helps)


RULE = Rule(catalog.W0902, check)
