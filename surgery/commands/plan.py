"""`surgery plan SPEC`: which alternative in which layer, and why that is the best."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click
from msgspec.structs import replace

from surgery import console
from surgery.commands import options


@click.command()
@options.spec
@click.option("-o", "out", type=click.Path(path_type=Path), metavar="PLAN", help="Write here.")
@options.inputs
@options.library
@click.option(
    "--table",
    "tables",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Scores, costs and kept lists that others measured (CSV or Parquet).",
)
@options.refine
@options.rivals
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
    refine: int,
    rivals: bool,
    exact: bool,
    time_limit: float | None,
    accept_gap: bool,
    findings: options.Format,
) -> None:
    """Choose one alternative per layer, provably best. Measures what the library lacks."""
    from surgery import pipeline
    from surgery.solving.outcome import Proof

    sink = options.sink_for(spec)
    target = out or Path(spec).with_suffix(".plan")
    options.stopping(lambda: console.check_plan_target(target), findings)
    run = options.run_options(sink, library, inputs, findings)
    proof = Proof(exact, time_limit, accept_gap)
    run = run and replace(run, tables=tables, proof=proof, refine=refine, rivals=rivals)
    planned = pipeline.plan(spec, sink, run) if run else None
    options.tell(sink, findings)
    if planned is None:
        sys.exit(console.exit_code(sink))
    from surgery import report

    options.stopping(lambda: console.write_plan(planned.plan, target), findings)
    click.echo(report.planned(planned))
    if not planned.space.model.files:
        click.echo(f"\nWritten to {target}. To compile, plan again where the weights are.")
        return
    folder = [] if planned.spec.emits else ["-o", f"out/{Path(spec).stem}"]
    kept = [] if library == options.DEFAULT_LIBRARY else ["--library", str(library)]
    settings = [part for text in inputs for part in ("--set", text)]
    words = ["compile", spec, "--plan", str(target), *folder, *settings, *kept]
    click.echo(f"\nWritten to {target}. Next: {console.program()} {shlex.join(words)}")
