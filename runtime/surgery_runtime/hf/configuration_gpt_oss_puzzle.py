"""`config.json` of a gpt-oss model whose layers differ: model type `gpt_oss_puzzle`.

In: the keys of gpt-oss, and `block_configs`: for each layer a flat dict of gpt-oss keys that hold
there, `{"num_local_experts": 64, "sliding_window": null}`, as in nvidia/gpt-oss-puzzle-88B. Cut
in other ways, a block also has `num_key_value_heads`, or `no_op_attention` or `no_op_mlp` true.
Out: `GptOssPuzzleConfig`, which gives the plain config of any layer. Refused: a list of another
length than the layers.

This file is copied into checkpoints: it imports transformers only.
"""

from __future__ import annotations

import copy
from typing import Any

from transformers import GptOssConfig


class GptOssPuzzleConfig(GptOssConfig):
    """gpt-oss with one dict of differences per layer; global keys are only fallbacks."""

    model_type = "gpt_oss_puzzle"

    block_configs: list[dict[str, Any]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive `layer_types` from the windows of the blocks, which are the truth."""
        blocks = self.block_configs
        if blocks is not None:
            if len(blocks) != self.num_hidden_layers:
                raise ValueError(f"{len(blocks)} block_configs for {self.num_hidden_layers} layers")
            self.layer_types = [
                "full_attention" if block.get("sliding_window") is None else "sliding_attention"
                for block in blocks
            ]
        super().__post_init__(**kwargs)  # pyright: ignore[reportUnknownMemberType] (no types)

    def get_gpt_oss_config_for_layer(self, layer_idx: int) -> GptOssConfig:
        """The config of one layer, as if every layer were like it."""
        if self.block_configs is None:
            return self.for_block(layer_idx, self._uniform_block(layer_idx))
        return self.for_block(layer_idx, self.block_configs[layer_idx])

    def _uniform_block(self, layer_idx: int) -> dict[str, Any]:
        sliding = (self.layer_types or [])[layer_idx] == "sliding_attention"
        return {"sliding_window": self.sliding_window if sliding else None}

    def for_block(self, layer_idx: int, block: dict[str, Any]) -> GptOssConfig:
        """The config of layer `layer_idx` if `block` were its block."""
        config = copy.copy(self)
        for key, value in block.items():
            setattr(config, key, value)
        types = list(self.layer_types or [])
        full = block.get("sliding_window") is None
        types[layer_idx] = "full_attention" if full else "sliding_attention"
        config.layer_types = types
        return config


__all__ = ["GptOssPuzzleConfig"]
