# pyright: reportMissingImports=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUntypedBaseClass=false
# pyright: reportUnknownArgumentType=false
# vLLM lives in a venv of its own (`make engines`), where no type checker looks.
"""DeciLM with what vLLM's own lacks: windows that differ, a first layer without attention.

In: a `nemotron-nas` config with `block_configs`, weights named as in Llama. Out: vLLM's DeciLM
with the window of each block, and the scales of an FP8 KV cache where there are some. Refused, as
`ValueError`: blocks with keys that are not acted upon. Where vLLM's own `DeciLMForCausalLM` is
right, it serves the checkpoint, and this is not used. Written for vLLM 0.32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from vllm.model_executor.models.nemotron_nas import (
    DeciLMDecoderLayer,
    DeciLMForCausalLM,
    DeciModel,
)
from vllm.model_executor.models.utils import AutoWeightsLoader

from surgery_runtime.vllm.layers import check_keys
from surgery_runtime.vllm.quantisation import KvScales, check_scales

ATTENTION = frozenset(
    {"no_op", "n_heads_in_group", "window_length", "replace_with_linear", "sparsify"}
)
FFN = frozenset({"no_op", "ffn_mult", "intermediate_size", "hidden_act"})


class DeciLMLayerwiseDecoderLayer(DeciLMDecoderLayer):
    """A layer with the window of its own block."""

    def __init__(
        self,
        config: Any,
        layer_idx: int,
        cache_config: Any = None,
        quant_config: Any = None,
        prefix: str = "",
    ) -> None:
        block = config.block_configs[layer_idx]
        check_keys(layer_idx, block["attention"], ATTENTION)
        check_keys(layer_idx, block["ffn"], FFN)
        if block["attention"].get("replace_with_linear"):
            raise ValueError(f"layer {layer_idx} has a linear block: not served by this plugin")
        alone = copy.copy(config)
        # vLLM's attention looks up its layer type, and takes the one window of the config.
        window = None if block["attention"]["no_op"] else block["attention"].get("window_length")
        alone.sliding_window = window
        types = list(config.layer_types)
        types[layer_idx] = "full_attention" if window is None else "sliding_attention"
        alone.layer_types = types
        super().__init__(alone, layer_idx, cache_config, quant_config or KvScales(), prefix)

    def forward(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        residual: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As in vLLM; the stream is the sum of both tensors, also before the first attention."""
        if residual is None and self._is_no_op_attention:
            residual = torch.zeros_like(hidden_states)
        return super().forward(positions, hidden_states, residual)


class DeciLMLayerwiseForCausalLM(DeciLMForCausalLM):
    """The decoder with its output head."""

    def _init_model(self, vllm_config: Any, prefix: str = "") -> torch.nn.Module:
        return DeciModel(
            vllm_config=vllm_config, prefix=prefix, layer_type=DeciLMLayerwiseDecoderLayer
        )

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """As in vLLM, which renames scales only where the config names a quantisation."""
        names = self.hf_to_vllm_mapper | KvScales.get_cache_scale_mapper()
        loaded = AutoWeightsLoader(self).load_weights(weights, mapper=names)
        check_scales(self)
        return loaded
