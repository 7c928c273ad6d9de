"""Which classes load which model types, and which files a checkpoint carries for them.

In: a model type. Out: the stock type that it generalises, names of files in `hf/`, of which a
checkpoint holds frozen copies, and the `auto_map` that names classes in them. Standard library
only: who writes a checkpoint needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """A model type whose layers may differ, made of the layers of `stock`.

    `config` and `model` are FILE.CLASS, as `auto_map` wants them; `needs` are further files that
    those import.
    """

    stock: str
    config: str
    model: str
    needs: tuple[str, ...] = ("layerwise",)

    @property
    def auto_map(self) -> dict[str, str]:
        """What `config.json` says."""
        return {"AutoConfig": self.config, "AutoModelForCausalLM": self.model}

    @property
    def files(self) -> tuple[str, ...]:
        """What lies beside it."""
        places = {self.config.partition(".")[0], self.model.partition(".")[0], *self.needs}
        return tuple(f"{name}.py" for name in sorted(places))


KINDS: Mapping[str, Kind] = {
    "gpt_oss_puzzle": Kind(
        "gpt_oss",
        "configuration_gpt_oss_puzzle.GptOssPuzzleConfig",
        "modeling_gpt_oss_puzzle.GptOssPuzzleForCausalLM",
    ),
    "mixtral_puzzle": Kind(
        "mixtral",
        "modeling_mixtral_puzzle.MixtralPuzzleConfig",
        "modeling_mixtral_puzzle.MixtralPuzzleForCausalLM",
        ("layerwise", "puzzle"),
    ),
    "nemotron-nas": Kind(
        "llama", "configuration_decilm.DeciLMConfig", "modeling_decilm.DeciLMForCausalLM"
    ),
    "qwen3_moe_puzzle": Kind(
        "qwen3_moe",
        "modeling_qwen3_moe_puzzle.Qwen3MoePuzzleConfig",
        "modeling_qwen3_moe_puzzle.Qwen3MoePuzzleForCausalLM",
        ("layerwise", "puzzle"),
    ),
}
"""Model types that stock Transformers does not know."""


def kind_of(model_type: object) -> Kind | None:
    """The classes that run a model type, its own or the stock one that they generalise."""
    return next((kind for own, kind in KINDS.items() if model_type in (own, kind.stock)), None)
