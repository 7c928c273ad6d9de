"""The passes in order: text -> Spec -> Model -> Space -> Library -> Plan -> checkpoint + runtime.

In: a path and `Options`. Out: what the last pass made, or `None` when a pass reported an error to
the sink. Heavy passes are imported when they are reached, so that `check` loads no numpy, no torch
and no solver. Not here: printing, exit codes (`cli.py`) and any work of a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from surgery.diagnostics import Sink, Stop
from surgery.ir import Candidate, Measured, Plan, Space, Spec
from surgery.library import Library
from surgery.progress import Progress, silent
from surgery.solving.outcome import Proof

if TYPE_CHECKING:
    from surgery.passes.batches import Answer
    from surgery.passes.breakdown import Breakdown
    from surgery.passes.constrain import Problem
    from surgery.passes.emit import Emitted
    from surgery.passes.exchange import Known
    from surgery.passes.judge import Judgement
    from surgery.passes.rivals import Rival
    from surgery.passes.solve import Solution
    from surgery.passes.tables import Given

_T = TypeVar("_T")


class Options(Struct, frozen=True):
    """What a run may vary: inputs from `--set`, where things are kept, who is told."""

    library: Path
    cache: Path
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    progress: Progress = silent
    proof: Proof = Proof()
    """What the solver must prove, and in what time."""
    tables: tuple[Path, ...] = ()
    """Scores, costs and kept lists that others measured, in place of ours."""
    operations: bool = False
    """Whether times of operations are looked up where `aiconfigurator-core` has them."""
    refine: int = 0
    """Rounds of measuring around the answer and solving again."""
    rivals: bool = False
    """Whether simpler ways of choosing are to be set beside the answer."""
    relax: tuple[str, ...] = ()
    """Labels of requirements that may give (`sensitivity.py`)."""


class Planned(Struct, frozen=True):
    """A plan and what it was made from: `chosen` is one ranked candidate per site."""

    spec: Spec
    space: Space
    chosen: tuple[Candidate, ...]
    plan: Plan
    rivals: tuple[Rival, ...] = ()


class Posed(Struct, frozen=True):
    """All that a question is about, and the hashes of the tables in it (name, hash).

    The question itself takes batches: `passes/batches.py` puts it for each that may be best.
    """

    spec: Spec
    space: Space
    measured: Measured
    tables: tuple[tuple[str, str], ...]


class Compiled(Struct, frozen=True):
    """A plan carried out: what was written, and what the assembled child measures."""

    planned: Planned
    emitted: Emitted
    judgement: Judgement


class Out(Struct, frozen=True):
    """Where output goes: the `-o` folder, or `None` for what the spec's `emit`s say."""

    folder: Path | None


class Halt(Exception):
    """A pass reported errors; the sink has them. Leaves neither this module nor `explore.py`."""


class Run:
    """One trip through the passes: names the pass at work and stops after one that failed."""

    def __init__(self, sink: Sink, options: Options) -> None:
        self.sink = sink
        self.options = options
        self.library = Library(options.library)

    def step(self, name: str, work: Callable[[], _T | None]) -> _T:
        """Run one pass; raise `Halt` when it reported an error or made nothing."""
        result = self._try(name, work)
        if result is None:
            raise Halt
        return result

    def ensure(self, name: str, work: Callable[[], None]) -> None:
        """Run a pass that only looks; raise `Halt` when it reported an error."""
        self._try(name, work)

    def _try(self, name: str, work: Callable[[], _T]) -> _T:
        try:
            result = work()
        except Stop as stop:
            self.sink.report(stop.diagnostic)
            raise Halt from stop
        except Exception as bug:
            bug.add_note(f"in the pass `{name}`")
            raise
        if self.sink.failed:
            raise Halt
        return result


def check(path: str, sink: Sink, options: Options) -> Spec | None:
    """Parse and check a spec: names, units, types, affinity. Reads no model."""
    from surgery.passes import expand

    try:
        spec = checked(path, Run(sink, options))
    except Halt:
        return None
    expand.warn_not_yet(spec, sink)
    return spec


def foresee(path: str, sink: Sink, options: Options) -> Space | None:
    """Everything that `plan` finds before it measures; measures and writes nothing."""
    from surgery.passes import foresee as passes

    run = Run(sink, options)
    try:
        spec, space = expanded(path, run, None)
        run.ensure("foresee", lambda: passes.run(spec, space, sink))
    except Halt:
        return None
    return space


