# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportUntypedFunctionDecorator=false, reportMissingTypeStubs=false
# pyright: reportPrivateUsage=false, reportAttributeAccessIssue=false
# Transformers ships no types for its model classes: what a subclass touches is unknown to the
# checker. Everything callers see is annotated.
"""Running a decoder whose layers differ: one layer after the other, one mask per window.

In: a Transformers decoder whose layers carry `window` (tokens that a query sees, itself
included; `None` is full attention) and `attends` (whether there is attention at all). Out: its
`forward`, and the same computation in parts, `begin`, `run` and `logits`, for whoever wants to
swap a layer and run the rest. Refused: a cache whose slots cannot hold what the layers need.

Stock models build at most two masks, one per `layer_types` entry, and let a cache take its one
window from the config. Here masks are built per distinct window when a layer first asks for
one, and the slots of a fresh dynamic cache are fitted to the layers. A layer without attention
has no slot, so the cache index of a layer is the number of attending layers before it, and the
first slot always knows the length (Transformers asks it).

This file is copied into checkpoints: it imports torch and transformers only.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs


class Flow:
    """What the layers of one forward pass share: positions, cache, keyword arguments, masks."""

    def __init__(
        self,
        config: Any,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cache: Cache | None,
        shared: dict[str, Any],
    ) -> None:
        self.config = config
        self.hidden = hidden
        self.attention_mask = attention_mask
        self.cache = cache
        self.shared = shared
        self.masks: dict[int | None, Any] = {}

    def mask(self, window: int | None, slot: int) -> Any:
        """The causal mask of a window, in the form that the attention implementation wants.

        `slot` is the cache index of the asking layer; slots of one window have one length.
        """
        if window not in self.masks:
            self.masks[window] = self._build(window, slot)
        return self.masks[window]

    def _build(self, window: int | None, slot: int) -> Any:
        arguments: dict[str, Any] = {
            "inputs_embeds": self.hidden,
            "attention_mask": self.attention_mask,
            "past_key_values": self.cache,
            "position_ids": self.shared["position_ids"],
            "layer_idx": slot,
        }
        if window is None:
            return create_causal_mask(config=self.config, **arguments)
        config = copy.copy(self.config)
        config.sliding_window = window
        return create_sliding_window_causal_mask(config=config, **arguments)


def fit_cache(cache: Cache, windows: tuple[int | None, ...]) -> None:
    """Give the cache one slot per attending layer, each as long as that layer's window.

    `generate` builds its cache from the config, with one window for all and a slot for every
    layer. A full slot can serve a window, a shorter or a sliding one cannot serve full
    attention. Raises `ValueError` where a cache with content, or one that is not dynamic, does
    not suit the layers.
    """
    slots: list[Any] = cache.layers
    if len(slots) == len(windows) and all(map(_same, slots, windows)):
        return
    dynamic = isinstance(cache, DynamicCache)
    if dynamic and all(type(slot) in (DynamicLayer, DynamicSlidingWindowLayer) for slot in slots):
        if any(slot.is_initialized for slot in slots):
            raise ValueError("the cache was filled by a model with other windows")
        recording = any(getattr(slot, "record_past", False) for slot in slots)
        cache.layers = [_slot(window) for window in windows]
        if recording:
            cache.activate_past_recording()
    elif any(getattr(slot, "is_sliding", False) for slot in slots) or len(slots) < len(windows):
        raise ValueError(
            f"{type(cache).__name__} cannot hold layers of different windows: use a DynamicCache"
        )


def _slot(window: int | None) -> DynamicLayer:
    return DynamicLayer() if window is None else DynamicSlidingWindowLayer(sliding_window=window)


def _same(slot: Any, window: int | None) -> bool:
    if not getattr(slot, "is_sliding", False):
        return window is None
    # A static slot is known by its length alone, which a short cache cuts below the window.
    return getattr(slot, "sliding_window", None) == window or slot.get_max_length() == window


class LayerwiseModel:
    """The `forward` of a decoder without its head; mixed into a `PreTrainedModel`.

    The host has `embed_tokens`, `layers`, `norm`, `rotary_emb` and `output_class`.
    """

    config: Any
    embed_tokens: Any
    layers: Any
    norm: Any
    rotary_emb: Any
    output_class: type[Any]

    def begin(
        self,
        hidden: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        **shared: Any,
    ) -> Flow:
        """Everything that the layers share, for embedded tokens [batch, length, hidden]."""
        self.number_layers()
        if cache is not None:
            fit_cache(cache, tuple(layer.window for layer in self.layers if layer.attends))
        if position_ids is None:
            past = cache.get_seq_length() if cache is not None else 0
            position_ids = torch.arange(hidden.shape[1], device=hidden.device) + past
            position_ids = position_ids.unsqueeze(0)
        shared["position_ids"] = position_ids
        shared["position_embeddings"] = self.rotary_emb(hidden, position_ids)
        return Flow(self.config, hidden, attention_mask, cache, shared)

    def number_layers(self) -> None:
        """Give every attention its cache index: how many attending layers come before it."""
        slot = 0
        for layer in self.layers:
            if layer.attends:
                layer.self_attn.layer_idx = slot
                slot += 1

    def run(self, hidden: torch.Tensor, flow: Flow, start: int, stop: int) -> torch.Tensor:
        """Layers [start, stop) on `hidden` [batch, length, hidden]."""
        for layer in self.layers[start:stop]:
            mask = None
            if layer.attends:
                mask = flow.mask(layer.window, layer.self_attn.layer_idx)
            hidden = layer(hidden, attention_mask=mask, past_key_values=flow.cache, **flow.shared)
        return hidden

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        *,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Hidden states after the last layer and the final norm, as Transformers defines it."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("specify exactly one of input_ids and inputs_embeds")
        hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        flow = self.begin(
            hidden, attention_mask, position_ids, past_key_values, use_cache=use_cache, **kwargs
        )
        hidden = self.norm(self.run(hidden, flow, 0, len(self.layers)))
        return self.output_class(last_hidden_state=hidden, past_key_values=past_key_values)


class LayerwiseCausalLM:
    """A whole model in parts: `logits(run(hidden, state, 0, n))` is its forward pass."""

    config: Any
    model: Any
    lm_head: Any

    def begin(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, Flow]:
        """Embeddings [batch, length, hidden] of int64 tokens [batch, length], and the state.

        The state knows no cache and no padding: every sample has the same length.
        """
        hidden = self.model.embed_tokens(input_ids)
        return hidden, self.model.begin(hidden, use_cache=False)

    def run(self, hidden: torch.Tensor, state: Flow, start: int, stop: int) -> torch.Tensor:
        """Layers [start, stop) on `hidden` [batch, length, hidden]; parts compose exactly."""
        return self.model.run(hidden, state, start, stop)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Final norm and output head: [batch, length, hidden] -> [batch, length, vocab]."""
        return self.lm_head(self.model.norm(hidden))

    @staticmethod
    def create_masks_for_generate(
        attention_mask: torch.Tensor | None = None, **_unused: Any
    ) -> torch.Tensor | None:
        """The padding mask as it is: `generate` would make one mask for all windows."""
        return attention_mask

    def make_layer(self, index: int, layer: dict[str, Any]) -> nn.Module:
        """An empty decoder layer to put in place of `model.layers[index]`.

        `layer` is {"attention": {"heads", "kv_heads", "head_dim", "window"} or None, "mlp":
        {"width"} or {"experts", "active", "width"} or None}. Parameters are uninitialised, in
        the model's dtype; names are those of the checkpoint below `model.layers.<index>.`.
        """
        head = self.lm_head.weight
        with torch.device("meta"):
            made = self._layer(index, layer)
        return made.to(head.dtype).to_empty(device=head.device).train(self.training)

    def _layer(self, index: int, layer: dict[str, Any]) -> nn.Module:
        raise NotImplementedError
