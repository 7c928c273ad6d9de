"""What a lint rule is, and what it may look at.

In: nothing. Out: `Subject` and `Rule`. A rule is one file of `surgery/rules/` that ends in a
`RULE`; `rules/__init__.py` lists them. A rule looks and reports: it reads no file, measures
nothing, and is silent where what it needs is missing (`spec` is `None` in a spec with errors,
`model` and `space` where the parent cannot be resolved, `measured` where the library is empty).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

from msgspec import Struct

from surgery import affine, ir
from surgery.diagnostics import Code, Diagnostic
from surgery.expr import Expr, Metric
from surgery.grammar import ast
from surgery.solving.rows import Rows, lowered


class Subject(Struct, frozen=True, dict=True):
    """Everything that is known about one spec when it is linted."""

    tree: ast.Spec
    spec: ir.Spec | None = None
    model: ir.Model | None = None
    space: ir.Space | None = None
    measured: ir.Measured | None = None
    """Scores that the library already has; an address without a score is missing from it."""

    @cached_property
    def required(self) -> tuple[tuple[ir.Requirement, tuple[Expr, ...]], ...]:
        """Each requirement with all parts of its formula, for the many rules that look at them."""
        found = self.spec.requirements if self.spec is not None else ()
        return tuple([(each, tuple(affine.walk(each.expr))) for each in found])

    @cached_property
    def asked(self) -> tuple[ir.Scenario, ...]:
        """The scenarios that a requirement, an expectation or the objective names."""
        if self.spec is None:
            return ()
        others = (*(each.expr for each in self.spec.expects), self.spec.objective.expr)
        parts = [part for _, inside in self.required for part in inside]
        parts += [part for expr in others for part in affine.walk(expr)]
        named = {part.scenario for part in parts if isinstance(part, Metric)}
        return tuple([each for each in self.spec.scenarios if each.name in named])

    @cached_property
    def rows(self) -> Rows | None:
        """The requirements and the objective as rows over the space, where that is whole.

        A spec that uses what has no back end yet has no such space.
        """
        if self.spec is None or self.space is None or self.spec.not_yet:
            return None
        return lowered(self.spec, self.space, self.measured)


class Rule(Struct, frozen=True):
    """One lint: its catalogue entry and the function that looks."""

    code: Code
    check: Callable[[Subject], Iterable[Diagnostic]]
