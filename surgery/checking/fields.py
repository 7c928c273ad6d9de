"""Fields of blocks: which exist, which must be there, what each may hold.

In: the fields of a block and its rules (`blocks.BLOCKS`). Out: values by name. Reports
unknown fields (E0206), missing ones (E0207), fields given twice (E0202), and values that a field
cannot hold (E0302, E0306, E0309).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from surgery import catalog
from surgery.checking.blocks import BLOCKS, FieldRule
from surgery.checking.names import quoted
from surgery.checking.repairs import of_type, one_of, only, replacing, similar
from surgery.checking.scope import Check, Scope
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
    good = _alone(check, rules.values(), found) and good
    missing = [
        rule
        for rule in rules.values()
        if rule.required and not {rule.name, rule.instead} & found.keys()
    ]
    # A misspelt field is likely the one that is missing: one mistake, one message.
    # What could not be read is not missing either.
    unread = scope.module.tree.has_hole(block.whole)
    if missing and len(found) == len(block.fields) and not unread:
        report_missing(check, block, missing, scope)
    return values if good and not missing else None


def _alone(check: Check, rules: Iterable[FieldRule], found: Mapping[str, ast.Field]) -> bool:
    """Whether no field is beside another that says the same in its place."""
    both = [rule for rule in rules if rule.name in found and rule.instead in found]
    for rule in both:
        also = Label(found[rule.instead].name.span, "says it already")
        message = f"`{rule.name}` and `{rule.instead}` cannot both be given"
        check.error(catalog.E0202, message, found[rule.name].name.span, "given besides", also)
    return not both


def _unknown(check: Check, block: Block, field: ast.Field) -> None:
    names = [rule.name for rule in BLOCKS[block.kind]]
    span = field.name.span
    safety = Safety.SAFE if len(nearest(field.name.text, names)) == 1 else Safety.UNSAFE
    near = similar(field.name.text, names)
    helps = tuple(replacing(f"use `{other}`", span, other, safety) for other in near)
    message = f"{_article(block.kind)} has no field `{field.name.text}`"
    note = f"its fields are {quoted(names)}" if names else "it has no fields at all"
    check.error(catalog.E0206, message, span, "unknown field", notes=(note,), helps=helps)


def report_missing(check: Check, block: Block, missing: list[FieldRule], scope: Scope) -> None:
    """E0207, with the fields and an example of each to fill in."""
    names = quoted(rule.name for rule in missing)
    fix = Fix((_completed(block, missing, scope),), Safety.DISPLAY)
    message = f"{_article(block.kind)} needs {names}"
    notes = tuple(f"`{rule.name}`: {rule.doc}" for rule in missing if rule.doc)
    fields = "the field" if len(missing) == 1 else "the fields"
    helps = (Help(f"add {fields}, with a value of your own", fix),)
    label = "not said in this block" if block.fields else "nothing is said here"
    check.error(catalog.E0207, message, block.head, label, notes=notes, helps=helps)


def _completed(block: Block, missing: list[FieldRule], scope: Scope) -> Edit:
    """Inserts the missing fields: each on a line of its own, unless the block is on one line."""
    source, end = block.whole.source, block.whole.end
    fields = [f"{rule.name} = {_example(rule, scope)}" for rule in missing]
    if not block.whole.text.endswith("}"):
        lines = "".join(f"  {field}\n" for field in fields)
        return Edit(Span(source, end, end), f" {{\n{lines}}}")
    start = source.text.rfind("{", 0, block.fields[0].span.start if block.fields else end)
    inside = source.text[start + 1 : end - 1]
    if "\n" in inside:
        # The blanks before a closing brace on a line of its own belong to the brace.
        indent = inside[len(inside.rstrip(" ")) :]
        at = end - 1 - len(indent)
        return Edit(Span(source, at, at), "".join(f"{indent}  {field}\n" for field in fields))
    if not block.fields:
        return Edit(Span(source, start, end), f"{{ {', '.join(fields)} }}")
    at = block.fields[-1].span.end
    return Edit(Span(source, at, at), "".join(f", {field}" for field in fields))


def _article(kind: str) -> str:
    words = kind.split()
    if words[0] in ("apply", "emit"):
        return f"`{kind}`"
    return f"{'an' if kind[0] in 'aeh' and kind != 'hf model' else 'a'} `{kind}`"


def _example(rule: FieldRule, scope: Scope) -> str:
    example = only(scope.module, rule.type) or rule.example
    return example or (rule.words[0] if rule.words else rule.type)


# ---- values ----------------------------------------------------------------------------------


def _value(check: Check, rule: FieldRule, field: ast.Field, scope: Scope) -> Value:
    if not rule.many:
        return _single(check, rule, field.value, scope)
    if not isinstance(field.value, ast.ListExpr):
        message = f"`{rule.name}` wants a list"
        text = f"[{field.value.span.text}]"
        alone = isinstance(field.value, ast.Str if rule.type == "text" else ast.Name)
        helps = (replacing(f"write `{text}`", field.value.span, text),) if alone else ()
        return check.error(catalog.E0302, message, field.value.span, "not a list", helps=helps)
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
        helps = found.helps or of_type(value.span, scope.module, rule.type)
        return check.error(found.code, message, value.span, found.label, notes=notes, helps=helps)
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
    given = node.span.text.strip('"')
    helps = one_of(node.span, similar(given, rule.words) or rule.words[:3])
    message = f"`{rule.name}` cannot be `{node.span.text}`"
    label = f"wants {quoted(rule.words, 'or')}"
    return check.error(catalog.E0302, message, node.span, label, helps=helps)
