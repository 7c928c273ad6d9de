"""Two kernels that vLLM's CPU build has for few processors, in plain torch.

In: names. Out: vLLM, in this process, with `fp8_cache` or `mxfp4_experts` in place of what it
refuses without AVX-512 or AMX. Config, model, loading, scheduling and paging stay vLLM's, so what
is tested is everything but the arithmetic inside of these kernels.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch

E4M3_MAX = 448.0

_installed: set[str] = set()


def install(names: list[str]) -> None:
    """Replace the named kernels, each of them once."""
    for name in names:
        if name not in _installed:
            {"fp8_cache": fp8_cache, "mxfp4_experts": mxfp4_experts}[name]()
            _installed.add(name)


# ---- KV cache in FP8 -------------------------------------------------------------------------


def fp8_cache() -> None:
    """K and V pass through E4M3 with the scales that vLLM hands to its kernels.

    vLLM's cache has one byte per number. What comes back of it is kept beside it, in floats, for
    the kernel that this processor has.
    """
    module: Any = importlib.import_module("vllm.v1.attention.backends.cpu_attn")
    ops, choose = module.ops, module._get_attn_isa
    write, attend = ops.cpu_attn_reshape_and_cache, ops.cpu_attention_with_kv_cache
    schedule = ops.cpu_attn_get_scheduler_metadata
    beside: dict[tuple[Any, ...], torch.Tensor] = {}

    def shadow(cache: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        place = (cache.data_ptr(), cache.shape, cache.stride())
        if place not in beside or beside[place].dtype != dtype:
            beside[place] = torch.empty_strided(cache.shape, cache.stride(), dtype=dtype)
        return beside[place]

    def reshape_and_cache(
        key: Any, value: Any, keys: Any, values: Any, *rest: Any, **named: Any
    ) -> None:
        if named["kv_cache_dtype"].startswith("fp8"):
            key = through_e4m3(key, named["k_scale"])
            value = through_e4m3(value, named["v_scale"])
            keys, values = shadow(keys, key.dtype), shadow(values, key.dtype)
            named["kv_cache_dtype"] = "auto"
        write(key, value, keys, values, *rest, **named)

    def attention(**named: Any) -> None:
        if named["kv_cache_dtype"].startswith("fp8"):
            dtype = named["query"].dtype
            named["key_cache"] = shadow(named["key_cache"], dtype)
            named["value_cache"] = shadow(named["value_cache"], dtype)
            named["kv_cache_dtype"] = "auto"
        attend(**named)

    def metadata(**named: Any) -> Any:
        return schedule(**(named | {"kv_cache_dtype": "auto"}))

    def instructions(dtype: Any, block: int, head: int, _cache: str) -> Any:
        return choose(dtype, block, head)

    ops.cpu_attn_reshape_and_cache = reshape_and_cache
    ops.cpu_attention_with_kv_cache = attention
    ops.cpu_attn_get_scheduler_metadata = metadata
    module._get_attn_isa = instructions


def through_e4m3(values: torch.Tensor, scale: float) -> torch.Tensor:
    """What an FP8 cache gives back."""
    small = (values.float() / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)
    return (small.float() * scale).to(values.dtype)


# ---- experts in MXFP4 ------------------------------------------------------------------------


def mxfp4_experts() -> None:
    """Packed experts are loaded as vLLM loads them, then unpacked and multiplied in float32."""
    module: Any = importlib.import_module("vllm.model_executor.layers.quantization.mxfp4")

    def select(*_: Any, **__: Any) -> tuple[Any, None]:
        return module.Mxfp4MoeBackend.EMULATION, None

    def unpack_all(method: Any, layer: Any) -> None:
        method.w13 = unpack(layer.w13_weight, layer.w13_weight_scale)
        method.w2 = unpack(layer.w2_weight, layer.w2_weight_scale)

    def apply(
        method: Any, layer: Any, x: torch.Tensor, topk_weights: Any, topk_ids: Any, **_: Any
    ) -> torch.Tensor:
        out = torch.zeros_like(x)
        for token, (experts, weights) in enumerate(zip(topk_ids, topk_weights, strict=True)):
            for expert, weight in zip(experts.tolist(), weights.tolist(), strict=True):
                hidden = method.w13[expert] @ x[token] + layer.w13_bias[expert]
                gate = hidden[0::2].clamp(max=7.0)
                up = hidden[1::2].clamp(-7.0, 7.0)
                inner = (up + 1) * gate * torch.sigmoid(1.702 * gate)
                out[token] += weight * (method.w2[expert] @ inner + layer.w2_bias[expert])
        return out

    def dtypes(_config: Any) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float32]

    method = module.GptOssMxfp4MoEMethod
    module.select_mxfp4_moe_backend = select
    method.process_weights_after_loading = unpack_all
    method.apply = apply
    method.is_monolithic = False
    module.Mxfp4Config.get_supported_act_dtypes = classmethod(dtypes)


_E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
_FP4 = torch.cat([_E2M1, -_E2M1])


def unpack(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """[..., n / 2] bytes and [..., n / 32] exponents -> [..., n] in float32; low nibble first."""
    values = torch.stack([_FP4[(blocks & 15).long()], _FP4[(blocks >> 4).long()]], -1)
    scaled = values.reshape(*scales.shape, 32) * torch.exp2(scales.float() - 127)[..., None]
    return scaled.reshape(*blocks.shape[:-1], -1)
