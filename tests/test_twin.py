"""Twins: what stock code and other engines load computes what the checkpoint does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import untyped
from emit_fixtures import (
    EXPERTS,
    MIXED_GPT_OSS,
    bench,
    logits,
    prepare,
    pretrained,
    stored,
    tree,
)

from surgery.cli import main
from surgery.diagnostics import Stop
from surgery.ir import Model, Site
from surgery.passes import twin
from surgery.passes.resolve import read_model
from surgery.sources.fetched import Fetched
from surgery.tensors.ops import dequantise_mxfp4, materialise, tensor_reader

__all__ = ["bench"]

Picks = Mapping[tuple[int, Site], str]
FEWER: Picks = {(0, EXPERTS): "4", (2, EXPERTS): "2", (3, EXPERTS): "6"}
BF16, PADDED, BOTH = twin.Kind(True, False), twin.Kind(False, True), twin.Kind(True, True)


@pytest.fixture(scope="module")
def children(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints that differ in their experts, and one that differs in everything."""
    folder = tmp_path_factory.mktemp("children")
    made: dict[str, Path] = {}
    cases: dict[str, tuple[str, Picks]] = {
        "plain": ("gpt_oss", FEWER),
        "packed": ("mxfp4", FEWER),
        "mixed": ("mxfp4", MIXED_GPT_OSS),
    }
    for name, (parent, picks) in cases.items():
        prepare(bench, parent, picks, folder / f"spec-{name}").write(folder / name)
        made[name] = folder / name / "checkpoint"
    return made


def read(checkpoint: Path, tmp_path: Path, name: str = "child") -> Model:
    return read_model(Fetched(checkpoint, name), tmp_path / "cache", name)


@pytest.mark.parametrize(
    ("name", "kind"), [("plain", PADDED), ("packed", PADDED), ("packed", BOTH)]
)
def test_stock_code_runs_a_padded_twin(
    name: str, kind: twin.Kind, children: dict[str, Path], tmp_path: Path
) -> None:
    made = twin.run(read(children[name], tmp_path), kind, tmp_path / "twin")
    checkpoint = made.directory / "checkpoint"
    assert not list(checkpoint.glob("*.py"))
    model = pretrained(checkpoint)
    assert type(model).__name__ == "GptOssForCausalLM"
    assert [layer.mlp.router.num_experts for layer in model.model.layers] == [8] * 4
    difference = (logits(checkpoint) - logits(children[name], remote=True)).abs().max()
    assert difference <= 1e-5


@pytest.mark.parametrize("name", ["packed", "mixed"])
def test_unpacked_experts_are_exact(name: str, children: dict[str, Path], tmp_path: Path) -> None:
    twin.run(read(children[name], tmp_path), BF16, tmp_path / "twin")
    checkpoint = tmp_path / "twin" / "checkpoint"
    before, after = stored(children[name]), stored(checkpoint)
    blocks = before["model.layers.0.mlp.experts.down_proj_blocks"].numpy()
    scales = before["model.layers.0.mlp.experts.down_proj_scales"].numpy()
    unpacked = after["model.layers.0.mlp.experts.down_proj"]
    assert unpacked.dtype == torch.bfloat16
    expected = dequantise_mxfp4(blocks, scales).transpose(0, 2, 1)
    assert np.array_equal(unpacked.float().numpy(), expected)
    assert not [key for key in after if key.endswith(("_blocks", "_scales"))]
    assert torch.equal(logits(checkpoint, remote=True), logits(children[name], remote=True))


def test_kept_bytes_of_packed_experts_are_the_child_s(
    children: dict[str, Path], tmp_path: Path
) -> None:
    twin.run(read(children["packed"], tmp_path), PADDED, tmp_path / "twin")
    before, after = stored(children["packed"]), stored(tmp_path / "twin" / "checkpoint")
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert torch.equal(after[key][: len(tensor)], tensor)
    idle = after["model.layers.2.mlp.router.bias"][2:].float()
    assert idle.shape == (6,)
    assert bool((idle < -9e29).all())


def test_scales_of_the_cache_stay_in_an_unpacked_twin(
    children: dict[str, Path], tmp_path: Path
) -> None:
    library = untyped("safetensors.torch")
    shutil.copytree(children["packed"], tmp_path / "scaled")
    tensors = stored(children["packed"])
    names = [f"model.layers.{n}.self_attn.{x}_scale" for n in range(4) for x in "kv"]
    tensors |= {name: torch.tensor(0.25) for name in names}
    path = tmp_path / "scaled" / "model.safetensors"
    library.save_file(tensors, path, metadata={"format": "pt"})

    twin.run(read(tmp_path / "scaled", tmp_path), BF16, tmp_path / "unpacked")
    assert set(names) <= stored(tmp_path / "unpacked" / "checkpoint").keys()
    twin.run(read(tmp_path / "scaled", tmp_path), PADDED, tmp_path / "padded")
    assert not set(names) & stored(tmp_path / "padded" / "checkpoint").keys()


