"""`[tool.surgery.lint]`: what a project makes of lints."""

from __future__ import annotations

from pathlib import Path

import pytest
from lint_fixtures import changed, linted

from surgery.diagnostics import Severity, Sink
from surgery.linting import levels
from surgery.linting.levels import Levels
from surgery.source import Source


def read(text: str) -> tuple[Levels | None, list[tuple[str, str]]]:
    sink = Sink()
    found = levels.read(Source("pyproject.toml", text), sink)
    marks = [(d.message, d.primary.span.text if d.primary else "") for d in sink.sorted()]
    assert {d.code.id for d in sink.found} <= {"E0012"}
    return found, marks


def test_names_numbers_and_levels() -> None:
    text = '[tool.surgery.lint]\nunused-name = "deny"\nW0902 = "allow"\nmagic-number = "warn"\n'
    assert read(text) == (Levels({"W0201": "deny", "W0902": "allow", "W0714": "warn"}), [])
    assert read('tool.surgery.lint = {unused-name = "deny"}\n') == (Levels({"W0201": "deny"}), [])
    assert read("[tool.surgery]\n") == (Levels(), [])
    assert read("[tool.ruff]\n") == (None, [])


@pytest.mark.parametrize(
    ("line", "message", "mark"),
    [
        ('unusd-name = "deny"', "there is no lint `unusd-name`", "unusd-name"),
        ('unused-name = "off"', "the level of `unused-name` is `allow`, `warn` or `deny`", '"off"'),
        ("unused-name = 2", "the level of `unused-name` is `allow`, `warn` or `deny`", "2"),
        (
            'undefined-name = "allow"',
            "`undefined-name` is an error, and only lints have levels",
            "undefined-name",
        ),
        (
            'unused-name = "warn"\nW0201 = "deny"',
            "the lint `unused-name` has two levels",
            "W0201",
        ),
    ],
)
def test_mistakes_point_into_the_file(line: str, message: str, mark: str) -> None:
    _, marks = read(f"[project]\nname = 'unused-name'\n\n[tool.surgery.lint]\n{line}\n")
    assert marks == [(message, mark)]


def test_mistakes_leave_the_other_levels() -> None:
    text = '[tool.surgery.lint]\nunusd-name = "deny"\nmagic-number = "deny"\n'
    assert read(text)[0] == Levels({"W0714": "deny"})


def test_tables_that_are_none() -> None:
    assert read("[tool.surgery.lnt]\n")[1] == [("`[tool.surgery]` has nothing called `lnt`", "lnt")]
    assert read('[tool.surgery]\nlint = "deny"\n')[1] == [
        ("`lint` is a table of lints and their levels", "lint")
    ]
    ((message, mark),) = read("[tool.surgery.lint]\nunused-name = \n")[1]
    assert message.startswith("`pyproject.toml` cannot be read: ")
    assert mark == "\n"


def test_the_nearest_file_with_a_table_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.surgery.lint]\nunused-name = "deny"\n')
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert levels.of("a/b/x.surg", Sink()) == Levels({"W0201": "deny"})
    (deep / "pyproject.toml").write_text('[tool.surgery.lint]\nunused-name = "warm"\n')
    sink = Sink()
    assert levels.of("a/b/x.surg", sink) == Levels()
    assert [str(d.primary.span) for d in sink.found if d.primary] == ["a/b/pyproject.toml:2:15"]
    monkeypatch.chdir(deep)
    assert levels.of("../y.surg", Sink()) == Levels({"W0201": "deny"})


def test_levels_weigh_lints_and_spare_errors() -> None:
    text = changed("minimize", "let a = 1\n\nminimize")
    plain = linted(text).findings
    assert [(d.code.id, d.severity) for d in plain] == [("W0201", Severity.WARNING)]
    denied = linted(text, levels=Levels({"W0201": "deny"})).findings
    assert [(d.code.id, d.severity) for d in denied] == [("W0201", Severity.ERROR)]
    assert linted(text, levels=Levels({"W0201": "allow"})).findings == ()
    assert linted(text, levels=Levels({"W0201": "warn"})).findings == plain


def test_what_is_allowed_in_the_file_stays_allowed() -> None:
    text = changed("minimize", "# surg: allow(unused-name)\nlet a = 1\n\nminimize")
    assert linted(text, levels=Levels({"W0201": "deny"})).findings == ()
    # A comment that the project makes needless still silences something.
    assert linted(text, levels=Levels({"W0201": "allow"})).findings == ()
