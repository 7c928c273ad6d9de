"""The whole pipeline on tiny real checkpoints, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import GPT_OSS_SPEC, LLAMA_SPEC, Workplace, untyped

Edit = Callable[[str, str, str], str]


def _permuted(spec: str) -> str:
    edition, description, *statements = spec.strip().split("\n\n")
    return "\n\n".join([edition, description, *reversed(statements)]) + "\n"


@pytest.mark.parametrize("spec", [LLAMA_SPEC, GPT_OSS_SPEC], ids=["llama", "gpt_oss"])
def test_plans_are_reproducible(spec: str, workplace: Workplace, tmp_path: Path) -> None:
    path = workplace.write("a.surg", spec)
    assert workplace.run("plan", path, "-o", "first.plan") == 0

    # Another process with a library of its own measures everything again.
    fresh = str(tmp_path / "fresh-library")
    command = [sys.executable, "-m", "surgery", "plan", path, "-o", "second.plan"]
    subprocess.run([*command, "--library", fresh], check=True, capture_output=True)

    assert _permuted(spec) != spec
    workplace.write("a.surg", _permuted(spec))
    assert workplace.run("plan", path, "-o", "third.plan") == 0

    first = (workplace.folder / "first.plan").read_bytes()
    assert b"layer 03" in first
    assert (workplace.folder / "second.plan").read_bytes() == first
    assert (workplace.folder / "third.plan").read_bytes() == first


def test_second_run_measures_nothing(
    workplace: Workplace, edited: Edit, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    library = str(tmp_path / "library")
    path = workplace.write("a.surg", LLAMA_SPEC)
    from surgery.cli import main

    assert main(["plan", path, "--library", library]) == 0
    first = capsys.readouterr().err
    assert "0 of" in first
    before = {p: p.stat().st_mtime_ns for p in Path(library).rglob("*") if p.is_file()}

    workplace.write("a.surg", edited(LLAMA_SPEC, "ratio = 85%", "ratio = 80%"))
    assert main(["plan", path, "--library", library]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in Path(library).rglob("*") if p.is_file()}


@pytest.mark.parametrize("spec", [LLAMA_SPEC, GPT_OSS_SPEC], ids=["llama", "gpt_oss"])
def test_compile_writes_everything(
    spec: str, workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workplace.run("compile", workplace.write("tiny.surg", spec), "-o", "out") == 0
    out = workplace.folder / "out"
    assert sorted(p.name for p in out.iterdir()) == [
        "checkpoint",
        "provenance.json",
        "runtime.json",
        "tiny.plan",
    ]
    report = capsys.readouterr().out
    assert "measured" in report
    stored = sum(p.stat().st_size for p in (out / "checkpoint").glob("*.safetensors"))
    assert f"{stored:,}" in report
    provenance = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["tensors"]


@pytest.mark.parametrize("spec", [LLAMA_SPEC, GPT_OSS_SPEC], ids=["llama", "gpt_oss"])
def test_child_loads_in_transformers(spec: str, workplace: Workplace) -> None:
    torch, transformers = untyped("torch"), untyped("transformers")
    assert workplace.run("compile", workplace.write("tiny.surg", spec), "-o", "out") == 0
    child = transformers.AutoModelForCausalLM.from_pretrained(
        "out/checkpoint", trust_remote_code=True, dtype=torch.float32
    )
    tokens = torch.arange(40).unsqueeze(0) % 200
    logits = child(tokens).logits
    assert torch.isfinite(logits).all()
    assert float(logits.detach().std()) > 0.01


@pytest.mark.parametrize(("spec", "name"), [(LLAMA_SPEC, "llama"), (GPT_OSS_SPEC, "gpt_oss")])
def test_identity_is_bit_identical(spec: str, name: str, workplace: Workplace) -> None:
    torch, transformers = untyped("torch"), untyped("transformers")
    load_file = untyped("safetensors.torch").load_file
    head, _, _ = spec.partition("require @size")
    loose = head + "require @size params <= parent.params\n\nminimize damage\n"
    assert workplace.run("compile", workplace.write("same.surg", loose), "-o", "out") == 0
    ours = load_file("out/checkpoint/model.safetensors")
    theirs = load_file(f"{name}/model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)

    tokens = torch.arange(50).unsqueeze(0) % 200
    load = transformers.AutoModelForCausalLM.from_pretrained
    child, parent = load("out/checkpoint", dtype=torch.float32), load(name, dtype=torch.float32)
    assert torch.equal(child(tokens).logits, parent(tokens).logits)


def test_plan_file_is_enough_to_compile(workplace: Workplace, tmp_path: Path) -> None:
    path = workplace.write("tiny.surg", LLAMA_SPEC)
    assert workplace.run("compile", path, "-o", "direct") == 0
    assert workplace.run("compile", path, "--plan", "direct/tiny.plan", "-o", "again") == 0
    direct = {p.relative_to("direct"): p.read_bytes() for p in Path("direct").rglob("*.*")}
    again = {p.relative_to("again"): p.read_bytes() for p in Path("again").rglob("*.*")}
    assert direct == again


def test_stale_plan_is_refused(
    workplace: Workplace, edited: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workplace.write("tiny.surg", LLAMA_SPEC)
    assert workplace.run("plan", path, "-o", "a.plan") == 0
    workplace.write("tiny.surg", edited(LLAMA_SPEC, "ratio = 85%", "ratio = 80%"))
    assert workplace.run("compile", path, "--plan", "a.plan", "-o", "out") == 1
    assert "error[E0801]" in capsys.readouterr().err
    assert not os.path.exists("out")


def test_diff_tells_plans_apart(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    path = workplace.write("tiny.surg", LLAMA_SPEC)
    assert workplace.run("plan", path, "-o", "a.plan") == 0
    assert workplace.run("plan", path, "--set", "share=75%", "-o", "b.plan") == 0
    capsys.readouterr()
    assert workplace.run("diff", "a.plan", "a.plan") == 0
    assert workplace.run("diff", "a.plan", "b.plan") == 1
    assert "@size" in capsys.readouterr().out
    assert workplace.run("diff", "a.plan", "missing.plan") == 2
