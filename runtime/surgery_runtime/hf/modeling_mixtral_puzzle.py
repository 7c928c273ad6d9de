# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false
# pyright: reportIncompatibleVariableOverride=false
# Transformers ships no types for its model classes: what a subclass touches is unknown to the
# checker, and its attributes are declared in more than one way.
"""Mixtral whose layers differ in experts, window, KV heads or width, or lack a block.

In: a config of type `mixtral_puzzle` and tensors named and shaped as in Mixtral. Out: the model,
built from Transformers' own blocks with one config per layer; where all layers are alike it
computes what `MixtralForCausalLM` does. Refused: what `puzzle.py` refuses.

This file is copied into checkpoints: it imports transformers and its neighbours only.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import MixtralConfig
from transformers.modeling_outputs import MoeModelOutputWithPast
from transformers.models.mixtral.modeling_mixtral import (
    MixtralDecoderLayer,
    MixtralForCausalLM,
    MixtralModel,
    MixtralPreTrainedModel,
    MixtralRMSNorm,
    MixtralRotaryEmbedding,
)

from .puzzle import PuzzleCausalLM, PuzzleConfig, PuzzleLayer, PuzzleModel, stored_like


class MixtralPuzzleConfig(PuzzleConfig, MixtralConfig):
    """Mixtral with one dict of differences per layer; global keys are only fallbacks."""

    model_type = "mixtral_puzzle"
    block_keys: ClassVar[dict[str, str]] = {
        "experts": "num_local_experts",
        "active": "num_experts_per_tok",
        "width": "intermediate_size",
    }

    block_configs: list[dict[str, Any]] | None = None
    layer_types: list[str] | None = None


class MixtralPuzzleDecoderLayer(PuzzleLayer, MixtralDecoderLayer):
    """A Mixtral layer after its own config; either block may be missing."""


class MixtralPuzzlePreTrainedModel(MixtralPreTrainedModel):
    """What loading needs to know about this family."""

    config: MixtralPuzzleConfig
    config_class = MixtralPuzzleConfig
    _no_split_modules: ClassVar[list[str]] = ["MixtralPuzzleDecoderLayer"]


class MixtralPuzzleModel(PuzzleModel, MixtralPuzzlePreTrainedModel, MixtralModel):
    """The decoder without its head."""

    output_class = MoeModelOutputWithPast
    layer_class = MixtralPuzzleDecoderLayer
    norm_class = MixtralRMSNorm
    rotary_class = MixtralRotaryEmbedding


class MixtralPuzzleForCausalLM(PuzzleCausalLM, MixtralPuzzlePreTrainedModel, MixtralForCausalLM):
    """The decoder with its output head."""

    model_class = MixtralPuzzleModel


stored_like("mixtral", "mixtral_puzzle")

__all__ = ["MixtralPuzzleConfig", "MixtralPuzzleForCausalLM", "MixtralPuzzleModel"]
