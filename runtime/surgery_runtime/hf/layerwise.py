# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportUntypedFunctionDecorator=false, reportMissingTypeStubs=false
# pyright: reportPrivateUsage=false, reportAttributeAccessIssue=false
# Transformers ships no types for its model classes: what a subclass touches is unknown to the
# checker. Everything callers see is annotated.
"""Running a decoder whose layers differ: one layer after the other, one mask per window.

In: a Transformers decoder whose layers carry `window` (tokens that a query sees, itself
included; `None` is full attention), perhaps `sinks` (how many of the first tokens it sees besides)
and `attends` (whether there is attention at all). Out: its `forward`, and the same computation in
parts, `begin`, `run` and `logits`, for whoever wants to swap a layer and run the rest.
Refused: a cache whose slots cannot hold what the layers need.

Stock models build at most two masks, one per `layer_types` entry, and let a cache take its one
window from the config. Here masks are built per distinct window when a layer first asks for
one, and the slots of a fresh dynamic cache are fitted to the layers. A layer without attention
has no slot, so the cache index of a layer is the number of attending layers before it, and the
first slot always knows the length (Transformers asks it). Where there are sinks a slot keeps all
tokens, and the mask hides what need not be held: slots of Transformers forget the oldest first.

A layer may also carry `stored`: what a cache gives back of its keys and values. That is how an FP8
cache is measured, with or without a cache, and how values are watched.

This file is copied into checkpoints: it imports torch, transformers and safetensors only.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
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
        self.masks: dict[tuple[int | None, int], Any] = {}

    def mask(self, window: int | None, slot: int, sinks: int = 0) -> Any:
        """The causal mask of a window, in the form that the attention implementation wants.

        `slot` is the cache index of the asking layer; slots of one window have one length.
        """
        if (window, sinks) not in self.masks:
            self.masks[window, sinks] = self._build(window, slot, sinks)
        return self.masks[window, sinks]

    def _build(self, window: int | None, slot: int, sinks: int) -> Any:
        arguments: dict[str, Any] = {
            "inputs_embeds": self.hidden,
            "attention_mask": self.attention_mask,
            "past_key_values": self.cache,
            "position_ids": self.shared["position_ids"],
            "layer_idx": slot,
        }
        if window is None:
            return create_causal_mask(config=self.config, **arguments)
        if sinks:
            if "flash" in str(self.config._attn_implementation):
                raise ValueError("flash attention has no windows with sink tokens: use sdpa")
            seen = window_with_sinks(window, sinks, self._first())
            return create_causal_mask(config=self.config, and_mask_function=seen, **arguments)
        config = copy.copy(self.config)
        config.sliding_window = window
        return create_sliding_window_causal_mask(config=config, **arguments)

    def _first(self) -> torch.Tensor:
        """Where each sequence begins, int64 [batch]: behind its padding."""
        mask = self.attention_mask
        if mask is None or mask.dim() != 2:
            return torch.zeros(len(self.hidden), dtype=torch.long, device=self.hidden.device)
        return mask.long().argmax(-1)


def window_with_sinks(window: int, sinks: int, first: torch.Tensor) -> Callable[..., Any]:
    """What a query sees of the tokens before it: the last `window`, and `sinks` from `first` on."""

    def seen(batch: Any, _head: Any, query: Any, key: Any) -> Any:
        return (query - key < window) | (key < first[batch] + sinks)

    return seen


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


def _attends(layer: Any) -> bool:
    return layer.attends


def _kept(layer: Any) -> int | None:
    """How many tokens the slot of a layer keeps; `None` is all of them."""
    return None if getattr(layer, "sinks", 0) else layer.window


Change = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""K and V -> what is read back of them."""

LARGEST_E4M3 = 448.0


class Stored:
    """A cache as one attention block sees it: keys and values are changed before they are kept.

    `change` maps K (rotated) and V, both [batch, KV heads, length, head_dim], to what attention
    reads back. There need not be a cache behind it.
    """

    def __init__(self, change: Change, cache: Cache | None) -> None:
        self.change = change
        self.cache = cache

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *rest: Any, **named: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What `Cache.update` returns: all keys and values so far."""
        keys, values = self.change(key_states, value_states)
        if self.cache is None:
            return keys, values
        return self.cache.update(keys, values, *rest, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


def fp8(values: torch.Tensor, scale: float) -> torch.Tensor:
    """What an E4M3 cache gives back: values / scale, clamped to +-448, rounded, times scale."""
    small = (values.float() / scale).clamp(-LARGEST_E4M3, LARGEST_E4M3)
    return (small.to(torch.float8_e4m3fn).float() * scale).to(values.dtype)


def fp8_cache(k_scale: float, v_scale: float) -> Change:
    """Keep K and V in FP8, with one scale for each."""

    def change(keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return fp8(keys, k_scale), fp8(values, v_scale)

    return change


def stored_scales(checkpoint: str | Path) -> dict[int, tuple[float, float]]:
    """The scales of K and V in a checkpoint's folder, by layer: where the cache is in FP8."""
    found: dict[int, dict[str, float]] = {}
    for shard in sorted(Path(checkpoint).glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - this is no dict
                place = _SCALE.fullmatch(name)
                if place:
                    scale = float(file.get_tensor(name))
                    found.setdefault(int(place[1]), {})[place[2]] = scale
    return {layer: (scales["k"], scales["v"]) for layer, scales in sorted(found.items())}


_SCALE = re.compile(r"model\.layers\.(\d+)\.self_attn\.([kv])_scale")


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
            fit_cache(cache, tuple(map(_kept, filter(_attends, self.layers))))
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
                sinks = getattr(layer, "sinks", 0)
                mask = flow.mask(layer.window, layer.self_attn.layer_idx, sinks)
            cache, change = flow.cache, getattr(layer, "stored", None)
            if change is not None:
                cache = Stored(change, cache)
            hidden = layer(hidden, attention_mask=mask, past_key_values=cache, **flow.shared)
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
        {"width"} or {"experts", "active", "width"} or None}, or {"linear"} for either; an attention
        that sees first tokens besides its window also has "sinks", one whose cache is in FP8
        "kv_scales", of K and V. Parameters are uninitialised, in the model's dtype; names are those
        of the checkpoint below `model.layers.<index>.`.
        """
        head = self.lm_head.weight
        with torch.device("meta"):
            made: Any = self._layer(index, layer)
        scales = (layer["attention"] or {}).get("kv_scales")
        if scales is not None:
            made.stored = fp8_cache(*scales)
        return made.to(head.dtype).to_empty(device=head.device).train(self.training)

    def simulate_fp8_cache(self, checkpoint: str | Path | None = None) -> None:
        """From now on, read K and V as an FP8 cache with the scales of the checkpoint gives them.

        Serving engines store them so; without this call the scales are ignored, and the cache is
        as precise as the model. `checkpoint` is the folder, known if the model was loaded from it.
        Raises `ValueError` where it holds no scales.
        """
        folder = checkpoint or self.config.name_or_path
        found = stored_scales(folder)
        if not found:
            raise ValueError(f"no scales of K and V in {folder}")
        for index, scales in found.items():
            self.model.layers[index].stored = fp8_cache(*scales)

    def _layer(self, index: int, layer: dict[str, Any]) -> nn.Module:
        raise NotImplementedError
