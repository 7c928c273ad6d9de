"""`surgery show PLAN`: what a plan does."""

from __future__ import annotations

from pathlib import Path

import click

from surgery.commands import options
from surgery.diagnostics import Stop


@click.command()
@click.argument("plan", type=click.Path(path_type=Path), metavar="PLAN")
@click.option("--markdown", "as_markdown", is_flag=True, help="For a pull request.")
@click.option("--for-diff", is_flag=True, help="The text that git compares; see install-git.")
@options.json
def command(plan: Path, as_markdown: bool, for_diff: bool, as_json: bool) -> None:
    """Print what a plan does, from the file alone."""
    from surgery import plan as plans
    from surgery import show as shows
    from surgery.views.markdown import plan_markdown

    if sum((as_markdown, for_diff, as_json)) > 1:
        raise click.UsageError("only one of --markdown, --for-diff and --json can be given")
    if for_diff:
        click.echo(_for_diff(plan), nl=False)
        return
    found = options.stopping(lambda: plans.read(plan))
    if as_markdown:
        click.echo(plan_markdown(found, str(plan)))
    else:
        click.echo(plans.to_json(found) if as_json else shows.plan_text(found))


def _for_diff(path: Path) -> str:
    """What git shall compare: of a file that is no plan (any more), the file."""
    from surgery import git
    from surgery import plan as plans

    try:
        return git.for_diff(plans.read(path))
    except Stop:
        return path.read_text("utf-8", errors="replace")
