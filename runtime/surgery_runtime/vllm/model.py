# pyright: reportMissingImports=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUntypedBaseClass=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# vLLM lives in a venv of its own (`make engines`), where no type checker looks.
"""gpt-oss whose layers differ, in vLLM: experts, top-k, expert width, window, KV heads, no block.

In: a config with `get_gpt_oss_config_for_layer`, weights named and shaped as in gpt-oss. Out:
vLLM's own gpt-oss layers, each built from, and loaded by, the config of its layer. Refused, as
`ValueError`: blocks with unknown keys (`layers.py`), experts that the ranks of expert parallelism
cannot share evenly, an FP8 KV cache with scales for some of its layers. Written for vLLM 0.32;
names of modules and parameters are vLLM's.

Run on a CPU without MXFP4 kernels: there, loading was tested with a kernel in plain torch.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from vllm.distributed import get_ep_group
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.models.gpt_oss import (
    GptOssForCausalLM,
    GptOssModel,
    MLPBlock,
    OAIAttention,
    TransformerBlock,
)
from vllm.model_executor.models.utils import extract_layer_index, maybe_prefix
from vllm.v1.attention.backend import AttentionType

from surgery_runtime.vllm.layers import layer_config
from surgery_runtime.vllm.quantisation import KvScales, check_scales

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_SCALE = re.compile(r"\.attn\.(?:[qkv]_proj\.)?([qkv]_scale)$")
"""`self_attn.k_scale` or, of ModelOpt, `self_attn.k_proj.k_scale`, after vLLM's renaming."""


class GptOssPuzzleAttention(OAIAttention):
    """Attention with the window of its own layer; vLLM's gpt-oss gives even layers one."""

    def _build_attention(
        self, config: Any, cache_config: Any, quant_config: Any, prefix: str
    ) -> Attention:
        return Attention(
            self.num_local_attention_heads,
            self.head_dim,
            self.scaling,
            num_kv_heads=self.num_local_key_value_heads,
            cache_config=cache_config,
            quant_config=quant_config or KvScales(),
            per_layer_sliding_window=config.sliding_window,
            attn_type=AttentionType.DECODER,
            prefix=f"{prefix}.attn",
            sinks=self.sinks,
        )


class GptOssPuzzleBlock(TransformerBlock):
    """A layer after its own config; either block may be missing, and then has no norm."""

    attention_cls = GptOssPuzzleAttention
    mlp_cls = MLPBlock

    def __init__(self, vllm_config: Any, quant_config: Any, prefix: str = "") -> None:
        nn.Module.__init__(self)
        self.layer_idx = extract_layer_index(prefix)
        config = layer_config(vllm_config.model_config.hf_config, self.layer_idx)
        self.attends: bool = not getattr(config, "no_op_attention", False)
        self.feeds: bool = not getattr(config, "no_op_mlp", False)
        if self.attends:
            self.input_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
            self.attn = self.attention_cls(
                config,
                quant_config=quant_config,
                cache_config=vllm_config.cache_config,
                prefix=f"{prefix}.attn",
            )
        if self.feeds:
            self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
            self.mlp = self.mlp_cls(
                _as_if_uniform(vllm_config, config), self.layer_idx, prefix=f"{prefix}.mlp"
            )

    def forward(
        self,
        hidden_states: torch.Tensor,
        positions: torch.Tensor,
        residual: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer on [tokens, hidden]; the stream is the sum of both tensors, as in vLLM."""
        if self.attends:
            hidden_states, residual = _normed(self.input_layernorm, hidden_states, residual)
            hidden_states = self.attn(hidden_states, positions)
        if self.feeds:
            hidden_states, residual = _normed(
                self.post_attention_layernorm, hidden_states, residual
            )
            hidden_states = self.mlp(hidden_states)
        return hidden_states, torch.zeros_like(hidden_states) if residual is None else residual


def _normed(
    norm: nn.Module, hidden: torch.Tensor, residual: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    if residual is None:
        return norm(hidden), hidden
    return norm(hidden, residual)


def _as_if_uniform(vllm_config: Any, config: Any) -> Any:
    """vLLM's config for a block that reads its sizes from the model's config."""
    made = copy.copy(vllm_config)
    made.model_config = copy.copy(vllm_config.model_config)
    made.model_config.hf_config = config
    return made


class GptOssPuzzleModel(GptOssModel):
    """The decoder without its head."""

    block_cls = GptOssPuzzleBlock

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load every tensor by the config of its layer.

        vLLM's loader takes sizes and the bounds of expert parallelism from `self.config`, so each
        tensor meets the config that it was cut after. MXFP4 or not, the loader is the same.
        """
        whole = self.config
        loaded: set[str] = set()
        try:
            for name, weight in weights:
                self.config = self._config_of(name, whole)
                named = _SCALE.sub(r".attn.attn.\1", name) if ".attn.attn." not in name else name
                loaded |= super().load_weights([(named, weight)])
        finally:
            self.config = whole
        check_scales(self)
        return loaded

    def _config_of(self, name: str, whole: Any) -> Any:
        found = _LAYER.search(name)
        if found is None:
            return whole
        layer, ranks = layer_config(whole, int(found[1])), get_ep_group().world_size
        shared = self.parallel_config.enable_expert_parallel
        if shared and layer.num_local_experts % ranks:
            raise ValueError(
                f"{layer.num_local_experts} experts of layer {found[1]} cannot be shared evenly by "
                f"{ranks} ranks: serve without expert parallelism, or on fewer GPUs"
            )
        return layer


class GptOssPuzzleForCausalLM(GptOssForCausalLM):
    """The decoder with its output head, which may be tied to the embedding."""

    def __init__(self, vllm_config: Any, prefix: str = "") -> None:
        nn.Module.__init__(self)
        self.vllm_config = vllm_config
        self.config = vllm_config.model_config.hf_config
        self.model = GptOssPuzzleModel(
            vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model")
        )
        # vLLM's gpt-oss has a constant here.
        self.model.norm.variance_epsilon = self.config.rms_norm_eps
        self.lm_head = ParallelLMHead(
            self.config.vocab_size,
            self.config.hidden_size,
            prefix=maybe_prefix(prefix, "lm_head"),
        )
        if self.config.tie_word_embeddings:
            self.lm_head = self.lm_head.tie_weights(self.model.embedding)
        self.logits_processor = LogitsProcessor(self.config.vocab_size)
        self.make_empty_intermediate_tensors = self.model.make_empty_intermediate_tensors
