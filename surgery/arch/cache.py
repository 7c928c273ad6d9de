"""Scales of an FP8 KV cache in a checkpoint: which tensors they are, and in which layers.

In: names of tensors, layers, a `quantization_config`. Out: the layers that have scales. They belong
to no family: any checkpoint may hold them beside its weights, and loaders that know nothing of them
pass them by. A parent's own are left behind: they are of its activations, and no child has those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import cast

from msgspec.structs import replace

from surgery.ir import Layer

# Also as ModelOpt exports them, and with the scale of queries that some engines use.
_NAME = re.compile(r"model\.layers\.([0-9]{1,5})\.self_attn\.(?:[kv]_proj\.)?([qkv])_scale")


def is_scale(name: str) -> bool:
    """Whether a tensor of this name scales cached keys, values or queries."""
    return _NAME.fullmatch(name) is not None


def scaled_layers(names: Iterable[str]) -> Mapping[int, tuple[str, ...]]:
    """The layers with a scale for K and one for V, and the names of their scales."""
    found: dict[int, dict[str, str]] = {}
    for name in names:
        if place := _NAME.fullmatch(name):
            found.setdefault(int(place[1]), {})[place[2]] = name
    return {n: tuple(v.values()) for n, v in sorted(found.items()) if {"k", "v"} <= v.keys()}


def cached(layers: Iterable[Layer], names: Iterable[str]) -> tuple[Layer, ...]:
    """The layers as tensors of these `names` make them: where there are scales, caches are FP8."""
    scaled = scaled_layers(names)
    return tuple(_in_fp8(layer) if layer.index in scaled else layer for layer in layers)


def _in_fp8(layer: Layer) -> Layer:
    if layer.attention is None:
        return layer
    return replace(layer, attention=replace(layer.attention, kv_dtype="fp8_e4m3"))


def only_cache(quantisation: object) -> bool:
    """Whether a `quantization_config` is about the KV cache alone: it leaves all weights out."""
    if not isinstance(quantisation, Mapping):
        return False
    told = cast("Mapping[str, object]", quantisation)
    return told.get("quant_method") == "modelopt" and told.get("ignore") == ["*"]
