"""The chosen child -> a uniform child of the same size, to compare with.

In: a ranked space and a choice in it. Out: one candidate per site where every layer keeps the
same number of FFN channels or experts, under the same ranking, and nothing else changes; `None`
when the spec selects nothing. The baseline gets the benefit of rounding: it is the smallest
uniform child with at least as many parameters as the chosen one. Not here: measuring either.

Uniform pruning is what a search has to beat (ablations of both papers; `Minitron` is uniform), so
its result stands beside ours whenever one is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from surgery import edits, sizes
from surgery.diagnostics import Sink
from surgery.ir import (
    Alternative,
    Candidate,
    Experts,
    Ffn,
    Model,
    Site,
    SiteOptions,
    Space,
    Spec,
    TensorSpec,
)
from surgery.library import Library
from surgery.passes import cost, rank

Progress = Callable[[str, int, int, str], None]

_FFN_STEP = 8
"""Channels; finer than the edit allows, so that sizes agree to a fraction of a percent."""


def run(
    spec: Spec,
    space: Space,
    chosen: tuple[Candidate, ...],
    library: Library,
    sink: Sink,
    progress: Progress,
) -> tuple[Candidate, ...] | None:
    """The uniform child, ranked; measures rankings of layers that the spec does not edit."""
    grouped = sizes.site_tensors(space.model)
    wanted = sizes.params(cost.chosen_costs(space, chosen))
    patterns = {
        c.site: c.alternative
        for c in space.candidates
        if c.alternative is not None and edits.selects(c.edit)
    }
    for site, alternative in sorted(patterns.items()):
        full = max(_size(o.keep) for o in space.options if o.site is site and o.keep)
        for value in range(_step(full), full, _step(full)):
            child = tuple(
                _resized(space.model, option.keep, grouped, alternative, value)
                if option.site is site and option.keep
                else _kept(option)
                for option in space.options
            )
            if sizes.params(cost.chosen_costs(space, child)) >= wanted:
                return _ranked(spec, space, child, library, sink, progress)
    return None


def _step(full: int) -> int:
    return _FFN_STEP if full % _FFN_STEP == 0 and full > 256 else 1


def _size(candidate: Candidate | None) -> int:
    match candidate:
        case Candidate(block=Ffn(width=size) | Experts(count=size)):
            return size
        case _:
            return 0


def _kept(option: SiteOptions) -> Candidate:
    return option.keep or option.candidates[0]


def _resized(
    model: Model,
    keep: Candidate,
    grouped: dict[tuple[int, Site], tuple[TensorSpec, ...]],
    pattern: Alternative,
    value: int,
) -> Candidate:
    """The site with `value` channels or experts, ranked as `pattern` says."""
    alternative = replace(pattern, value=Fraction(value), when=None)
    edit = edits.known(keep.site, alternative.edit)
    parent = model.layers[keep.layer].block(keep.site)
    if parent is None:
        return keep
    child = edit.become(parent, value)
    text = edit.text(value)
    price = cost.alternative_cost(
        grouped[keep.layer, keep.site], parent, child, keep.site, alternative
    )
    address = f"layer.{keep.layer}.{keep.site}.{text}"
    return Candidate(address, keep.layer, keep.site, text, child, price, alternative)


def _ranked(
    spec: Spec,
    space: Space,
    child: tuple[Candidate, ...],
    library: Library,
    sink: Sink,
    progress: Progress,
) -> tuple[Candidate, ...] | None:
    options = tuple(SiteOptions(c.layer, c.site, (c,)) for c in child)
    ranked = rank.run(spec, replace(space, options=options), library, sink, progress)
    return None if ranked is None else ranked.candidates
