# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false
# pyright: reportIncompatibleVariableOverride=false
# Transformers ships no types for its model classes: what a subclass touches is unknown to the
# checker, and its attributes are declared in more than one way.
"""Qwen3-MoE whose layers differ in experts, window, KV heads or widths, or lack a block.

In: a config of type `qwen3_moe_puzzle` and tensors named and shaped as in Qwen3-MoE. Out: the
model, built from Transformers' own blocks with one config per layer; where all layers are alike it
computes what `Qwen3MoeForCausalLM` does. Refused: what `puzzle.py` refuses.

This file is copied into checkpoints: it imports transformers and its neighbours only.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import Qwen3MoeConfig
from transformers.modeling_outputs import MoeModelOutputWithPast
from transformers.models.qwen3_moe.modeling_qwen3_moe import (
    Qwen3MoeDecoderLayer,
    Qwen3MoeForCausalLM,
    Qwen3MoeModel,
    Qwen3MoePreTrainedModel,
    Qwen3MoeRMSNorm,
    Qwen3MoeRotaryEmbedding,
)

from .puzzle import PuzzleCausalLM, PuzzleConfig, PuzzleLayer, PuzzleModel, stored_like


class Qwen3MoePuzzleConfig(PuzzleConfig, Qwen3MoeConfig):
    """Qwen3-MoE with one dict of differences per layer; global keys are only fallbacks."""

    model_type = "qwen3_moe_puzzle"
    block_keys: ClassVar[dict[str, str]] = {
        "experts": "num_experts",
        "active": "num_experts_per_tok",
        "width": "moe_intermediate_size",
        "dense": "intermediate_size",
    }

    block_configs: list[dict[str, Any]] | None = None
    layer_types: list[str] | None = None


class Qwen3MoePuzzleDecoderLayer(PuzzleLayer, Qwen3MoeDecoderLayer):
    """A Qwen3-MoE layer after its own config; either block may be missing."""


class Qwen3MoePuzzlePreTrainedModel(Qwen3MoePreTrainedModel):
    """What loading needs to know about this family."""

    config: Qwen3MoePuzzleConfig
    config_class = Qwen3MoePuzzleConfig
    _no_split_modules: ClassVar[list[str]] = ["Qwen3MoePuzzleDecoderLayer"]


class Qwen3MoePuzzleModel(PuzzleModel, Qwen3MoePuzzlePreTrainedModel, Qwen3MoeModel):
    """The decoder without its head."""

    output_class = MoeModelOutputWithPast
    layer_class = Qwen3MoePuzzleDecoderLayer
    norm_class = Qwen3MoeRMSNorm
    rotary_class = Qwen3MoeRotaryEmbedding


class Qwen3MoePuzzleForCausalLM(PuzzleCausalLM, Qwen3MoePuzzlePreTrainedModel, Qwen3MoeForCausalLM):
    """The decoder with its output head."""

    model_class = Qwen3MoePuzzleModel


stored_like("qwen3_moe", "qwen3_moe_puzzle")

__all__ = ["Qwen3MoePuzzleConfig", "Qwen3MoePuzzleForCausalLM", "Qwen3MoePuzzleModel"]