def test_what_is_written_is_what_memory_says(children: dict[str, Path], tmp_path: Path) -> None:
    model = read(children["packed"], tmp_path)
    twin.run(model, BOTH, tmp_path / "twin")
    reader = tensor_reader(model)
    after = stored(tmp_path / "twin" / "checkpoint")
    for output in twin.outputs_of(model, BOTH):
        expected = materialise(output.op, reader)
        found = after[output.name].contiguous().view(torch.uint8).numpy()
        assert np.array_equal(found, expected.view(np.uint8).reshape(found.shape))


def test_the_same_bytes_each_time_and_a_manifest(children: dict[str, Path], tmp_path: Path) -> None:
    model = read(children["packed"], tmp_path)
    made = twin.run(model, BOTH, tmp_path / "twin")
    first = tree(made.directory)
    assert tree(twin.run(model, BOTH, tmp_path / "twin").directory) == first
    manifest = json.loads(first["provenance.json"])
    assert manifest["twin"] == "bf16 padded"
    assert manifest["of"] == {"name": "child", "sha256": model.digest}
    entry = manifest["tensors"]["model.layers.2.mlp.experts.down_proj"]
    assert entry["from"]["op"] == "unpack"
    assert entry["from"]["experts"] == 8
    entry = manifest["tensors"]["model.layers.2.mlp.router.bias"]
    assert entry["from"] == {
        "op": "pad",
        "tensor": "model.layers.2.mlp.router.bias",
        "to": 8,
        "fill": -1e30,
    }
    assert manifest["files"].keys() | {"provenance.json"} == first.keys()
    assert str(tmp_path) not in first["provenance.json"].decode()


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("plain", BF16, "nothing to unpack"),
        ("mixed", PADDED, "windows of 5 tok, 16 tok; KV heads of 1, 2; blocks that are not there"),
    ],
)
def test_impossible_twins_are_refused(
    name: str, kind: twin.Kind, why: str, children: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(Stop) as refused:
        twin.run(read(children[name], tmp_path), kind, tmp_path / "twin")
    assert refused.value.diagnostic.code.id == "E0804"
    assert why in refused.value.diagnostic.message
    assert not (tmp_path / "twin").exists()


def test_a_dense_model_has_no_padded_twin(bench: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop) as refused:
        twin.run(read(bench / "llama", tmp_path), PADDED, tmp_path / "twin")
    assert refused.value.diagnostic.code.id == "E0804"


def test_a_scale_that_is_no_number_leaves_nothing_behind(
    children: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(children["packed"], tmp_path / "bad")
    model = read(tmp_path / "bad", tmp_path)
    place = model.files["model.layers.3.mlp.experts.down_proj_scales"]
    with open(tmp_path / "bad" / place.shard, "r+b") as file:
        file.seek(place.end - 1)
        file.write(b"\xff")
    with pytest.raises(Stop) as refused:
        twin.run(model, BF16, tmp_path / "out" / "twin")
    assert refused.value.diagnostic.code.id == "E0004"
    assert not (tmp_path / "out").exists()


def test_windows_in_other_layers_are_said_in_the_card(bench: Path, tmp_path: Path) -> None:
    prepare(bench, "gpt_oss", FEWER, tmp_path / "spec").write(tmp_path / "child")
    config = tmp_path / "child" / "checkpoint" / "config.json"
    fields = json.loads(config.read_text(encoding="utf-8"))
    for block in fields["block_configs"]:
        block["sliding_window"] = None if block["sliding_window"] else 16
    fields["layer_types"] = fields["layer_types"][1:] + fields["layer_types"][:1]
    config.write_text(json.dumps(fields), encoding="utf-8")
    made = twin.run(read(config.parent, tmp_path), PADDED, tmp_path / "twin")
    card = (made.directory / "checkpoint" / "README.md").read_text(encoding="utf-8")
    assert "vLLM 0.32 and TensorRT-LLM do so" in card
    told = (made.directory / "checkpoint" / "config.json").read_text(encoding="utf-8")
    assert json.loads(told)["layer_types"] == fields["layer_types"]


def test_the_command(
    children: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "twin")
    assert main(["twin", str(children["packed"]), "--bf16", "--padded", "-o", out]) == 0
    assert "20 of them unpacked or padded" in capsys.readouterr().out
    assert main(["twin", str(children["packed"]), "-o", out]) == 2
    assert "`--bf16`, `--padded` or both" in capsys.readouterr().err
    assert main(["twin", str(children["plain"]), "--bf16", "-o", out]) == 2
    assert "E0804" in capsys.readouterr().err
