"""Tiny random models of both families in float32, and layers to put into them."""

from __future__ import annotations

from typing import Any

import torch

from surgery_runtime import hf

VOCAB = 97
ROPE = {
    "rope_type": "yarn",
    "rope_theta": 150000.0,
    "factor": 8.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 32,
}

GPT_OSS: dict[str, Any] = {
    "model_type": "gpt_oss",
    "num_hidden_layers": 4,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 32,
    "head_dim": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "max_position_embeddings": 256,
    "rope_parameters": ROPE,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "eos_token_id": None,
}

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "tie_word_embeddings": True,
    "rope_theta": 10000.0,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}

NO_ATTENTION: dict[str, Any] = {"no_op": True}

MIXED_GPT_OSS: dict[str, Any] = GPT_OSS | {
    "model_type": "gpt_oss_puzzle",
    "block_configs": [
        {"num_local_experts": 4, "sliding_window": None, "no_op_attention": True},
        {"num_local_experts": 8, "sliding_window": 5},
        {"num_local_experts": 2, "sliding_window": None, "num_key_value_heads": 1},
        {"sliding_window": 12, "no_op_mlp": True},
    ],
}
MIXED_LLAMA: dict[str, Any] = LLAMA | {
    "model_type": "nemotron-nas",
    "block_configs": [
        {
            "attention": {"no_op": True},
            "ffn": {"no_op": False, "intermediate_size": 32},
        },
        {
            "attention": {"no_op": False, "n_heads_in_group": 4, "window_length": 5},
            "ffn": {"no_op": False, "intermediate_size": 96},
        },
        {
            "attention": {"no_op": False, "n_heads_in_group": 1, "window_length": None},
            "ffn": {"no_op": True},
        },
        {
            "attention": {"no_op": False, "n_heads_in_group": 2, "window_length": 12},
            "ffn": {"no_op": False, "intermediate_size": 64},
        },
    ],
}


def stock(config: dict[str, Any]) -> Any:
    """Transformers' own model of a plain config, random, in eval mode, eager attention."""
    from transformers import GptOssConfig, GptOssForCausalLM, LlamaConfig, LlamaForCausalLM

    fields: Any = config | {"attn_implementation": "eager"}
    torch.default_generator.manual_seed(0)
    if config["model_type"] == "gpt_oss":
        return GptOssForCausalLM(GptOssConfig(**fields)).eval()
    return LlamaForCausalLM(LlamaConfig(**fields)).eval()


def mixed(config: dict[str, Any]) -> Any:
    """Our model of a config, random but the same every time."""
    model = hf.build(config)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.normal_(0, 0.3, generator=generator)
    return model


def tokens(length: int = 30, batch: int = 2) -> torch.Tensor:
    """Random token ids [batch, length], the same every time, none the padding token."""
    generator = torch.Generator().manual_seed(2)
    return torch.randint(1, VOCAB, (batch, length), generator=generator)


def layer(config: dict[str, Any], window: int | None = None, **mlp: int) -> dict[str, Any]:
    """Geometry of a parent layer with another window, number of experts or width."""
    attention = {
        "heads": config["num_attention_heads"],
        "kv_heads": config["num_key_value_heads"],
        "head_dim": config.get("head_dim", 16),
        "window": window,
    }
    if config["model_type"] == "llama":
        return {"attention": attention, "mlp": {"width": config["intermediate_size"]} | mlp}
    experts = {"experts": config["num_local_experts"], "active": config["num_experts_per_tok"]}
    width = {"width": config["intermediate_size"]}
    return {"attention": attention, "mlp": experts | width | mlp}
