"""What a plan's neighbours cost: price lists of layers, prices of limits, requirements that give.

In: a path and `Options`, like `pipeline.py`, and what is asked. Out: the plan with the answers as
blocks of text, or `None` when an error was reported. Where requirements conflict and some of them
may give, the plan is that of the least relaxation, E0601 is reported beside it, and `admitted` is
false: it is no plan of the spec. Not here: the questions themselves (`passes/why.py`, `prices.py`,
`relax.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog
from surgery import plan as plans
from surgery.diagnostics import Diagnostic, Severity, Sink
from surgery.figures import Figure, plain
from surgery.ir import Spec
from surgery.pipeline import Halt, Options, Planned, Posed, Run, checked, finished, pose, recorded

if TYPE_CHECKING:
    from surgery.passes.batches import Answer
    from surgery.passes.constrain import Problem
    from surgery.passes.relax import Relaxed


class Asked(Struct, frozen=True):
    """Layers whose alternatives are priced, whether limits are, and requirements that may give.

    `json`: as data, with exact numbers.
    """

    layers: tuple[int, ...] = ()
    prices: bool = False
    relax: tuple[str, ...] = ()
    json: bool = False

    @property
    def anything(self) -> bool:
        """Whether there is a question at all."""
        return bool(self.layers or self.prices or self.relax)


class Block(Struct, frozen=True):
    """One answer: its name in JSON, as text, as data."""

    name: str
    text: str
    data: object


class Answered(Struct, frozen=True):
    """A plan, its exact figures, and the answers; `admitted`: it keeps what the spec requires."""

    planned: Planned
    figures: Mapping[str, Figure]
    blocks: tuple[Block, ...]
    admitted: bool = True

    def to_json(self) -> str:
        """All of it: the plan as `surgery show --json` has it, and the answers by their names."""
        told: dict[str, object] = {"admitted": self.admitted}
        for block in self.blocks:
            told.setdefault(block.name, block.data)
        layers = [block.data for block in self.blocks if block.name == "layers"]
        told |= {"layers": layers} if layers else {}
        rivals = {r.name: plain(r.objective) for r in self.planned.rivals}
        told |= {"rivals": rivals} if rivals else {}
        content = plans.data(self.planned.plan, self.figures) | told
        return json.dumps(content, indent=2, ensure_ascii=False)


def plan(path: str, sink: Sink, options: Options, asked: Asked) -> Answered | None:
    """The plan of a spec, and what is asked about it."""
    run = Run(sink, replace(options, relax=asked.relax))
    try:
        if asked.relax:
            _require_labels(checked(path, run), run, asked.relax)
        posed = pose(path, run)
        answer = _answer(posed, run)
        if answer is None:
            return _relaxed(posed, run, asked)
        planned = finished(posed, answer, run)
        blocks = run.step("ask", lambda: tuple(_blocks(answer, asked, run)))
        return Answered(planned, _figures(answer.problem, planned), blocks)
    except Halt:
        return None


def _require_labels(spec: Spec, run: Run, labels: Sequence[str]) -> None:
    """Before anything is measured: a label that no requirement has is E0201."""
    from surgery.passes import relax

    wrong = relax.unknown(spec, labels)
    run.ensure("relax", lambda: run.sink.extend((wrong,) if wrong else ()))


def _answer(posed: Posed, run: Run) -> Answer | None:
    """The optimum, or `None` after E0601 where requirements may give. Raises `Halt`."""
    from surgery.passes import batches

    told = Sink(judge=run.sink.judge)
    arguments = (posed.spec, posed.space, posed.measured, told, run.options.proof)
    found = run.step("solve", lambda: (batches.run(*arguments),))[0]
    for diagnostic in told.found:
        run.sink.report(diagnostic)
    errors = {each.code for each in told.found if each.severity is Severity.ERROR}
    if errors and not (run.options.relax and errors == {catalog.E0601}):
        raise Halt
    return found


def _figures(problem: Problem, planned: Planned) -> Mapping[str, Figure]:
    """Exact, unless measuring around the answer has put another child in its place."""
    from surgery.passes import exact

    if dict(planned.plan.solver).get("status") == "refined":
        return {}
    return exact.run(problem, planned.chosen, planned.plan)


def _gap(run: Run) -> float:
    from surgery.passes.solve import GAP

    return 0.0 if run.options.proof.exact else GAP


def _blocks(answer: Answer, asked: Asked, run: Run) -> Iterator[Block]:
    from surgery.passes import prices, relax, why
    from surgery.passes.solve import Solver

    problem, solution = answer.problem, answer.solution
    solver, gap = Solver(problem.columns, run.options.proof.seconds), _gap(run)
    if asked.prices:
        priced = prices.run(problem, solution, solver, gap)
        yield Block("prices", prices.text(priced), prices.data(priced))
    if asked.relax:
        found = [
            each
            for name in asked.relax
            for each in relax.bought(problem, name, solution.objective, solver, gap)
        ]
        text = relax.bought_text(found, problem, solution.objective)
        yield Block("given_up", text, relax.bought_data(found))
    for layer in asked.layers:
        listed = why.run(problem, solution, layer, solver, gap)
        yield Block("layers", why.text(listed), why.data(listed))


# ---- where nothing satisfies all -------------------------------------------------------------


def _relaxed(posed: Posed, run: Run, asked: Asked) -> Answered:
    """The plan of the least relaxation. Raises `Halt`."""
    from surgery.passes import relax, solve

    # E0601 has been told; what follows is the way out of it.
    told = Sink(judge=run.sink.judge)
    aside = Run(told, run.options)
    try:
        found = _least(posed, aside)
        solver = solve.Solver(found.problem.columns, run.options.proof.seconds)
        arguments = (found.problem, solver, told, run.options.proof)
        solution = aside.step("solve", lambda: solve.answer(*arguments))
        planned = recorded(posed, found.problem, solution, aside)
    finally:
        for diagnostic in told.found:
            run.sink.report(diagnostic)
    index = {c.address: n for n, c in enumerate(found.problem.columns.candidates)}
    chosen = [index[c.address] for c in solution.chosen]
    text, data = relax.relaxed_text(found, chosen), relax.relaxed_data(found, chosen)
    figures = _figures(found.problem, planned)
    return Answered(planned, figures, (Block("relaxed", text, data),), admitted=False)


def _least(posed: Posed, run: Run) -> Relaxed:
    """The least relaxation, over a menu of batches; of equals, that with the larger ones."""
    from surgery.passes import batches, relax
    from surgery.passes.solve import Solver

    best: tuple[Fraction, Relaxed] | None = None
    told: list[Diagnostic] = []
    for _, problem in batches.stated(posed.spec, posed.space, posed.measured, run.sink):
        sink = Sink()
        found = relax.least(problem, run.options.relax, Solver(problem.columns), sink)
        told += sink.found
        if found is not None and (best is None or found.by <= best[0]):
            best = (found.by, found)
    if best is None:
        run.sink.extend(told[:1])
        raise Halt
    return best[1]
