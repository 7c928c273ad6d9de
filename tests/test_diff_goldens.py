"""`surgery diff` on pairs of plans and specs, as files that one can read: `tests/golden/diff`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import golden

from surgery.cli import main

PAIRS = sorted((Path(__file__).parent / "golden" / "diff").iterdir())
SAME = ("02-measured-again", "10-spec-renamed")
"""Pairs that decide, or mean, the same."""
VIEWS = {
    "default.txt": (),
    "side-by-side.txt": ("--side-by-side",),
    "all.txt": ("--side-by-side", "--all"),
    "pull-request.md": ("--markdown",),
    "changes.json": ("--json",),
}


def _views(pair: Path) -> tuple[str, ...]:
    if (pair / "a.surg").exists():
        return ("default.txt", "changes.json")
    everything = pair.name == "07-thirty-six-layers"
    return tuple(VIEWS) if everything else ("default.txt", "side-by-side.txt", "pull-request.md")


@pytest.mark.parametrize(
    ("pair", "view"),
    [pytest.param(p, view, id=f"{p.name}-{view}") for p in PAIRS for view in _views(p)],
)
def test_golden(
    pair: Path,
    view: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(pair)
    kind = "surg" if (pair / "a.surg").exists() else "plan"
    code = main(["diff", f"a.{kind}", f"b.{kind}", *VIEWS[view]])
    told = capsys.readouterr()
    assert told.err == ""
    assert code == (0 if pair.name in SAME else 1)
    golden(pair / view, told.out, request)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_nothing_differs_from_itself(
    pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pair)
    for file in sorted(pair.glob("[ab].*")):
        assert main(["diff", file.name, file.name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["changes"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.plan", "b.plan", "--json", "--markdown"],
        ["a.plan", "b.plan", "--all"],
        ["a.plan", "gone.plan"],
        ["a.plan", "a.surg"],
        [".", "."],
        ["a.surg", "broken.surg"],
        ["a.surg", "a.surg", "--markdown"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_told_is_exit_code_2(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for source in (PAIRS[0] / "a.plan", PAIRS[0] / "b.plan", PAIRS[-1] / "a.surg"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "broken.surg").write_text("surg 1\n\nminimize what\n")
    assert main(["diff", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err
    assert "Traceback" not in told.err
