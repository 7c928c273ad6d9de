"""`surgery bench SPEC`: what blocks cost in time on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from surgery import console
from surgery.commands import options


@click.command()
@options.spec
@click.option(
    "--rounds",
    type=click.IntRange(min=3),
    default=15,
    show_default=True,
    metavar="N",
    help="How often everything is run in turn.",
)
@click.option(
    "--machine",
    "machines",
    multiple=True,
    metavar="NAME",
    help="That this is the machine NAME of the spec, whatever it looks like.",
)
@options.inputs
@options.library
@options.findings
def command(
    spec: str,
    rounds: int,
    machines: tuple[str, ...],
    inputs: tuple[str, ...],
    library: Path,
    findings: options.Format,
) -> None:
    """Time every block that is on offer, for `plan`. Times only what the library lacks."""
    from surgery import bench as benches
    from surgery.passes import bench

    sink = options.sink_for(spec)
    run = options.run_options(sink, library, inputs, findings)
    found = benches.run(spec, sink, run, rounds, machines) if run else None
    options.tell(sink, findings)
    if found is None:
        sys.exit(console.exit_code(sink))
    click.echo("\n".join(bench.text(found)))
