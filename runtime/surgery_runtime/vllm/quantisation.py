# pyright: reportMissingImports=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUntypedBaseClass=false
# pyright: reportUntypedClassDecorator=false, reportUnknownArgumentType=false
# vLLM lives in a venv of its own (`make engines`), where no type checker looks.
"""Scales of an FP8 KV cache, beside MXFP4 experts and beside plain weights.

In: vLLM's layers. Out: for `Attention` the method that keeps a checkpoint's `k_scale` and
`v_scale`: vLLM resets both to 1.0, without a word, wherever a quantisation names no such method,
and neither its MXFP4 nor "no quantisation" does. Everything else is as in vLLM. Imported when an
MXFP4 checkpoint or a model is loaded; importing it registers `gpt_oss_puzzle_mxfp4`.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization import (
    QuantizationConfig,
    register_quantization_config,
)
from vllm.model_executor.layers.quantization.kv_cache import BaseKVCacheMethod
from vllm.model_executor.layers.quantization.mxfp4 import GptOssMxfp4Config
from vllm.model_executor.models.utils import extract_layer_index
from vllm.utils.torch_utils import is_quantized_kv_cache

MXFP4 = "gpt_oss_puzzle_mxfp4"


class ExactScales(BaseKVCacheMethod):
    """vLLM's method, with scales as the checkpoint has them.

    vLLM makes the parameters in the model's dtype, so a BF16 model rounds scales to BF16.
    """

    def create_weights(self, layer: torch.nn.Module, *sizes: Any, **named: Any) -> None:
        """Scalars in float32: `q_scale`, `k_scale`, `v_scale`, `prob_scale`."""
        super().create_weights(layer, *sizes, **named)
        for name in ("q_scale", "k_scale", "v_scale", "prob_scale"):
            scale: torch.nn.Parameter = getattr(layer, name)
            scale.data = scale.data.float()


class KvScales(QuantizationConfig):
    """No quantisation but that of the KV cache: for checkpoints whose config names none."""

    @classmethod
    def get_name(cls) -> str:
        """A name of its own, in no registry: it is handed to attention layers alone."""
        return "surgery_kv_scales"

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        """All that vLLM computes in."""
        return [torch.bfloat16, torch.float16, torch.float32]

    @classmethod
    def get_min_capability(cls) -> int:
        """Whether a device can cache in FP8 is asked of its attention."""
        return 0

    @staticmethod
    def get_config_filenames() -> list[str]:
        """None: there is nothing to read."""
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> KvScales:
        """There is nothing to configure."""
        return cls()

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> Any:
        """The method of attention layers; all others stay as they are."""
        if isinstance(layer, Attention):
            return ExactScales(self)
        return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None


def check_scales(model: torch.nn.Module) -> None:
    """After loading: raise `ValueError` where layers cache in FP8 and only some have scales.

    A plan stores some layers in FP8 and others not; the latter must be told to vLLM, which gives a
    layer without scales 1.0.
    """
    layers: list[Any] = [m for m in model.modules() if isinstance(m, Attention)]
    layers = [m for m in layers if hasattr(m, "k_scale")]
    cached: list[Any] = [m for m in layers if is_quantized_kv_cache(m.kv_cache_dtype)]
    bare = [m for m in cached if float(m.k_scale) < 0 or float(m.v_scale) < 0]
    if bare and len(bare) < len(cached):
        listed = " ".join(str(extract_layer_index(m.layer_name)) for m in bare)
        raise ValueError(
            f"layers {listed} have no scales for a KV cache in FP8, and others have: serve with "
            f"--kv-cache-dtype-skip-layers {listed}"
        )


@register_quantization_config(MXFP4)
class GptOssPuzzleMxfp4Config(GptOssMxfp4Config):
    """gpt-oss's MXFP4, for the model type that vLLM does not know, and with KV scales.

    `get_name` stays `gpt_oss_mxfp4`: vLLM's expert layers ask for it when they load.
    """

    @classmethod
    def override_quantization_method(
        cls, hf_quant_cfg: Any, user_quant: Any, hf_config: Any = None
    ) -> str | None:
        """Claim MXFP4 checkpoints of model type `gpt_oss_puzzle`, and no others."""
        if getattr(hf_config, "model_type", None) != "gpt_oss_puzzle":
            return None
        told = hf_quant_cfg.get("quant_method") if isinstance(hf_quant_cfg, dict) else None
        return MXFP4 if told in ("mxfp4", "gpt_oss_mxfp4") else None

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> Any:
        """As in gpt-oss; for attention, the method that keeps scales."""
        if isinstance(layer, Attention):
            return ExactScales(self)
        return super().get_quant_method(layer, prefix)
