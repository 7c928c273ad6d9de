"""What the commands share: arguments and options, telling findings, turning a `Stop` into an exit.

In: what click has read. Out: `pipeline.Options`, printed findings. Not here: any command.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import click

from surgery import console
from surgery.diagnostics import Diagnostic, Sink, Stop
from surgery.pipeline import Options
from surgery.progress import silent
from surgery.sensitivity import Asked

_T = TypeVar("_T")


class Format(StrEnum):
    """How findings are written."""

    FULL = "full"
    CONCISE = "concise"
    JSON = "json"
    GITHUB = "github"
    SARIF = "sarif"


DEFAULT_LIBRARY = Path(".surgery/library")

spec = click.argument("spec", metavar="SPEC")
inputs = click.option(
    "--set", "inputs", multiple=True, metavar="NAME=VALUE", help="Set a declared input."
)
library = click.option(
    "--library",
    type=click.Path(path_type=Path),
    default=DEFAULT_LIBRARY,
    show_default=True,
    metavar="DIR",
    help="Where measurements are kept.",
)
findings = click.option(
    "--format",
    "findings",
    type=click.Choice(Format, case_sensitive=False),
    default=Format.FULL,
    show_default="full",
    help="How findings are written.",
)
operations = click.option(
    "--aiconfigurator",
    "operations",
    is_flag=True,
    help="Times of operations that NVIDIA measured, where that package has them.",
)
tables = click.option(
    "--table",
    "tables",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Scores, costs, times and kept lists that others measured (CSV or Parquet).",
)
refine = click.option(
    "--refine",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Measure around the answer and solve again, up to N times. [default: 0]",
)
exact = click.option(
    "--exact", is_flag=True, help="Prove the optimum, however long it takes (else to 0.1%)."
)
time_limit = click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Of the solver; with no proof by then there is no plan.",
)
accept_gap = click.option(
    "--accept-gap", is_flag=True, help="Take the best found by then; the plan says how far off."
)
rivals = click.option(
    "--rivals", is_flag=True, help="Set simpler ways of choosing beside the answer."
)
json = click.option("--json", "as_json", is_flag=True, help="The same as JSON.")


def asked(command: Callable[..., None]) -> Callable[..., None]:
    """--why, --prices, --relax and --json as one argument, `asked`."""

    @click.option(
        "--why",
        type=(click.Choice(["layer"]), click.IntRange(0)),
        multiple=True,
        metavar="layer N",
        help="What each alternative of a layer would cost.",
    )
    @click.option(
        "--prices", is_flag=True, help="What moving each limit by 1% would do, solved again."
    )
    @click.option(
        "--relax",
        multiple=True,
        metavar="@LABEL",
        help="Let a requirement give where nothing satisfies all; else, what it costs.",
    )
    @json
    @functools.wraps(command)
    def wrapped(
        *,
        why: tuple[tuple[str, int], ...],
        prices: bool,
        relax: tuple[str, ...],
        as_json: bool,
        **rest: object,
    ) -> None:
        labels = tuple(dict.fromkeys(f"@{name.removeprefix('@')}" for name in relax))
        layers = tuple(dict.fromkeys(layer for _, layer in why))
        command(asked=Asked(layers, prices, labels, as_json), **rest)

    return wrapped


def run_options(
    sink: Sink, library: Path, inputs: tuple[str, ...], findings: Format
) -> Options | None:
    """What a run may vary, or `None` and a report when a `--set` cannot be read."""
    settings: dict[str, str] = {}
    for text in inputs:
        name, equals, value = text.partition("=")
        if not equals:
            sink.report(console.bad_setting(text))
            return None
        if name.strip() in settings:
            sink.report(console.set_twice(name.strip()))
            return None
        settings[name.strip()] = value.strip()
    # Where a program reads stderr, progress would be noise among the findings.
    for_people = findings in (Format.FULL, Format.CONCISE)
    progress = console.Progress() if for_people else silent
    return Options(library, console.cache_folder(), settings, progress)


def sink_for(spec: str) -> Sink:
    """A sink that knows what a spec allows in comments and its project in `pyproject.toml`."""
    from surgery import suppress
    from surgery.linting import levels

    sink = Sink()
    told = levels.of(spec, sink)

    def judge(found: Diagnostic) -> Diagnostic | None:
        return next(iter(told.apply(suppress.visible((found,)))), None)

    sink.judge = judge
    return sink


def tell(sink: Sink, findings: Format) -> None:
    """Print all findings of a run on stderr."""
    text = console.findings(sink, findings.value)
    if text:
        click.echo(text, err=True)


def stopping(work: Callable[[], _T], findings: Format = Format.FULL) -> _T:
    """Run `work`; a `Stop` becomes findings on stderr and exit code 2."""
    sink = Sink()
    try:
        return work()
    except Stop as stop:
        sink.report(stop.diagnostic)
    tell(sink, findings)
    sys.exit(2)
