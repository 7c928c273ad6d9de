"""The command line: fast to start, honest exit codes, findings in every layout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LLAMA_SPEC, Workplace

from surgery import pipeline
from surgery.cli import main

SPECS = Path(__file__).parent.parent / "specs"
HEAVY = ("torch", "transformers", "cvxpy", "highspy", "numpy", "scipy")


@pytest.mark.parametrize(
    "program",
    [
        "import surgery.cli",
        "from surgery.cli import main; main(['--help'])",
        f"from surgery.cli import main; main(['check', {str(SPECS / 'gpt-oss-120b.surg')!r}])",
    ],
    ids=["import", "help", "check"],
)
def test_starts_without_heavy_libraries(program: str) -> None:
    tell = f"; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program + tell], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("spec", sorted(SPECS.glob("*.surg")), ids=lambda path: path.stem)
def test_shipped_specs_check(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(spec)]) == 0
    told = capsys.readouterr()
    assert "is good" in told.out
    assert "error" not in told.err


def test_what_has_no_back_end_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    spec = str(SPECS / "gpt-oss-120b.surg")
    assert main(["check", spec, "--format", "concise"]) == 0
    told = capsys.readouterr().err
    assert "`recover`" in told
    assert main(["plan", spec, "--format", "concise"]) == 1
    assert "E0011" in capsys.readouterr().err


def test_several_mistakes_in_one_run(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = LLAMA_SPEC.replace("take   = 4", "take     4")
    spec = spec.replace("share * parent.params", "88MB").replace("minimize damage", "minimize dmg")
    path = workplace.write("three.surg", spec)
    assert main(["check", path, "--format", "json"]) == 1
    told = capsys.readouterr().err
    found = json.loads(told)
    assert sorted(d["code"] for d in found) == ["E0101", "E0201", "E0301"]
    lines = {d["code"]: d["labels"][0]["span"]["start"]["line"] for d in found}
    texts = spec.splitlines()
    assert "take     4" in texts[lines["E0101"] - 1]
    assert "minimize dmg" in texts[lines["E0201"] - 1]
    assert "88MB" in texts[lines["E0301"] - 1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["no-such-command"], 2),
        (["check"], 2),
        (["check", "missing.surg"], 2),
        (["show", "missing.plan"], 2),
    ],
)
def test_exit_codes(arguments: list[str], code: int, workplace: Workplace) -> None:
    assert main(arguments) == code


def test_set_needs_a_declared_input(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workplace.write("a.surg", LLAMA_SPEC)
    assert main(["check", path, "--set", "share=70%"]) == 0
    assert main(["check", path, "--set", "shore=70%"]) == 2
    assert "share" in capsys.readouterr().err
    assert main(["check", path, "--set", "share"]) == 2


def test_a_bug_is_no_traceback(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(pipeline, "check", broken)
    assert main(["check", workplace.write("a.surg", LLAMA_SPEC)]) == 2
    told = capsys.readouterr().err
    assert "internal error: RuntimeError: boom" in told
    assert "Traceback" not in told


def test_requirements_can_be_infeasible_together(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = LLAMA_SPEC.replace(
        "minimize damage",
        "require @calm damage <= 0.0001\n\nminimize damage",
    )
    assert workplace.run("plan", workplace.write("a.surg", spec)) == 1
    told = capsys.readouterr().err
    assert "error[E0601]" in told
    assert "best possible" in told
    assert "@calm" in told
