"""`surgery verify PLAN CHECKPOINT`: is this checkpoint the plan applied to the parent?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from surgery import console
from surgery.commands import options
from surgery.diagnostics import Sink
from surgery.ir import Model
from surgery.units import format_bytes


@click.command()
@click.argument("plan", type=click.Path(path_type=Path), metavar="PLAN")
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT")
@click.option(
    "--parent",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The parent's checkpoint.",
)
@options.findings
def command(plan: Path, checkpoint: Path, parent: Path, findings: options.Format) -> None:
    """Prove that a checkpoint is a plan applied to its parent, tensor by tensor."""
    from surgery import plan as plans
    from surgery.passes import verify

    sink = Sink()
    progress = console.Progress()
    read = options.stopping(lambda: plans.read(plan), findings)
    model = options.stopping(lambda: _parent(parent, read.parent[0]), findings)
    found = options.stopping(
        lambda: verify.run(read, str(plan), model, checkpoint, sink, progress), findings
    )
    options.tell(sink, findings)
    if found is None:
        sys.exit(1)
    click.echo(
        f"{checkpoint} is {plan} applied to {parent}: {found.tensors} tensors, "
        f"{format_bytes(found.nbytes)}, {found.changed} of them cut, all as planned"
    )


def _parent(directory: Path, source: str) -> Model:
    from surgery.passes.resolve import read_model
    from surgery.sources.fetched import Fetched

    return read_model(Fetched(directory, source), console.cache_folder())
