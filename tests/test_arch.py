from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from surgery import catalog
from surgery.arch import (
    expected_tensors,
    families,
    family_named,
    family_of,
    geometry,
    is_ignored,
    layers,
)
from surgery.arch.configs import child_config
from surgery.arch.family import load_family, product
from surgery.diagnostics import Diagnostic, Stop
from surgery.ir import Attention, Experts, Ffn, Layer, Site, TensorSpec
from surgery.passes.resolve import read_model
from surgery.sources import Fetched
from surgery_runtime.classes import KINDS

GPT_OSS_120B: dict[str, object] = {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "attention_bias": True,
    "experts_per_token": 4,
    "head_dim": 64,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "max_position_embeddings": 131072,
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "num_local_experts": 128,
    "quantization_config": {
        "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"],
        "quant_method": "mxfp4",
    },
    "rope_scaling": {"factor": 32.0, "rope_type": "yarn"},
    "rope_theta": 150000,
    "sliding_window": 128,
    "tie_word_embeddings": False,
    "vocab_size": 201088,
}
SMOLLM2: dict[str, object] = {
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}


def total(tensors: tuple[TensorSpec, ...]) -> tuple[int, int]:
    return sum(t.numel for t in tensors), sum(t.nbytes for t in tensors)


def expected(config: Mapping[str, object]) -> tuple[TensorSpec, ...]:
    return expected_tensors(family_of(config), config)


# ---- Published numbers -------------------------------------------------------------------------


