"""The heterogeneous model classes: equal to the stock ones where they overlap, right elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from modeling_fixtures import (
    GPT_OSS,
    LLAMA,
    MIXED_GPT_OSS,
    MIXED_LLAMA,
    layer,
    mixed,
    stock,
    tokens,
)
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import DynamicSlidingWindowLayer

from surgery_runtime import hf
from surgery_runtime.hf.configuration_decilm import DeciLMConfig
from surgery_runtime.hf.configuration_gpt_oss_puzzle import GptOssPuzzleConfig
from surgery_runtime.hf.layerwise import fit_cache

FAMILIES = pytest.mark.parametrize("config", [GPT_OSS, LLAMA], ids=["gpt_oss", "llama"])
MIXED = pytest.mark.parametrize("config", [MIXED_GPT_OSS, MIXED_LLAMA], ids=["gpt_oss", "llama"])


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with torch.no_grad():
        yield


def same_weights(config: dict[str, Any]) -> tuple[Any, Any]:
    parent = stock(config)
    ours: Any = hf.build(config)
    ours.load_state_dict(parent.state_dict())
    return parent, ours


def greedy(model: Any, prompt: torch.Tensor, count: int) -> torch.Tensor:
    """What `generate` must say, without a cache: the most likely token, again and again."""
    for _ in range(count):
        prompt = torch.cat([prompt, model(prompt).logits[:, -1:].argmax(-1)], dim=1)
    return prompt


# ---- equal to the stock models ---------------------------------------------------------------


@FAMILIES
def test_uniform_model_is_bit_identical_to_stock(config: dict[str, Any]) -> None:
    parent, ours = same_weights(config)
    expected = parent(tokens()).logits
    assert expected.std() > 0.1
    assert torch.equal(ours(tokens()).logits, expected)


@FAMILIES
def test_padding_and_hidden_states_as_in_stock(config: dict[str, Any]) -> None:
    parent, ours = same_weights(config)
    mask = torch.ones(2, 30, dtype=torch.long)
    mask[0, :11] = 0
    arguments = {"attention_mask": mask, "output_hidden_states": True, "use_cache": True}
    expected, got = parent(tokens(), **arguments), ours(tokens(), **arguments)
    assert torch.equal(got.logits, expected.logits)
    assert len(got.hidden_states) == len(expected.hidden_states) == 5
    for a, b in zip(got.hidden_states, expected.hidden_states, strict=True):
        assert torch.equal(a, b)


@FAMILIES
def test_generates_what_stock_generates(config: dict[str, Any]) -> None:
    parent, ours = same_weights(config)
    prompt = tokens(12)
    mask = torch.ones_like(prompt)
    mask[1, :4] = 0
    arguments = {"max_new_tokens": 20, "do_sample": False, "attention_mask": mask}
    expected = parent.generate(prompt, **arguments)
    assert expected.shape == (2, 32)
    assert torch.equal(ours.generate(prompt, **arguments), expected)


def test_every_parameter_is_nan_until_loaded() -> None:
    for config in (GPT_OSS, MIXED_LLAMA):
        assert all(p.isnan().all() for p in hf.build(config).parameters())


def test_other_families_are_refused() -> None:
    with pytest.raises(ValueError, match="qwen3"):
        hf.build({"model_type": "qwen3"})


# ---- in parts --------------------------------------------------------------------------------


@MIXED
def test_forward_is_the_sum_of_its_parts(config: dict[str, Any]) -> None:
    model = mixed(config)
    expected = model(tokens()).logits
    assert torch.isfinite(expected).all()
    for cut in (0, 1, 3, 4):
        hidden, state = model.begin(tokens())
        hidden = model.run(hidden, state, 0, cut)
        assert torch.equal(model.logits(model.run(hidden, state, cut, 4)), expected)


@FAMILIES
def test_swapped_layer_equals_the_model_built_with_it(config: dict[str, Any]) -> None:
    """A window that the config never mentioned, in a state that was begun before the swap."""
    _, model = same_weights(config)
    hidden, state = model.begin(tokens())
    before = model.run(hidden, state, 0, 2)
    window = model.make_layer(2, layer(config, window=3))
    window.load_state_dict(model.model.layers[2].state_dict())
    model.model.layers[2] = window
    logits = model.logits(model.run(before, state, 2, 4))
    assert not torch.equal(logits, same_weights(config)[0](tokens()).logits)

    if config["model_type"] == "llama":
        blocks = [{"attention": {"n_heads_in_group": 2}, "ffn": {"intermediate_size": 96}}] * 4
        blocks[2] = blocks[2] | {"attention": {"n_heads_in_group": 2, "window_length": 3}}
        built = hf.build(config | {"model_type": "nemotron-nas", "block_configs": blocks})
    else:
        blocks = [{"sliding_window": w} for w in (8, None, 3, None)]
        built = hf.build(config | {"model_type": "gpt_oss_puzzle", "block_configs": blocks})
    built.load_state_dict(model.state_dict())
    assert torch.equal(built(tokens()).logits, logits)


@FAMILIES
def test_made_layers_have_the_asked_geometry(config: dict[str, Any]) -> None:
    model = mixed(config)
    asked = layer(config, window=7)
    asked["attention"] |= {"kv_heads": 1}
    asked["mlp"] |= {"width": 32} if config["model_type"] == "llama" else {"experts": 3}
    made = model.make_layer(1, asked)
    shapes = {name: tuple(p.shape) for name, p in made.named_parameters()}
    assert shapes["self_attn.k_proj.weight"] == (16, 64)
    assert shapes["self_attn.q_proj.weight"] == (64, 64)
    assert made.window == 7
    if config["model_type"] == "llama":
        assert shapes["mlp.down_proj.weight"] == (64, 32)
    else:
        assert shapes["mlp.experts.down_proj"] == (3, 32, 64)
        assert shapes["mlp.router.weight"] == (3, 64)
    assert {p.dtype for p in made.parameters()} == {torch.float32}
    nothing = model.make_layer(0, {"attention": None, "mlp": None})
    assert list(nothing.parameters()) == []
    hidden, state = model.begin(tokens())
    model.model.layers[0] = nothing
    assert torch.equal(model.run(hidden, state, 0, 1), hidden)


# ---- windows, experts, missing blocks --------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("window", [1, 5, 29, 30, 200])
def test_window_counts_the_current_token(config: dict[str, Any], window: int) -> None:
    """Equal to the parent under an explicit band mask; a window of all tokens is no window."""
    parent, model = same_weights(config)
    for index in range(4):
        made = model.make_layer(index, layer(config, window=window))
        made.load_state_dict(model.model.layers[index].state_dict())
        model.model.layers[index] = made
    rows, columns = torch.arange(30)[:, None], torch.arange(30)[None, :]
    band = (columns <= rows) & (rows - columns < window)
    mask = torch.where(band, 0.0, torch.finfo(torch.float32).min)[None, None].expand(2, 1, -1, -1)
    both = {"full_attention": mask, "sliding_attention": mask}
    expected = parent(tokens(), attention_mask=both if "layer_types" in config else mask).logits
    assert torch.equal(model(tokens()).logits, expected)
    if window >= 30 and config["model_type"] == "llama":
        assert torch.equal(expected, parent(tokens()).logits)


def test_removed_experts_are_those_the_router_never_picks() -> None:
    parent, model = same_weights(GPT_OSS)
    kept = torch.tensor([1, 2, 4, 7])
    dropped = torch.tensor([0, 3, 5, 6])
    for index, old in enumerate(model.model.layers):
        made = model.make_layer(index, layer(GPT_OSS, window=old.window, experts=4))
        state = old.state_dict()
        cut = {k: v[kept] if ".experts." in k or ".router." in k else v for k, v in state.items()}
        made.load_state_dict(cut)
        model.model.layers[index] = made
    untouched = parent(tokens()).logits
    for old in parent.model.layers:
        old.mlp.router.bias[dropped] = -torch.inf
    expected = parent(tokens()).logits
    assert (expected - untouched).abs().max() > 0.1
    torch.testing.assert_close(model(tokens()).logits, expected, rtol=0, atol=1e-5)


@MIXED
def test_missing_blocks_pass_the_residual_stream_by(config: dict[str, Any]) -> None:
    """Equal to the model with all blocks, where those that are missing here put out zero."""
    model = mixed(config)
    whole_config = copy.deepcopy(config)
    for block in whole_config["block_configs"]:
        if "attention" in block:
            block["attention"] = {"n_heads_in_group": 2} | block["attention"] | {"no_op": False}
            block["ffn"] = {"intermediate_size": 96} | block["ffn"] | {"no_op": False}
        block.pop("no_op_attention", None)
        block.pop("no_op_mlp", None)
    whole = mixed(whole_config)
    missing = whole.load_state_dict(model.state_dict(), strict=False).missing_keys
    assert len(missing) >= 9
    for name in missing:
        if "o_proj" in name or "down_proj" in name:
            whole.get_parameter(name).zero_()
    assert torch.equal(model(tokens()).logits, whole(tokens()).logits)
    names = {name.split(".")[3] for name, _ in model.named_parameters() if ".layers.0." in name}
    assert names == {"mlp", "post_attention_layernorm"}


# ---- generation ------------------------------------------------------------------------------


@MIXED
def test_generation_with_a_cache_equals_generation_without(config: dict[str, Any]) -> None:
    """The first layer has no attention, and the windows of the others differ."""
    model = mixed(config)
    prompt = tokens(9)
    got = model.generate(prompt, max_new_tokens=25, do_sample=False)
    assert torch.equal(got, greedy(model, prompt, 25))


@MIXED
def test_cache_holds_what_the_windows_need(config: dict[str, Any]) -> None:
    model = mixed(config)
    cache = model(tokens(30), use_cache=True).past_key_values
    held = [slot.keys.shape for slot in cache.layers]
    kv_heads = [2, 1, 2] if config is MIXED_GPT_OSS else [1, 4, 2]
    assert held == [(2, n, w, 16) for n, w in zip(kv_heads, (4, 30, 11), strict=True)]
    assert cache.get_seq_length() == 30


@MIXED
def test_cached_logits_equal_uncached_ones(config: dict[str, Any]) -> None:
    model = mixed(config)
    whole = model(tokens(30)).logits
    cache = DynamicCache(config=model.config)
    for start, stop in ((0, 7), (7, 8), (8, 21), (21, 30)):
        part = model(tokens(30)[:, start:stop], past_key_values=cache, use_cache=True)
        torch.testing.assert_close(part.logits, whole[:, start:stop], rtol=0, atol=1e-5)


def test_caches_that_cannot_hold_the_layers_are_refused() -> None:
    filled: Any = DynamicCache()
    fit_cache(filled, (4, None))
    filled.update(torch.zeros(1, 1, 6, 4), torch.zeros(1, 1, 6, 4), 0)
    assert isinstance(filled.layers[0], DynamicSlidingWindowLayer)
    with pytest.raises(ValueError, match="other windows"):
        fit_cache(filled, (None, None))
    model = mixed(MIXED_LLAMA)
    static = StaticCache(config=model.config, max_cache_len=16)
    with pytest.raises(ValueError, match="StaticCache"):
        model(tokens(4), past_key_values=static, use_cache=True)


def test_generates_with_a_static_cache_where_windows_agree() -> None:
    parent, ours = same_weights(GPT_OSS)
    arguments: dict[str, Any] = {"max_new_tokens": 20, "do_sample": False}
    expected = parent.generate(tokens(9), **arguments)
    assert torch.equal(
        ours.generate(tokens(9), **arguments, cache_implementation="static"), expected
    )
    with pytest.raises(ValueError, match="use a DynamicCache"):
        mixed(MIXED_GPT_OSS).generate(tokens(9), **arguments, cache_implementation="static")


# ---- attention implementations ---------------------------------------------------------------


@pytest.mark.parametrize("length", [4, 30])
def test_sdpa_agrees_with_eager(length: int) -> None:
    model = mixed(MIXED_LLAMA)
    expected = model(tokens(length)).logits
    model.set_attn_implementation("sdpa")
    for part in model.model.layers[1:]:
        part.self_attn.config._attn_implementation = "sdpa"
    got = model(tokens(length)).logits
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_experts_implementations_agree() -> None:
    model = mixed(MIXED_GPT_OSS)
    expected = model(tokens()).logits
    assert model.config._experts_implementation == "grouped_mm"
    for part in model.model.layers[:3]:
        part.mlp.experts.config._experts_implementation = "eager"
    torch.testing.assert_close(model(tokens()).logits, expected, rtol=0, atol=1e-5)


# ---- configs ---------------------------------------------------------------------------------


def test_released_pattern_of_gpt_oss_puzzle_88b() -> None:
    """`block_configs` of nvidia/gpt-oss-puzzle-88B give the right config for each layer."""
    wide = {3, 5, 21, 23, 27, 31, 33, 35}
    blocks = [
        {
            "num_local_experts": 64 if i in {15, 17, 19} or i > 20 else 128,
            "sliding_window": 128 if i % 2 == 0 else 8192 if i in wide else None,
        }
        for i in range(36)
    ]
    config: Any = GptOssPuzzleConfig(block_configs=blocks)
    layers = [config.get_gpt_oss_config_for_layer(i) for i in range(36)]
    assert [c.num_local_experts for c in layers].count(64) == 18
    assert [c.sliding_window for c in layers].count(8192) == 8
    assert [c.sliding_window for c in layers].count(None) == 10
    assert config.layer_types.count("full_attention") == 10
    assert config.num_local_experts == 128
    again = GptOssPuzzleConfig(**config.to_dict())
    assert again.block_configs == blocks


def test_lists_of_another_length_are_refused() -> None:
    with pytest.raises(Exception, match="3 block_configs for 4 layers"):
        GptOssPuzzleConfig(num_hidden_layers=4, block_configs=[{"sliding_window": 8}] * 3)
    with pytest.raises(Exception, match="3 block_configs for 4 layers"):
        DeciLMConfig(num_hidden_layers=4, block_configs=MIXED_LLAMA["block_configs"][:3])


def test_nemotron_blocks_read_as_attributes_and_widths_from_ffn_mult() -> None:
    attention = {"no_op": False, "n_heads_in_group": 4, "replace_with_linear": False}
    blocks = [{"attention": attention, "ffn": {"no_op": False, "ffn_mult": 2.625}}]
    sizes: dict[str, Any] = {"hidden_size": 8192, "num_attention_heads": 64, "num_hidden_layers": 1}
    config: Any = DeciLMConfig(**sizes, block_configs=blocks)
    block = config.block_configs[0]
    assert block.attention.n_heads_in_group == 4
    assert block.ffn.ffn_mult == 2.625
    assert not hasattr(block.ffn, "intermediate_size")
    found = config.get_llama_config_for_layer(0)
    assert found.intermediate_size == 14336
    assert found.num_key_value_heads == 16
    sparse = [{"attention": attention | {"sparsify": [1]}, "ffn": {"no_op": True}}]
    with pytest.raises(Exception, match="sparsify"):
        DeciLMConfig(**sizes, block_configs=sparse)


@pytest.mark.parametrize("wrapped", [True, False])
def test_packed_experts_get_the_size_of_their_layer(wrapped: bool) -> None:
    """Transformers makes packed MXFP4 experts from the global config, for kernels on GPUs."""
    from transformers.integrations.mxfp4 import Mxfp4GptOssExperts

    model: Any = hf.build(MIXED_GPT_OSS)
    for index, count in ((0, 4), (1, 8), (2, 2)):
        with torch.device("meta"):
            packed: Any = Mxfp4GptOssExperts(model.config)
        block = torch.nn.Module()
        block.experts = packed
        name = f"model.layers.{index}.mlp"
        model.set_submodule(*((name, block) if wrapped else (f"{name}.experts", packed)))
        assert model.get_submodule(name).experts.gate_up_proj_bias.shape == (count, 64)
