"""Spec x Model: do all lengths of the spec fit into the model's context?

In: a checked spec and the parent. Out: findings (E0416) for samples, scenarios and KV sizes that
are longer than what the parent was made for: beyond it, positions mean nothing, and neither would
the numbers. Windows have their own rule (E0408 in `edits/attention.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import affine, catalog
from surgery.diagnostics import Diagnostic, Help, Label, Sink
from surgery.expr import Expr, Metric
from surgery.ir import Model, Spec
from surgery.source import Span
from surgery.units import format_tokens


def run(spec: Spec, model: Model, sink: Sink) -> None:
    """Report every length beyond the context."""
    for what, tokens, span in (*_lengths(spec), *_kv(spec)):
        if tokens > model.context:
            has = format_tokens(model.context)
            message = f"{what} of {format_tokens(tokens)} tok is longer than the model's context"
            label = Label(span, f"`{model.name}` sees {has} tok at most", primary=True)
            helps = (Help(f"use at most {has} tok"),)
            sink.report(Diagnostic(catalog.E0416, message, labels=(label,), helps=helps))


def _lengths(spec: Spec) -> Iterator[tuple[str, int, Span]]:
    for dataset in spec.datasets:
        yield f"a sample of `{dataset.name}`", dataset.length, dataset.span
    for scenario in spec.scenarios:
        tokens = scenario.prefill + scenario.decode
        yield f"a sequence of `{scenario.name}`", tokens, scenario.span


def _kv(spec: Spec) -> Iterator[tuple[str, int, Span]]:
    formulas: list[Expr] = [each.expr for each in (*spec.expects, *spec.requirements)]
    for formula in (*formulas, spec.objective.expr):
        for part in affine.walk(formula):
            if isinstance(part, Metric) and part.argument is not None:
                yield "a KV cache", int(part.argument), part.span
