"""Space and measurements -> the problem: exact rows, an exact objective, a cvxpy statement.

In: a checked spec, the space, the damage of every candidate. Out: `Problem`, whose rows keep the
span and label of the requirement that they came from. Reports what cannot become rows
(`solving/lower.py`) and returns `None`. Not here: solving.

The problem is the multiple-choice knapsack of Puzzle (arXiv:2411.19146, appendix B): exactly one
candidate per site, sums of costs within budgets, least total damage. `Problem.statement` says it
in cvxpy, for people and as an oracle in tests; `solving/standard.py` makes arrays of the same rows,
which `solve.py` hands to HiGHS without loading cvxpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog
from surgery.affine import walk
from surgery.diagnostics import Diagnostic, Sink, Stop
from surgery.expr import Expr, Metric
from surgery.facts import Context
from surgery.ir import Candidate, Evidence, Measured, Requirement, Space, Spec
from surgery.passes import cost
from surgery.solving.columns import Columns, become
from surgery.solving.linear import Clause, Linear
from surgery.solving.lower import Lowering
from surgery.units import NUMBER, format_quantity, significant

if TYPE_CHECKING:
    import cvxpy  # noqa: TID251 - this module states problems


class Problem(Struct, frozen=True):
    """Choose one column per site such that every clause holds and the objective is best.

    `objective` is in the user's sense and unit; `clauses` are in the order of the requirements
    of the spec, of which several may come from one. `context` is that of the parent model. `cuts`
    are rows that no requirement asks for (`passes/pool.py`).
    """

    spec: Spec
    columns: Columns
    measured: Measured
    clauses: tuple[Clause, ...]
    objective: Linear
    context: Context
    cuts: tuple[Linear, ...] = ()

    @property
    def rows(self) -> tuple[Linear, ...]:
        """Every row; each must be <= 0."""
        return (*(row for clause in self.clauses for row in clause.rows), *self.cuts)

    @property
    def goal(self) -> Linear:
        """What is minimised: the objective, negated for `maximize`."""
        maximize = self.spec.objective.sense == "maximize"
        return self.objective.times(-1).settled(self.columns.groups) if maximize else self.objective

    def of(self, requirement: Requirement) -> tuple[Clause, ...]:
        """The comparisons that a requirement of the spec came to."""
        index = self.spec.requirements.index(requirement)
        return tuple(clause for clause in self.clauses if clause.requirement == index)

    def candidates(self, chosen: Sequence[int]) -> tuple[Candidate, ...]:
        """The candidates of chosen columns, in canonical order."""
        return tuple(self.columns.candidates[column] for column in sorted(chosen))

    def evidence(self, chosen: Sequence[int]) -> tuple[Evidence, ...]:
        """Every comparison with its values for the chosen columns, as printed."""
        active = self.columns.active(chosen)
        return tuple(clause.evidence(active) for clause in self.clauses)

    def objective_text(self, value: Fraction) -> tuple[str, str]:
        """The objective as the spec writes it, on one line, and a value of it as printed."""
        objective = self.spec.objective
        dimension = objective.expr.dimension
        shown = significant(value) if dimension == NUMBER else format_quantity(value, dimension)
        return f"{objective.sense} {one_line(objective.expr)}", shown

    def result(self, chosen: Sequence[int]) -> Context:
        """The chosen child as formulas see it, made from the candidates alone.

        Owes nothing to the rows, so that it can judge them.
        """
        layers = list(self.context.layers)
        candidates = self.candidates(chosen)
        for candidate in candidates:
            layers[candidate.layer] = become(layers[candidate.layer], candidate)
        scores = {
            score: sum((Fraction(damage[c.address]) for c in candidates), Fraction(0))
            for score, damage in self.measured.damage.items()
        }
        return replace(
            self.context,
            layers=tuple(layers),
            result=(self.columns.space.fixed, *(c.cost for c in candidates)),
            scores=scores,
            sink=None,
            decided=frozenset(c.decision for c in candidates),
        )

    def statement(self) -> cvxpy.Problem:
        """The problem in cvxpy: one boolean per candidate, one vectorised assignment, the rows.

        Rows are divided by their right-hand side and the objective by its largest coefficient, so
        the optimal value is that of the goal up to a factor and a constant. The solution is in
        the variable named `x`.
        """
        import cvxpy as cp  # noqa: TID251 - this module states problems
        import numpy as np
        from scipy import sparse  # pyright: ignore[reportMissingTypeStubs] - it has none

        columns, library = self.columns, _untyped(cp)
        count, width = len(columns.candidates), columns.width
        x = library.Variable(count, boolean=True, name="x")
        pairs = (
            library.Variable(width - count, nonneg=True, name="pairs") if width > count else None
        )
        z = x if pairs is None else library.hstack([x, pairs])

        site_of = np.repeat(np.arange(len(columns.sites)), [len(s) for s in columns.sites])
        assignment = sparse.csr_array((np.ones(count), (site_of, np.arange(count))))
        constraints = [assignment @ x == 1]
        for grid in columns.grids.values():
            constraints += [_dense(link, width) @ z == 0 for link in grid.links()]
        for row in self.rows:
            room = -row.constant
            scale = abs(room) or max(map(abs, row.terms.values()), default=Fraction(1))
            coefficients = {j: float(value / scale) for j, value in row.terms.items()}
            constraints.append(_dense(coefficients, width) @ z <= float(room / scale))
        goal = self.goal
        scale = max(map(abs, goal.terms.values()), default=Fraction(1))
        cost = _dense({j: float(value / scale) for j, value in goal.terms.items()}, width)
        return library.Problem(library.Minimize(cost @ z), constraints)


def _untyped(module: object) -> Any:
    """cvxpy builds expressions by operators that its annotations do not cover."""
    return module


def _dense(terms: dict[int, float], width: int) -> Any:
    import numpy as np

    row = np.zeros(width)
    row[list(terms)] = list(terms.values())
    return row


def one_line(expr: Expr) -> str:
    """A formula as written, without comments and line breaks."""
    lines = (line.split("#", 1)[0] for line in expr.span.text.split("\n"))
    return " ".join(" ".join(lines).split())


class Fixed(Struct, frozen=True):
    """What is fixed for one problem of a family: batches of scenarios with `batch = fit`.

    `served` are batches of throughput, where they are to be others (`facts.Context`). `base` is
    another problem of the family: what no batch is in is taken from there.
    """

    batches: Mapping[str, int] = {}
    served: Mapping[str, int] = {}
    base: Problem | None = None

    def same(self, expr: Expr) -> bool:
        """Whether a formula comes to the same for all batches."""
        found = (part.scenario for part in walk(expr) if isinstance(part, Metric))
        return not any(scenario in self.batches for scenario in found)


def run(
    spec: Spec, space: Space, measured: Measured, sink: Sink, fixed: Fixed | None = None
) -> Problem | None:
    """Lower every requirement and the objective; `None` after reporting what cannot be."""
    if not _offers_something(space, sink):
        return None
    fixed = fixed or Fixed()
    base = fixed.base
    columns = base.columns if base else Columns(space)
    parent = cost.parent_context(spec, space)
    context = replace(parent, batches=fixed.batches, served=fixed.served)
    lowering = Lowering(columns, context, measured)
    clauses: list[Clause] = []
    for index, requirement in enumerate(spec.requirements):
        if base and fixed.same(requirement.expr):
            clauses += (replace(c, requirement=index) for c in base.of(requirement))
            continue
        try:
            clauses += lowering.clauses(index, label(spec, requirement), requirement.expr)
        except Stop as stop:
            sink.report(stop.diagnostic)
    objective = base.objective if base and fixed.same(spec.objective.expr) else None
    try:
        objective = objective or lowering.linear(spec.objective.expr)
    except Stop as stop:
        sink.report(stop.diagnostic)
    if objective is None or sink.failed:
        return None
    return Problem(spec, columns, measured, tuple(clauses), objective, context)


def label(spec: Spec, requirement: Requirement) -> str:
    """`@size`, or `@1` for the first requirement that has no label."""
    if requirement.label is not None:
        return "@" + requirement.label.removeprefix("@")
    unlabelled = [r for r in spec.requirements if r.label is None]
    return f"@{unlabelled.index(requirement) + 1}"


def _offers_something(space: Space, sink: Sink) -> bool:
    empty = [option for option in space.options if not option.candidates]
    for option in empty:
        subject = f"layer.{option.layer:02}.{option.site}"
        message = f"`{subject}` has no legal alternative left"
        sink.report(Diagnostic(catalog.E0602, message, subject=subject))
    return not empty
