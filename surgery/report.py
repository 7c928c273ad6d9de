"""What a finished run says on the terminal: the plan, what was measured, what was written.

In: `Planned` and `Compiled`. Out: text without a final newline. Every figure says where it comes
from: predicted by the search, measured on the assembled child, or counted on disk.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from surgery import lockfile, show
from surgery.explore import Point, Sweep
from surgery.figures import reading
from surgery.ir import Plan
from surgery.passes import summary
from surgery.passes.emit import Emitted
from surgery.passes.judge import Judgement
from surgery.pipeline import Compiled, Planned
from surgery.units import format_params, significant


def planned(found: Planned) -> str:
    """The plan beside its parent."""
    text = show.plan_text(found.plan, summary.parent(found.spec, found.space))
    return f"{text}\n\n{_rivals(found)}" if found.rivals else text


def _rivals(found: Planned) -> str:
    """Simpler ways of choosing under the same requirements, by the same sums."""
    from surgery.passes import rivals

    goal, best = found.plan.objective
    rows = [("under the same requirements", goal, ""), ("this plan", best, "")]
    at = reading(best)
    for rival in found.rivals:
        worse = f"{float((rival.objective - at) / abs(at)):+.1%}" if at else ""
        rows.append((rival.name, significant(rival.objective), worse))
    names = {rival.name for rival in found.rivals}
    missing = ", ".join(name for name in rivals.WAYS if name not in names)
    told = f"\n  no such choice keeps all of them: {missing}" if missing else ""
    return _table(rows) + told


def front(sweep: Sweep, points: Sequence[Point]) -> str:
    """What every value of an input costs and gains: a Pareto front, one row per value.

    A value that decides as the one before says so; one that nothing satisfies has no figures.
    """
    plans = [point.planned.plan for point in points if point.planned]
    head = (sweep.name, *_figures(plans[0])[0], "changed", "")
    rows: list[tuple[str, ...]] = [head]
    before: tuple[str, str] | None = None
    for point in points:
        if point.planned is None:
            rows.append((point.value, *[""] * (len(head) - 2), "nothing satisfies all"))
            continue
        made = point.planned.plan
        same = f"as at {before[1]}" if before and before[0] == lockfile.decision(made) else ""
        rows.append((point.value, *_figures(made)[1], _changed(made), same))
        before = before if same else (lockfile.decision(made), point.value)
    return f"{plans[0].objective[0]}, by {sweep.name}:\n\n{_table(rows)}"


def pool(found: Sequence[Planned]) -> str:
    """Plans that differ, best first, and in how many layers each differs from those before."""
    plans = [planned.plan for planned in found]
    rows = [("plan", *_figures(plans[0])[0], "changed", "differs in")]
    for number, made in enumerate(plans):
        apart = " ".join(str(_apart(made, other)) for other in plans[:number])
        rows.append((str(number + 1), *_figures(made)[1], _changed(made), apart))
    return f"{plans[0].objective[0]}:\n\n{_table(rows)}"


def _figures(made: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and values of what is compared between plans."""
    names, values = zip(*made.metrics, strict=True)
    return ("objective", "gap", *names), (made.objective[1], dict(made.solver)["gap"], *values)


def _changed(made: Plan) -> str:
    layers = {d.layer for d in made.decisions}
    edited = {d.layer for d in made.decisions if d.artefact}
    return f"{len(edited)} of {len(layers)}"


def _apart(first: Plan, second: Plan) -> int:
    """In how many layers two plans of one space differ."""
    pairs = zip(first.decisions, second.decisions, strict=True)
    return len({a.layer for a, b in pairs if a != b})


def compiled(found: Compiled, program: str, python: str) -> str:
    """The plan, what the assembled child has lost, what is on disk, and what to type next.

    `program` and `python` are how this surgery and its interpreter are called.
    """
    metrics = dict(found.planned.plan.metrics)
    blocks = (
        planned(found.planned),
        _additivity(found.judgement, metrics),
        _heldout(found),
        _written(found.emitted),
        _next(found.emitted, program, python),
    )
    return "\n\n".join(block for block in blocks if block)


def _additivity(judgement: Judgement, metrics: dict[str, str]) -> str:
    rows = [("damage, nats/token", "predicted", "measured", "text")]
    for checked in judgement.scores:
        predicted = metrics.get(checked.score, "")
        rows.append((checked.score, predicted, checked.measured.kl_text, checked.dataset))
    return _table(rows)


def _heldout(found: Compiled) -> str:
    judgement = found.judgement
    heldout, uniform = judgement.heldout, judgement.uniform
    if heldout is None:
        return ""
    size = dict(found.planned.plan.metrics)["params"]
    rows = [
        (f"held out: {judgement.dataset}", "params", "KL to parent", "perplexity"),
        ("parent", "", "0", significant(heldout.parent_perplexity)),
        (
            "this plan",
            size,
            heldout.kl_text,
            significant(heldout.child_perplexity),
        ),
    ]
    if uniform is not None:
        rows.append(
            (
                f"uniform {uniform.text}",
                format_params(uniform.params),
                uniform.result.kl_text,
                significant(uniform.result.child_perplexity),
            )
        )
    return _table(rows)


def _written(emitted: Emitted) -> str:
    if emitted.checkpoint is None:
        return f"  written    {emitted.directory}"
    difference = emitted.actual_bytes - emitted.predicted_bytes
    agrees = "as predicted, to the byte" if difference == 0 else f"{difference:+,} from predicted"
    return (
        f"  written    {emitted.directory}\n"
        f"  on disk    {emitted.actual_bytes:,} bytes of safetensors, "
        f"{emitted.predicted_bytes:,} predicted: {agrees}"
    )


def _next(emitted: Emitted, program: str, python: str) -> str:
    plan = shlex.quote(str(next(iter(sorted(emitted.directory.glob("*.plan"))))))
    if emitted.checkpoint is None:
        return f"Next: {program} show {plan}"
    folder = shlex.quote(str(emitted.checkpoint.parent))
    generate = f"{python} -m surgery_runtime {folder} 'Once upon a time'"
    return f"Next: {program} show {plan}\n  or: {generate}"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows indented by two: the first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            (
                f"{row[0]:<{widths[0]}}",
                *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)),
            )
        )
        for row in rows
    )
    return "\n".join(f"  {line}".rstrip() for line in lines)
