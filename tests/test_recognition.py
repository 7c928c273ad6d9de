"""`surgery diff PLAN CHECKPOINT`: what a checkpoint is, in the words of a plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import GPT_OSS_SPEC, LLAMA_SPEC, Workplace
from msgspec.structs import replace

from surgery import edits, plan, recognition
from surgery.ir import Plan

OTHER = {
    "llama": LLAMA_SPEC.replace("= 85%", "= 60%").replace("<= 90%", "<= 60%"),
    "gpt_oss": GPT_OSS_SPEC.replace("<= 85%", "<= 70%").replace(
        "choose attention",
        "apply kv_cache { dtype = fp8_e4m3, scales = unit_scales }\n\nchoose attention",
    ),
}


@pytest.fixture
def compiled(workplace: Workplace) -> Workplace:
    for name, spec in (("llama", LLAMA_SPEC), ("gpt_oss", GPT_OSS_SPEC)):
        for where, text in ((name, spec), (f"{name}2", OTHER[name])):
            path = workplace.write(f"{where}.surg", text)
            assert workplace.run("compile", path, "-o", f"out-{where}") == 0
    return workplace


def _plan(place: Workplace, name: str) -> Plan:
    return plan.read(place.folder / f"out-{name}/{name}.plan")


@pytest.mark.parametrize("name", ["gpt_oss"])
def test_a_checkpoint_is_told_by_its_config(name: str, compiled: Workplace, tmp_path: Path) -> None:
    own, other = _plan(compiled, name), _plan(compiled, f"{name}2")
    made = compiled.folder / f"out-{name}2"
    assert recognition.run(other, made, tmp_path) == other
    seen = recognition.run(own, made / "checkpoint", tmp_path)
    differing = 0
    for asked, found, there in zip(own.decisions, seen.decisions, other.decisions, strict=True):
        if asked.text == there.text:
            assert found == asked
        elif not edits.find(asked.site, there.text.partition("(")[0]):
            assert found.text == there.text
        differing += asked.text != there.text
    assert differing > 1
    assert replace(seen, decisions=()) == replace(own, decisions=())


@pytest.mark.parametrize("name", ["gpt_oss"])
def test_the_command(name: str, compiled: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    file, out = f"out-{name}/{name}.plan", f"out-{name}"
    assert compiled.run("diff", file, out) == 0
    assert "same decisions" in capsys.readouterr().out
    assert compiled.run("diff", file, f"{out}2", "--json") == 1
    there = json.loads(capsys.readouterr().out)
    own, other = _plan(compiled, name), _plan(compiled, f"{name}2")
    pairs = zip(own.decisions, other.decisions, strict=True)
    texts = sum(a.text != b.text for a, b in pairs)
    assert sum(c["address"].startswith("layer.") for c in there["changes"]) == texts
    assert compiled.run("diff", out, f"{out}2") == 2
    assert compiled.run("diff", file, ".") == 2
    assert "config.json" in capsys.readouterr().err
