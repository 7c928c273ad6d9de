"""The config of a gpt-oss child, key for key NVIDIA's `gpt_oss_puzzle`, and the code that it names.

`golden/gpt-oss-puzzle-88b/schema.json` lists keys, types and values, and where they are published.
The child is gpt-oss-120b, from its `config.json`, with the layers of the released model; and the
embedded model, cut and written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from conftest import untyped
from emit_fixtures import ATTENTION, EXPERTS, MIXED, bench, prepare
from msgspec.structs import replace

from surgery.arch.configs import CLASSES, child_config
from surgery.ir import Experts, Layer
from surgery.passes.resolve import read_model
from surgery.sources.fetched import Fetched
from surgery_runtime.classes import KINDS

__all__ = ["bench"]

GOLDEN = Path(__file__).parent / "golden"
SCHEMA: Any = json.loads((GOLDEN / "gpt-oss-puzzle-88b/schema.json").read_text(encoding="utf-8"))
WIDE, HALVED = {3, 5, 21, 23, 27, 31, 33, 35}, {15, 17, 19, *range(21, 36)}
WINDOWS = [128 if n % 2 == 0 else 8192 if n in WIDE else None for n in range(36)]
COUNTS = [64 if n in HALVED else 128 for n in range(36)]


def released(layer: Layer) -> Layer:
    """A layer of the parent as gpt-oss-puzzle-88B has it."""
    assert layer.attention is not None
    assert isinstance(layer.mlp, Experts)
    window, count = WINDOWS[layer.index], COUNTS[layer.index]
    attention = replace(layer.attention, window=window)
    return Layer(layer.index, attention, replace(layer.mlp, count=count))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What we would write for it, as read back from JSON."""
    parent = GOLDEN / "gpt-oss-120b/parent"
    model = read_model(Fetched(parent, "parent"), tmp_path_factory.mktemp("cache"))
    made = child_config(model, tuple(released(layer) for layer in model.layers))
    return json.loads(json.dumps(made))


def kind(value: object) -> str:
    """What the schema calls a value's type."""
    match value:
        case list():
            (inner,) = {kind(each) for each in cast("list[object]", value)}
            return f"list of {inner}"
        case dict():
            return "object"
        case _:
            return type(value).__name__


def compare(found: Mapping[str, object], expected: Mapping[str, str]) -> None:
    """The same keys, each of its type."""
    assert {key: kind(value) for key, value in found.items()} == dict(expected)


def test_the_released_child_has_these_keys_and_values(config: Any) -> None:
    compare(config, {key: told["type"] for key, told in SCHEMA["keys"].items()})
    fixed = {key: told["value"] for key, told in SCHEMA["keys"].items() if "value" in told}
    assert len(fixed) == 28
    assert {key: config[key] for key in fixed} == fixed
    for part in ("rope_scaling", "quantization_config"):
        compare(config[part], SCHEMA[part])
    assert config["quantization_config"]["quant_method"] == "mxfp4"
    assert config["auto_map"] == CLASSES["gpt_oss_puzzle"]


def test_the_released_blocks_are_flat_and_agree_with_the_layer_types(config: Any) -> None:
    blocks = config["block_configs"]
    assert [block["sliding_window"] for block in blocks] == WINDOWS
    assert [block["num_local_experts"] for block in blocks] == COUNTS
    for block in blocks:
        assert block.keys() == SCHEMA["block"].keys()
        assert all(
            kind(block[key]) in (*told.split(" or "), "NoneType")
            for key, told in SCHEMA["block"].items()
        )
        assert kind(block["num_local_experts"]) == "int"
    types = ["full_attention" if w is None else "sliding_attention" for w in WINDOWS]
    assert config["layer_types"] == types
    assert (WINDOWS.count(None), WINDOWS.count(8192), COUNTS.count(64)) == (10, 8, 18)


def test_the_loaders_of_nvidia_get_every_layer(config: Any) -> None:
    """Their whole contract: `get_gpt_oss_config_for_layer(n)` is a plain gpt-oss config."""
    from surgery_runtime.hf.configuration_gpt_oss_puzzle import GptOssPuzzleConfig

    read: Any = GptOssPuzzleConfig(**config)
    for layer in range(36):
        plain = read.get_gpt_oss_config_for_layer(layer)
        assert (plain.num_local_experts, plain.sliding_window) == (COUNTS[layer], WINDOWS[layer])


