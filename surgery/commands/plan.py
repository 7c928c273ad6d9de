"""`surgery plan SPEC`: which alternative in which layer, and why that is the best."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from surgery import console
from surgery.commands import options
from surgery.diagnostics import Sink
from surgery.pipeline import Options, Planned
from surgery.sensitivity import Asked

if TYPE_CHECKING:
    from surgery.explore import Sweep


@click.command()
@options.spec
@click.option("-o", "out", type=click.Path(path_type=Path), metavar="PLAN", help="Write here.")
@options.inputs
@options.library
@options.tables
@options.operations
@options.refine
@options.rivals
@click.option(
    "--top",
    type=click.IntRange(min=2),
    metavar="K",
    help="The best plan and K - 1 more that differ from it and each other.",
)
@click.option(
    "--distance",
    type=click.IntRange(min=1),
    metavar="D",
    help="In how many layers plans of --top differ at least.  [default: 1]",
)
@click.option(
    "--sweep",
    "sweep",
    metavar="NAME=A..B/N",
    help="A plan for each of N values of an input, from A to B.",
)
@options.asked
@options.exact
@options.time_limit
@options.accept_gap
@options.findings
def command(
    spec: str,
    out: Path | None,
    inputs: tuple[str, ...],
    library: Path,
    tables: tuple[Path, ...],
    operations: bool,
    refine: int,
    rivals: bool,
    top: int | None,
    distance: int | None,
    sweep: str | None,
    asked: Asked,
    exact: bool,
    time_limit: float | None,
    accept_gap: bool,
    findings: options.Format,
) -> None:
    """Choose one alternative per layer, provably best. Measures what the library lacks."""
    from surgery.solving.outcome import Proof

    _refuse_together(top, distance, sweep, bool(refine or rivals or asked.anything or asked.json))
    if refine and asked.anything:
        raise click.UsageError("--why, --prices and --relax are about sums: leave out --refine")
    over = _sweep(sweep) if sweep else None
    sink = options.sink_for(spec)
    target = out or Path(spec).with_suffix(".plan")
    options.stopping(lambda: console.check_plan_target(target), findings)
    run = options.run_options(sink, library, inputs, findings)
    wanted = Proof(exact, time_limit, accept_gap)
    run = run and replace(
        run, tables=tables, operations=operations, proof=wanted, refine=refine, rivals=rivals
    )
    if run and (over or top):
        several(spec, target, sink, run, over or (top or 2, distance or 1), findings)
        return
    planned = one(spec, target, sink, run, asked, findings)
    click.echo(f"\n{_ending(spec, target, inputs, library, planned)}")


def one(
    spec: str,
    target: Path,
    sink: Sink,
    run: Options | None,
    asked: Asked,
    findings: options.Format,
) -> Planned:
    """A plan, written and told, with the answers to what is asked; exits where there is none."""
    from surgery import sensitivity

    found = sensitivity.plan(spec, sink, run, asked) if run else None
    options.tell(sink, findings)
    if found is None:
        sys.exit(console.exit_code(sink))
    from surgery import report

    if found.admitted:
        options.stopping(
            lambda: console.write_plan(found.planned.plan, target, Path(spec)), findings
        )
    if asked.json:
        click.echo(found.to_json())
        sys.exit(console.exit_code(sink))
    click.echo("\n\n".join((report.planned(found.planned), *(b.text for b in found.blocks))))
    if not found.admitted:
        click.echo("\nNot written: the spec asks for more. Write what is possible, and plan again.")
        sys.exit(console.exit_code(sink))
    return found.planned


def _ending(
    spec: str, target: Path, inputs: tuple[str, ...], library: Path, planned: Planned
) -> str:
    """Where the plan is, and what to type next."""
    if not planned.space.model.files:
        return f"Written to {target}. To compile, plan again where the weights are."
    words = _next(spec, target, inputs, library, emits=bool(planned.spec.emits))
    return f"Written to {target}. Next: {console.program()} {shlex.join(words)}"


def _next(
    spec: str, target: Path, inputs: tuple[str, ...], library: Path, *, emits: bool
) -> list[str]:
    """The command that carries the plan out."""
    folder = [] if emits else ["-o", f"out/{Path(spec).stem}"]
    kept = [] if library == options.DEFAULT_LIBRARY else ["--library", str(library)]
    settings = [part for text in inputs for part in ("--set", text)]
    return ["compile", spec, "--plan", str(target), *folder, *settings, *kept]


def _refuse_together(top: int | None, distance: int | None, sweep: str | None, more: bool) -> None:
    """Options of which one plan is made do not go with those that make several."""
    if top and sweep:
        raise click.UsageError("--top and --sweep do not go together")
    if distance and not top:
        raise click.UsageError("--distance needs --top")
    if more and (top or sweep):
        raise click.UsageError(
            "--refine, --rivals, --why, --prices, --relax and --json are about one plan"
        )


def _sweep(text: str) -> Sweep:
    from surgery import explore

    over = explore.parse_sweep(text)
    if over is None:
        message = f"`{text}` is no sweep: write `NAME=A..B/N`, such as `share=60%..90%/16`"
        raise click.BadParameter(message, param_hint="--sweep")
    return over


def _part(name: str, value: str) -> str:
    """The part of a file's name that tells the value."""
    return f"{name}-{value}".replace("/", "_")


def several(
    spec: str,
    target: Path,
    sink: Sink,
    run: Options,
    wanted: Sweep | tuple[int, int],
    findings: options.Format,
) -> None:
    """Plans at the values of an input, or (count, distance) plans that differ; written, told."""
    from surgery import explore, report

    if isinstance(wanted, explore.Sweep):
        points = explore.sweep(spec, sink, run, wanted)
        made = [(_part(wanted.name, p.value), p.planned) for p in points or () if p.planned]
        text = report.front(wanted, points) if points else ""
    else:
        plans = explore.pool(spec, sink, run, *wanted) or ()
        made = [(str(number), planned) for number, planned in enumerate(plans, start=1)]
        text = report.pool(plans) if plans else ""
    options.tell(sink, findings)
    if not made:
        sys.exit(console.exit_code(sink))
    files = [target.with_suffix(f".{name}{target.suffix}") for name, _ in made]
    for file in files:
        options.stopping(lambda file=file: console.check_plan_target(file), findings)
    for file, (_, planned) in zip(files, made, strict=True):
        options.stopping(
            lambda plan=planned.plan, file=file: console.write_plan(plan, file, Path(spec)),
            findings,
        )
    click.echo(f"{text}\n\nWritten to {files[0]} ... {files[-1]}.")
