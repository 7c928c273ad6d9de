"""`surgery diff OLD NEW`: what changed between two plans, two specs, or a plan and what it made."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from surgery.commands import options
from surgery.diagnostics import Sink
from surgery.grammar import ast
from surgery.ir import Plan, Spec

_SPEC = ".surg"


@click.command()
@click.argument("old", type=click.Path(path_type=Path), metavar="OLD")
@click.argument("new", type=click.Path(path_type=Path), metavar="NEW")
@click.option("--side-by-side", "beside", is_flag=True, help="Layer by layer, next to each other.")
@click.option("--all", "everything", is_flag=True, help="With --side-by-side: equal layers, too.")
@click.option("--markdown", "as_markdown", is_flag=True, help="For a pull request.")
@options.json
def command(
    old: Path, new: Path, beside: bool, everything: bool, as_markdown: bool, as_json: bool
) -> None:
    """Compare two plans, two specs, or a plan and the checkpoint made of it.

    Specs are compared by what they mean: layout, comments and order are no difference. Exit code
    0: they decide (or mean) the same, 1: they differ, 2: it could not be told.
    """
    if sum((beside, as_markdown, as_json)) > 1:
        raise click.UsageError("only one of --side-by-side, --markdown and --json can be given")
    if everything and not beside:
        raise click.UsageError("--all is for --side-by-side")
    if {old.suffix, new.suffix} == {_SPEC}:
        if beside or as_markdown:
            raise click.UsageError("two specs are compared as text or with --json")
        text, same = _specs(old, new, as_json=as_json)
    else:
        view = _view(beside=beside, everything=everything, markdown=as_markdown, json=as_json)
        text, same = _plans(old, new, view)
    click.echo(text, nl=not text.endswith("\n"))
    sys.exit(0 if same else 1)


# ---- plans and checkpoints -------------------------------------------------------------------


def _view(
    *, beside: bool, everything: bool, markdown: bool, json: bool
) -> Callable[[Plan, Plan, str, str], tuple[str, bool]]:
    from surgery import diff as diffs
    from surgery import show
    from surgery.views.markdown import diff_markdown
    from surgery.views.side_by_side import side_by_side

    def view(a: Plan, b: Plan, old: str, new: str) -> tuple[str, bool]:
        found = diffs.diff(a, b)
        if json:
            text = diffs.to_json(found)
        elif markdown:
            text = diff_markdown(found, old, new)
        elif beside:
            text = side_by_side(found, old, new, everything=everything)
        else:
            text = show.diff_text(found, old, new)
        return text, found.same_decisions

    return view


def _plans(
    old: Path, new: Path, view: Callable[[Plan, Plan, str, str], tuple[str, bool]]
) -> tuple[str, bool]:
    a, b = (None if path.is_dir() else _plan(path) for path in (old, new))
    if a is None and b is None:
        raise click.UsageError("one of the two has to be a plan")
    a = a or options.stopping(lambda: _built(old, b))
    b = b or options.stopping(lambda: _built(new, a))
    return view(a, b, str(old), str(new))


def _plan(path: Path) -> Plan:
    from surgery import plan as plans

    return options.stopping(lambda: plans.read(path))


def _built(directory: Path, plan: Plan | None) -> Plan:
    """What a checkpoint is, in the words of the plan that it shall be held against."""
    from surgery import console, recognition

    assert plan is not None
    return recognition.run(plan, directory, console.cache_folder())


# ---- specs -----------------------------------------------------------------------------------


def _specs(old: Path, new: Path, *, as_json: bool) -> tuple[str, bool]:
    from surgery import meaning
    from surgery.views.specs import spec_diff_text

    found = meaning.diff(_spec(old), _spec(new))
    return meaning.to_json(found) if as_json else spec_diff_text(found), found.same_meaning


def _spec(path: Path) -> tuple[Spec, ast.Spec]:
    """A spec and its tree, both of the text in its canonical layout; findings end the command."""
    from surgery.formatting import format_text
    from surgery.grammar.parse import parse, read_source
    from surgery.passes import check
    from surgery.source import Source

    sink = options.sink_for(str(path))
    source = read_source(str(path), sink)
    text = format_text(source, sink) if source is not None else None
    if source is None or text is None or check.run(parse(source, Sink()), sink, {}) is None:
        options.tell(sink, options.Format.FULL)
        sys.exit(2)
    tree = parse(Source(source.name, text), Sink())
    spec = check.run(tree, Sink(), {})
    assert spec is not None, "a layout has no meaning"
    return spec, tree
