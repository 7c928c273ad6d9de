"""W0903 unlabelled-requirement: a `require` without an `@label`.

Labels name requirements in plans, in diffs, and where a solver says which of them conflict.
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import ast
from surgery.rules.places import free
from surgery.rules.rule import Rule, Subject
from surgery.source import Span


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report every requirement without a label, and suggest one that is free."""
    items = subject.tree.items
    used = {
        item.label.text
        for item in items
        if isinstance(item, ast.Expect | ast.Require) and item.label
    }
    for item in items:
        if not isinstance(item, ast.Require) or item.label is not None:
            continue
        if not subject.tree.has_hole(item.span):
            label = free(suggested(item.condition), used, "-")
            used.add(label)
            yield _unlabelled(item, label)


def suggested(condition: ast.Expr) -> str:
    """A label from what a condition is about: `memory-solo`, `full-attention`, `params`."""
    for node in ast.walk(condition):
        match node:
            case ast.Fold(selector=selector, body=body):
                parts = (*ast.walk(selector), *(ast.walk(body) if body else ()))
                words = [_word(each) for each in parts]
                return _spelt(next((word for word in words if word), node.kind))
            case ast.Call(func=ast.Name(text=name), args=args):
                inner = [each.value.text for each in args if isinstance(each.value, ast.Name)]
                return _spelt("-".join((name, *inner[:1])))
            case ast.Name(text=name):
                return _spelt(name)
            case _:
                pass
    return "limit"


def _word(node: ast.Node) -> str:
    match node:
        case ast.Is(value=ast.Name(text=site), word=ast.Ident(text=word), negated=negated):
            return f"{'no-' if negated else ''}{word}-{site}"
        case ast.Name(text=name):
            return name
        case _:
            return ""


def _spelt(word: str) -> str:
    return word.replace("_", "-").strip("-") or "limit"


def _unlabelled(item: ast.Require, label: str) -> Diagnostic:
    at = Span(item.span.source, item.head.start + len("require"), item.head.start + len("require"))
    fix = Fix((Edit(at, f" @{label}"),), Safety.UNSAFE)
    return Diagnostic(
        catalog.W0903,
        "this requirement has no label",
        (Label(item.head, "plans and conflicts cannot name it", primary=True),),
        helps=(Help(f"call it `@{label}`", fix),),
    )


RULE = Rule(catalog.W0903, check)