def test_gpt_oss_120b_to_the_byte() -> None:
    tensors = expected(GPT_OSS_120B)
    assert total(tensors) == (116_829_156_672, 65_248_815_744)
    expert = [t for t in tensors if t.layer == 0 and t.axes[0] == "experts"]
    # One expert of 128, its row of the router (2880 weights and a bias) taken off again.
    params, nbytes = (value // 128 for value in total(tuple(expert)))
    assert (params - 2881, nbytes - 2 * 2881) == (24_891_840, 13_236_480)


def test_eighteen_layers_with_half_of_the_experts_to_the_byte() -> None:
    family = family_of(GPT_OSS_120B)
    cut = tuple(
        replace(layer, mlp=replace(layer.mlp, count=64 if layer.index % 2 else 128))
        for layer in layers(family, GPT_OSS_120B)
        if isinstance(layer.mlp, Experts)
    )
    tensors = expected_tensors(family, GPT_OSS_120B, cut)
    assert total(tensors) == (88_150_438_080, 49_993_752_960)


def test_the_same_from_the_block_configs_of_a_puzzle_config() -> None:
    blocks = [
        {"num_local_experts": 64 if i % 2 else 128, "sliding_window": None if i % 2 else 128}
        for i in range(36)
    ]
    config = GPT_OSS_120B | {"model_type": "gpt_oss_puzzle", "block_configs": blocks}
    assert total(expected(config)) == (88_150_438_080, 49_993_752_960)
    made = layers(family_of(config), config)
    assert _windows(made)[:3] == [128, None, 128]


def test_blocks_of_a_puzzle_config_may_be_missing() -> None:
    blocks: list[dict[str, object]] = [{} for _ in range(36)]
    blocks[1] = {"no_op_attention": True, "sliding_window": None}
    blocks[2] = {"no_op_mlp": True, "num_key_value_heads": 4}
    config = GPT_OSS_120B | {"model_type": "gpt_oss_puzzle", "block_configs": blocks}
    made = layers(family_of(config), config)
    assert (made[1].attention, made[2].mlp) == (None, None)
    assert made[1].mlp == made[0].mlp == Experts(128, 4, 2880)
    assert made[2].attention == Attention(64, 4, 64, 128)
    names = {t.name for t in expected(config)}
    assert "model.layers.1.self_attn.sinks" not in names
    assert "model.layers.2.mlp.router.bias" not in names


def test_configs_written_for_children_read_back(tmp_path: Path) -> None:
    config = GPT_OSS_120B | {"num_hidden_layers": 6, "layer_types": None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = read_model(Fetched(tmp_path, "local:x"), tmp_path)
    draw = random.Random(0)
    for _ in range(100):
        child = tuple(
            replace(
                layer,
                attention=draw.choice([None, Attention(64, draw.choice([8, 4]), 64, window)]),
                mlp=draw.choice([None, Experts(draw.choice([128, 96, 64]), 4, 2880)]),
            )
            for layer in model.layers
            for window in [draw.choice([None, 128, 8192])]
        )
        written = child_config(model, child)
        assert layers(family_of(written), written) == child


def test_smollm2_counts_its_tied_embedding_once() -> None:
    assert total(expected(SMOLLM2)) == (134_515_008, 269_030_016)


def test_geometry_of_gpt_oss() -> None:
    sizes = geometry(family_of(GPT_OSS_120B), GPT_OSS_120B)
    assert (sizes.hidden, sizes.vocab, sizes.context) == (2880, 201088, 131072)
    assert sizes.layers[0].attention == Attention(64, 8, 64, 128)
    assert sizes.layers[35].attention == Attention(64, 8, 64, None)
    assert sizes.layers[7].mlp == Experts(128, 4, 2880)
    assert sizes.layers[7].sites == (Site.ATTENTION, Site.EXPERTS)


def _windows(made: Sequence[Layer]) -> list[int | None]:
    return [n.attention.window for n in made if isinstance(n.attention, Attention)]


def test_layer_types_are_honoured_and_their_default_alternates() -> None:
    types = ["full_attention"] * 35 + ["sliding_attention"]
    made = layers(family_of(GPT_OSS_120B), GPT_OSS_120B | {"layer_types": types})
    assert _windows(made) == [None] * 35 + [128]
    made = layers(family_of(GPT_OSS_120B), GPT_OSS_120B | {"layer_types": None})
    assert (
        _windows(made)
        == [
            128,
            None,
        ]
        * 18
    )


def test_without_a_window_every_layer_must_be_full() -> None:
    config = GPT_OSS_120B | {"sliding_window": None, "layer_types": ["full_attention"] * 36}
    made = layers(family_of(config), config)
    assert all(isinstance(n.attention, Attention) and n.attention.window is None for n in made)


def test_blocks_that_are_not_there_have_no_tensors() -> None:
    family = family_of(SMOLLM2)
    made = list(layers(family, SMOLLM2))
    made[3] = replace(made[3], attention=None)
    made[4] = replace(made[4], mlp=Ffn(1024))
    made[5] = replace(made[5], mlp=None)
    names = {t.name: t for t in expected_tensors(family, SMOLLM2, made)}
    assert not any(".layers.3." in name and "self_attn" in name for name in names)
    assert "model.layers.3.input_layernorm.weight" not in names
    assert "model.layers.3.mlp.up_proj.weight" in names
    assert names["model.layers.4.mlp.down_proj.weight"].shape == (576, 1024)
    assert "model.layers.5.post_attention_layernorm.weight" not in names


# ---- Against Transformers ----------------------------------------------------------------------


def on_meta(name: str, fields: Mapping[str, object]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Names and shapes of the parameters that Transformers makes, and its own config."""
    import torch
    import transformers

    library = cast("Any", transformers)
    config = getattr(library, f"{name}Config")(**fields)
    with torch.device("meta"):
        model = getattr(library, f"{name}ForCausalLM")(config)
    parameters = {key: tuple(value.shape) for key, value in model.named_parameters()}
    return parameters, config.to_dict()


LLAMAS: list[dict[str, object]] = [
    {"num_key_value_heads": 2},
    {"num_key_value_heads": 4, "tie_word_embeddings": True},
    {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True, "head_dim": 24},
]


@pytest.mark.parametrize("fields", LLAMAS)
def test_a_llama_has_the_tensors_that_transformers_makes(fields: dict[str, object]) -> None:
    fields = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "vocab_size": 100,
    } | fields
    parameters, config = on_meta("Llama", fields)
    assert {t.name: t.shape for t in expected(config)} == parameters


@pytest.mark.parametrize("fields", [{}, {"attention_bias": False, "head_dim": 16}])
def test_a_gpt_oss_has_the_tensors_that_transformers_makes(fields: dict[str, object]) -> None:
    fields = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
        "vocab_size": 100,
    } | fields
    parameters, config = on_meta("GptOss", fields)
    assert {t.name: t.shape for t in expected(config)} == parameters


def test_the_real_sizes_agree_with_transformers() -> None:
    import math

    parameters, config = on_meta("Llama", SMOLLM2)
    assert sum(math.prod(shape) for shape in parameters.values()) == total(expected(config))[0]
    plain = {key: GPT_OSS_120B[key] for key in GPT_OSS_120B if key != "quantization_config"}
    parameters, config = on_meta("GptOss", plain)
    count = sum(math.prod(shape) for shape in parameters.values())
    assert count == total(expected(config))[0] == total(expected(GPT_OSS_120B))[0]


# ---- Configs that contradict themselves --------------------------------------------------------


def refused(config: Mapping[str, object]) -> Diagnostic:
    with pytest.raises(Stop) as caught:
        geometry(family_of(config), config)
    return caught.value.diagnostic


PROBLEMS: list[tuple[dict[str, object], str]] = [
    ({"hidden_size": None}, "`hidden_size` is missing"),
    ({"hidden_size": "2880"}, '`hidden_size` is "2880", not a whole number'),
    ({"hidden_size": True}, "`hidden_size` is true, not"),
    ({"hidden_size": 0}, "`hidden_size` is 0, not"),
    ({"hidden_size": -5}, "`hidden_size` is -5, not"),
    ({"hidden_size": 2880.0}, "`hidden_size` is 2880.0, not"),
    ({"hidden_size": 2890}, "hidden 2890 is no multiple of 32"),
    ({"intermediate_size": 2881}, "width 2881 is no multiple of 32"),
    ({"num_hidden_layers": 10**9}, "1000000000 layers; at most 4096"),
    ({"num_attention_heads": 63}, "63 attention heads are not divisible by 8 KV heads"),
    ({"num_experts_per_tok": 129}, "129 experts per token, but only 128 experts"),
    ({"layer_types": ["full_attention"] * 35}, "a list of 35, but the model has 36 layers"),
    ({"layer_types": "full_attention"}, "`layer_types` is not a list"),
    ({"layer_types": ["chunked_attention"] * 36}, '`layer_types` has "chunked_attention"'),
    ({"sliding_window": 0}, "`sliding_window` is 0, not a positive number of tokens"),
    ({"sliding_window": -128}, "`sliding_window` is -128, not"),
    ({"sliding_window": "128"}, '`sliding_window` is "128", not'),
    ({"sliding_window": None}, "layer 0 has sliding_attention, but `sliding_window` is null"),
    ({"tie_word_embeddings": "no"}, '`tie_word_embeddings` is "no", not true or false'),
    ({"quantization_config": {"quant_method": "gptq"}}, 'quantisation "gptq" is not'),
    ({"quantization_config": "mxfp4"}, "quantisation null is not supported"),
    ({"torch_dtype": "int8"}, 'dtype "int8" is not supported'),
    ({"rope_scaling": 32}, "`rope_scaling` is 32, not an object"),
    ({"rope_theta": -1}, "`rope_theta` is -1, not a positive number"),
    ({"per_layer_config": {"3": {}}}, "`per_layer_config` changes layers"),
    ({"block_configs": [{}]}, "`block_configs` is not a list of 36 objects"),
    ({"block_configs": [{"skip": 1}] * 36}, "layer 0: unknown `skip` in `block_configs`"),
    (
        {"block_configs": [{"no_op_mlp": 1.5}] * 36},
        "layer 0: `no_op_mlp` is 1.5, not true or false",
    ),
    (
        {"block_configs": [{"num_local_experts": 3}] * 36},
        "layer 0: 4 experts per token, but only 3 experts",
    ),
    (
        {"block_configs": [{"sliding_window": 128}] * 36},
        "layer 1: `sliding_window` is 128, but it has full_attention",
    ),
]


@pytest.mark.parametrize(("changes", "problem"), PROBLEMS)
def test_a_problem_is_named(changes: dict[str, object], problem: str) -> None:
    found = refused(GPT_OSS_120B | changes)
    assert found.code is catalog.E0411
    assert problem in "\n".join((found.message, *found.notes))


def test_all_problems_are_listed_at_once() -> None:
    changes: dict[str, object] = {"sliding_window": 0, "layer_types": [], "hidden_act": "x"}
    found = refused(GPT_OSS_120B | changes | {"num_attention_heads": 63})
    assert found.message.startswith("config.json has 3 problems: ")
    assert len(found.notes) == 2
    found = refused(GPT_OSS_120B | changes | {"head_dim": None})
    assert found.message == "config.json has 3 problems: `head_dim` is missing"


def test_a_head_size_that_is_not_whole() -> None:
    assert "hidden/heads is not whole" in refused(SMOLLM2 | {"hidden_size": 577}).message


def test_a_quantised_llama_is_refused() -> None:
    found = refused(SMOLLM2 | {"quantization_config": {"quant_method": "mxfp4"}})
    assert "(supported: none)" in found.message


@pytest.mark.parametrize("model_type", ["mamba2", None, 7, "LLAMA"])
def test_unknown_families_list_the_known_ones(model_type: object) -> None:
    with pytest.raises(Stop) as caught:
        family_of({"model_type": model_type})
    assert caught.value.diagnostic.code is catalog.E0401
    assert "gpt_oss, gpt_oss_puzzle, llama, mixtral" in caught.value.diagnostic.notes[0]


# ---- The data files ----------------------------------------------------------------------------


def test_every_family_loads_and_covers_both_sites() -> None:
    names = [family.name for family in families()]
    assert names == ["gpt_oss", "llama", "mixtral", "qwen3_moe"]
    for family in families():
        sites = {template.site for template in family.tensors}
        assert sites == {None, Site.ATTENTION, *family.sites}
        assert family_named(family.name) is family
        assert KINDS[family.child.mixed].stock == family.name == family.model_types[0]
    with pytest.raises(KeyError, match="mamba"):
        family_named("mamba")


GOOD = """
model_types = ["x"]
mlp = "ffn"
dtype = "BF16"
quantisations = []
unread = []
facts = { hidden = { keys = ["h"] } }
flags = { tied = { key = "t", default = false } }
child = { stock = "XForCausalLM", mixed = "x_puzzle", blocks = "flat", theta = 1.0 }
[[tensors]]
name = "a.{layer}"
site = "ffn"
shape = ["hidden*2"]
axes = ["ffn"]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hidden*2", "hidden+2", "no product of facts"),
        ("hidden*2", "heads", "no product of facts"),
        ('axes = ["ffn"]', "axes = []", "differ in length"),
        ('axes = ["ffn"]', 'axes = ["ffn"]\nwhen = ["not here"]', "unknown conditions"),
        ('axes = ["ffn"]', 'axes = ["ffn"]\nshap = 1', "unknown or wrong keys"),
        ('site = "ffn"', 'site = "experts"', "no site experts"),
        ("unread = []", "unread = []\nmore = 1", "unknown keys"),
        ("unread = []", "unread = 1", "no list"),
        ("unread = []", "unread = [", "x.toml"),
        ('mlp = "ffn"', 'mlp = "experts"', "a router if, and only if, it has experts"),
        ("unread = []", 'unread = []\nrouter = { module = "r", renormalised = [] }', "a router if"),
        ("unread = []", 'unread = []\ndense = { listed = "l", step = "s" }', "go together"),
        ("unread = []", 'unread = []\nwindows = { size = "w", when = ["x"] }', "windows: unknown"),
        ('"flat"', '"round"', "flat or nested"),
        ("theta = 1.0", "theta = 1", "`theta`"),
        ("a.{layer}", "a.{layer}.{expert}", "needs a `parameter`"),
    ],
)
def test_a_wrong_family_file_is_refused(old: str, new: str, message: str) -> None:
    assert load_family("x", GOOD).tensors[0].per_layer
    with pytest.raises(ValueError, match=message):
        load_family("x", GOOD.replace(old, new))


def test_products() -> None:
    assert product("heads*head_dim", {"heads": 3, "head_dim": 4}) == 12
    assert product("hidden/32*2", {"hidden": 64}) == 4
    with pytest.raises(ValueError, match="not whole"):
        product("hidden/32", {"hidden": 65})


def test_leftovers_of_old_exports_are_known() -> None:
    family = family_of(SMOLLM2)
    name = "model.layers.12.self_attn.rotary_emb.inv_freq"
    assert is_ignored(family, frozenset(), name)
    assert not is_ignored(family, frozenset(), name + "x")
    assert is_ignored(family, frozenset({"tied"}), "lm_head.weight")
    assert not is_ignored(family, frozenset(), "lm_head.weight")