def plan(path: str, sink: Sink, options: Options) -> Planned | None:
    """Everything up to a plan; measures what the library lacks."""
    try:
        return _planned(path, Run(sink, options))
    except Halt:
        return None


def costs(
    path: str, sink: Sink, options: Options, plan: Path, layer: int | None
) -> tuple[Breakdown, ...] | None:
    """What the times and bytes of a plan of the spec at `path` are made of."""
    from surgery import plan as plans
    from surgery.passes import breakdown

    run = Run(sink, options)
    try:
        found = run.step("plan", lambda: plans.read(plan))
        spec, space = expanded(path, run, None)
        told = _routed(spec, _told_by_others(spec, space, run).space, run)
        return run.step("costs", lambda: breakdown.run(found, spec, told, layer))
    except Halt:
        return None


def recall(path: str, sink: Sink, options: Options) -> Known | None:
    """What the library knows already of what a plan needs; measures nothing."""
    from surgery.passes import exchange

    run = Run(sink, options)
    try:
        spec, space = expanded(path, run, None)
        return run.step("recall", lambda: exchange.run(spec, space, run.library))
    except Halt:
        return None


def compile(
    path: str, sink: Sink, options: Options, out: Path | None, plan: Path | None
) -> Compiled | None:
    """A plan (made, or read from the file `plan`) carried out: judged, then written to `out`.

    Where to write is settled before anything is measured, and nothing is written unless
    everything before has worked.
    """
    try:
        return _compiled(path, Run(sink, options), out, plan)
    except Halt:
        return None


def checked(path: str, run: Run) -> Spec:
    """The spec, parsed and checked. Raises `Halt`."""
    from surgery.grammar import parse
    from surgery.passes import check as check_pass

    source = run.step("read", lambda: parse.read_source(path, run.sink))
    tree = parse.parse(source, run.sink)
    # Checking goes on after a syntax error: every mistake of a file is told in one run.
    return run.step("check", lambda: check_pass.run(tree, run.sink, run.options.settings))


def expanded(path: str, run: Run, out: Out | None) -> tuple[Spec, Space]:
    """Everything before the first measurement. Raises `Halt`."""
    from surgery import evaluate
    from surgery.passes import emit, expand, fit, resolve, timing

    sink = run.sink
    spec = checked(path, run)
    run.ensure("not yet", lambda: expand.refuse_not_yet(spec, sink))
    model = run.step("resolve", lambda: resolve.run(spec, sink, run.options.cache))
    run.ensure("expect", lambda: evaluate.expects(spec, model, sink))
    run.ensure("fit", lambda: fit.run(spec, model, sink))
    if out is not None:
        run.ensure("place", lambda: emit.check(spec, model, out.folder))
    space = run.step("expand", lambda: expand.run(spec, model, sink))
    return spec, run.step("timing", lambda: timing.run(spec, space, run.library))


def pose(path: str, run: Run, out: Out | None = None) -> Posed:
    """Everything before solving; measures what the library lacks. Raises `Halt`."""
    from surgery.passes import foresee, score

    sink, progress, library = run.sink, run.options.progress, run.library
    spec, offered = expanded(path, run, out)
    given = _told_by_others(spec, offered, run)
    run.ensure("foresee", lambda: foresee.run(spec, given.space, sink, run.options.relax))
    space = _routed(spec, run.step("rank", lambda: _ranked(spec, given.space, run)), run)
    measured = run.step(
        "score", lambda: score.run(spec, space, library, sink, progress, given.scores)
    )
    return Posed(spec, space, measured, given.files)


def _told_by_others(spec: Spec, space: Space, run: Run) -> Given:
    """The space with what tables say, and what operations add up to."""
    from surgery.passes import tables

    files = run.options.tables
    given = run.step("tables", lambda: tables.run(spec, space, files, run.sink))
    if not run.options.operations:
        return given
    return run.step("operations", lambda: tables.with_operations(spec, given))


def _planned(path: str, run: Run, out: Out | None = None) -> Planned:
    posed = pose(path, run, out)
    return finished(posed, answered(posed, run), run)


def finished(posed: Posed, answer: Answer, run: Run) -> Planned:
    """An answer as a plan, with what is to be known about it. Raises `Halt`."""
    from surgery.passes import advise, rivals

    options = run.options
    problem, solution = answer.problem, answer.solution
    planned = recorded(posed, problem, solution, run)
    if options.refine:
        plan, chosen = run.step("refine", lambda: _refined(problem, solution, run))
        planned = _told(posed, problem, Planned(posed.spec, posed.space, chosen, plan), run)
    run.ensure("advise", lambda: advise.run(problem, planned.chosen, run.sink))
    beside = rivals.run(problem, rivals.SEEDS) if options.rivals else ()
    return replace(planned, rivals=beside)


