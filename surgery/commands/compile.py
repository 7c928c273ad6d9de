"""`surgery compile SPEC`: the plan, and the checkpoint it describes."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from msgspec.structs import replace

from surgery import console
from surgery.commands import options


@click.command()
@options.spec
@click.option("-o", "out", type=click.Path(path_type=Path), metavar="OUT", help="Output folder.")
@click.option(
    "--plan", type=click.Path(path_type=Path), metavar="PLAN", help="Carry out this plan."
)
@options.inputs
@options.library
@options.refine
@options.exact
@options.time_limit
@options.accept_gap
@options.findings
def command(
    spec: str,
    out: Path | None,
    plan: Path | None,
    inputs: tuple[str, ...],
    library: Path,
    refine: int,
    exact: bool,
    time_limit: float | None,
    accept_gap: bool,
    findings: options.Format,
) -> None:
    """Plan, cut the checkpoint, measure the child."""
    from surgery import pipeline
    from surgery.solving.outcome import Proof

    sink = options.sink_for(spec)
    run = options.run_options(sink, library, inputs, findings)
    if plan is not None and refine:
        raise click.UsageError("--refine makes a plan, and --plan carries one out")
    proof = Proof(exact, time_limit, accept_gap)
    run = run and replace(run, proof=proof, refine=refine)
    compiled = pipeline.compile(spec, sink, run, out, plan) if run else None
    options.tell(sink, findings)
    if compiled is None:
        sys.exit(console.exit_code(sink))
    from surgery import report

    click.echo(report.compiled(compiled, console.program(), console.python()))
