"""What the vLLM plugin makes of one layer's config: no vLLM is needed to ask."""

from __future__ import annotations

from typing import Any

import pytest

from surgery_runtime.hf.configuration_gpt_oss_puzzle import GptOssPuzzleConfig
from surgery_runtime.vllm.layers import layer_config

BLOCKS = [
    {"num_local_experts": 4, "sliding_window": 16},
    {"num_local_experts": 2, "sliding_window": None, "num_experts_per_tok": 1},
]


def config(**changes: Any) -> Any:
    """Two layers that differ; the second sends each token to one expert."""
    fields: dict[str, Any] = {"num_hidden_layers": 2, "block_configs": BLOCKS}
    return GptOssPuzzleConfig(**(fields | changes))


def test_every_layer_has_its_own_config() -> None:
    layers = [layer_config(config(), n) for n in (0, 1)]
    assert [(c.num_local_experts, c.sliding_window) for c in layers] == [(4, 16), (2, None)]
    assert [c.num_experts_per_tok for c in layers] == [4, 1]


@pytest.mark.parametrize(("key", "value"), [("swiglu_limit", 5.0), ("swiglu_alpha", 1.0)])
def test_another_activation_than_vllms_is_refused(key: str, value: float) -> None:
    assert layer_config(config(**{key: {"swiglu_limit": 7.0, "swiglu_alpha": 1.702}[key]}), 0)
    with pytest.raises(ValueError, match=f"`{key}` {value} is not served: vLLM's gpt-oss computes"):
        layer_config(config(**{key: value}), 1)


def test_keys_that_nothing_acts_upon_are_refused() -> None:
    strange = [BLOCKS[0], BLOCKS[1] | {"hidden_size": 8}]
    assert layer_config(config(block_configs=strange), 0)
    with pytest.raises(ValueError, match="layer 1 has `hidden_size` in block_configs"):
        layer_config(config(block_configs=strange), 1)


def test_plain_rotary_embeddings_become_yarn_by_one() -> None:
    plain = {"rope_type": "default", "rope_theta": 1e4}
    rope = layer_config(config(rope_parameters=plain), 0).rope_parameters
    assert (rope["rope_type"], rope["factor"], rope["rope_theta"]) == ("yarn", 1.0, 1e4)
    with pytest.raises(ValueError, match="rotary embedding 'linear' is not served"):
        layer_config(config(rope_parameters=plain | {"rope_type": "linear", "factor": 2.0}), 0)
