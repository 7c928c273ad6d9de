"""`surgery explain [CODE]`: what a finding means and what to do about it.

In: a number (`E0301`) or a name (`mixed-dimensions`), or nothing. Out: the long explanation of
that code, or a list of all codes by pass. Refuses what names no code (E0006, exit code 2).
"""

from __future__ import annotations

import json
import shutil
import sys

import click

from surgery import catalog, explanations
from surgery.commands import options
from surgery.diagnostics import Code, Diagnostic, Help, Sink
from surgery.explanations import layout


@click.command()
@click.argument("code", metavar="[CODE]", required=False)
@options.json
def command(code: str | None, as_json: bool) -> None:
    """Explain a code or lint, with an example and a remedy; without one, list them all."""
    if code is None:
        click.echo(_all_json() if as_json else _all_text())
        return
    found = explanations.find(code)
    if found is None:
        sink = Sink()
        sink.report(unknown(code))
        options.tell(sink, options.Format.JSON if as_json else options.Format.FULL)
        sys.exit(2)
    click.echo(_one_json(found) if as_json else _one_text(found))


def unknown(text: str) -> Diagnostic:
    """What is wrong with a text that names no code, with those that it resembles."""
    near = explanations.similar(text)
    helps = tuple(Help(f"`surgery explain {each.id}` explains `{each.name}`") for each in near)
    listed = Help("`surgery explain` lists all codes")
    message = f"there is no code or lint `{text}`"
    return Diagnostic(catalog.E0006, message, subject="the command line", helps=helps or (listed,))


# ---- one code --------------------------------------------------------------------------------


def _one_text(code: Code) -> str:
    width = shutil.get_terminal_size((layout.WIDTH, 24)).columns
    return layout.plain(
        explanations.explanation(code), width=max(40, width), colour=sys.stdout.isatty()
    )


def _one_json(code: Code) -> str:
    return json.dumps({**_entry(code), "text": explanations.explanation(code)}, indent=2)


def _entry(code: Code) -> dict[str, str | None]:
    return {
        "code": code.id,
        "name": code.name,
        "severity": code.severity.word,
        "pass": catalog.GROUPS[code.id[1:3]],
        "summary": code.summary,
        "fix": code.fix.value if code.fix else None,
    }


# ---- all codes -------------------------------------------------------------------------------


def _all_json() -> str:
    return json.dumps([_entry(code) for code in catalog.BY_ID.values()], indent=2)


def _all_text() -> str:
    names = max(len(code.name) for code in catalog.BY_ID.values())
    blocks = [
        "\n".join(
            [
                f"{number} {title}",
                *(
                    f"  {code.id}  {code.name:<{names}}  {code.summary}"
                    for code in catalog.BY_ID.values()
                    if code.id[1:3] == number
                ),
            ]
        )
        for number, title in catalog.GROUPS.items()
    ]
    return "\n\n".join((*blocks, "`surgery explain CODE` explains one of them."))
