"""Qwen3-MoE and Mixtral whose layers differ: equal to the stock classes where they overlap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from modeling_fixtures import VOCAB, mixed, tokens
from transformers import DynamicCache

from surgery_runtime import hf

COMMON: dict[str, Any] = {
    "num_hidden_layers": 4,
    "num_experts_per_tok": 2,
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "head_dim": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "eos_token_id": None,
    "bos_token_id": None,
}
QWEN3_MOE: dict[str, Any] = COMMON | {
    "model_type": "qwen3_moe",
    "num_experts": 8,
    "moe_intermediate_size": 32,
    "intermediate_size": 96,
    "mlp_only_layers": [1],
}
MIXTRAL: dict[str, Any] = COMMON | {
    "model_type": "mixtral",
    "num_local_experts": 8,
    "intermediate_size": 32,
    "sliding_window": 7,
}
MIXED_QWEN3_MOE: dict[str, Any] = QWEN3_MOE | {
    "model_type": "qwen3_moe_puzzle",
    "block_configs": [
        {"num_experts": 4, "sliding_window": None, "no_op_attention": True},
        {"intermediate_size": 64, "sliding_window": 5},
        {"num_experts": 2, "sliding_window": None, "num_key_value_heads": 1},
        {"num_experts_per_tok": 3, "sliding_window": 12, "no_op_mlp": True},
    ],
}
MIXED_MIXTRAL: dict[str, Any] = MIXTRAL | {
    "model_type": "mixtral_puzzle",
    "block_configs": [
        {"num_local_experts": 4, "sliding_window": None, "no_op_attention": True},
        {"num_local_experts": 8, "sliding_window": 5, "num_experts_per_tok": 1},
        {"num_local_experts": 2, "num_key_value_heads": 1},
        {"sliding_window": 12, "no_op_mlp": True},
    ],
}
NAMES = ["qwen3_moe", "mixtral"]
FAMILIES = pytest.mark.parametrize("config", [QWEN3_MOE, MIXTRAL], ids=NAMES)
MIXED = pytest.mark.parametrize("config", [MIXED_QWEN3_MOE, MIXED_MIXTRAL], ids=NAMES)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with torch.no_grad():
        yield


def same_weights(config: dict[str, Any]) -> tuple[Any, Any]:
    """The stock model and ours."""
    import transformers

    library = cast("Any", transformers)
    name = {"qwen3_moe": "Qwen3Moe", "mixtral": "Mixtral"}[config["model_type"]]
    made = getattr(library, f"{name}Config")(**config, attn_implementation="eager")
    torch.default_generator.manual_seed(0)
    parent = getattr(library, f"{name}ForCausalLM")(made).eval()
    ours = hf.build(config)
    ours.load_state_dict(parent.state_dict())
    return parent, ours


def layer_of(config: dict[str, Any], window: int | None, **mlp: int) -> dict[str, Any]:
    """A layer of the parent with another window, number of experts or width."""
    attention = {"heads": 4, "kv_heads": 2, "head_dim": 16, "window": window}
    whole = {"experts": 8, "active": 2, "width": 32}
    return {"attention": attention, "mlp": whole | mlp}


# ---- equal to the stock models ---------------------------------------------------------------


@FAMILIES
def test_uniform_model_is_bit_identical_to_stock(config: dict[str, Any]) -> None:
    parent, ours = same_weights(config)
    mask = torch.ones(2, 30, dtype=torch.long)
    mask[0, :11] = 0
    arguments = {"attention_mask": mask, "output_hidden_states": True, "use_cache": True}
    expected, got = parent(tokens(), **arguments), ours(tokens(), **arguments)
    assert expected.logits.std() > 0.1
    assert torch.equal(got.logits, expected.logits)
    for a, b in zip(got.hidden_states, expected.hidden_states, strict=True):
        assert torch.equal(a, b)
    arguments = {"max_new_tokens": 20, "do_sample": False}
    expected = parent.generate(tokens(12), **arguments)
    assert torch.equal(ours.generate(tokens(12), **arguments), expected)


@FAMILIES
@pytest.mark.parametrize("window", [1, 5, 29, 30, 31])
def test_window_counts_the_current_token(config: dict[str, Any], window: int) -> None:
    """Equal to the parent under an explicit band mask; a window of all tokens is no window."""
    parent, model = same_weights(config)
    for index, old in enumerate(model.model.layers):
        asked = layer_of(config, window)
        if not hasattr(old.mlp, "experts"):
            asked["mlp"] = {"width": 96}
        made = model.make_layer(index, asked)
        made.load_state_dict(old.state_dict())
        model.model.layers[index] = made
    rows, columns = torch.arange(30)[:, None], torch.arange(30)[None, :]
    band = (columns <= rows) & (rows - columns < window)
    mask = torch.where(band, 0.0, torch.finfo(torch.float32).min)[None, None].expand(2, 1, -1, -1)
    expected = parent(tokens(), attention_mask=mask).logits
    assert torch.equal(model(tokens()).logits, expected)
    full = hf.build(config | {"sliding_window": None})
    full.load_state_dict(parent.state_dict())
    assert torch.equal(expected, full(tokens()).logits) is (window >= 30)


# ---- layers that differ ----------------------------------------------------------------------


@FAMILIES
def test_made_layers_have_the_asked_geometry(config: dict[str, Any]) -> None:
    model = mixed(config)
    asked = layer_of(config, 7, experts=3, width=16)
    asked["attention"]["kv_heads"] = 1
    made = model.make_layer(2, asked)
    shapes = {name: tuple(p.shape) for name, p in made.named_parameters()}
    assert shapes["self_attn.k_proj.weight"] == (16, 64)
    assert shapes["mlp.experts.gate_up_proj"] == (3, 32, 64)
    assert shapes["mlp.experts.down_proj"] == (3, 64, 16)
    assert shapes["mlp.gate.weight"] == (3, 64)
    assert made.window == 7
    nothing = model.make_layer(0, {"attention": None, "mlp": None})
    assert list(nothing.parameters()) == []
    hidden, state = model.begin(tokens())
    model.model.layers[0] = nothing
    assert torch.equal(model.run(hidden, state, 0, 1), hidden)


@MIXED
def test_blocks_are_what_their_configs_say(config: dict[str, Any]) -> None:
    model = mixed(config)
    shapes = {name: tuple(p.shape) for name, p in model.model.layers.named_parameters()}
    assert not any(
        name.startswith(("0.self_attn", "0.input", "3.mlp", "3.post")) for name in shapes
    )
    assert shapes["0.mlp.experts.gate_up_proj"] == (4, 64, 64)
    assert shapes["2.mlp.gate.weight"] == (2, 64)
    assert shapes["2.self_attn.v_proj.weight"] == (16, 64)
    assert [part.window for part in model.model.layers] == [None, 5, None, 12]
    if config is MIXED_QWEN3_MOE:
        assert shapes["1.mlp.gate_proj.weight"] == (64, 64)
    else:
        assert model.model.layers[1].mlp.gate.top_k == 1
    again = type(model.config)(**model.config.to_dict())
    assert again.block_configs == config["block_configs"]
    assert again.layer_types == model.config.layer_types
    with pytest.raises(Exception, match="3 block_configs for 4 layers"):
        hf.build(config | {"block_configs": config["block_configs"][:3]})


@MIXED
def test_parts_caches_and_generation_agree(config: dict[str, Any]) -> None:
    model = mixed(config)
    whole = model(tokens()).logits
    assert torch.isfinite(whole).all()
    for cut in (0, 1, 3):
        hidden, state = model.begin(tokens())
        hidden = model.run(hidden, state, 0, cut)
        assert torch.equal(model.logits(model.run(hidden, state, cut, 4)), whole)
    cache = DynamicCache(config=model.config)
    for start, stop in ((0, 7), (7, 8), (8, 21), (21, 30)):
        part = model(tokens()[:, start:stop], past_key_values=cache, use_cache=True)
        torch.testing.assert_close(part.logits, whole[:, start:stop], rtol=0, atol=1e-5)
    assert [slot.keys.shape[-2] for slot in cast("Any", cache.layers)] == [4, 30, 11]
    prompt = tokens(9)
    got = model.generate(prompt, max_new_tokens=12, do_sample=False)
    for _ in range(12):
        prompt = torch.cat([prompt, model(prompt).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(got, prompt)


@MIXED
def test_missing_blocks_pass_the_residual_stream_by(config: dict[str, Any]) -> None:
    """Equal to the model with all blocks, where those that are missing here put out zero."""
    model = mixed(config)
    flags = ("no_op_attention", "no_op_mlp")
    blocks = [{k: v for k, v in b.items() if k not in flags} for b in config["block_configs"]]
    whole = mixed(config | {"block_configs": blocks})
    missing = whole.load_state_dict(model.state_dict(), strict=False).missing_keys
    assert len(missing) >= 9
    for name in missing:
        if "o_proj" in name or "down_proj" in name:
            whole.get_parameter(name).zero_()
    assert torch.equal(model(tokens()).logits, whole(tokens()).logits)


@MIXED
def test_other_implementations_agree(config: dict[str, Any]) -> None:
    model = mixed(config)
    expected = model(tokens()).logits
    for module in model.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = "sdpa"
            module.config._experts_implementation = "eager"
    torch.testing.assert_close(model(tokens()).logits, expected, rtol=0, atol=1e-4)
