"""`per_layer_config.json`: every layer of a child in the words of Transformers, checked by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import GPT_OSS_SPEC, Workplace
from emit_fixtures import (
    ATTENTION,
    EXPERTS,
    FFN,
    MIXED,
    NAMES,
    bench,
    prepare,
)
from msgspec.structs import replace

from surgery.arch.family import family_named
from surgery.arch.per_layer import FILE, per_layer_config
from surgery.edits import child_layers
from surgery.ir import Attention, Experts, Ffn
from surgery.passes import twin
from surgery.passes.resolve import read_model
from surgery.sources.fetched import Fetched

__all__ = ["bench"]


def entries(checkpoint: Path) -> list[dict[str, Any]]:
    """The file's entries, in the order of the layers."""
    told = json.loads((checkpoint / FILE).read_text(encoding="utf-8"))
    assert list(told) == sorted(told) == [str(n) for n in range(len(told))]
    return list(told.values())


def test_every_layer_says_what_it_is(bench: Path, tmp_path: Path) -> None:
    prepare(bench, "mxfp4", MIXED["mxfp4"], tmp_path).write(tmp_path / "out")
    common = {"num_experts_per_tok": 2, "intermediate_size": 64}
    cached: dict[str, object] = {"kv_cache_dtype": "auto", "skip": []}
    assert entries(tmp_path / "out/checkpoint") == [
        {
            **common,
            "layer_type": None,
            "sliding_window": None,
            "kv_cache_dtype": None,
            "num_local_experts": 4,
            "skip": ["attention"],
        },
        *(
            {**common, **cached, "layer_type": f"{kind}_attention", **sizes}
            for kind, sizes in (
                (
                    "sliding",
                    {"sliding_window": 5, "num_key_value_heads": 2, "num_local_experts": 8},
                ),
                (
                    "sliding",
                    {"sliding_window": 16, "num_key_value_heads": 1, "num_local_experts": 2},
                ),
                (
                    "full",
                    {"sliding_window": None, "num_key_value_heads": 2, "num_local_experts": 6},
                ),
            )
        ),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_transformers_reads_the_layers_from_it(name: str, bench: Path, tmp_path: Path) -> None:
    """As its `per_layer_config`, over the parent's own config."""
    from transformers import AutoConfig

    case = prepare(bench, name, MIXED[name], tmp_path)
    case.write(tmp_path / "out")
    auto: Any = AutoConfig
    config: Any = auto.from_pretrained(bench / name)
    config.per_layer_config = json.loads((tmp_path / "out/checkpoint" / FILE).read_text())
    keys = family_named(case.model.family).facts
    for layer, resolved in zip(
        child_layers(case.model, case.chosen), config.per_layer_config, strict=True
    ):
        gone = [] if layer.attention else ["attention"]
        assert resolved.skip == gone + ([] if layer.mlp else ["mlp"])
        if isinstance(layer.attention, Attention):
            assert resolved.sliding_window == layer.attention.window
            assert resolved.num_key_value_heads == layer.attention.kv_heads
        if isinstance(layer.mlp, Ffn | Experts):
            assert getattr(resolved, keys["width"].keys[0]) == layer.mlp.width
        if isinstance(layer.mlp, Experts):
            assert resolved.num_local_experts == layer.mlp.count
            assert resolved.num_experts_per_tok == layer.mlp.active


def test_a_mixture_with_dense_layers_tells_each_width(sparse_parents: Path, tmp_path: Path) -> None:
    picks = {(0, EXPERTS): "4", (1, FFN): "64", (3, ATTENTION): "noop"}
    prepare(sparse_parents, "qwen3_moe", picks, tmp_path).write(tmp_path / "out")
    sizes = ("intermediate_size", "moe_intermediate_size", "num_experts", "num_experts_per_tok")
    told = entries(tmp_path / "out/checkpoint")
    assert [[entry.get(size) for size in sizes] for entry in told] == [
        [None, 32, 4, 2],
        [64, None, None, None],
        [None, 32, 8, 2],
        [None, 32, 8, 2],
    ]
    assert [entry["skip"] for entry in told] == [[], [], [], ["attention"]]


def test_the_parent_has_one_too_and_numbers_sort(bench: Path, tmp_path: Path) -> None:
    case = prepare(bench, "llama", {}, tmp_path)
    case.write(tmp_path / "out")
    assert {entry["layer_type"] for entry in entries(tmp_path / "out/checkpoint")} == {
        "full_attention"
    }
    many = tuple(replace(case.model.layers[0], index=n) for n in range(12))
    told = json.loads(per_layer_config("llama", many))
    assert list(told) == [f"{n:02}" for n in range(12)]


def test_twins_describe_themselves(bench: Path, tmp_path: Path) -> None:
    picks = {(0, EXPERTS): "4", (2, EXPERTS): "2"}
    prepare(bench, "mxfp4", picks, tmp_path).write(tmp_path / "out")
    child = read_model(Fetched(tmp_path / "out/checkpoint", "c"), tmp_path / "cache", "c")
    for kind, counts in ((twin.Kind(True, False), [4, 8, 2, 8]), (twin.Kind(True, True), [8] * 4)):
        made = twin.run(child, kind, tmp_path / kind.words)
        told = entries(made.directory / "checkpoint")
        assert [entry["num_local_experts"] for entry in told] == counts


def test_verify_covers_it(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    spec = workplace.write("gpt_oss.surg", GPT_OSS_SPEC)
    assert workplace.run("compile", spec, "-o", "out") == 0
    checkpoint = workplace.folder / "out/checkpoint"
    verify = ("verify", "out/gpt_oss.plan", "out/checkpoint", "--parent", "gpt_oss")
    assert workplace.run(*verify) == 0
    path = checkpoint / FILE
    text = path.read_text(encoding="utf-8")
    capsys.readouterr()
    path.write_text(text.replace('"num_experts_per_tok": 2', '"num_experts_per_tok": 1', 1))
    assert workplace.run(*verify) == 1
    told = capsys.readouterr().err
    assert f"error[E0805]: `{FILE}` is not what the plan makes of the layers" in told
    assert '`"num_experts_per_tok": 1,`, the plan says `"num_experts_per_tok": 2,`' in told
    path.unlink()
    assert workplace.run(*verify) == 1
    assert "it is missing" in capsys.readouterr().err
