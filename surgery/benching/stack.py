"""Layers of any shape on the device at hand, and caches that suit them.

In: a `Model`, a `Clock`. Out: `Stack`, the parent's own modules in the clock's dtype, which make
layers of other shapes: each takes the first experts, heads and channels of the parent's layer in
its place, and noise where the parent has nothing of the kind (linear blocks). What is computed is
none of a child's, but the shapes are, and the router is the parent's, so that experts are hit as in
a child. Without weight files everything is noise. A parent that is too large for the device is
measured on its first layers.

Keys and values of a prompt come from the parent reading it, once; a layer's cache holds the last of
them that its window allows, and the first of the heads. Not here: timing (`rounds.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import torch
from msgspec import Struct
from msgspec.structs import replace
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache

from surgery.benching.clock import Clock, cpu
from surgery.benching.shapes import Shape
from surgery.ir import Attention, Layer, Model
from surgery.scoring.model import CausalLM, describe, load_parent

Held: TypeAlias = tuple[Tensor, Tensor]
"""Keys and values of all prompts in one layer: [sequences, KV heads, tokens, head_dim]."""

_NOISE = 0.02


class Stack(Struct, frozen=True):
    """The parent's modules, or as many of its layers as fit."""

    model: Model
    module: CausalLM
    clock: Clock

    @property
    def own(self) -> tuple[Shape, ...]:
        """The shapes of the parent's layers."""
        layers = self.model.layers[: len(self.module.model.layers)]
        return tuple((layer.attention, layer.mlp) for layer in layers)


def load(model: Model, clock: Clock, copies: int) -> Stack:
    """The parent with its weights where they are, else with noise. Raises `Stop` (E0001).

    `copies` is how many layers of other shapes there will be for each of its own.
    """
    params = model.params // len(model.layers)
    # Half of the memory is for what the layers compute; weights are read on the processor first.
    fits = clock.free() // 2 // (clock.dtype.itemsize * params * (1 + copies))
    depth = min(len(model.layers), max(1, min(fits, cpu().free() // (4 * params))))
    if model.files and depth == len(model.layers):
        module = load_parent(model).module
    else:
        module = _noisy(model, depth)
    cast("nn.Module", module).to(device=clock.device, dtype=clock.dtype)
    return Stack(model, module, clock)


def _noisy(model: Model, depth: int) -> CausalLM:
    """Some layers of the parent's architecture, with noise for weights."""
    from surgery_runtime import hf

    count = len(model.layers)
    config: dict[str, Any] = {**model.config}
    for name, value in config.items():
        if isinstance(value, list) and len(cast("list[object]", value)) == count:
            config[name] = value[:depth]
    module = cast("CausalLM", hf.build(config | {"num_hidden_layers": depth}))
    for parameter in cast("nn.Module", module).parameters():
        _fill(parameter)
    return module


def _fill(parameter: Tensor) -> None:
    generator = torch.Generator(parameter.device).manual_seed(parameter.numel())
    parameter.data.normal_(0.0, _NOISE, generator=generator)


def make(stack: Stack, index: int, shape: Shape) -> nn.Module:
    """A layer of a shape in the place of the parent's layer `index`."""
    layer = Layer(index, *shape)
    if isinstance(layer.attention, Attention):
        # Transformers keep keys and values in the model's dtype, whatever is asked of engines.
        layer = replace(layer, attention=replace(layer.attention, kv_dtype="bf16"))
    made = stack.module.make_layer(index, describe(layer)).requires_grad_(False)
    theirs = dict(stack.module.model.layers[index].named_parameters())
    for name, parameter in made.named_parameters():
        source = theirs.get(name)
        parts = tuple(slice(0, size) for size in parameter.shape)
        whole = source is not None and source.dim() == parameter.dim()
        if source is not None and whole and source[parts].shape == parameter.shape:
            # A whole parameter is shared with the parent.
            found = source.data[parts]
            parameter.data = found if found.shape == source.shape else found.clone()
        else:
            _fill(parameter)
    return made.eval()


# ---- caches ----------------------------------------------------------------------------------


def read(stack: Stack, tokens: Tensor) -> tuple[Held | None, ...]:
    """Keys and values of prompts, int64 [sequences, tokens], in every layer that attends."""
    layers = stack.module.model.layers
    found: list[list[Held]] = [[] for _ in layers]

    def keep(index: int) -> Any:
        def change(keys: Tensor, values: Tensor) -> Held:
            found[index].append((keys.clone(), values.clone()))
            return keys, values

        return change

    for index, layer in enumerate(layers):
        cast("Any", layer).stored = keep(index)
    try:
        # One prompt at a time: attention is quadratic in memory too.
        for row in range(len(tokens)):
            hidden, state = stack.module.begin(tokens[row : row + 1])
            stack.module.run(hidden, state, 0, len(layers))
    finally:
        for layer in layers:
            del cast("Any", layer).stored
    return tuple(_joined(each) if each else None for each in found)


def _joined(parts: Sequence[Held]) -> Held:
    return torch.cat([keys for keys, _ in parts]), torch.cat([values for _, values in parts])


class Slots:
    """The cache of a child before a step, which can be had again after it."""

    def __init__(self, layers: Sequence[nn.Module], held: Sequence[Held | None]) -> None:
        from surgery_runtime.hf.layerwise import fit_cache

        attending = [cast("Any", layer) for layer in layers if cast("Any", layer).attends]
        spare = next(each for each in held if each is not None)
        wide = [held[n] or spare for n, layer in enumerate(layers) if cast("Any", layer).attends]
        self.cache = DynamicCache()
        fit_cache(
            cast("Cache", self.cache),
            tuple(None if getattr(each, "sinks", 0) else each.window for each in attending),
        )
        for slot, layer, (keys, values) in zip(self.cache.layers, attending, wide, strict=True):
            heads = layer.self_attn.k_proj.out_features // layer.self_attn.head_dim
            cast("Any", slot).update(_heads(keys, heads), _heads(values, heads))
        self._before = [dict(vars(slot)) for slot in self.cache.layers]

    def again(self) -> Cache:
        """The cache as it was."""
        for slot, before in zip(self.cache.layers, self._before, strict=True):
            vars(slot).update(before)
        return cast("Cache", self.cache)


def _heads(kept: Tensor, count: int) -> Tensor:
    """The first heads; again from the start where a shape has more than the parent."""
    have = kept.shape[1]
    return kept[:, [n % have for n in range(count)]]