def answered(posed: Posed, run: Run, warm: Sequence[float] = ()) -> Answer:
    """The problem at the batches that suit it best, solved. Raises `Halt`."""
    from surgery.passes import batches

    arguments = (posed.spec, posed.space, posed.measured, run.sink, run.options.proof, warm)
    return run.step("solve", lambda: batches.run(*arguments))


def recorded(posed: Posed, problem: Problem, solution: Solution, run: Run) -> Planned:
    """A solution as a plan. Raises `Halt`."""
    from surgery.passes import solve

    plan = run.step("plan", lambda: solve.record(problem, solution))
    return _told(posed, problem, Planned(posed.spec, posed.space, solution.chosen, plan), run)


def _told(posed: Posed, problem: Problem, planned: Planned, run: Run) -> Planned:
    """A plan with the tables it was made of, and what serving its child should take."""
    from surgery.passes import estimates

    said = run.step("estimate", lambda: estimates.child(problem, planned.chosen))
    plan = planned.plan
    told = replace(plan, tables=posed.tables, metrics=(*plan.metrics, *said))
    return replace(planned, plan=told)


def _refined(problem: Problem, solution: Solution, run: Run) -> tuple[Plan, tuple[Candidate, ...]]:
    """The plan of the child that measures best, after some rounds around the additive optimum."""
    from surgery.passes import refine, solve

    found = refine.run(
        problem,
        solution.chosen,
        run.library,
        run.sink,
        run.options.progress,
        run.options.refine,
    )
    best = replace(solution, chosen=found.chosen, objective=found.predicted)
    return refine.record(solve.record(problem, best), problem, found), found.chosen


def _ranked(spec: Spec, space: Space, run: Run) -> Space | None:
    """Rankings and scales take weights; a plan that is made of a config alone leaves them open."""
    from surgery.passes import calibrate, rank

    if not space.model.files:
        ranked = rank.deferred(spec, space, run.sink)
        return ranked and calibrate.deferred(ranked)
    arguments = (run.library, run.sink, run.options.progress)
    ranked = rank.run(spec, space, *arguments)
    return ranked and calibrate.run(spec, ranked, *arguments)


def _routed(spec: Spec, space: Space, run: Run) -> Space:
    """The space whose costs know how often experts are chosen, where scenarios ask for that."""
    from surgery.passes import routing

    progress = run.options.progress
    return run.step("routing", lambda: routing.run(spec, space, run.library, progress))


def _replanned(path: str, run: Run, out: Out, file: Path) -> Planned:
    """The plan in a file, if it is one of this spec and this parent."""
    from surgery import plan as plans
    from surgery.passes import replan

    plan = run.step("plan", lambda: plans.read(file))
    run.ensure("plan", lambda: replan.require_listed(plan, str(file)))
    spec, offered = expanded(path, run, out)
    space = _routed(spec, offered, run)
    chosen = run.step("replan", lambda: replan.run(plan, spec, space, str(file), run.sink))
    return Planned(spec, space, chosen, plan)


def _compiled(path: str, run: Run, folder: Path | None, file: Path | None) -> Compiled:
    from surgery.passes import emit, judge

    out = Out(folder)
    planned = _replanned(path, run, out, file) if file else _planned(path, run, out)
    library, progress = run.library, run.options.progress
    judgement = run.step(
        "judge",
        lambda: judge.run(planned.spec, planned.space, planned.chosen, library, run.sink, progress),
    )
    emitted = run.step(
        "emit",
        lambda: emit.run(
            planned.spec,
            planned.space.model,
            planned.space,
            planned.plan,
            planned.chosen,
            folder,
            run.sink,
            _counting(planned, progress),
            judgement,
        ),
    )
    return Compiled(planned, emitted, judgement)


def _counting(planned: Planned, progress: Progress) -> Callable[[int], None]:
    """Progress of writing: the emission tells the bytes of each tensor."""
    from surgery.edits import child_outputs

    outputs = child_outputs(planned.space.model, planned.chosen)
    total, done = sum(output.nbytes for output in outputs), 0

    def tell(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        progress("emit", done, total, "bytes")

    return tell
