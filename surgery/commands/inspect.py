"""`surgery inspect CHECKPOINT`: what a checkpoint is, layer by layer."""

from __future__ import annotations

from pathlib import Path

import click

from surgery import console
from surgery.commands import options


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT")
@options.json
def command(checkpoint: Path, as_json: bool) -> None:
    """Show a checkpoint's layers, sizes and dtypes. Reads config and headers alone."""
    from surgery import inspection

    found = options.stopping(lambda: inspection.inspect(checkpoint, console.cache_folder()))
    view = inspection.to_json(found) if as_json else inspection.text(found, str(checkpoint))
    click.echo(view)
