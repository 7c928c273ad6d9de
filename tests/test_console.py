"""Plan files: written whole, or a finding and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from plan_fixtures import changed, example

from surgery import console, lockfile
from surgery.diagnostics import Sink, Stop


def test_a_plan_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    for plan in (example(), changed()):
        console.write_plan(plan, path, tmp_path / "a.surg")
        assert path.read_text(encoding="utf-8") == lockfile.text(plan)
    assert os.listdir(tmp_path) == ["a.plan"]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file/a.plan", "not a directory"),
        ("missing/a.plan", "no such file or directory"),
        ("folder", "is a directory"),
    ],
)
def test_a_place_that_cannot_be_written_is_a_finding(
    place: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    sink = Sink()
    with pytest.raises(Stop) as stopped:
        console.write_plan(example(), tmp_path / place, tmp_path / "a.surg")
    sink.report(stopped.value.diagnostic)
    (found,) = sink.found
    assert (found.code.id, found.message) == ("E0806", f"cannot write the plan: {reason}")
    assert found.subject == str(tmp_path / place)
    assert console.exit_code(sink) == 2
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
