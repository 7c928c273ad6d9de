"""What one layer of a `gpt_oss_puzzle` config is, for an engine.

In: the config, ours or NVIDIA's: all it must have is `get_gpt_oss_config_for_layer`. Out: the plain
config of a layer, checked. Refused, as `ValueError`: a block with keys that nothing here acts upon,
and an activation other than vLLM's, because what is served then would be another model. Standard
library only.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

KNOWN = frozenset(
    {
        "num_local_experts",
        "num_experts_per_tok",
        "intermediate_size",
        "sliding_window",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "rope_parameters",
        "no_op_attention",
        "no_op_mlp",
    }
)
"""What a block may say."""
SWIGLU = {"swiglu_limit": 7.0, "swiglu_alpha": 1.702}
"""The activation of vLLM's gpt-oss, whatever a config says."""


def layer_config(config: Any, index: int) -> Any:
    """The config of layer `index`, with rotary parameters that vLLM's gpt-oss can read."""
    blocks = getattr(config, "block_configs", None)
    if blocks is not None:
        check_keys(index, blocks[index], KNOWN)
    layer = config.get_gpt_oss_config_for_layer(index)
    for key, value in SWIGLU.items():
        if getattr(layer, key, value) != value:
            told = getattr(layer, key)
            raise ValueError(f"`{key}` {told} is not served: vLLM's gpt-oss computes with {value}")
    rope = dict(layer.rope_parameters)
    if rope.get("rope_type", "default") != "yarn":
        layer = copy.copy(layer)
        layer.rope_parameters = _as_yarn(rope, layer.max_position_embeddings)
    return layer


def check_keys(index: int, block: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise `ValueError` where the block of layer `index` says more than is acted upon."""
    strange = sorted(set(block) - known)
    if strange:
        listed = ", ".join(f"`{key}`" for key in strange)
        raise ValueError(f"layer {index} has {listed} in block_configs: unknown to this plugin")


def _as_yarn(rope: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Plain rotary embedding, in the only words that vLLM's gpt-oss reads.

    YaRN by a factor of one divides no frequency and scales no attention.
    """
    kind = rope.get("rope_type", "default")
    if kind != "default":
        raise ValueError(f"rotary embedding {kind!r} is not served: vLLM's gpt-oss knows YaRN")
    return {
        "rope_type": "yarn",
        "rope_theta": rope["rope_theta"],
        "factor": 1.0,
        "original_max_position_embeddings": context,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": True,
    }
