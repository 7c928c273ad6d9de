"""Carrying out a plan file: whatever was done to the file, never a crash and never a lie."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from conftest import GPT_OSS_SPEC, LLAMA_SPEC, Workplace


@pytest.fixture
def planned(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> tuple[str, Path]:
    """A spec and its plan, which keeps lists of channels."""
    path = workplace.write("a.surg", LLAMA_SPEC)
    assert workplace.run("plan", path, "-o", "a.plan") == 0
    capsys.readouterr()
    plan = workplace.folder / "a.plan"
    assert "kept layer" in plan.read_text(encoding="utf-8")
    return path, plan


def test_every_lost_line_is_noticed(
    planned: tuple[str, Path], workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, plan = planned
    lines = plan.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines):
        if not line.strip() or line.startswith(
            ("require", "objective", "solver", "toolchain", "library", "metric damage")
        ):
            continue
        plan.write_text("".join(lines[:number] + lines[number + 1 :]), encoding="utf-8")
        code = workplace.run("compile", spec, "--plan", str(plan), "-o", "out")
        told = capsys.readouterr().err
        assert code in (1, 2), (line, told)
        assert "E0801" in told or "E0808" in told, (line, told)
        assert "internal error" not in told
        assert not Path("out").exists()


def _rehash(text: str) -> str:
    """The text with the decision hash of its own layer lines."""
    layers = "\n".join(line for line in text.splitlines() if line.startswith("layer "))
    digest = hashlib.sha256(layers.encode()).hexdigest()[:16]
    old = next(line for line in text.splitlines() if line.startswith("decision"))
    return text.replace(old, f"decision  sha256:{digest}")


def test_a_forged_plan_must_meet_the_requirements(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workplace.write("b.surg", GPT_OSS_SPEC)
    assert workplace.run("plan", path, "-o", "b.plan") == 0
    plan = workplace.folder / "b.plan"
    lines = plan.read_text(encoding="utf-8").splitlines()
    # Undo every cut: consistent in itself, and too big for `@size`.
    forged = [
        " ".join("experts=8" if part.startswith("experts=") else part for part in line.split(" "))
        if line.startswith("layer ")
        else line
        for line in lines
        if not line.startswith("kept ")
    ]
    plan.write_text(_rehash("\n".join(forged).rstrip() + "\n"), encoding="utf-8")
    capsys.readouterr()
    assert workplace.run("compile", path, "--plan", str(plan), "-o", "out") == 1
    told = capsys.readouterr().err
    assert "error[E0801]" in told
    assert "@size" in told
