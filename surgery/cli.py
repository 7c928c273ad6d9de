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
from typing import TypeVar

import click

from surgery import console
from surgery.diagnostics import Sink, Stop
from surgery.pipeline import Options
from surgery.progress import silent

_T = TypeVar("_T")


class Format(StrEnum):
    """How findings are written."""

    FULL = "full"
    CONCISE = "concise"
    JSON = "json"
    GITHUB = "github"


DEFAULT_LIBRARY = Path(".surgery/library")

_spec = click.argument("spec", metavar="SPEC")
_inputs = click.option(
    "--set", "inputs", multiple=True, metavar="NAME=VALUE", help="Set a declared input."
)
_library = click.option(
    "--library",
    type=click.Path(path_type=Path),
    default=DEFAULT_LIBRARY,
    show_default=True,
    metavar="DIR",
    help="Where measurements are kept.",
)
_findings = click.option(
    "--format",
    "findings",
    type=click.Choice(Format, case_sensitive=False),
    default=Format.FULL,
    show_default="full",
    help="How findings are written.",
)
_json = click.option("--json", "as_json", is_flag=True, help="The same as JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="surgery", message="surgery %(version)s")
def app() -> None:
    """Compile a .surg spec: choose one block per layer, exactly, and cut the checkpoint."""


@app.command()
@_spec
@_inputs
@_findings
def check(spec: str, inputs: tuple[str, ...], findings: Format) -> None:
    """Parse and check a spec: names, units, types. Reads no model and no weights."""
    from surgery import pipeline

    sink = Sink()
    options = _options(sink, DEFAULT_LIBRARY, inputs, findings)
    checked = pipeline.check(spec, sink, options) if options else None
    _tell(sink, findings)
    if checked is None:
        sys.exit(console.exit_code(sink))
    count, goal = len(checked.requirements), checked.objective.sense
    click.echo(f"{spec} is good: {console.plural(count, 'requirement')}, 1 objective ({goal})")


@app.command()
@_spec
@click.option("-o", "out", type=click.Path(path_type=Path), metavar="PLAN", help="Write here.")
@_inputs
@_library
@_findings
def plan(
    spec: str, out: Path | None, inputs: tuple[str, ...], library: Path, findings: Format
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
        sys.exit(console.exit_code(sink))
    from surgery import report

    _stopping(lambda: console.write_plan(planned.plan, target), findings)
    click.echo(report.planned(planned))
    folder = [] if planned.spec.emits else ["-o", f"out/{Path(spec).stem}"]
    kept = [] if library == DEFAULT_LIBRARY else ["--library", str(library)]
    settings = [part for text in inputs for part in ("--set", text)]
    words = ["compile", spec, "--plan", str(target), *folder, *settings, *kept]
    click.echo(f"\nWritten to {target}. Next: {console.program()} {shlex.join(words)}")


@app.command(name="compile")
@_spec
@click.option("-o", "out", type=click.Path(path_type=Path), metavar="OUT", help="Output folder.")
@click.option(
    "--plan", type=click.Path(path_type=Path), metavar="PLAN", help="Carry out this plan."
)
@_inputs
@_library
@_findings
def compile_(
    spec: str,
    out: Path | None,
    plan: Path | None,
    inputs: tuple[str, ...],
    library: Path,
    findings: Format,
) -> None:
    """Plan, cut the checkpoint, and measure what the assembled child has lost."""
    from surgery import pipeline

    sink = Sink()
    options = _options(sink, library, inputs, findings)
    compiled = pipeline.compile(spec, sink, options, out, plan) if options else None
    _tell(sink, findings)
    if compiled is None:
        sys.exit(console.exit_code(sink))
    from surgery import report

    click.echo(report.compiled(compiled, console.program(), console.python()))


@app.command()
@click.argument("plan", type=click.Path(path_type=Path), metavar="PLAN")
@_json
def show(plan: Path, as_json: bool) -> None:
    """Print what a plan does, from the file alone."""
    from surgery import plan as plans
    from surgery import show as shows

    found = _stopping(lambda: plans.read(plan))
    click.echo(plans.to_json(found) if as_json else shows.plan_text(found))


@app.command()
@click.argument("old", type=click.Path(path_type=Path), metavar="OLD")
@click.argument("new", type=click.Path(path_type=Path), metavar="NEW")
@_json
def diff(old: Path, new: Path, as_json: bool) -> None:
    """Compare two plans. Exit code 0: same decisions, 1: different, 2: could not tell."""
    from surgery import diff as diffs
    from surgery import plan as plans
    from surgery import show as shows

    a = _stopping(lambda: plans.read(old))
    b = _stopping(lambda: plans.read(new))
    found = diffs.diff(a, b)
    click.echo(diffs.to_json(found) if as_json else shows.diff_text(found, str(old), str(new)))
    sys.exit(0 if found.same_decisions else 1)


def _options(
    sink: Sink, library: Path, inputs: tuple[str, ...], findings: Format
) -> Options | None:
    settings: dict[str, str] = {}
    for text in inputs:
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
        click.echo(text, err=True)


def _stopping(work: Callable[[], _T], findings: Format = Format.FULL) -> _T:
    """Run `work`; a `Stop` becomes findings on stderr and an exit code."""
    sink = Sink()
    try:
        return work()
    except Stop as stop:
        sink.report(stop.diagnostic)
    _tell(sink, findings)
    sys.exit(2)


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
