"""Which kind of block a statement or step has: the key of `blocks.BLOCKS`.

In: statements and steps as parsed. Out: the kind, its fields, and the rule of each, by the same
table that the check reads. Not here: what is wrong with a block (`checking/fields.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery.checking.blocks import BLOCKS, FieldRule
from surgery.grammar import ast


def kind_of(node: ast.Node) -> str | None:
    """`"hf model"`, `"scenario"`, `"emit runtime"`, ...; `None` without such a block."""
    match node:
        case ast.Model(call=ast.Call(func=ast.Name(text=maker))):
            kind = f"{maker} model"
        case ast.Machine(value=ast.Call(func=ast.Name(text="device"))):
            kind = "device"
        case ast.Machine():
            kind = "machine"
        case ast.Scenario():
            kind = "scenario"
        case ast.Dataset():
            kind = "dataset"
        case ast.Score():
            kind = "score"
        case ast.Apply(site=site):
            kind = f"apply {site.text}"
        case ast.Emit(kind=emitted):
            kind = f"emit {emitted.text}"
        case ast.Step(kind=step):
            kind = step.text
        case _:
            return None
    return kind if kind in BLOCKS else None


def rule_of(kind: str | None, field: str) -> FieldRule | None:
    """What a field of this kind of block may hold."""
    rules = BLOCKS.get(kind, ()) if kind else ()
    return next((rule for rule in rules if rule.name == field), None)


def is_word(rule: FieldRule | None, node: ast.Expr) -> bool:
    """Whether a value is a word of its field rather than a name of the spec."""
    if rule is None or not isinstance(node, ast.Name):
        return False
    return node.text in rule.words or rule.type in ("", "step")


def fields_of(node: ast.Node) -> tuple[ast.Field, ...]:
    """The fields written in the block of a statement or step."""
    match node:
        case (
            ast.Model(fields=fields)
            | ast.Machine(fields=fields)
            | ast.Scenario(fields=fields)
            | ast.Dataset(fields=fields)
            | ast.Score(fields=fields)
            | ast.Apply(fields=fields)
            | ast.Emit(fields=fields)
            | ast.Step(fields=fields)
        ):
            return fields
        case _:
            return ()


def owners(item: ast.Item) -> Iterator[ast.Statement | ast.Step]:
    """Everything of a statement that has a block of fields: itself, or its steps."""
    if isinstance(item, ast.Recover):
        yield from item.steps
    else:
        yield item
