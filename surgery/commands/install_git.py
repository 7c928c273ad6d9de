"""`surgery install-git`: let `git diff` read plans and specs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--uninstall", is_flag=True, help="Take it out again.")
def command(uninstall: bool) -> None:
    """Let `git diff` read plans and specs, in the work tree here.

    Writes two lines of .gitattributes, to be committed, and settings of this clone's own config.
    """
    from surgery import git

    try:
        work = git.uninstall if uninstall else git.install
        done = work(Path())
    except git.NoWorkTree as error:
        raise click.UsageError(f"cannot set up git here: {error}") from error
    verb = "removed" if uninstall else "added"
    for each in done:
        click.echo(f"{verb}  {each}")
    if not done:
        click.echo("nothing to remove" if uninstall else "all is set up already")