# ---- rotary embeddings -----------------------------------------------------------------------


def frequencies(config: Mapping[str, object]) -> tuple[torch.Tensor, float]:
    """What Transformers makes of a config: frequencies [head_dim / 2], factor of cos and sin."""
    library = untyped("transformers.models.gpt_oss.modeling_gpt_oss")
    made = untyped("transformers").GptOssConfig(**config)
    embedding = library.GptOssRotaryEmbedding(made)
    return embedding.inv_freq, embedding.attention_scaling


@pytest.mark.parametrize("factor", [32.0, 48.0])
def test_old_and_new_rope_keys_say_the_same(factor: float, config: Any) -> None:
    """Each alone, and both: as the parent's, which are the old ones."""
    parent = json.loads((GOLDEN / "gpt-oss-120b/parent/config.json").read_text(encoding="utf-8"))
    said = {key: config[key] for key in ("rope_theta", "rope_scaling", "rope_parameters")}
    assert said["rope_parameters"] == {**said["rope_scaling"], "rope_theta": 150000}
    said["rope_scaling"] = {**said["rope_scaling"], "factor": factor}
    said["rope_parameters"] = {**said["rope_parameters"], "factor": factor}
    sizes = {key: parent[key] for key in ("head_dim", "hidden_size", "max_position_embeddings")}
    expected = frequencies(
        {
            **sizes,
            "rope_theta": parent["rope_theta"],
            "rope_scaling": {**parent["rope_scaling"], "factor": factor},
        }
    )
    new = {"rope_parameters": said["rope_parameters"]}
    old = {key: said[key] for key in ("rope_theta", "rope_scaling")}
    for keys in (new, old, said):
        found = frequencies({**sizes, **keys})
        assert torch.equal(found[0], expected[0])
        assert found[1] == expected[1]
    plain = frequencies({**sizes, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}})
    assert not torch.equal(plain[0], expected[0])


# ---- what is written -------------------------------------------------------------------------


def test_the_embedded_model_is_written_so(bench: Path, tmp_path: Path) -> None:
    specs = Path(__file__).parent.parent / "specs"
    picks = {(1, EXPERTS): "16", (6, EXPERTS): "8", (3, ATTENTION): "window(64)"}
    prepare(specs, "tinymoe", picks, tmp_path).write(tmp_path / "out")
    found = json.loads((tmp_path / "out/checkpoint/config.json").read_text(encoding="utf-8"))
    told = {key for key, each in SCHEMA["keys"].items() if each["from"] == "released"}
    parent = json.loads((specs / "tinymoe/config.json").read_text(encoding="utf-8"))
    assert told | {"rope_theta", "rope_parameters"} <= found.keys()
    assert found.keys() - told - {"rope_theta", "rope_parameters"} <= parent.keys()
    for block in found["block_configs"]:
        assert block.keys() == SCHEMA["block"].keys()


@pytest.mark.parametrize(
    ("name", "model_type"),
    [
        ("mxfp4", "gpt_oss_puzzle"),
        ("llama", "nemotron-nas"),
        ("mixtral", "mixtral_puzzle"),
        ("qwen3_moe", "qwen3_moe_puzzle"),
    ],
)
def test_code_beside_the_weights_is_the_packages_byte_for_byte(
    name: str, model_type: str, bench: Path, sparse_parents: Path, tmp_path: Path
) -> None:
    parents = bench if name in MIXED else sparse_parents
    picks = MIXED.get(name, {(0, EXPERTS): "4", (3, ATTENTION): "noop"})
    prepare(parents, name, picks, tmp_path).write(tmp_path / "out")
    checkpoint = tmp_path / "out/checkpoint"
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == model_type
    assert config["auto_map"] == KINDS[model_type].auto_map
    named = {place.partition(".")[0] + ".py" for place in config["auto_map"].values()}
    shipped = {path.name: path.read_bytes() for path in checkpoint.glob("*.py")}
    assert named <= shipped.keys() == set(KINDS[model_type].files)
    package = files("surgery_runtime") / "hf"
    assert shipped == {each: (package / each).read_bytes() for each in shipped}
    imported = {
        line.split()[1]
        for data in shipped.values()
        for line in data.decode().splitlines()
        if line.startswith("from .")
    }
    assert {f"{module.removeprefix('.')}.py" for module in imported} <= shipped.keys()
