"""Bytes per GPU: weights and KV against real tensors, pages against published figures."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import pytest
import torch
import transformers
from geometries import GEOMETRIES
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from space_fixtures import FULL, HALVED, parent
from transformers import AutoConfig, AutoModelForCausalLM

from surgery import paging, sizes
from surgery.costing import memory
from surgery.costing.memory import IDEAL, PROFILES, SGLANG, VLLM, Body, Room
from surgery.costing.parallel import Parallel
from surgery.costing.shares import Shares, shares
from surgery.ir import Attention, Experts, Layer, Model

K = 1024
GIB = 2**30
ONE = Parallel()


def meta(name: str, **changes: object) -> Any:
    """The model as Transformers makes it, without memory: shapes and dtypes of real tensors."""
    values = {**GEOMETRIES[name], **changes}
    kind = str(values.pop("model_type"))
    # Transformers types neither of the two.
    configs, classes = cast("Any", AutoConfig), cast("Any", AutoModelForCausalLM)
    with torch.device("meta"):
        return classes.from_config(configs.for_model(kind, **values), dtype=torch.bfloat16)


def ours(name: str, **changes: object) -> Model:
    # Both read the same values; what follows from them is each one's own.
    return parent(copy.deepcopy(dict(GEOMETRIES[name])), **changes)


@pytest.fixture(scope="module")
def models() -> Mapping[str, Any]:
    transformers.logging.set_verbosity_error()
    return {name: meta(name) for name in GEOMETRIES}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_parameters_and_bytes_are_those_of_real_tensors(
    name: str, models: Mapping[str, Any]
) -> None:
    model = ours(name)
    real = list(models[name].parameters())
    assert model.params == sum(tensor.numel() for tensor in real)
    assert model.weights == sum(tensor.nbytes for tensor in real)


# Along which dimension an engine divides a parameter, by the end of its name.
_HEADS = {"q_proj.weight": 0, "q_proj.bias": 0, "o_proj.weight": 1, "self_attn.sinks": 0}
_KV = {f"{p}_proj.{what}": 0 for p in "kv" for what in ("weight", "bias")}
_FFN = {"gate_proj.weight": 0, "up_proj.weight": 0, "down_proj.weight": 1}
_VOCAB = {"embed_tokens.weight": 0, "lm_head.weight": 0}
_EXPERTS = {
    "gpt_oss": {"gate_up_proj": 2, "gate_up_proj_bias": 1, "down_proj": 1, "down_proj_bias": None},
    "mixtral": {"gate_up_proj": 1, "down_proj": 2},
    "qwen3_moe": {"gate_up_proj": 1, "down_proj": 2},
}


def dealt(name: str, tensor: torch.Tensor, family: str, shared: Parallel, kv_heads: int) -> int:
    """Bytes of the largest piece, made by cutting the tensor itself."""
    for table, parts in ((_HEADS, shared.tensor), (_KV, min(shared.tensor, kv_heads))):
        for end, axis in table.items():
            if name.endswith(f"self_attn.{end}") or (name.endswith(end) and "sinks" in end):
                return tensor.chunk(parts, axis)[0].nbytes
    for end, axis in (_FFN | _VOCAB).items():
        if name.endswith(end):
            return tensor.chunk(shared.tensor, axis)[0].nbytes
    if ".experts." in name:
        axis = _EXPERTS[family][name.rsplit(".", 1)[1]]
        mine = tensor.chunk(shared.expert, 0)[0]
        return mine.nbytes if axis is None else mine.chunk(shared.sharing_expert, axis)[0].nbytes
    return tensor.nbytes


def _heads(model: Model) -> list[int]:
    return [n.attention.heads for n in model.layers if isinstance(n.attention, Attention)]


@pytest.mark.parametrize(
    "shared",
    [ONE, Parallel(2), Parallel(8), Parallel(8, expert=8), Parallel(4, expert=2), Parallel(16)],
    ids=str,
)
def test_weights_per_gpu_are_pieces_of_real_tensors(
    shared: Parallel, models: Mapping[str, Any]
) -> None:
    checked = 0
    for name, real in models.items():
        model = ours(name)
        if any(heads % shared.tensor for heads in _heads(model)):
            continue
        checked += 1
        expected = sum(
            dealt(key, tensor, model.family, shared, model.kv_heads)
            for key, tensor in real.named_parameters()
        )
        assert per_gpu(model, shared) == expected, name
    assert checked >= 5


def blocks(model: Model) -> list[tuple[Layer, Shares]]:
    grouped = sizes.site_tensors(model)
    return [
        (layer, sum((shares(model, grouped[layer.index, s]) for s in layer.sites), Shares()))
        for layer in model.layers
    ]


def per_gpu(model: Model, shared: Parallel, profile: memory.Profile = IDEAL) -> int:
    fixed = shares(model, (tensor for tensor in model.tensors if tensor.site is None))
    return memory.weights(fixed, blocks(model), shared, profile, model.hidden)


@pytest.mark.parametrize(
    ("experts", "name"), [(32, "openai/gpt-oss-20b"), (128, "openai/gpt-oss-120b")]
)
def test_gpt_oss_to_the_byte(experts: int, name: str) -> None:
    # Sums of the tensors of the published MXFP4 checkpoints.
    published = {32: 13_761_264_768, 128: 65_248_815_744}[experts]
    model = ours(name, quantization_config={"quant_method": "mxfp4"})
    assert per_gpu(model, ONE) == model.weights == published


@pytest.mark.parametrize("name", GEOMETRIES)
def test_kv_bytes_are_those_of_a_real_cache(name: str) -> None:
    changes: dict[str, object] = {"num_hidden_layers": 2}
    if "layer_types" in GEOMETRIES[name]:
        changes["layer_types"] = ["sliding_attention", "full_attention"]
    tokens = torch.zeros(1, 300, dtype=torch.long, device="meta")
    cache = meta(name, **changes)(tokens, use_cache=True).past_key_values
    for layer, real in zip(ours(name, **changes).layers, cache.layers, strict=True):
        attention = cast("Attention", layer.attention)
        # Transformers drops the oldest token of a window before it needs the room.
        late = attention.window is not None
        held = memory.kv_per_sequence([layer], 300, ONE, IDEAL) / memory.kv_per_token(
            attention, ONE
        )
        assert (held - late) * memory.kv_per_token(attention, ONE) == (
            real.keys.nbytes + real.values.nbytes
        )


# ---- pages -----------------------------------------------------------------------------------


def released(kv: str = "fp8_e4m3", full: tuple[int, ...] = FULL) -> tuple[Layer, ...]:
    """The layers of the released child of gpt-oss-120b."""
    return tuple(
        Layer(
            n,
            Attention(64, 8, 64, None if n in full else 8 * K if n % 2 else 128, kv),
            Experts(64 if n in HALVED else 128, 4, 2880),
        )
        for n in range(36)
    )


def test_the_released_pattern_pads_in_vllm() -> None:
    kinds = paging.kinds(released())
    assert [kind.layers for kind in kinds] == [10, 8, 18]
    assert [kind.slots for kind in kinds] == [16, 8, 24]
    assert sum(kind.slots for kind in kinds) == 48
    even = paging.kinds(released(full=FULL[:-1]))
    assert [(kind.layers, kind.slots) for kind in even] == [(9, 9), (9, 9), (18, 18)]


def test_an_independent_load_of_the_released_child() -> None:
    """What one user's vLLM printed for it on a card of 96 GB.

    38.72 GiB of FP8 KV cache for 21.51 sequences of 131,072 tokens, its pages in groups of 10
    layers, 16,384 tokens a step; 50.71 GiB of weights in kernels that round up to 128 and 256.
    """
    step = replace(VLLM, step=16 * K, width=128, hidden=256)
    each = memory.kv_per_sequence(released(), 128 * K, ONE, step, group=10)
    assert 38.72 * GIB / each == pytest.approx(21.51, abs=0.01)
    model = ours("openai/gpt-oss-120b", quantization_config={"quant_method": "mxfp4"})
    # Half of the experts of half of the layers, with their rows of the router.
    cut = [
        (made, parts if made.index not in HALVED else _halved(parts, model))
        for made, (_, parts) in zip(released(), blocks(model), strict=True)
    ]
    fixed = shares(model, (tensor for tensor in model.tensors if tensor.site is None))
    loaded = memory.weights(fixed, cut, ONE, step, model.hidden)
    assert loaded / GIB == pytest.approx(50.71, rel=0.01)
    room = memory.workspace(released(), Body(2880, 201088), ONE, step)
    card = 97_887 * 2**20
    assert Room(card, loaded, room, 0.95).pool / GIB == pytest.approx(38.72, rel=0.02)


def _halved(parts: Shares, model: Model) -> Shares:
    rows = 64 * 2 * (model.hidden + 1)
    return Shares(parts.whole - rows, parts.split, parts.kv, parts.experts // 2, parts.rows // 2)


@pytest.mark.parametrize(
    ("window", "tokens", "pages"),
    [
        (None, 1, 1),
        (None, 16, 1),
        (None, 17, 2),
        (128, 100, 7),
        # ceil((127 + 8192) / 16) + 1
        (128, 128 * K, 521),
        (8 * K, 128 * K, 1025),
    ],
)
def test_pages_of_one_layer(window: int | None, tokens: int, pages: int) -> None:
    assert memory.pages(Attention(64, 8, 64, window), tokens, VLLM) == pages


def test_fp8_halves_and_gpus_share_heads_until_there_are_none_left() -> None:
    for profile in PROFILES.values():
        full = memory.kv_per_sequence(released("bf16"), 64 * K, ONE, profile)
        assert memory.kv_per_sequence(released(), 64 * K, ONE, profile) == full / 2
        for tensor, part in ((2, 2), (8, 8), (16, 8)):
            shared = memory.kv_per_sequence(released("bf16"), 64 * K, Parallel(tensor), profile)
            assert shared == full / part


def test_sglang_takes_its_windows_pool_along() -> None:
    layers, tokens = released(), 128 * K
    each = memory.kv_per_sequence(layers, tokens, ONE, SGLANG)
    assert each == tokens * 1024 * (10 + 0.8 * 26)
    # Short sequences wait for the pool of the windows: 0.8 of a token there for each here.
    assert memory.kv_per_sequence(layers, 4 * K, ONE, SGLANG) == 4 * K * 1024 * (10 / 0.8 + 26)


@settings(max_examples=40, deadline=None)
@given(
    profile=st.sampled_from(sorted(PROFILES)),
    tokens=st.integers(1, 200_000),
    windows=st.lists(st.sampled_from([None, 128, 4096, 8192]), min_size=1, max_size=12),
)
def test_smaller_windows_never_hold_more(
    profile: str, tokens: int, windows: list[int | None]
) -> None:
    def each(window: int | None) -> float:
        layer = Layer(0, Attention(64, 8, 64, window), None)
        return memory.kv_per_sequence([layer], tokens, ONE, PROFILES[profile])

    assert each(128) <= each(4096) <= each(8192) <= each(None)
    layers = [Layer(n, Attention(64, 8, 64, w), None) for n, w in enumerate(windows)]
    held = memory.kv_per_sequence(layers, tokens, ONE, PROFILES[profile])
    assert held >= memory.kv_per_sequence(layers, tokens, ONE, IDEAL)
    assert held <= memory.kv_per_sequence(layers, tokens + 1, ONE, PROFILES[profile])


def test_the_largest_batch_is_the_one_that_brute_force_finds() -> None:
    for pool, each, limit in ((1000, 7.5, None), (1000, 7.5, 64), (7, 7.5, 9), (-1, 7.5, 9)):
        room = Room(pool + 300, 200, 100, 1.0)
        tried = [n for n in range(1, 2000) if n * each <= pool and (limit is None or n <= limit)]
        assert room.batch(each, limit) == max(tried, default=0)


def test_stages_share_layers() -> None:
    model = ours("meta-llama/Llama-3.1-8B")
    whole, half = per_gpu(model, ONE), per_gpu(model, Parallel(pipeline=2))
    fixed = sum(t.nbytes for t in model.tensors if t.site is None)
    assert half == fixed + (whole - fixed) // 2


def test_experts_are_padded_to_what_kernels_take() -> None:
    # 2880 / 8 = 360 channels on each GPU, 384 in a kernel that wants multiples of 64.
    assert memory.padding(2880, 2880, Parallel(8), VLLM) == pytest.approx(384 / 360)
    assert memory.padding(2880, 2880, Parallel(8, expert=8), VLLM) == 1
