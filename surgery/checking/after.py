"""What happens to the winner: `recover` and `emit`.

In: their statements. Out: `ir.Emit`s; a `recover` is checked and noted as having no back end yet.
Reports steps and kinds that do not exist, and steps that an `average` names in vain (E0201).
"""

from __future__ import annotations

from surgery import catalog, ir
from surgery.checking import fields
from surgery.checking.blocks import EMITS, STEPS
from surgery.checking.fields import Block
from surgery.checking.names import unknown
from surgery.checking.scope import Check, Scope
from surgery.checking.types import whole
from surgery.checking.values import Entity, Items, Word
from surgery.diagnostics import Label
from surgery.grammar import ast


def emit(check: Check, node: ast.Emit) -> ir.Emit | None:
    """`emit checkpoint "path" { shard = 5GB }`."""
    kind = node.kind.text
    if kind not in EMITS:
        unknown(check, "output", node.kind, EMITS, "an `emit` can write")
        return None
    block = Block(f"emit {kind}", node.head, node.span, node.fields)
    values = fields.read(check, block, Scope(check.main))
    if values is None:
        return None
    if not node.path.value:
        check.error(catalog.E0309, "an output needs a path", node.path.span, "empty")
        return None
    backend, judge, scheme = (values.get(name) for name in ("backend", "judge", "kv_scheme"))
    return ir.Emit(
        node.head.to(node.path.span),
        kind,
        node.path.value,
        whole(values["shard"]) if "shard" in values else None,
        backend.text if isinstance(backend, Word) else None,
        whole(values["context"]) if "context" in values else None,
        judge.name if isinstance(judge, Entity) else None,
        scheme.text if isinstance(scheme, Word) else None,
    )


def recover(check: Check, node: ast.Recover) -> None:
    """`recover { distill { ... } ... }`."""
    steps = {step.name.text: step for step in node.steps if step.name}
    told: list[object] = []
    good = True
    for step in node.steps:
        kind = step.kind.text
        if kind not in STEPS:
            unknown(check, "step", step.kind, STEPS, "a `recover` can")
            good = False
            continue
        head = step.kind.span.to(step.name.span) if step.name else step.kind.span
        block = Block(kind, head, step.span, step.fields)
        values = fields.read(check, block, Scope(check.main))
        if values is None:
            good = False
            continue
        for value in values.values():
            good = _named_steps(check, value, steps) and good
        name = step.name.text if step.name else None
        told.append((kind, name, tuple(sorted(values.items()))))
    good = _distinct(check, node) and good
    if good:
        check.later(node.head, "`recover`")
        check.meaning.append(("recover", tuple(told)))


def _named_steps(check: Check, value: object, steps: dict[str, ast.Step]) -> bool:
    """Whether the steps that a field names exist; other words belong to other fields."""
    if not isinstance(value, Items):
        return True
    good = True
    for item in value.items:
        if isinstance(item, Word) and item.text in check.main.lost:
            good = False
        elif isinstance(item, Word) and item.text not in steps and item.step:
            unknown(check, "step", ast.Ident(item.span, item.text), steps, "the named steps are")
            good = False
    return good


def _distinct(check: Check, node: ast.Recover) -> bool:
    seen: dict[str, ast.Ident] = {}
    for step in node.steps:
        if step.name is None:
            continue
        first = seen.setdefault(step.name.text, step.name)
        if first is not step.name:
            also = Label(first.span, "first defined here")
            message = f"the step `{step.name.text}` is defined twice"
            check.error(catalog.E0202, message, step.name.span, "defined again", also)
            return False
    return True
