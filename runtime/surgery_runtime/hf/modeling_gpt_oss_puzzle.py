# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false
# pyright: reportIncompatibleVariableOverride=false, reportUnusedClass=false
# Transformers ships no types for its model classes: what a subclass touches is unknown to the
# checker, and its attributes are declared in more than one way.
"""gpt-oss whose layers differ in experts, window, KV heads, or lack a block.

In: `GptOssPuzzleConfig` and tensors named and shaped as in gpt-oss, MXFP4 or plain. Out: the
model, built from Transformers' own gpt-oss blocks with one config per layer; where all layers are
alike it computes what `GptOssForCausalLM` does. Refused: nothing that the config accepts.

A block that is not there has no norm either: the residual stream passes it by. Experts run in
any of Transformers' implementations, because its `@use_experts_implementation` decorates the
experts' class that is used here; a model may choose one only if its file says so.

This file is copied into checkpoints: it imports torch, transformers and its neighbours only.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import torch
from torch import nn
from transformers.modeling_outputs import MoeModelOutputWithPast
from transformers.models.gpt_oss.modeling_gpt_oss import (
    GptOssDecoderLayer,
    GptOssForCausalLM,
    GptOssModel,
    GptOssPreTrainedModel,
    GptOssRMSNorm,
    GptOssRotaryEmbedding,
)

from .configuration_gpt_oss_puzzle import GptOssPuzzleConfig
from .layerwise import LayerwiseCausalLM, LayerwiseModel


class GptOssPuzzleDecoderLayer(GptOssDecoderLayer):
    """A gpt-oss layer after its own config; either block may be missing."""

    def __init__(self, config: Any, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.attends: bool = not getattr(config, "no_op_attention", False)
        self.feeds: bool = not getattr(config, "no_op_mlp", False)
        self.window: int | None = config.sliding_window if self.attends else None
        if not self.attends:
            del self.self_attn, self.input_layernorm
        if not self.feeds:
            del self.mlp, self.post_attention_layernorm

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The layer on [batch, length, hidden]; keyword arguments as in gpt-oss."""
        if self.attends and self.feeds:
            return super().forward(hidden_states, **kwargs)
        if self.attends:
            normed = self.input_layernorm(hidden_states)
            hidden_states = hidden_states + self.self_attn(hidden_states=normed, **kwargs)[0]
        if self.feeds:
            normed = self.post_attention_layernorm(hidden_states)
            hidden_states = hidden_states + self.mlp(normed)[0]
        return hidden_states


def _packed(module: object) -> bool:
    return type(module).__name__ == "Mxfp4GptOssExperts"


class GptOssPuzzlePreTrainedModel(GptOssPreTrainedModel):
    """What loading needs to know about this family."""

    config: GptOssPuzzleConfig
    config_class = GptOssPuzzleConfig
    _no_split_modules: ClassVar[list[str]] = ["GptOssPuzzleDecoderLayer"]
    # NVIDIA's checkpoints carry scales of an 8-bit KV cache, which only serving engines use.
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [
        r"self_attn\.([kv]_proj\.)?[qkv]_scale$"
    ]

    def set_submodule(self, target: str, module: nn.Module, *args: Any, **kwargs: Any) -> None:
        """Replace a module; packed MXFP4 experts, made for all layers alike, get theirs."""
        found = re.search(r"layers\.(\d+)\.mlp", target)
        if found:
            config = self.config.get_gpt_oss_config_for_layer(int(found[1]))
            with torch.device("meta"):
                if _packed(module):
                    module = type(module)(config)
                elif _packed(getattr(module, "experts", None)):
                    module.experts = type(module.experts)(config)
        super().set_submodule(target, module, *args, **kwargs)


class GptOssPuzzleModel(LayerwiseModel, GptOssPuzzlePreTrainedModel, GptOssModel):
    """The decoder without its head."""

    output_class = MoeModelOutputWithPast

    def __init__(self, config: GptOssPuzzleConfig) -> None:
        GptOssPreTrainedModel.__init__(self, config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(
            GptOssPuzzleDecoderLayer(config.get_gpt_oss_config_for_layer(i), i)
            for i in range(config.num_hidden_layers)
        )
        self.norm = GptOssRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = GptOssRotaryEmbedding(config=config)
        self.gradient_checkpointing = False
        self.number_layers()
        self.post_init()


class GptOssPuzzleForCausalLM(LayerwiseCausalLM, GptOssPuzzlePreTrainedModel, GptOssForCausalLM):
    """The decoder with its output head."""

    def __init__(self, config: GptOssPuzzleConfig) -> None:
        GptOssPreTrainedModel.__init__(self, config)
        self.model = GptOssPuzzleModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.router_aux_loss_coef = config.router_aux_loss_coef
        self.num_experts = config.num_local_experts
        self.num_experts_per_tok = config.num_experts_per_tok
        self.post_init()

    def _layer(self, index: int, layer: dict[str, Any]) -> nn.Module:
        return GptOssPuzzleDecoderLayer(self.config.for_block(index, block_of(layer)), index)


def block_of(layer: dict[str, Any]) -> dict[str, Any]:
    """The flat dict of gpt-oss keys for the geometry of one layer."""
    attention, mlp = layer["attention"], layer["mlp"]
    block: dict[str, Any] = {"sliding_window": None}
    if attention is None:
        block["no_op_attention"] = True
    else:
        block["sliding_window"] = attention["window"]
        block["num_attention_heads"] = attention["heads"]
        block["num_key_value_heads"] = attention["kv_heads"]
        block["head_dim"] = attention["head_dim"]
    if mlp is None:
        block["no_op_mlp"] = True
    else:
        block["num_local_experts"] = mlp["experts"]
        block["num_experts_per_tok"] = mlp["active"]
        block["intermediate_size"] = mlp["width"]
    return block


__all__ = ["GptOssPuzzleForCausalLM", "GptOssPuzzleModel", "GptOssPuzzlePreTrainedModel"]
