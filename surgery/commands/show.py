"""`surgery show PLAN`: what a plan does."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from msgspec.structs import replace

from surgery.commands import options
from surgery.diagnostics import Sink, Stop
from surgery.pipeline import Options


@click.command()
@click.argument("plan", type=click.Path(path_type=Path), metavar="PLAN")
@click.option("--markdown", "as_markdown", is_flag=True, help="For a pull request.")
@click.option("--for-diff", is_flag=True, help="The text that git compares; see install-git.")
@click.option("--costs", "spec", metavar="SPEC", help="What times and bytes are made of.")
@click.option("--layer", type=int, metavar="N", help="With --costs: of one layer.")
@options.inputs
@options.library
@options.tables
@options.operations
@options.json
def command(
    plan: Path,
    as_markdown: bool,
    for_diff: bool,
    spec: str | None,
    layer: int | None,
    inputs: tuple[str, ...],
    library: Path,
    tables: tuple[Path, ...],
    operations: bool,
    as_json: bool,
) -> None:
    """Print what a plan does, from the file alone; with --costs, what its figures are made of."""
    from surgery import plan as plans
    from surgery import show as shows
    from surgery.views.markdown import plan_markdown

    if sum((as_markdown, for_diff, as_json)) > 1:
        raise click.UsageError("only one of --markdown, --for-diff and --json can be given")
    if layer is not None and spec is None:
        raise click.UsageError("--layer goes with --costs")
    if spec is not None:
        sink = options.sink_for(spec)
        run = options.run_options(sink, library, inputs, options.Format.FULL)
        known = run and replace(run, tables=tables, operations=operations)
        _costs(plan, spec, layer, sink, known, as_json)
        return
    if for_diff:
        click.echo(_for_diff(plan), nl=False)
        return
    found = options.stopping(lambda: plans.read(plan))
    if as_markdown:
        click.echo(plan_markdown(found, str(plan)))
    else:
        click.echo(plans.to_json(found) if as_json else shows.plan_text(found))


def _costs(
    plan: Path, spec: str, layer: int | None, sink: Sink, run: Options | None, as_json: bool
) -> None:
    from surgery import console, pipeline
    from surgery.passes import breakdown

    found = pipeline.costs(spec, sink, run, plan, layer) if run else None
    options.tell(sink, options.Format.FULL)
    if found is None:
        sys.exit(console.exit_code(sink))
    click.echo(breakdown.to_json(found) if as_json else breakdown.text(found))


def _for_diff(path: Path) -> str:
    """What git shall compare: of a file that is no plan (any more), the file."""
    from surgery import git
    from surgery import plan as plans

    try:
        return git.for_diff(plans.read(path))
    except Stop:
        return path.read_text("utf-8", errors="replace")
