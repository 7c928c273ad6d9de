"""`surgery twin CHECKPOINT --bf16 --padded -o OUT`: a checkpoint that more programs can load."""

from __future__ import annotations

from pathlib import Path

import click

from surgery import console
from surgery.commands import options
from surgery.ir import Model
from surgery.units import format_bytes


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT")
@click.option("--bf16", is_flag=True, help="Unpack MXFP4 experts, exactly.")
@click.option("--padded", is_flag=True, help="Equally many experts in all layers; new ones idle.")
@click.option(
    "-o",
    "out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT",
    help="Output folder.",
)
@options.findings
def command(
    checkpoint: Path, bf16: bool, padded: bool, out: Path, findings: options.Format
) -> None:
    """Write a twin that computes the same, to hold engines against each other."""
    from surgery.passes import twin

    if not bf16 and not padded:
        raise click.UsageError("name `--bf16`, `--padded` or both")
    kind = twin.Kind(bf16, padded)
    made = options.stopping(lambda: twin.run(_model(checkpoint), kind, out), findings)
    click.echo(
        f"{made.directory / twin.CHECKPOINT} computes what {checkpoint} does: {made.tensors} "
        f"tensors, {format_bytes(made.nbytes)}, {made.changed} of them unpacked or padded"
    )


def _model(checkpoint: Path) -> Model:
    from surgery.passes.resolve import read_model
    from surgery.sources.fetched import Fetched

    # What `compile` wrote is OUT/checkpoint, and known as OUT.
    place = checkpoint.absolute()
    name = place.parent.name if place.name == "checkpoint" else place.name
    return read_model(Fetched(checkpoint, name), console.cache_folder(), name)
