"""The command line: the only place that prints and exits.

stdout carries the answer, stderr progress and findings. Exit codes: 0 yes; 1 no (findings,
differences, infeasible); 2 could not tell (usage, files, disk, a bug of ours). Importing this
module loads neither numpy nor torch nor a solver, so that `--help` and `check` answer at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from surgery import console
from surgery.diagnostics import Sink, Stop
from surgery.pipeline import Options
from surgery.progress import silent

app = typer.Typer(
    name="surgery",
    help="Compile a .surg spec: choose one block per layer, exactly, and cut the checkpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """How findings are written."""

    FULL = "full"
    CONCISE = "concise"
    JSON = "json"
    GITHUB = "github"


SpecFile = Annotated[str, typer.Argument(metavar="SPEC", help="A .surg file.")]
PlanFile = Annotated[str, typer.Argument(metavar="PLAN", help="A .plan file.")]
Inputs = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a declared input.")
]
Findings = Annotated[Format, typer.Option("--format", help="How findings are written.")]
LibraryDir = Annotated[
    Path, typer.Option("--library", metavar="DIR", help="Where measurements are kept.")
]
DEFAULT_LIBRARY = Path(".surgery/library")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"surgery {version('surgery')}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print it and stop."),
    ] = False,
) -> None:
    pass


@app.command()
def check(spec: SpecFile, inputs: Inputs = None, findings: Findings = Format.FULL) -> None:
    """Parse and check a spec: names, units, types. Reads no model and no weights."""
    from surgery import pipeline

    sink = Sink()
    options = _options(sink, DEFAULT_LIBRARY, inputs, findings)
    checked = pipeline.check(spec, sink, options) if options else None
    _tell(sink, findings)
    if checked is None:
        raise typer.Exit(console.exit_code(sink))
    count, goal = len(checked.requirements), checked.objective.sense
    typer.echo(f"{spec} is good: {console.plural(count, 'requirement')}, 1 objective ({goal})")


@app.command()
def plan(
    spec: SpecFile,
    out: Annotated[Path | None, typer.Option("-o", metavar="PLAN", help="Write here.")] = None,
    inputs: Inputs = None,
    library: LibraryDir = DEFAULT_LIBRARY,
    findings: Findings = Format.FULL,
) -> None:
    """Choose one alternative per layer and prove the choice; measure what is missing."""
    from surgery import pipeline

    sink = Sink()
    target = out or Path(spec).with_suffix(".plan")
    _stopping(lambda: console.check_plan_target(target), findings)
    options = _options(sink, library, inputs, findings)
    planned = pipeline.plan(spec, sink, options) if options else None
    _tell(sink, findings)
    if planned is None:
        raise typer.Exit(console.exit_code(sink))
    from surgery import report

    _stopping(lambda: console.write_plan(planned.plan, target), findings)
    typer.echo(report.planned(planned))
    folder = [] if planned.spec.emits else ["-o", f"out/{Path(spec).stem}"]
    kept = [] if library == DEFAULT_LIBRARY else ["--library", str(library)]
    settings = [part for text in inputs or () for part in ("--set", text)]
    words = ["compile", spec, "--plan", str(target), *folder, *settings, *kept]
    typer.echo(f"\nWritten to {target}. Next: {console.program()} {shlex.join(words)}")


@app.command(name="compile")
def compile_(
    spec: SpecFile,
    out: Annotated[Path | None, typer.Option("-o", metavar="OUT", help="Output folder.")] = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="Carry out this plan.")] = None,
    inputs: Inputs = None,
    library: LibraryDir = DEFAULT_LIBRARY,
    findings: Findings = Format.FULL,
) -> None:
    """Plan, cut the checkpoint, and measure what the assembled child has lost."""
    from surgery import pipeline

    sink = Sink()
    options = _options(sink, library, inputs, findings)
    compiled = pipeline.compile(spec, sink, options, out, plan) if options else None
    _tell(sink, findings)
    if compiled is None:
        raise typer.Exit(console.exit_code(sink))
    from surgery import report

    typer.echo(report.compiled(compiled, console.program(), console.python()))


@app.command()
def show(plan: PlanFile, json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Print what a plan does, from the file alone."""
    from surgery import plan as plans
    from surgery import show as shows

    found = _stopping(lambda: plans.read(Path(plan)))
    typer.echo(plans.to_json(found) if json else shows.plan_text(found))


@app.command()
def diff(
    old: PlanFile, new: PlanFile, json: Annotated[bool, typer.Option("--json")] = False
) -> None:
    """Compare two plans. Exit code 0: same decisions, 1: different, 2: could not tell."""
    from surgery import diff as diffs
    from surgery import plan as plans
    from surgery import show as shows

    a = _stopping(lambda: plans.read(Path(old)))
    b = _stopping(lambda: plans.read(Path(new)))
    found = diffs.diff(a, b)
    typer.echo(diffs.to_json(found) if json else shows.diff_text(found, old, new))
    raise typer.Exit(0 if found.same_decisions else 1)


def _options(
    sink: Sink, library: Path, inputs: list[str] | None, findings: Format
) -> Options | None:
    settings: dict[str, str] = {}
    for text in inputs or ():
        name, equals, value = text.partition("=")
        if not equals:
            sink.report(console.bad_setting(text))
            return None
        if name.strip() in settings:
            sink.report(console.set_twice(name.strip()))
            return None
        settings[name.strip()] = value.strip()
    # Where a program reads stderr, progress would be noise among the findings.
    for_people = findings in (Format.FULL, Format.CONCISE)
    progress = console.Progress() if for_people else silent
    return Options(library, console.cache_folder(), settings, progress)


def _tell(sink: Sink, findings: Format) -> None:
    text = console.findings(sink, findings.value)
    if text:
        typer.echo(text, err=True)


def _stopping(work: Callable[[], Any], findings: Format = Format.FULL) -> Any:
    """Run `work`; a `Stop` becomes findings on stderr and an exit code."""
    sink = Sink()
    try:
        return work()
    except Stop as stop:
        sink.report(stop.diagnostic)
    _tell(sink, findings)
    raise typer.Exit(2)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        try:
            app(args=arguments, prog_name="surgery")
        finally:
            sys.stdout.flush()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 2
    except OSError as error:
        # Passes report their own; what is left is a full or closed stdout.
        console.cannot_print(error)
        return 2
    except Exception as bug:
        # The last resort: whatever comes here is a bug of ours, and users get no traceback.
        console.internal_error(bug)
        return 2
    return 0
