# pyright: reportMissingImports=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
# vLLM lives in a venv of its own (`make engines`), where no type checker looks.
"""The vLLM plugin: serves children of both formats natively.

In: nothing; vLLM finds `register` as the entry point `surgery` of `vllm.general_plugins` and calls
it in every process. Out: vLLM's registries, with two more architectures and two more configs. No
code of a checkpoint is run, so `--trust-remote-code` is not needed. Not here: the models
(`model.py`, `deci.py`), which vLLM imports when it meets one. Written for vLLM 0.32;
`VLLM_PLUGINS=""` leaves it out, and what happens then is tested in `tests/engines`.
"""

from __future__ import annotations

ARCHITECTURES = {
    "GptOssPuzzleForCausalLM": "surgery_runtime.vllm.model",
    "DeciLMLayerwiseForCausalLM": "surgery_runtime.vllm.deci",
}
"""What vLLM does not know, and where the class of that name is."""


def register() -> None:
    """Tell Transformers and vLLM about our formats; any number of times.

    Of most `nemotron-nas` children only the config is ours: vLLM's `DeciLMForCausalLM` runs them.
    """
    from transformers import AutoConfig
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    from surgery_runtime.hf.configuration_decilm import DeciLMConfig
    from surgery_runtime.hf.configuration_gpt_oss_puzzle import GptOssPuzzleConfig
    from surgery_runtime.vllm.defaults import GptOssPuzzleDefaults

    for config in (GptOssPuzzleConfig, DeciLMConfig):
        AutoConfig.register(config.model_type, config, exist_ok=True)
    MODELS_CONFIG_MAP["GptOssPuzzleForCausalLM"] = GptOssPuzzleDefaults
    known = ModelRegistry.get_supported_archs()
    for name, module in ARCHITECTURES.items():
        if name not in known:
            ModelRegistry.register_model(name, f"{module}:{name}")
