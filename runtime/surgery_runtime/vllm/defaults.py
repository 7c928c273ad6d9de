# pyright: reportMissingImports=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUntypedBaseClass=false
# vLLM lives in a venv of its own (`make engines`), where no type checker looks.
"""What vLLM decides before it builds the model: as for gpt-oss, and with our quantisation known.

In: vLLM's configs of a `gpt_oss_puzzle` checkpoint. Out: the same, completed. Light: every process
of vLLM imports it.
"""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models.config import GptOssForCausalLMConfig


class GptOssPuzzleDefaults(GptOssForCausalLMConfig):
    """gpt-oss's: the name of its quantisation, its reasoning parser."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        """Called before vLLM looks for a quantisation."""
        told = getattr(model_config.hf_config, "quantization_config", None)
        if told is not None and told.get("quant_method") in ("mxfp4", "gpt_oss_mxfp4"):
            # Registers itself. Only here, because it takes seconds to import.
            import surgery_runtime.vllm.quantisation  # noqa: F401  # pyright: ignore[reportUnusedImport]
        GptOssForCausalLMConfig.verify_and_update_model_config(model_config)
