"""Writing children: complete, exact, reproducible, and equal to what was measured."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from emit_fixtures import (
    ATTENTION,
    EXPERTS,
    MIXED,
    MIXED_GPT_OSS,
    NAMES,
    TOKENS,
    Case,
    bench,
    logits,
    measured_logits,
    prepare,
    pretrained,
    stored,
    tree,
)

from surgery import lockfile
from surgery_runtime.load import load

__all__ = ["bench"]


@pytest.fixture(scope="session")
def mixed(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Case, Path]]:
    """For each parent a child whose layers all differ, and where it was written."""
    made: dict[str, tuple[Case, Path]] = {}
    for name in NAMES:
        folder = tmp_path_factory.mktemp(name)
        case = prepare(bench, name, MIXED[name], folder)
        case.write(folder / "out")
        made[name] = (case, folder / "out")
    return made


# ---- identity --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_identity_changes_nothing(name: str, bench: Path, tmp_path: Path) -> None:
    case = prepare(bench, name, {}, tmp_path)
    made = case.write(tmp_path / "out")
    checkpoint = tmp_path / "out" / "checkpoint"
    for file in ("config.json", "tokenizer.json", "generation_config.json"):
        assert (checkpoint / file).read_bytes() == (bench / name / file).read_bytes()
    ours, theirs = stored(checkpoint), stored(bench / name)
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert torch.equal(ours[key].view(torch.uint8), tensor.view(torch.uint8)), key
    assert not list(checkpoint.glob("*.py"))
    assert torch.equal(logits(checkpoint), logits(bench / name))
    assert made.model_type == ("llama" if name == "llama" else "gpt_oss")
    assert made.params == case.model.params


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
def test_code_that_does_not_travel_is_not_named(name: str, bench: Path, tmp_path: Path) -> None:
    """A parent whose config names a class of its own: no child may point to a file it lacks."""
    parents = tmp_path / "parents"
    shutil.copytree(bench, parents, ignore=shutil.ignore_patterns("modules"))
    path = parents / name / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_custom.CustomForCausalLM"}
    path.write_text(json.dumps(config), encoding="utf-8")
    said = prepare(parents, name, {}, tmp_path / "same").refuse(tmp_path / "out")
    assert said == "E0004: the config of `parent` names code (`auto_map`) that a copy would lack"
    assert not (tmp_path / "out").exists()
    prepare(parents, name, MIXED[name], tmp_path / "mixed").write(tmp_path / "out")
    checkpoint = tmp_path / "out" / "checkpoint"
    told = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["auto_map"]
    assert all((checkpoint / f"{place.partition('.')[0]}.py").exists() for place in told.values())


# ---- heterogeneous children ------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_shipped_child_computes_what_was_measured(
    name: str, mixed: dict[str, tuple[Case, Path]]
) -> None:
    case, out = mixed[name]
    shipped = logits(out / "checkpoint", remote=True)
    measured = measured_logits(case)
    assert measured.std() > 0.05
    torch.testing.assert_close(shipped, measured, rtol=0, atol=1e-5)
    if name != "llama":
        assert torch.equal(shipped, measured)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_child_generates(name: str, mixed: dict[str, tuple[Case, Path]]) -> None:
    _, out = mixed[name]
    model = pretrained(out / "checkpoint", remote=True)
    prompt = TOKENS[:1, :7]
    said = model.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=None)
    expected = prompt
    with torch.no_grad():
        for _ in range(12):
            token = model(expected).logits[:, -1:].argmax(-1)
            expected = torch.cat([expected, token], dim=1)
    assert torch.equal(said, expected)


@pytest.mark.parametrize("name", NAMES)
def test_runtime_loads_what_it_describes(name: str, mixed: dict[str, tuple[Case, Path]]) -> None:
    case, out = mixed[name]
    model: Any = load(out, torch.float32)
    with torch.no_grad():
        said = model(TOKENS).logits
    torch.testing.assert_close(said, measured_logits(case), rtol=0, atol=1e-5)


def test_remote_code_is_a_frozen_copy(mixed: dict[str, tuple[Case, Path]]) -> None:
    import surgery_runtime.hf

    (package,) = surgery_runtime.hf.__path__
    for name, count in (("llama", 3), ("mxfp4", 3)):
        shipped = sorted((mixed[name][1] / "checkpoint").glob("*.py"))
        assert len(shipped) == count
        for path in shipped:
            assert path.read_bytes() == (Path(package) / path.name).read_bytes()
            assert b"import surgery" not in path.read_bytes()
            assert b"from surgery" not in path.read_bytes()


def test_embedded_model_is_shipped_as_measured(bench: Path, tmp_path: Path) -> None:
    """Packed experts, 16 of 32 and 8 of 32 in two layers, and one window fewer tokens see past."""
    specs = Path(__file__).parent.parent / "specs"
    picks = {(1, EXPERTS): "16", (6, EXPERTS): "8", (3, ATTENTION): "window(64)"}
    case = prepare(specs, "tinymoe", picks, tmp_path)
    made = case.write(tmp_path / "out")
    assert made.model_type == "gpt_oss_puzzle"
    assert made.predicted_bytes == made.actual_bytes
    tokens = (torch.arange(200).reshape(1, 200) * 37) % 3000
    shipped = logits(tmp_path / "out" / "checkpoint", remote=True, tokens=tokens)
    assert torch.equal(shipped, measured_logits(case, tokens))
    assert not torch.equal(shipped, logits(specs / "tinymoe", tokens=tokens))


# ---- what is in the folder -------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_predicted_to_the_byte(name: str, bench: Path, tmp_path: Path) -> None:
    case = prepare(bench, name, MIXED[name], tmp_path, 'emit checkpoint "x" { shard = 50kB }')
    made = case.write(tmp_path / "out")
    shards = sorted((tmp_path / "out" / "checkpoint").glob("*.safetensors"))
    assert len(shards) > 2
    assert made.predicted_bytes == made.actual_bytes == sum(p.stat().st_size for p in shards)
    tensors = case.space.fixed.weights + sum(c.cost.weights for c in case.chosen)
    assert made.actual_bytes - tensors < 20_000
    assert made.params == case.space.fixed.params + sum(c.cost.params for c in case.chosen)
    shipped = logits(tmp_path / "out" / "checkpoint", remote=True)
    torch.testing.assert_close(shipped, measured_logits(case), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_provenance_rebuilds_every_tensor(name: str, mixed: dict[str, tuple[Case, Path]]) -> None:
    case, out = mixed[name]
    parent = stored(case.model.directory)
    root = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    assert root["decision"] == lockfile.decision(case.plan)
    assert root["parent"]["sha256"] == case.model.digest
    copies = 0
    child = stored(out / "checkpoint")
    assert sorted(child) == sorted(root["tensors"])
    for key, told in root["tensors"].items():
        tensor = child[key]
        raw = tensor.view(torch.uint8).numpy().tobytes()
        assert hashlib.sha256(raw).hexdigest() == told["sha256"]
        assert len(raw) == told["bytes"]
        how = told["from"]
        source = parent[how["tensor"]]
        if how["op"] == "copy":
            copies += 1
            assert torch.equal(source, tensor)
        elif how["op"] == "take":
            index = [
                i * how["unit"] + k
                for a, _, b in (r.partition("-") for r in how["indices"].split(","))
                for i in range(int(a), int(b or a) + 1)
                for k in range(how["unit"])
            ]
            assert torch.equal(source.index_select(how["axis"], torch.tensor(index)), tensor)
        else:
            heads = source.float().reshape(how["heads"], -1, how["head_dim"], *source.shape[1:])
            assert torch.equal(heads.mean(1).reshape(tensor.shape).to(tensor.dtype), tensor)
    assert 0 < copies < len(root["tensors"])
    for path, told in root["files"].items():
        data = (out / path).read_bytes()
        assert len(data) == told["bytes"]
        if "sha256" in told:
            assert hashlib.sha256(data).hexdigest() == told["sha256"]
    assert sorted(tree(out)) == sorted([*root["files"], "provenance.json"])


def test_same_input_same_bytes(bench: Path, tmp_path: Path) -> None:
    """Another process, another place, another umask and locale: the same tree."""
    case = prepare(bench, "mxfp4", MIXED_GPT_OSS, tmp_path)
    case.write(tmp_path / "one")
    program = (
        "import sys, os; os.umask(0o077); sys.path.insert(0, 'tests')\n"
        "from pathlib import Path; from emit_fixtures import *\n"
        f"case = prepare(Path({str(bench)!r}), 'mxfp4', MIXED_GPT_OSS, Path({str(tmp_path)!r}))\n"
        f"case.write(Path({str(tmp_path / 'two')!r}))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=root)
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    assert len(one) > 8
    assert one == two
    for data in one.values():
        assert str(tmp_path).encode() not in data
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "two").rglob("*")} == {0o600, 0o700}
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "one").rglob("*")}
    umask = os.umask(0)
    os.umask(umask)
    assert modes == {0o644 & ~umask, 0o755 & ~umask}


def test_config_of_a_child_needs_no_other_file(mixed: dict[str, tuple[Case, Path]]) -> None:
    from transformers import AutoConfig

    auto: Any = AutoConfig
    for name in NAMES:
        config: Any = auto.from_pretrained(mixed[name][1] / "checkpoint", trust_remote_code=True)
        assert len(config.block_configs) == 4
        card = (mixed[name][1] / "checkpoint" / "README.md").read_text(encoding="utf-8")
        assert lockfile.decision(mixed[name][0].plan)[:16] in card
        assert "| attention | noop | 0 |" in card
        assert "So do their windows" in card
