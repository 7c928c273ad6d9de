"""The tensors that a model of a family has, with exact sizes.

In: a `Family`, a `config.json`, perhaps other layers than the parent's (a child's). Out:
`TensorSpec`s in name order. Not here: whether a checkpoint has them (`passes/resolve.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod

from msgspec.structs import replace

from surgery.arch.family import Family, Template, holds, product
from surgery.arch.geometry import Config, Geometry, geometry
from surgery.ir import Attention, Experts, Ffn, Layer, OfExpert, Site, TensorSpec
from surgery.tensors.headers import DTYPE_BYTES


def expected_tensors(
    family: Family,
    config: Config,
    layers: Sequence[Layer] | None = None,
    dtype: str | None = None,
) -> tuple[TensorSpec, ...]:
    """Every tensor of the model, by name.

    `layers` replaces the layers that `config` describes (a block `None` has no tensors); `dtype`
    is used where `config` names none. Raises `Stop` (E0411), see `geometry`.
    """
    made = geometry(family, config)
    return tensors_of(family, made, made.layers if layers is None else layers, dtype)


def tensors_of(
    family: Family, geometry: Geometry, layers: Sequence[Layer], dtype: str | None = None
) -> tuple[TensorSpec, ...]:
    """As `expected_tensors`, from a geometry."""
    dtype = geometry.dtype or dtype or family.dtype
    common = {"hidden": geometry.hidden, "vocab": geometry.vocab, "context": geometry.context}
    specs: list[TensorSpec] = []
    for template in family.tensors:
        if not holds(template.when, geometry.conditions):
            continue
        if not template.per_layer:
            specs.append(_spec(template, common, None, dtype))
            continue
        for layer in layers:
            facts = _facts(layer, template.site)
            if facts is not None:
                spec = _spec(template, {**common, **facts}, layer.index, dtype)
                specs += _experts(template, spec, facts) if template.per_expert else (spec,)
    return tuple(sorted(specs, key=lambda spec: spec.name))


def is_ignored(family: Family, conditions: frozenset[str], name: str) -> bool:
    """Whether a checkpoint may hold the tensor `name` although no loader reads it."""
    for template in family.ignored:
        pattern = re.escape(template.name).replace(re.escape("{layer}"), "[0-9]+")
        if holds(template.when, conditions) and re.fullmatch(pattern, name):
            return True
    return False


def _facts(layer: Layer, site: Site | None) -> Mapping[str, int] | None:
    """What the shapes at `site` of `layer` are made of; `None` where the block is missing."""
    match site, layer.attention if site is Site.ATTENTION else layer.mlp:
        case Site.ATTENTION, Attention(heads, kv_heads, head_dim):
            return {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
        case Site.FFN, Ffn(width):
            return {"width": width}
        case Site.EXPERTS, Experts(count, _, width):
            return {"experts": count, "width": width}
        case _:
            return None


def _experts(
    template: Template, spec: TensorSpec, facts: Mapping[str, int]
) -> Iterator[TensorSpec]:
    """The tensor of every expert of a layer; `spec` has no number in its name yet."""
    for index in range(facts["experts"]):
        own = OfExpert(spec.name, index, template.piece)
        yield replace(spec, name=own.named(index), expert=own)


def _spec(
    template: Template, facts: Mapping[str, int], layer: int | None, dtype: str
) -> TensorSpec:
    shape = tuple(product(text, facts) for text in template.shape)
    dtype = template.dtype or dtype
    elements = prod(shape)
    parameter = template.parameter
    return TensorSpec(
        name=template.name.replace("{layer}", str(layer)),
        shape=shape,
        dtype=dtype,
        axes=template.axes,
        layer=layer,
        site=template.site,
        nbytes=elements * DTYPE_BYTES[dtype],
        numel=elements * template.params,
        parameter=None if parameter is None else parameter.replace("{layer}", str(layer)),
    )
