"""`surgery check SPEC`: is this a spec?"""

from __future__ import annotations

import sys

import click

from surgery import console
from surgery.commands import options


@click.command()
@options.spec
@options.inputs
@options.findings
def command(spec: str, inputs: tuple[str, ...], findings: options.Format) -> None:
    """Parse and check a spec: names, units, types. Reads no model and no weights."""
    from surgery import pipeline

    sink = options.sink_for(spec)
    run = options.run_options(sink, options.DEFAULT_LIBRARY, inputs, findings)
    checked = pipeline.check(spec, sink, run) if run else None
    options.tell(sink, findings)
    if checked is None:
        sys.exit(console.exit_code(sink))
    count, goal = len(checked.requirements), checked.objective.sense
    click.echo(f"{spec} is good: {console.plural(count, 'requirement')}, 1 objective ({goal})")
