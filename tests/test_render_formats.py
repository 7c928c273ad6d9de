"""The short, the machine-readable and the many: every format but the full one."""

from __future__ import annotations

import json

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.render import Format, concise, full, github, json_value, render, summary
from surgery.source import Source, Span

LIMIT = Source("specs/gpt-oss-120b.surg", "\n" * 87 + "require @size   params <= 88.5GB\n")


def at(where: Source, text: str) -> Span:
    start = where.text.index(text)
    return Span(where, start, start + len(text))


MIXED = Diagnostic(
    catalog.E0301,
    "cannot compare a parameter count with a number of bytes",
    (
        Label(at(LIMIT, "88.5GB"), "this is a number of bytes", primary=True),
        Label(at(LIMIT, "params"), "this is a count of parameters"),
    ),
    notes=("the limit is attached to `@size`",),
    helps=(
        Help(
            "to limit the count, write the unit of a count",
            Fix((Edit(at(LIMIT, "88.5GB"), "88.5B params"),), Safety.DISPLAY),
        ),
    ),
)


def test_concise_is_one_line() -> None:
    assert concise(MIXED) == (
        "specs/gpt-oss-120b.surg:88:27: error[E0301]: "
        "cannot compare a parameter count with a number of bytes"
    )
    assert (
        concise(Diagnostic(catalog.E0001, "no", subject="a b.surg")) == "a b.surg: error[E0001]: no"
    )
    assert concise(Diagnostic(catalog.W0804, "no")) == "warning[W0804]: no"


def test_github_commands_escape_what_github_reads() -> None:
    where = Source("a,b:c.surg", "let x = 92%\n")
    found = Diagnostic(catalog.W0706, "92% of it\nor so", (Label(at(where, "92%"), "", True),))
    assert github(found) == (
        "::warning file=a%2Cb%3Ac.surg,line=1,col=9,endLine=1,"
        "title=W0706 tight-requirement::92%25 of it%0Aor so"
    )
    assert github(Diagnostic(catalog.E0001, "no", subject="x")) == (
        "::error title=E0001 unreadable-file::x: no"
    )


def test_json() -> None:
    start = LIMIT.text.index("88.5GB")
    value = json_value(MIXED)
    labels = value["labels"]
    assert isinstance(labels, list)
    assert labels[0] == {
        "span": {
            "file": "specs/gpt-oss-120b.surg",
            "start": {"line": 88, "column": 27, "offset": start},
            "end": {"line": 88, "column": 33, "offset": start + 6},
        },
        "text": "this is a number of bytes",
        "primary": True,
    }
    helps = value["helps"]
    assert isinstance(helps, list)
    assert helps[0] == {
        "text": "to limit the count, write the unit of a count",
        "fix": {
            "safety": "display",
            "edits": [{"start": start, "end": start + 6, "text": "88.5B params"}],
        },
    }
    assert value["code"] == "E0301"
    assert value["severity"] == "error"
    assert value["url"] == "surgery explain E0301"


def test_json_of_many_is_one_array() -> None:
    other = Diagnostic(catalog.E0001, "no \u202e", subject="x", values=(("a", "1"),))
    text = render([MIXED, other], Format.JSON)
    assert text.isascii()
    assert json.loads(text) == [json_value(MIXED), json_value(other)]
    assert json.loads(render([], Format.JSON)) == []


def test_formats_put_findings_after_each_other() -> None:
    other = Diagnostic(catalog.E0603, "stopped early")
    assert render([MIXED, other]) == full(MIXED) + "\n\n" + full(other)
    assert render([MIXED, other], Format.CONCISE) == concise(MIXED) + "\n" + concise(other)
    assert render([MIXED, other], Format.GITHUB) == github(MIXED) + "\n" + github(other)
    assert render([]) == ""


def test_summary_counts() -> None:
    warning = Diagnostic(catalog.W0804, "no")
    assert summary([MIXED, warning, MIXED]) == "2 errors, 1 warning"
    assert summary([warning]) == "1 warning"
    assert summary([]) == "no findings"
