"""`surgery diff OLD NEW`: what changed between two plans."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from surgery.commands import options


@click.command()
@click.argument("old", type=click.Path(path_type=Path), metavar="OLD")
@click.argument("new", type=click.Path(path_type=Path), metavar="NEW")
@options.json
def command(old: Path, new: Path, as_json: bool) -> None:
    """Compare two plans. Exit code 0: same decisions, 1: different, 2: could not tell."""
    from surgery import diff as diffs
    from surgery import plan as plans
    from surgery import show as shows

    a = options.stopping(lambda: plans.read(old))
    b = options.stopping(lambda: plans.read(new))
    found = diffs.diff(a, b)
    click.echo(diffs.to_json(found) if as_json else shows.diff_text(found, str(old), str(new)))
    sys.exit(0 if found.same_decisions else 1)
