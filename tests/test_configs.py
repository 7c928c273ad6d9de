"""The child's config.json: the simplest format that says what the layers are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from emit_fixtures import (
    ATTENTION,
    EXPERTS,
    FFN,
    MIXED_LLAMA,
    TOKENS,
    bench,
    logits,
    measured_logits,
    prepare,
    stored,
)
from msgspec.structs import replace

from surgery.arch.configs import child_config, ffn_mult, measuring_config, rope
from surgery.edits import child_layers
from surgery.ir import Model

__all__ = ["bench"]


def config_of(bench: Path, tmp_path: Path, name: str, picks: Mapping[Any, str]) -> Any:
    case = prepare(bench, name, picks, tmp_path)
    return child_config(case.model, child_layers(case.model, case.chosen))


def test_uniform_children_stay_stock(bench: Path, tmp_path: Path) -> None:
    everywhere = range(4)
    config = config_of(bench, tmp_path, "mxfp4", {(i, EXPERTS): "4" for i in everywhere})
    assert (config["model_type"], config["num_local_experts"]) == ("gpt_oss", 4)
    assert "auto_map" not in config
    picks = {(i, ATTENTION): "kv_heads(1)" for i in everywhere}
    config = config_of(bench, tmp_path, "llama", picks | {(i, FFN): "96" for i in everywhere})
    assert (config["model_type"], config["num_key_value_heads"]) == ("llama", 1)
    assert config["intermediate_size"] == 96
    case = prepare(bench, "llama", picks, tmp_path)
    case.write(tmp_path / "out")
    shipped = logits(tmp_path / "out" / "checkpoint")
    torch.testing.assert_close(shipped, measured_logits(case), rtol=0, atol=1e-5)


def test_windows_are_stock_only_where_engines_agree(bench: Path, tmp_path: Path) -> None:
    """vLLM gives even layers the window whatever `layer_types` says."""
    even = {(0, ATTENTION): "window(5)", (2, ATTENTION): "window(5)"}
    config = config_of(bench, tmp_path, "gpt_oss", even)
    assert (config["model_type"], config["sliding_window"]) == ("gpt_oss", 5)
    config = config_of(bench, tmp_path, "gpt_oss", even | {(1, ATTENTION): "window(5)"})
    assert config["model_type"] == "gpt_oss_puzzle"
    assert config["layer_types"] == ["sliding_attention"] * 3 + ["full_attention"]


def test_puzzle_blocks_have_nvidias_keys_alone(bench: Path, tmp_path: Path) -> None:
    picks = {(1, ATTENTION): "window(5)", (2, EXPERTS): "2"}
    config = config_of(bench, tmp_path, "gpt_oss", picks)
    assert config["block_configs"] == [
        {"num_local_experts": 8, "sliding_window": 16},
        {"num_local_experts": 8, "sliding_window": 5},
        {"num_local_experts": 2, "sliding_window": 16},
        {"num_local_experts": 8, "sliding_window": None},
    ]
    assert config["num_local_experts"] == 8
    assert config["architectures"] == ["GptOssPuzzleForCausalLM"]


def test_configs_leak_nothing_and_tell_rope_twice(bench: Path, tmp_path: Path) -> None:
    case = prepare(bench, "llama", MIXED_LLAMA, tmp_path)
    leaky = {"use_cache": False, "_name_or_path": "/home/me", "_attn_implementation": "eager"}
    config: Any = child_config(
        _with_config(case.model, leaky), child_layers(case.model, case.chosen)
    )
    assert config["use_cache"] is True
    assert not [key for key in config if key.startswith("_")]
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": 10000.0}
    assert config["rope_theta"] == 10000.0
    assert "sliding_window" not in config
    scaling = {"type": "yarn", "factor": 4.0}
    told = rope({"rope_theta": 5.0, "rope_scaling": scaling}, "llama")
    assert told["rope_parameters"] == {"rope_type": "yarn", "factor": 4.0, "rope_theta": 5.0}
    assert told["rope_scaling"] == {"rope_type": "yarn", "factor": 4.0}
    assert rope({}, "gpt_oss")["rope_theta"] == 150000.0


def _with_config(model: Model, extra: Mapping[str, object]) -> Model:
    return replace(model, config={**model.config, **extra})


@pytest.mark.parametrize("hidden", [576, 4096, 8192])
def test_ffn_mult_is_written_only_if_it_reads_back(hidden: int) -> None:
    for width in range(256, 32769, 256):
        factor = ffn_mult(width, hidden)
        assert factor is not None
        assert factor == 3 * width / (2 * hidden)
    assert ffn_mult(1536 - 64, hidden) is None


def test_measuring_config_is_the_parent_in_the_mixed_format(bench: Path, tmp_path: Path) -> None:
    from surgery_runtime import hf

    for name in ("llama", "gpt_oss"):
        case = prepare(bench, name, {}, tmp_path)
        config: Any = measuring_config(case.model)
        assert config["block_configs"]
        model: Any = hf.build(config)
        state = stored(bench / name)
        model.load_state_dict({k: v.float() for k, v in state.items()}, strict=name != "llama")
        with torch.no_grad():
            said = model(TOKENS).logits
        torch.testing.assert_close(said, logits(bench / name), rtol=0, atol=1e-5)
