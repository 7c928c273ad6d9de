"""Fields of blocks: which exist, which must be there, what each may hold.

In: the fields of a block and its rules (`tables.BLOCKS`). Out: values by name. Reports
unknown fields (E0206), missing ones (E0207), fields given twice (E0202), and values that a field
cannot hold (E0302, E0306, E0309).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from surgery import catalog
from surgery.checking.names import quoted
from surgery.checking.scope import Check, Scope
from surgery.checking.tables import BLOCKS, FieldRule
from surgery.checking.types import Misfit, fit
from surgery.checking.values import DIMENSIONS, Failed, Items, Value, Word
from surgery.diagnostics import Edit, Fix, Help, Label, Safety
from surgery.expr import Number
from surgery.grammar import ast
from surgery.grammar.near import nearest
from surgery.source import Span


class Block(Struct, frozen=True):
    """A block as written: whose it is, where that begins, and where it ends."""

    kind: str
    head: Span
    whole: Span
    fields: tuple[ast.Field, ...]


def read(check: Check, block: Block, scope: Scope) -> Mapping[str, Value] | None:
    """The values of a block by field, or `None` after a report."""
    rules = {rule.name: rule for rule in BLOCKS[block.kind]}
    found: dict[str, ast.Field] = {}
    values: dict[str, Value] = {}
    good = True
    for field in block.fields:
        name = field.name.text
        if name not in rules:
            _unknown(check, block, field)
        elif name in found:
            also = Label(found[name].name.span, "first given here")
            message = f"the field `{name}` is given twice"
            check.error(catalog.E0202, message, field.name.span, "given again", also)
        else:
            found[name] = field
            values[name] = _value(check, rules[name], field, scope)
            good = good and not isinstance(values[name], Failed)
            continue
        good = False
    missing = [rule for rule in rules.values() if rule.required and rule.name not in found]
    # A misspelt field is likely the one that is missing: one mistake, one message.
    if missing and len(found) == len(block.fields):
        _missing(check, block, missing)
    return values if good and not missing else None


def _unknown(check: Check, block: Block, field: ast.Field) -> None:
    names = [rule.name for rule in BLOCKS[block.kind]]
    similar = nearest(field.name.text, names)
    safety = Safety.SAFE if len(similar) == 1 else Safety.UNSAFE
    helps = tuple(
        Help(f"use `{other}`", Fix((Edit(field.name.span, other),), safety)) for other in similar
    )
    message = f"{_article(block.kind)} has no field `{field.name.text}`"
    note = f"its fields are {quoted(names)}" if names else "it has no fields at all"
    check.error(
        catalog.E0206, message, field.name.span, "unknown field", notes=(note,), helps=helps
    )


def _missing(check: Check, block: Block, missing: list[FieldRule]) -> None:
    names = quoted(rule.name for rule in missing)
    fields = "".join(f"  {rule.name} = {_example(rule)}\n" for rule in missing)
    closed = block.whole.text.endswith("}")
    end = block.whole.end - 1 if closed else block.whole.end
    text = fields if closed else f" {{\n{fields}}}"
    fix = Fix((Edit(Span(block.whole.source, end, end), text),), Safety.DISPLAY)
    message = f"{_article(block.kind)} needs {names}"
    notes = tuple(f"`{rule.name}`: {rule.doc}" for rule in missing if rule.doc)
    helps = (Help("add what is missing", fix),)
    check.error(catalog.E0207, message, block.head, f"lacks {names}", notes=notes, helps=helps)


def _article(kind: str) -> str:
    words = kind.split()
    if words[0] in ("apply", "emit"):
        return f"`{kind}`"
    return f"{'an' if kind[0] in 'aeh' and kind != 'hf model' else 'a'} `{kind}`"


def _example(rule: FieldRule) -> str:
    return rule.example or (rule.words[0] if rule.words else rule.type)


# ---- values ----------------------------------------------------------------------------------


def _value(check: Check, rule: FieldRule, field: ast.Field, scope: Scope) -> Value:
    if not rule.many:
        return _single(check, rule, field.value, scope)
    if not isinstance(field.value, ast.ListExpr):
        message = f"`{rule.name}` wants a list"
        return check.error(catalog.E0302, message, field.value.span, "not a list")
    items = tuple(_single(check, rule, item, scope) for item in field.value.items)
    if any(isinstance(item, Failed) for item in items):
        return Failed(field.value.span)
    return Items(field.value.span, items)


def _single(check: Check, rule: FieldRule, node: ast.Expr, scope: Scope) -> Value:
    if isinstance(node, ast.Name) and (node.text in rule.words or rule.type == "step"):
        return Word(node.span, node.text, rule.type == "step")
    if rule.type in ("", "step"):
        return _not_a_word(check, rule, node)
    value = check.value(node, scope)
    found = fit(value, rule.type)
    if isinstance(found, Misfit):
        notes = (f"it can also be {quoted(rule.words, 'or')}",) if rule.words else ()
        message = f"`{rule.name}` {found.problem}"
        return check.error(
            found.code, message, value.span, found.label, notes=notes, helps=found.helps
        )
    return _bounded(check, rule, found) if rule.type in DIMENSIONS else found


def _bounded(check: Check, rule: FieldRule, value: Value) -> Value:
    if isinstance(value, Failed):
        return value
    if not isinstance(value, Number):
        message = f"`{rule.name}` must be known without the model"
        return check.error(catalog.E0309, message, value.span, "depends on the model")
    if value.value < rule.least:
        text = value.span.text
        message = f"`{rule.name}` must be at least {rule.least}, and `{text}` is less"
        return check.error(catalog.E0309, message, value.span, "too small")
    return value


def _not_a_word(check: Check, rule: FieldRule, node: ast.Expr) -> Failed:
    if rule.type == "step":
        message = f"`{rule.name}` wants names of steps"
        return check.error(catalog.E0302, message, node.span, "not a name")
    helps = tuple(
        Help(f"use `{other}`", Fix((Edit(node.span, other),), Safety.UNSAFE))
        for other in nearest(node.span.text, rule.words)
    )
    one_of = quoted(rule.words, "or")
    message = f"`{rule.name}` cannot be `{node.span.text}`"
    note = f"it can be {one_of}"
    return check.error(catalog.E0302, message, node.span, "unknown", notes=(note,), helps=helps)
