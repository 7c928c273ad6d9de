"""A small spec to break in one place, and what the check says of it."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from surgery.diagnostics import Diagnostic, Sink
from surgery.expr import Compare, Expr, Number
from surgery.grammar.parse import parse
from surgery.ir import Spec
from surgery.passes import check
from surgery.source import Source

BASE = """surg 1

import "std/moe.surg" as moe
import "std/nvidia.surg" as nvidia
import "std/kv.surg" as kv

model parent = local("parent")

input share: ratio = 85%

machine node = 8 * nvidia.h100_sxm { tensor_parallel = 8 }

scenario long on node {
  prefill = 64K tok
  decode  = 64K tok
  batch   = fit
}

scenario chat on node {
  prefill = 4K tok
  decode  = 1K tok
  batch   = 16
}

dataset text = local("text.jsonl") {
  take   = 4
  length = 8K tok
}

score damage = swap_one(metric: kl(logits), on: text)
score reach = swap_one(metric: kl(logits), on: text) { tail = 1K tok }

choose experts in layers {
  keep
  retain 64 | 32 by moe.contribution(text)
}

choose attention in layers where attention is full {
  keep
  window 4K tok
}

minimize damage + 0.5 * reach
"""


def check_text(
    text: str, settings: Mapping[str, str] | None = None, name: str = "t.surg"
) -> tuple[Spec | None, Sink]:
    sink = Sink()
    tree = parse(Source(name, text), sink)
    return check.run(tree, sink, settings or {}), sink


def good(text: str, settings: Mapping[str, str] | None = None, name: str = "t.surg") -> Spec:
    """The spec of a text without mistakes."""
    spec, sink = check_text(text, settings, name)
    assert sink.found == []
    assert spec is not None
    return spec


def findings(text: str, settings: Mapping[str, str] | None = None) -> tuple[Diagnostic, ...]:
    spec, sink = check_text(text, settings)
    assert spec is None
    return sink.sorted()


def marked(found: Diagnostic) -> str:
    """The text under the primary label."""
    assert found.primary is not None
    return found.primary.span.text


def told(text: str) -> list[tuple[str, str]]:
    """Code and primary text of every finding."""
    return [(found.code.id, marked(found)) for found in findings(text)]


def fixed(text: str, found: Diagnostic, number: int = 0) -> str:
    """The text after the fix of one of the helps."""
    fixes = [help.fix for help in found.helps if help.fix]
    for edit in sorted(fixes[number].edits, key=lambda e: e.span.start, reverse=True):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text


def required(spec: Spec, label: str) -> Expr:
    return next(each.expr for each in spec.requirements if each.label == label)


def compared(expr: Expr) -> tuple[Expr, str, Expr]:
    assert isinstance(expr, Compare)
    ((op, right),) = expr.rest
    return expr.first, op, right


def number(expr: Expr) -> Fraction:
    assert isinstance(expr, Number)
    return expr.value
