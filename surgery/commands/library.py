"""`surgery library SPEC`: what is measured already, and the same as a table for others."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from surgery import console
from surgery.commands import options


@click.command()
@options.spec
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write it as a table, for `plan --table`.",
)
@options.inputs
@options.library
@options.findings
def command(
    spec: str,
    table: Path | None,
    inputs: tuple[str, ...],
    library: Path,
    findings: options.Format,
) -> None:
    """Say what the library knows about a spec; measures nothing."""
    from surgery import pipeline
    from surgery.passes import exchange

    sink = options.sink_for(spec)
    run = options.run_options(sink, library, inputs, findings)
    known = pipeline.recall(spec, sink, run) if run else None
    options.tell(sink, findings)
    if known is None:
        sys.exit(console.exit_code(sink))
    for name, has, wanted in known.counts:
        click.echo(f"  {name:<12} {has} of {wanted} measured")
    if table is not None:
        options.stopping(lambda: exchange.write(known, table), findings)
        words = ["plan", spec, "--table", str(table)]
        rows = console.plural(len(known.rows), "row")
        click.echo(f"\nWritten to {table}: {rows}. Next: {console.program()} {shlex.join(words)}")
