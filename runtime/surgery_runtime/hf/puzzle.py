# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false
# Transformers ships no types for its model classes: what a subclass touches is unknown to the
# checker. Everything callers see is annotated.
"""What families whose layers differ have in common: one config per layer, blocks that may be gone.

In: a stock config class, its decoder layer and its model classes. Out: mixins for each of them; a
family is their combination, a page long (`modeling_mixtral_puzzle.py`). Refused: lists of
`block_configs` of another length than the layers.

`block_configs` has a flat dict of the family's own keys for each layer, `{"num_experts": 64,
"sliding_window": null}`, in the manner of nvidia/gpt-oss-puzzle-88B. A key that is not there is
that of the whole model, but for the window: a layer that names none sees everything. Blocks go
with `no_op_attention` or `no_op_mlp` true; a block that is not there has no norm either: the
residual stream passes it by.

This file is copied into checkpoints: it imports torch, transformers and its neighbours only.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)

from .layerwise import LayerwiseCausalLM, LayerwiseModel


class PuzzleConfig:
    """Mixed into a config that has the fields `block_configs` and `layer_types`.

    `block_keys` are the family's keys for experts, experts per token, their width, and the width of
    dense layers (where the family has any).
    """

    block_keys: ClassVar[dict[str, str]] = {}
    block_configs: list[dict[str, Any]] | None
    layer_types: list[str] | None
    num_hidden_layers: int
    sliding_window: int | None

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive `layer_types` and the global window from the blocks, which are the truth."""
        parent: Any = super()
        parent.__post_init__(**kwargs)
        if self.block_configs is None:
            layers = range(self.num_hidden_layers)
            self.block_configs = [{"sliding_window": self.sliding_window} for _ in layers]
        blocks = self.block_configs
        if len(blocks) != self.num_hidden_layers:
            raise ValueError(f"{len(blocks)} block_configs for {self.num_hidden_layers} layers")
        windows = [block.get("sliding_window") for block in blocks]
        self.layer_types = [
            "full_attention" if window is None else "sliding_attention" for window in windows
        ]
        # Transformers reads one window from here, before the model fits the cache to its layers.
        self.sliding_window = max((w for w in windows if w is not None), default=None)

    def get_config_for_layer(self, layer_idx: int) -> Any:
        """The config of one layer, as if every layer were like it."""
        return self.for_block((self.block_configs or [])[layer_idx])

    def for_block(self, block: dict[str, Any]) -> Any:
        """The config of a layer made like `block`."""
        config: Any = copy.copy(self)
        defaults: dict[str, Any] = {"sliding_window": None, "sink_tokens": 0}
        defaults |= {"no_op_attention": False, "no_op_mlp": False}
        for key, value in (defaults | block).items():
            setattr(config, key, value)
        return config

    def block_of(self, layer: dict[str, Any]) -> dict[str, Any]:
        """The block for the geometry of one layer, as `make_layer` takes it."""
        attention, mlp = layer["attention"], layer["mlp"]
        block: dict[str, Any] = {"no_op_attention": attention is None, "no_op_mlp": mlp is None}
        if attention is not None:
            block["sliding_window"] = attention["window"]
            block["sink_tokens"] = attention.get("sinks", 0)
            block["num_attention_heads"] = attention["heads"]
            block["num_key_value_heads"] = attention["kv_heads"]
            block["head_dim"] = attention["head_dim"]
        if mlp is not None and "experts" in mlp:
            block |= {self.block_keys[name]: mlp[name] for name in ("experts", "active", "width")}
        elif mlp is not None:
            block[self.block_keys["dense"]] = mlp["width"]
        return block


class PuzzleLayer:
    """Mixed into a decoder layer whose blocks have one norm each, before them."""

    self_attn: Any
    input_layernorm: Any
    mlp: Any
    post_attention_layernorm: Any

    def __init__(self, config: Any, layer_idx: int) -> None:
        super().__init__(config, layer_idx)  # pyright: ignore[reportCallIssue] (the stock layer)
        self.attends: bool = not config.no_op_attention
        self.feeds: bool = not config.no_op_mlp
        self.window: int | None = config.sliding_window if self.attends else None
        self.sinks: int = config.sink_tokens if self.attends else 0
        if not self.attends:
            del self.self_attn, self.input_layernorm
        if not self.feeds:
            del self.mlp, self.post_attention_layernorm

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """The layer on [batch, length, hidden]; keyword arguments as in the stock layer."""
        if self.attends and self.feeds:
            stock: Any = super()
            return stock.forward(hidden_states, **kwargs)
        if self.attends:
            normed = self.input_layernorm(hidden_states)
            hidden_states = hidden_states + self.self_attn(hidden_states=normed, **kwargs)[0]
        if self.feeds:
            normed = self.post_attention_layernorm(hidden_states)
            hidden_states = hidden_states + self.mlp(normed)
        return hidden_states


class PuzzleModel(LayerwiseModel):
    """Mixed into the decoder without its head."""

    layer_class: type[Any]
    norm_class: type[Any]
    rotary_class: type[Any]

    def __init__(self, config: Any) -> None:
        host: Any = self
        PreTrainedModel.__init__(host, config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList(
            self.layer_class(config.get_config_for_layer(i), i)
            for i in range(config.num_hidden_layers)
        )
        self.norm = self.norm_class(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = self.rotary_class(config=config)
        self.gradient_checkpointing = False
        self.number_layers()
        host.post_init()


class PuzzleCausalLM(LayerwiseCausalLM):
    """Mixed into the decoder with its output head."""

    model_class: type[Any]
    # Scales of an 8-bit KV cache, which only serving engines use.
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"self_attn\.[kv]_scale$"]

    def __init__(self, config: Any) -> None:
        host: Any = self
        PreTrainedModel.__init__(host, config)
        self.model = self.model_class(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.router_aux_loss_coef = config.router_aux_loss_coef
        self.num_experts = config.num_local_experts
        self.num_experts_per_tok = config.num_experts_per_tok
        host.post_init()

    def _layer(self, index: int, layer: dict[str, Any]) -> nn.Module:
        config = self.config.for_block(self.config.block_of(layer))
        return self.model.layer_class(config, index)


def stored_like(stock: str, own: str) -> None:
    """Let checkpoints of type `own` name and cut their tensors as those of `stock` do.

    Transformers turns stored tensors into parameters, one expert after the other into one, by the
    rules of a model type.
    """
    rules: Any = get_checkpoint_conversion_mapping(stock) or []
    register_checkpoint_conversion_mapping(own, rules, overwrite=True)
