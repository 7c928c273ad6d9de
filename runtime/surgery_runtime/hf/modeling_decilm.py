# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false
# pyright: reportIncompatibleVariableOverride=false
# Transformers ships no types for its model classes: what a subclass touches is unknown to the
# checker, and its attributes are declared in more than one way.
"""Llama whose layers differ in KV heads, FFN width or window, or have linear blocks or none.

In: `DeciLMConfig` and tensors named and shaped as in Llama. Out: the model, built from
Transformers' own Llama blocks with one config per layer; where all layers are alike it computes
what `LlamaForCausalLM` does. Refused: nothing that the config accepts.

A block that is not there has no norm either: the residual stream passes it by.

This file is copied into checkpoints: it imports torch, transformers and its neighbours only.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaModel,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from .configuration_decilm import DeciLMConfig
from .layerwise import LayerwiseCausalLM, LayerwiseModel


class LinearAttention(nn.Module):
    """One linear layer where attention was, under the name that Nemotron-NAS has for it."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear_attn = nn.Linear(hidden, hidden, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[..., hidden] -> [..., hidden]: every token for itself."""
        return self.linear_attn(hidden_states)


class LinearMLP(nn.Module):
    """One linear layer where the FFN was."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear_mlp = nn.Linear(hidden, hidden, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[..., hidden] -> [..., hidden]."""
        return self.linear_mlp(hidden_states)


class DeciLMDecoderLayer(LlamaDecoderLayer):
    """A Llama layer after its own config; either block may be missing, or linear."""

    def __init__(self, config: Any, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.linear: bool = config.linear_attention
        self.attends: bool = not (config.no_op_attention or self.linear)
        self.feeds: bool = not config.no_op_mlp
        self.window: int | None = config.sliding_window if self.attends else None
        self.sinks: int = config.sink_tokens if self.attends else 0
        if self.linear:
            self.self_attn = LinearAttention(config.hidden_size)
        elif not self.attends:
            del self.self_attn, self.input_layernorm
        if config.linear_mlp:
            self.mlp = LinearMLP(config.hidden_size)
        if not self.feeds:
            del self.mlp, self.post_attention_layernorm

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The layer on [batch, length, hidden]; keyword arguments as in Llama."""
        if self.window is not None and not self.sinks:
            # Flash attention takes the window as an argument, the others from the mask.
            kwargs["sliding_window"] = self.window
        if self.attends and self.feeds:
            return super().forward(hidden_states, **kwargs)
        if self.attends:
            normed = self.input_layernorm(hidden_states)
            hidden_states = hidden_states + self.self_attn(hidden_states=normed, **kwargs)[0]
        if self.linear:
            hidden_states = hidden_states + self.self_attn(self.input_layernorm(hidden_states))
        if self.feeds:
            normed = self.post_attention_layernorm(hidden_states)
            hidden_states = hidden_states + self.mlp(normed)
        return hidden_states


class DeciLMPreTrainedModel(LlamaPreTrainedModel):
    """What loading needs to know about this family."""

    config: DeciLMConfig
    config_class = DeciLMConfig
    _no_split_modules: ClassVar[list[str]] = ["DeciLMDecoderLayer"]
    # Scales of an 8-bit KV cache, which only serving engines use.
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"self_attn\.[kv]_scale$"]


class DeciLMModel(LayerwiseModel, DeciLMPreTrainedModel, LlamaModel):
    """The decoder without its head."""

    output_class = BaseModelOutputWithPast

    def __init__(self, config: DeciLMConfig) -> None:
        LlamaPreTrainedModel.__init__(self, config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(
            DeciLMDecoderLayer(config.get_llama_config_for_layer(i), i)
            for i in range(config.num_hidden_layers)
        )
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.number_layers()
        self.post_init()


class DeciLMForCausalLM(LayerwiseCausalLM, DeciLMPreTrainedModel, LlamaForCausalLM):
    """The decoder with its output head."""

    def __init__(self, config: DeciLMConfig) -> None:
        LlamaPreTrainedModel.__init__(self, config)
        self.model = DeciLMModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _layer(self, index: int, layer: dict[str, Any]) -> nn.Module:
        return DeciLMDecoderLayer(self.config.for_block(block_of(layer)), index)


def block_of(layer: dict[str, Any]) -> dict[str, Any]:
    """The nested dict of Nemotron-NAS keys for the geometry of one layer."""
    attention, mlp = layer["attention"], layer["mlp"]
    block: dict[str, Any] = {"attention": {"no_op": True}, "ffn": {"no_op": True}}
    if attention is not None and "linear" in attention:
        block["attention"] = {"no_op": False, "replace_with_linear": True}
    elif attention is not None:
        group = attention["heads"] // attention["kv_heads"]
        window = attention["window"]
        block["attention"] = {"no_op": False, "n_heads_in_group": group, "window_length": window}
        block["attention"]["sink_tokens"] = attention.get("sinks", 0)
    if mlp is not None and "linear" in mlp:
        block["ffn"] = {"no_op": False, "replace_with_linear": True}
    elif mlp is not None:
        block["ffn"] = {"no_op": False, "intermediate_size": mlp["width"]}
    return block


__all__ = ["DeciLMForCausalLM", "DeciLMModel", "DeciLMPreTrainedModel"]
