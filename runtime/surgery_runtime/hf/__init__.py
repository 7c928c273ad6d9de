# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# Transformers ships no types for its model classes.
"""Models whose layers differ, for measuring and for loading: one source for both.

In: a `config.json` as a dict. Out: `build`, the model with empty weights. The files beside this
one are also what a checkpoint carries (`surgery_runtime.classes`). Refused: families that are
not here.

The model offers `begin(input_ids) -> (hidden, state)`, `run(hidden, state, start, stop)`,
`logits(hidden)` and `make_layer(index, layer)` (`layerwise.py`), besides all that a Transformers
model does; its forward pass is `logits(run(hidden, state, 0, n))`. To swap a layer, put a module
from `make_layer` into `model.model.layers[index]` and load its parameters: windows that the
config never mentioned get their masks when `run` meets them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from surgery_runtime.hf.modeling_decilm import DeciLMForCausalLM
    from surgery_runtime.hf.modeling_gpt_oss_puzzle import GptOssPuzzleForCausalLM

_PRIVATE = (
    "architectures",
    "auto_map",
    "dtype",
    "model_type",
    "quantization_config",
    "torch_dtype",
    "use_cache",
)


def build(
    config: dict[str, Any], dtype: torch.dtype = torch.float32
) -> GptOssPuzzleForCausalLM | DeciLMForCausalLM:
    """The model of a `config.json`, in eval mode, every parameter NaN until it is loaded.

    Takes model types `gpt_oss`, `gpt_oss_puzzle`, `llama` and `nemotron-nas`. Parameters have the
    names that Transformers gives them: experts are `mlp.experts.gate_up_proj` [experts, hidden,
    2 * width] (gate and up alternate), `mlp.experts.down_proj` [experts, width, hidden] and their
    `_bias`, in `dtype`, also where the checkpoint packs them. Attention is eager.
    """
    keys = {key: value for key, value in config.items() if key not in _PRIVATE}
    keys |= {"dtype": dtype, "attn_implementation": "eager"}
    match config.get("model_type"):
        case "gpt_oss" | "gpt_oss_puzzle":
            from surgery_runtime.hf import modeling_gpt_oss_puzzle as family
            from surgery_runtime.hf.configuration_gpt_oss_puzzle import GptOssPuzzleConfig

            with torch.device("meta"):
                model = family.GptOssPuzzleForCausalLM(GptOssPuzzleConfig(**keys))
        case "llama" | "nemotron-nas":
            from surgery_runtime.hf import modeling_decilm
            from surgery_runtime.hf.configuration_decilm import DeciLMConfig

            with torch.device("meta"):
                model = modeling_decilm.DeciLMForCausalLM(DeciLMConfig(**keys))
        case other:
            raise ValueError(f"no model of type {other!r} here")
    _empty(model, dtype)
    return model


def _empty(model: Any, dtype: torch.dtype) -> None:
    """Give a model on the meta device parameters of `dtype`: NaN, frozen, tied where it ties."""
    model.to(dtype).to_empty(device="cpu")
    # Buffers that are computed, not loaded, were lost with the meta device.
    model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config)
    model.tie_weights()
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.fill_(torch.nan)
