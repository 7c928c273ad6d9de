"""W0204 decimal-context-length: `1M tok` where a length is meant.

`K` before `tok` is 1024 and `M` is a million: lengths of contexts are powers of two, corpora are
not. What counts as a length: fields such as `prefill` and `length`, windows, and the argument of
`kv(...)`, written there or in the `let` that is named there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import ast
from surgery.rules.rule import Rule, Subject
from surgery.units import magnitude

_FIELDS = frozenset({"prefill", "decode", "length", "tail", "context"})
_DECIMAL = re.compile(r"[0-9][MBT][ \t]?tok")
_TELLING = (ast.Field, ast.Edit, ast.Call, ast.Compare)
_THOUSANDS = {"M": 1024, "B": 1024**2, "T": 1024**3}
"""How many `K` each magnitude would be if it were a power of two as well."""


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report every decimal magnitude in the place of a length, once where it is written."""
    # Most specs write no such number, and a look at the text is cheaper than one at the tree.
    if not _DECIMAL.search(subject.tree.span.source.text):
        return
    lets = {item.name.text: item for item in subject.tree.items if isinstance(item, ast.Let)}
    seen: set[int] = set()
    for value in _lengths(subject.tree):
        let = lets.get(value.text) if isinstance(value, ast.Name) else None
        written = let.value if let else value
        if not isinstance(written, ast.Quantity) or written.span.start in seen:
            continue
        if written.unit == "tok" and written.magnitude in _THOUSANDS:
            seen.add(written.span.start)
            yield _decimal(written, value)


def _lengths(tree: ast.Spec) -> Iterator[ast.Expr]:
    """Every expression that stands for a length."""
    for _, nodes in tree.walked:
        for node in nodes:
            if isinstance(node, _TELLING):
                yield from _lengths_in(node)


def _lengths_in(node: ast.Field | ast.Edit | ast.Call | ast.Compare) -> tuple[ast.Expr, ...]:
    match node:
        case ast.Field(name=ast.Ident(text=name), value=value) if name in _FIELDS:
            return (value,)
        case ast.Edit(name=ast.Ident(text="window" | "sink_window"), args=args):
            return args
        case ast.Call(func=func) if _called(func) == "kv":
            return node.positional
        case ast.Compare(first=first, rest=rest):
            sides = (first, *(link.value for link in rest))
            return sides if any(_called(s) in ("window", "context") for s in sides) else ()
        case _:
            return ()


def _called(node: ast.Expr) -> str:
    match node:
        case ast.Name(text=text):
            return text
        case ast.Attr(name=ast.Ident(text=text)):
            return text
        case _:
            return ""


def _decimal(written: ast.Quantity, used: ast.Expr) -> Diagnostic:
    text = written.span.text
    tokens = written.value * magnitude(written.magnitude, "tok")
    # A length is a whole number of tokens, and of `K` if it can be.
    meant = max(1, round(written.value * _THOUSANDS[written.magnitude]))
    labels = [Label(written.span, f"{int(tokens)} tokens", primary=True)]
    if used.span != written.span:
        labels.append(Label(used.span, "used as a length here"))
    fix = Fix((Edit(written.span, f"{meant}K tok"),), Safety.UNSAFE)
    return Diagnostic(
        catalog.W0204,
        f"`{text}` counts in powers of ten, and lengths are powers of two",
        tuple(labels),
        notes=("`K tok` is 1024 tokens; `M`, `B` and `T` are for corpora",),
        helps=(Help(f"if {meant * 1024} tokens are meant, count in `K`", fix),),
    )


RULE = Rule(catalog.W0204, check)
