"""`config.json` of a Llama model whose layers differ: model type `nemotron-nas`.

In: the keys of Llama, and `block_configs`: for each layer `{"attention": {"no_op",
"n_heads_in_group", "window_length", "replace_with_linear", "sparsify"}, "ffn": {"no_op",
"intermediate_size", "ffn_mult", "hidden_act"}}`, the format of NVIDIA's Nemotron-NAS models; and
of ours alone "sink_tokens" of an attention, the first tokens that its window leaves in sight.
Out: `DeciLMConfig`, whose blocks also read as attributes (vLLM does so), and which gives the
plain config of any layer. Refused: a list of another length than the layers, and blocks that are
sparse.

With `replace_with_linear` (of an FFN, too) a block is one linear layer. It caches nothing.

The width is `intermediate_size` where it is given, else `ffn_mult` times two thirds of the hidden
size, rounded up to a multiple of 256 as NVIDIA does.

This file is copied into checkpoints: it imports transformers only.
"""

from __future__ import annotations

import copy
from typing import Any

from transformers import LlamaConfig


class Attributes(dict[str, Any]):
    """A dict that also reads as attributes, and is still plain JSON."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class DeciLMConfig(LlamaConfig):
    """Llama with one nested dict per layer; global sizes are only fallbacks."""

    model_type = "nemotron-nas"

    block_configs: list[dict[str, Any]] | None = None
    sliding_window: int | None = None
    layer_types: list[str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive `layer_types` from the windows of the blocks, which are the truth."""
        blocks = self.block_configs
        if blocks is None:
            blocks = [_uniform_block(self) for _ in range(self.num_hidden_layers)]
        if len(blocks) != self.num_hidden_layers:
            raise ValueError(f"{len(blocks)} block_configs for {self.num_hidden_layers} layers")
        self.block_configs = [_readable(block) for block in blocks]
        windows = [block["attention"].get("window_length") for block in blocks]
        self.layer_types = [
            "full_attention" if window is None else "sliding_attention" for window in windows
        ]
        # Transformers reads one window from here, before the model fits the cache to its layers.
        self.sliding_window = max((w for w in windows if w is not None), default=None)
        super().__post_init__(**kwargs)  # pyright: ignore[reportUnknownMemberType] (no types)

    def get_llama_config_for_layer(self, layer_idx: int) -> LlamaConfig:
        """The config of one layer, as if every layer were like it."""
        return self.for_block((self.block_configs or [])[layer_idx])

    def for_block(self, block: dict[str, Any]) -> LlamaConfig:
        """The config of a layer made like `block`."""
        config = copy.copy(self)
        attention, ffn = block["attention"], block["ffn"]
        config.no_op_attention = bool(attention.get("no_op"))
        config.no_op_mlp = bool(ffn.get("no_op"))
        config.linear_attention = bool(attention.get("replace_with_linear"))
        config.linear_mlp = bool(ffn.get("replace_with_linear"))
        config.sliding_window = attention.get("window_length")
        config.sink_tokens = attention.get("sink_tokens") or 0
        if not (config.no_op_attention or config.linear_attention):
            config.num_key_value_heads = self.num_attention_heads // attention["n_heads_in_group"]
        if not (config.no_op_mlp or config.linear_mlp):
            config.intermediate_size = _width(ffn, self.hidden_size)
            config.hidden_act = ffn.get("hidden_act") or self.hidden_act
        return config


def _uniform_block(config: DeciLMConfig) -> dict[str, Any]:
    group = config.num_attention_heads // (config.num_key_value_heads or config.num_attention_heads)
    return {
        "attention": {"no_op": False, "n_heads_in_group": group},
        "ffn": {"no_op": False, "intermediate_size": config.intermediate_size},
    }


def _readable(block: dict[str, Any]) -> Attributes:
    parts = Attributes({key: Attributes(value) for key, value in block.items()})
    for part in parts.values():
        if part.get("sparsify"):
            raise ValueError("blocks with sparsify are not supported")
    return parts


def _width(ffn: dict[str, Any], hidden: int) -> int:
    width = ffn.get("intermediate_size")
    if width is None:
        width = -(-int(2 * ffn["ffn_mult"] * hidden / 3) // 256) * 256
    return width


__all__ = ["DeciLMConfig"]
