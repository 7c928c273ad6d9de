"""W0203: a model of a hub that may be another one tomorrow.

In: the spec, and where the hub's cache holds the model, the commit that it was fetched at. Out: at
most one finding, with a fix that pins this commit. Local files, files with a digest and versioned
packages say what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from surgery import catalog, ir
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import ast
from surgery.rules.rule import Rule, Subject
from surgery.source import Span

_COMMIT = re.compile(r"[0-9a-f]{40}")


def check(subject: Subject) -> Iterator[Diagnostic]:
    """The finding about the model, if it is one of a hub and moves."""
    spec = subject.spec
    if spec is None or spec.model.kind != "hf":
        return
    revision = spec.model.revision
    if revision is not None and _COMMIT.fullmatch(revision):
        return
    node = next((item for item in subject.tree.items if isinstance(item, ast.Model)), None)
    if node is None:
        return
    message = f"the model `{spec.model.name}` is not pinned to a commit"
    if revision is None:
        label = Label(spec.model.span, "whatever is newest when it is fetched", primary=True)
    else:
        span = _field(node).value.span
        label = Label(span, "a branch or tag, which can move", primary=True)
    helps = (_help(node, subject.model),)
    yield Diagnostic(catalog.W0203, message, (label,), helps=helps)


def _field(node: ast.Model) -> ast.Field:
    return next(field for field in node.fields if field.name.text == "revision")


def _help(node: ast.Model, model: ir.Model | None) -> Help:
    """Pin the commit at hand, or say what to write where there is none."""
    commit = model.directory.name if model is not None else ""
    if not _COMMIT.fullmatch(commit):
        return Help('give the commit: `revision = "..."`, 40 hexadecimal digits')
    text = f'"{commit}"'
    if any(field.name.text == "revision" for field in node.fields):
        edit = Edit(_field(node).value.span, text)
    else:
        edit = Edit(*_insertion(node, f"revision = {text}"))
    return Help("pin the commit that is in the cache", Fix((edit,), Safety.UNSAFE))


def _insertion(node: ast.Model, field: str) -> tuple[Span, str]:
    """Where a first field goes: before the closing brace if there is one, else after the call."""
    source, end = node.span.source, node.span.end
    if node.span.text.endswith("}"):
        return Span(source, end - 1, end - 1), f" {field} "
    return Span(source, end, end), f" {{\n  {field}\n}}"


RULE = Rule(catalog.W0203, check)
