"""Which layers a `choose` or an `apply` is about, and what becomes of each alternative there.

In: choices or facets of a spec, the parent. Out: the layers of each, `Verdicts` per alternative.
Reports layers that do not have the site (E0403), two choices for one site or facet of a layer
(E0404), alternatives that are refused (by `edits/`) or apply nowhere (W0701). Not here: candidates
(`expand.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from surgery.diagnostics import Sink, Stop
from surgery.edits import Refusal
from surgery.evaluate import Context, holds, layers_of
from surgery.ir import Alternative, Block, Choice, Facet, Model, Site, Spec
from surgery.passes import expand_findings

Combination: TypeAlias = tuple[Alternative | None, Block | None]
"""A facet's alternative (`None`: as the parent has it), and what the site becomes with it."""

Make: TypeAlias = Callable[[int, Block | None], "Refusal | tuple[Combination, ...]"]
"""What an alternative makes of a layer's block: all that is legal, or why nothing is."""

_Offer = TypeVar("_Offer", Choice, Facet)


class Parent(Struct, frozen=True):
    """The parent as `expand` looks at it."""

    spec: Spec
    model: Model
    context: Context

    def has(self, layer: int, site: Site) -> bool:
        """Whether a layer has a block at `site`."""
        found = self.model.layers[layer]
        return site in found.sites and found.block(site) is not None


class Verdicts(Struct):
    """What becomes of one alternative, layer by layer.

    `off`: its `when` is false; `refused`: the edit is illegal; `made`: what the site becomes.
    A `broken` alternative could not be judged, which has been reported.
    """

    alternative: Alternative
    off: list[int] = field(default_factory=list[int])
    refused: dict[int, Refusal] = field(default_factory=dict[int, Refusal])
    made: dict[int, tuple[Combination, ...]] = field(
        default_factory=dict[int, "tuple[Combination, ...]"]
    )
    broken: bool = False


# ---- which layers ----------------------------------------------------------------------------


def select(
    offers: Iterable[_Offer], parent: Parent, sink: Sink
) -> list[tuple[_Offer, tuple[int, ...]]]:
    """Each with its layers, every layer of which has the site."""
    selected: list[tuple[_Offer, tuple[int, ...]]] = []
    for offer in offers:
        try:
            layers = _layers(offer, parent)
        except Stop as why:
            sink.report(why.diagnostic)
            continue
        lacking = [n for n in layers if not parent.has(n, offer.site)]
        if lacking:
            sink.report(expand_findings.absent(parent.spec, parent.model, offer, lacking))
        selected.append((offer, layers))
    for n, (later, there) in enumerate(selected):
        for earlier, here in selected[:n]:
            shared = set(here) & set(there)
            if earlier.site is later.site and shared:
                sink.report(expand_findings.overlap(earlier, later, shared))
    return selected


def _layers(offer: Choice | Facet, parent: Parent) -> tuple[int, ...]:
    """Without a selector: wherever the site is, or everywhere if it is nowhere."""
    every = tuple(layer.index for layer in parent.model.layers)
    if offer.selector is None:
        return tuple(n for n in every if parent.has(n, offer.site)) or every
    return layers_of(offer.selector, parent.model.layers, parent.context)


# ---- which alternatives ----------------------------------------------------------------------


def judge(
    alternative: Alternative,
    site: Site,
    layers: Sequence[int],
    parent: Parent,
    make: Make,
    sink: Sink,
) -> Verdicts:
    """Ask `make` wherever the alternative's `when` holds."""
    verdicts = Verdicts(alternative)
    for index in layers:
        layer = parent.model.layers[index]
        try:
            if alternative.when is not None and not holds(
                alternative.when, replace(parent.context, layer=layer)
            ):
                verdicts.off.append(index)
                continue
        except Stop as why:
            sink.report(why.diagnostic)
            verdicts.broken = True
            return verdicts
        found = make(index, layer.block(site))
        if isinstance(found, Refusal):
            verdicts.refused[index] = found
        else:
            verdicts.made[index] = found
    return verdicts


def report(
    verdicts: Iterable[Verdicts],
    offer: Choice | Facet,
    layers: Sequence[int],
    parent: Parent,
    sink: Sink,
) -> None:
    """What is refused somewhere, and what applies nowhere."""
    for each in verdicts:
        if each.refused:
            sink.extend(
                expand_findings.refused(
                    parent.spec, offer, each.alternative, each.refused, len(layers)
                )
            )
        elif layers and len(each.off) == len(layers):
            sink.report(expand_findings.never_applies(each.alternative, tuple(layers)))


def report_bare(
    verdicts: Sequence[Verdicts], offer: Choice | Facet, layers: Iterable[int], sink: Sink
) -> None:
    """E0602 for `layers`, in which nothing is offered, where that has not been explained yet."""
    bare = [n for n in layers if not any(v.broken or n in v.refused for v in verdicts)]
    if bare:
        off = [v.alternative for v in verdicts if set(bare) & set(v.off)]
        sink.report(expand_findings.nothing_left(offer, bare, off))
