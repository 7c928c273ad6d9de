"""Specs that hold nothing but a model, and what resolving them gives."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from surgery.diagnostics import Diagnostic, Sink
from surgery.expr import Number
from surgery.ir import Model, ModelDecl, Objective, Spec
from surgery.passes import resolve
from surgery.source import Source, Span

Kind = Literal["local", "hf", "gguf", "wheel"]


def spec(folder: Path, kind: Kind, location: str, **pins: str) -> Spec:
    """A spec with nothing but a model, in `folder`."""
    source = Source(str(folder / "x.surg"), f'model parent = {kind}("{location}")')
    span = Span(source, 15, len(source.text))
    decl = ModelDecl(Span(source, 0, len(source.text)), "parent", kind, location)
    decl = replace(decl, **{key: value for key, value in pins.items()})
    return Spec(
        source=source,
        description="",
        model=decl,
        inputs=(),
        machines=(),
        scenarios=(),
        datasets=(),
        scores=(),
        choices=(),
        expects=(),
        requirements=(),
        objective=Objective(span, "minimize", Number(span, Fraction(0))),
        emits=(),
        not_yet=(),
        meaning=(),
    )


def resolved(asked: Spec, cache: Path) -> Model:
    sink = Sink()
    model = resolve.run(asked, sink, cache)
    assert sink.found == []
    assert model is not None
    return model


def refused(asked: Spec, cache: Path) -> Diagnostic:
    sink = Sink()
    assert resolve.run(asked, sink, cache) is None
    assert len(sink.found) == 1
    return sink.found[0]
