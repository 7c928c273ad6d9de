"""`surgery verify` and `surgery inspect`, on what `surgery compile` wrote and others changed."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import GPT_OSS_SPEC, LLAMA_SPEC, Workplace

Edit = Callable[[str, str, str], str]


@pytest.fixture
def compiled(workplace: Workplace) -> Workplace:
    for name, spec in (("llama", LLAMA_SPEC), ("gpt_oss", GPT_OSS_SPEC)):
        path = workplace.write(f"{name}.surg", spec)
        assert workplace.run("compile", path, "-o", f"out-{name}") == 0
    return workplace


def _verify(place: Workplace, name: str, **changed: str) -> int:
    plan = changed.get("plan", f"out-{name}/{name}.plan")
    checkpoint = changed.get("checkpoint", f"out-{name}/checkpoint")
    return place.run("verify", plan, checkpoint, "--parent", changed.get("parent", name))


def _flip(path: Path, name: str) -> None:
    """Change the first bit of a tensor."""
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    data[8 + length + header[name]["data_offsets"][0]] ^= 1
    path.write_bytes(data)


def test_what_compile_wrote_is_what_the_plan_says(
    compiled: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("llama", "gpt_oss"):
        capsys.readouterr()
        assert _verify(compiled, name) == 0
        told = capsys.readouterr().out
        tensors = json.loads((compiled.folder / f"out-{name}/provenance.json").read_text())
        assert f"{len(tensors['tensors'])} tensors" in told
        cut = int(told.split(", ")[-2].split()[0])
        assert 0 < cut < len(tensors["tensors"])


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("llama", "model.norm.weight"),
        ("gpt_oss", "model.layers.2.mlp.experts.down_proj"),
    ],
)
def test_one_flipped_bit_is_found(
    name: str, tensor: str, compiled: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    _flip(compiled.folder / f"out-{name}/checkpoint/model.safetensors", tensor)
    assert _verify(compiled, name) == 1
    told = capsys.readouterr().err
    assert "error[E0805]" in told
    assert f"`{tensor}`" in told
    assert "1 of" in told


def test_a_config_that_says_something_else_is_found(
    compiled: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = compiled.folder / "out-llama/checkpoint/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"rope_theta": 5.0}))
    assert _verify(compiled, "llama") == 1
    told = capsys.readouterr().err
    assert "`rope_theta` differs" in told


def test_another_child_is_not_this_plan(
    compiled: Workplace, edited: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    path = compiled.write("llama.surg", edited(LLAMA_SPEC, "ratio = 85%", "ratio = 70%"))
    assert compiled.run("compile", path, "-o", "smaller") == 0
    assert _verify(compiled, "llama", checkpoint="smaller/checkpoint") == 1
    assert "error[E0805]" in capsys.readouterr().err
    assert _verify(compiled, "llama", checkpoint="llama") == 1


def test_plans_that_cannot_be_trusted_are_refused(
    compiled: Workplace, edited: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _verify(compiled, "llama", parent="gpt_oss") == 2
    assert "another parent" in capsys.readouterr().err
    plan = (compiled.folder / "out-gpt_oss/gpt_oss.plan").read_text()
    line = next(line for line in plan.splitlines() if line.startswith("layer") and "=4#" in line)
    compiled.write("edited.plan", plan.replace(line, line.replace("=4#", "=6#"), 1))
    assert _verify(compiled, "gpt_oss", plan="edited.plan") == 2
    told = capsys.readouterr().err
    assert "error[E0801]" in told
    assert "hash" in told


def test_inspect_shows_the_layers_that_the_plan_made(
    compiled: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert compiled.run("inspect", "out-gpt_oss/checkpoint", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    provenance = json.loads((compiled.folder / "out-gpt_oss/provenance.json").read_text())
    stored = sum(
        p.stat().st_size for p in compiled.folder.glob("out-gpt_oss/checkpoint/*.safetens*")
    )
    assert found["known"]
    assert 0 < stored - found["weights"] < 10_000, "all but the header"
    assert len(found["layers"]) == 4
    plan = (compiled.folder / "out-gpt_oss/gpt_oss.plan").read_text()
    for row in found["layers"]:
        (line,) = [
            each for each in plan.splitlines() if each.startswith(f"layer {row['layer']:02}")
        ]
        experts = line.split("experts=")[1].split("#")[0]
        assert row["mlp"].startswith(f"{experts} experts"), provenance["plan"]
    assert compiled.run("inspect", "out-gpt_oss/checkpoint") == 0
    told = capsys.readouterr().out
    assert "4 experts of" in told
    assert "window 16 tok" in told


def test_inspect_shows_what_is_stored_of_families_it_does_not_know(
    compiled: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = compiled.folder / "foreign"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "mamba9"}')
    weights = compiled.folder / "llama" / "model.safetensors"
    (folder / "model.safetensors").write_bytes(weights.read_bytes())
    capsys.readouterr()
    assert compiled.run("inspect", "foreign", "--json") == 0
    foreign = json.loads(capsys.readouterr().out)
    assert compiled.run("inspect", "llama", "--json") == 0
    known = json.loads(capsys.readouterr().out)
    assert not foreign["known"]
    assert foreign["params"] == known["params"]
    assert [row["weights"] for row in foreign["layers"]] == [
        row["weights"] for row in known["layers"]
    ]
    assert compiled.run("inspect", "nowhere") == 2
