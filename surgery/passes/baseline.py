"""The chosen child -> a uniform child of the same size, to compare with.

In: a space and a choice in it. Out: the parent with one site cut alike in every layer: the same
number of FFN channels, experts or channels of experts, under the ranking that the spec gives that
layer, and nothing else changed. `None` when no edit of the spec takes a size, or none below the
parent's is enough. Only parameters are matched, no other requirement, and rounding favours the
baseline: it is the smallest uniform child with at least as many parameters as the chosen one. Not
here: measuring.

Uniform pruning is what a search has to beat (ablations of both papers; Minitron is uniform), so
its result stands beside ours whenever one is printed.
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd

from msgspec import Struct
from msgspec.structs import replace

from surgery import edits, sizes
from surgery.diagnostics import Sink
from surgery.edits import Edit, experts, ffn
from surgery.ir import (
    Alternative,
    Block,
    Candidate,
    Experts,
    Model,
    SiteOptions,
    Space,
    Spec,
)
from surgery.library import Library
from surgery.passes import cost, expand, rank
from surgery.progress import Progress

_CHANNELS_STEP = 8
"""Channels; finer than the edit allows, so that sizes agree to a fraction of a percent."""


class Pattern(Struct, frozen=True):
    """An edit that cuts a site to sizes: how each edited layer ranks, and the legal sizes."""

    edit: Edit
    by_layer: dict[int, Alternative]
    sizes: range

    def alternative(self, layer: int, size: int) -> Alternative:
        """Cut `layer` to `size`, ranked as the spec ranks it, or as its first edited layer."""
        found = self.by_layer.get(layer) or self.by_layer[min(self.by_layer)]
        return replace(found, value=Fraction(size), when=None)


def run(
    spec: Spec,
    space: Space,
    chosen: tuple[Candidate, ...],
    library: Library,
    sink: Sink,
    progress: Progress,
) -> tuple[Candidate, ...] | None:
    """The uniform child, ranked; measures rankings of layers that the spec does not edit."""
    child = uniform(space, sizes.params(cost.chosen_costs(space, chosen)))
    if child is None:
        return None
    options = tuple(SiteOptions(c.layer, c.site, (c,)) for c in child)
    ranked = rank.run(spec, replace(space, options=options), library, sink, progress)
    return None if ranked is None else ranked.candidates


def uniform(space: Space, params: int) -> tuple[Candidate, ...] | None:
    """The smallest uniform child with at least `params` parameters, not ranked yet."""
    found = pattern(space)
    if found is None:
        return None
    for size in found.sizes:
        child = _child(space.model, found, size)
        if sizes.params(cost.chosen_costs(space, child)) >= params:
            return child
    return None


def pattern(space: Space) -> Pattern | None:
    """The site with an edit that takes a size: experts, before the few FFNs between them."""
    for edit in (experts.RETAIN, experts.MERGE, experts.WIDTH, ffn.WIDTH):
        by_layer: dict[int, Alternative] = {}
        for candidate in space.candidates:
            alternative = candidate.alternative
            if candidate.site is edit.site and alternative and alternative.edit == edit.name:
                by_layer.setdefault(candidate.layer, alternative)
        if by_layer:
            model, site = space.model, edit.site
            blocks = [layer.block(site) for layer in model.layers if site in layer.sites]
            grain = max(edits.grain(model, layer, edit) for layer in by_layer)
            return Pattern(edit, by_layer, _sizes(edit, [b for b in blocks if b], grain))
    return None


def _sizes(edit: Edit, blocks: list[Block], grain: int) -> range:
    """Sizes below the largest block's that every layer can be cut to."""
    whole = [_size(edit, block) for block in blocks]
    if edit in (experts.RETAIN, experts.MERGE):
        return range(max(b.active for b in blocks if isinstance(b, Experts)), max(whole))
    step = grain if grain > 1 else gcd(_CHANNELS_STEP, *whole)
    return range(step, max(whole), step)


def _size(edit: Edit, block: Block) -> int:
    if edit.selects is None:
        raise TypeError(f"{edit.name} has no size to select from")
    return edit.selects.whole(block)


def _child(model: Model, found: Pattern, size: int) -> tuple[Candidate, ...]:
    grouped = sizes.site_tensors(model)
    child: list[Candidate] = []
    for (layer, site), tensors in grouped.items():
        block = model.layers[layer].block(site)
        edit = found.edit
        if site is not edit.site or block is None or _size(edit, block) <= size:
            child.append(expand.unchanged(model, layer, site, tensors))
            continue
        alternative = found.alternative(layer, size)
        made = edit.become(block, size)
        price = cost.alternative_cost(tensors, block, made, site, alternative)
        address = f"layer.{layer}.{site}.{edit.text(size)}"
        child.append(Candidate(address, layer, site, edit.text(size), made, price, alternative))
    return tuple(child)
