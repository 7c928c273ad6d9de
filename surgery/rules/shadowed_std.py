"""W0202 shadowed-std: a parameter of a function hides an import, or another name of the file."""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.checking.modules import Named, definitions
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import ast
from surgery.rules.places import free, taken
from surgery.rules.rule import Rule, Subject


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report every parameter that has the name of a definition."""
    tree = subject.tree
    items = {item.name.text: item for item in definitions(tree)}
    for item in tree.items:
        if isinstance(item, ast.Fn):
            for param in item.params:
                hidden = items.get(param.name.text)
                if hidden is not None:
                    yield _hides(item, param, hidden, tree)


def _hides(item: ast.Fn, param: ast.Param, hidden: Named, tree: ast.Spec) -> Diagnostic:
    name = param.name.text
    other = free(f"{name}_", taken(tree))
    uses = [
        node.span
        for node in ast.walk(item.body)
        if isinstance(node, ast.Name) and node.text == name
    ]
    spans = sorted((param.name.span, *uses), key=lambda span: span.start)
    fix = Fix(tuple(Edit(span, other) for span in spans), Safety.UNSAFE)
    what = "the import" if isinstance(hidden, ast.Import) else "the name"
    labels = (
        Label(param.name.span, f"inside the function, `{name}` means this", primary=True),
        Label(hidden.head, "hidden there"),
    )
    return Diagnostic(
        catalog.W0202,
        f"the parameter `{name}` hides {what} `{name}`",
        labels,
        helps=(Help("give the parameter a name of its own", fix),),
    )


RULE = Rule(catalog.W0202, check)
