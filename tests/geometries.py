"""Published geometries: the values of `config.json` that sizes follow from, nothing else.

From the model repositories named, as of their first release.
"""

from __future__ import annotations

from collections.abc import Mapping


def _llama(
    layers: int, hidden: int, heads: tuple[int, int], width: int, vocab: int, tied: bool = False
) -> Mapping[str, object]:
    return {
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "intermediate_size": width,
        "vocab_size": vocab,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": tied,
    }


def _moe(
    family: str, experts: tuple[int, int, int], dense: Mapping[str, object], head_dim: int
) -> Mapping[str, object]:
    count, active, width = experts
    names = {
        "mixtral": ("num_local_experts", "intermediate_size"),
        "gpt_oss": ("num_local_experts", "intermediate_size"),
        "qwen3_moe": ("num_experts", "moe_intermediate_size"),
    }[family]
    return {
        **dense,
        "model_type": family,
        names[0]: count,
        names[1]: width,
        "num_experts_per_tok": active,
        "head_dim": head_dim,
    }


def _gpt_oss(layers: int, experts: int) -> Mapping[str, object]:
    dense = _llama(layers, 2880, (64, 8), 2880, 201088)
    return {
        **_moe("gpt_oss", (experts, 4, 2880), dense, 64),
        "attention_bias": True,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
        "max_position_embeddings": 131072,
    }


GEOMETRIES: Mapping[str, Mapping[str, object]] = {
    "HuggingFaceTB/SmolLM2-135M": _llama(30, 576, (9, 3), 1536, 49152, True),
    "HuggingFaceTB/SmolLM2-1.7B": _llama(24, 2048, (32, 32), 8192, 49152, True),
    "TinyLlama/TinyLlama-1.1B": _llama(22, 2048, (32, 4), 5632, 32000),
    "meta-llama/Llama-3.2-1B": {
        **_llama(16, 2048, (32, 8), 8192, 128256, True),
        "head_dim": 64,
    },
    "meta-llama/Llama-3.2-3B": {
        **_llama(28, 3072, (24, 8), 8192, 128256, True),
        "head_dim": 128,
    },
    "meta-llama/Llama-3.1-8B": _llama(32, 4096, (32, 8), 14336, 128256),
    "meta-llama/Llama-3.1-70B": _llama(80, 8192, (64, 8), 28672, 128256),
    "meta-llama/Llama-3.1-405B": _llama(126, 16384, (128, 8), 53248, 128256),
    "mistralai/Mixtral-8x7B-v0.1": _moe(
        "mixtral", (8, 2, 14336), _llama(32, 4096, (32, 8), 14336, 32000), 128
    ),
    "mistralai/Mixtral-8x22B-v0.1": _moe(
        "mixtral", (8, 2, 16384), _llama(56, 6144, (48, 8), 16384, 32768), 128
    ),
    "Qwen/Qwen3-30B-A3B": _moe(
        "qwen3_moe", (128, 8, 768), _llama(48, 2048, (32, 4), 6144, 151936), 128
    ),
    "Qwen/Qwen3-235B-A22B": _moe(
        "qwen3_moe", (128, 8, 1536), _llama(94, 4096, (64, 4), 12288, 151936), 128
    ),
    "openai/gpt-oss-20b": _gpt_oss(24, 32),
    "openai/gpt-oss-120b": _gpt_oss(36, 128),
}
