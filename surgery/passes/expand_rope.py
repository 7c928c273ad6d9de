"""The rotary embedding that a spec asks for x Model -> what is wrong with it.

In: a checked spec, the parent. Out: E0422 where the parent's rotary embedding has no YaRN factor.
Not here: the child's config (`arch/rope.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.arch import rope
from surgery.diagnostics import Diagnostic, Help, Label
from surgery.ir import Model, Spec


def refused(spec: Spec, model: Model) -> Iterator[Diagnostic]:
    """At most one finding."""
    if spec.rope is None or rope.kind(model) in (rope.PLAIN, rope.YARN):
        return
    name = rope.kind(model)
    message = f"the rotary embedding of `{model.name}` is `{name}`, which has no YaRN factor"
    labels = (
        Label(spec.rope.span, "stretches it by YaRN", primary=True),
        Label(spec.model.span, f"positions are scaled by `{name}`"),
    )
    help = Help("leave `apply rope` out: this kind of scaling stays as it is")
    yield Diagnostic(catalog.E0422, message, labels, helps=(help,))
