"""`surgery show PLAN`: what a plan does."""

from __future__ import annotations

from pathlib import Path

import click

from surgery.commands import options


@click.command()
@click.argument("plan", type=click.Path(path_type=Path), metavar="PLAN")
@options.json
def command(plan: Path, as_json: bool) -> None:
    """Print what a plan does, from the file alone."""
    from surgery import plan as plans
    from surgery import show as shows

    found = options.stopping(lambda: plans.read(plan))
    click.echo(plans.to_json(found) if as_json else shows.plan_text(found))
