"""`surgery machines`: the machines that come with surgery."""

from __future__ import annotations

import click

from surgery.commands import options


@click.command()
@options.json
def command(as_json: bool) -> None:
    """List the machines that specs can import, with what one GPU has."""
    from surgery import machines

    found = machines.known()
    click.echo(machines.to_json(found) if as_json else machines.text(found))
