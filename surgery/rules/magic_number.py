"""W0714 magic-number: the same literal in three requirements.

One idea should be one line to change. 0 and 1 have no name that says more than they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import ast
from surgery.rules.places import above, free, taken
from surgery.rules.rule import Rule, Subject

_MANY = 3
_NAMES = {"tok": "length", "params": "limit", "%": "share", "x": "factor", "layers": "depth"}


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report a literal where it stands in the third requirement."""
    found: dict[tuple[Fraction, str, str], dict[int, tuple[ast.Require, list[ast.Quantity]]]] = {}
    for item in subject.tree.items:
        if isinstance(item, ast.Require):
            for node in _literals(item.condition):
                key = (node.value, node.magnitude, node.unit)
                uses = found.setdefault(key, {})
                uses.setdefault(item.span.start, (item, []))[1].append(node)
    often = [tuple(uses.values()) for uses in found.values() if len(uses) >= _MANY]
    used = taken(subject.tree) if often else set[str]()
    for uses in often:
        yield _repeated(subject.tree, uses, used)


def _literals(node: ast.Node) -> Iterator[ast.Quantity]:
    """Literals that a name could stand for; the ends of a range are none of them."""
    if isinstance(node, ast.Quantity) and node.value not in (0, 1):
        yield node
    elif not isinstance(node, ast.Range):
        for child in ast.children(node):
            yield from _literals(child)


def _repeated(
    tree: ast.Spec, uses: tuple[tuple[ast.Require, list[ast.Quantity]], ...], used: set[str]
) -> Diagnostic:
    first, (literal, *_) = uses[0]
    text = literal.span.text
    place = above(first, tree)
    name = free(_NAMES.get(literal.unit, "limit" if not literal.unit else "size"), used)
    spans = [node.span for _, nodes in uses for node in nodes]
    edits = (Edit(place, f"let {name} = {text}\n\n"), *(Edit(span, name) for span in spans))
    third = uses[_MANY - 1][1][0]
    labels = [Label(third.span, "once more", primary=True)]
    labels += [Label(span, "also here") for span in spans if span != third.span]
    fix = Fix(edits, Safety.UNSAFE)
    return Diagnostic(
        catalog.W0714,
        f"`{text}` stands in {len(uses)} requirements",
        tuple(labels),
        helps=(Help("give it a name that says what it is", fix),),
    )


RULE = Rule(catalog.W0714, check)
