"""Facets of a spec x Model -> what the KV cache and the router of each layer can be.

In: the facets of a checked spec, the parent. Out: for every site of a layer that a facet is about,
its alternatives in canonical order, `None` for what the parent has. Reports what choices of sites
report, too: see `expand_layers.py`, and layers without any alternative (E0602), alternatives that
restate another (W0707) or only look as if they did (E0415). Not here: what they come to together
with the edits of the site (`expand.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from surgery import edits
from surgery.diagnostics import Sink
from surgery.edits import Refusal
from surgery.ir import Alternative, Block, Facet, Site
from surgery.passes import expand_findings
from surgery.passes.expand_layers import (
    Combination,
    Make,
    Parent,
    Verdicts,
    judge,
    report,
    report_bare,
    select,
)

Facets: TypeAlias = Mapping[tuple[int, Site], tuple[Alternative | None, ...]]
"""The alternatives of the facet of a site, by layer; no entry where there is no facet."""

NONE: tuple[Alternative | None, ...] = (None,)


def run(parent: Parent, sink: Sink) -> Facets:
    """What facets can be, where there are any."""
    found: dict[tuple[int, Site], tuple[Alternative | None, ...]] = {}
    for facet, layers in select(parent.spec.facets, parent, sink):
        if not sink.failed:
            found |= _options(facet, layers, parent, sink)
    return found


def _options(
    facet: Facet, layers: tuple[int, ...], parent: Parent, sink: Sink
) -> dict[tuple[int, Site], tuple[Alternative | None, ...]]:
    verdicts = [judge(a, facet.site, layers, parent, _make(a), sink) for a in facet.alternatives]
    report(verdicts, facet, layers, parent, sink)
    merges = expand_findings.Merges(facet)
    found = {(n, facet.site): _distinct(n, verdicts, merges) for n in layers}
    # An `apply` restates nothing: there is nothing beside it.
    if not facet.applied:
        sink.extend(merges.findings(len(layers), [len(v.made) for v in verdicts]))
    report_bare(verdicts, facet, (n for (n, _), options in found.items() if not options), sink)
    return found


def _make(alternative: Alternative) -> Make:
    def make(_index: int, block: Block | None) -> Refusal | tuple[Combination, ...]:
        if alternative.edit == "keep" or block is None:
            return ((None, block),)
        edit = edits.facet_of(alternative)
        refusal = edit.refuse(block, edits.argument(alternative))
        child = edits.with_facet(block, alternative)
        return refusal or ((None if child == block else alternative, child),)

    return make


def _distinct(
    index: int, verdicts: list[Verdicts], merges: expand_findings.Merges
) -> tuple[Alternative | None, ...]:
    """The alternatives of one layer, the parent's own first."""
    first: dict[str, Alternative] = {}
    kept = False
    for verdict in verdicts:
        for chosen, _ in verdict.made.get(index, ()):
            if chosen is None:
                kept = True
                if verdict.alternative.edit != "keep":
                    text = f"`{edits.spelled(verdict.alternative)}`"
                    merges.restates_keep(index, verdict.alternative, text)
                continue
            earlier = first.setdefault(edits.suffix(chosen), chosen)
            if earlier is not chosen:
                merges.same_text(index, chosen, earlier)
    return (*(NONE if kept else ()), *sorted(first.values(), key=order))


def order(chosen: Alternative | None) -> tuple[int, int]:
    """As the parent has it first, then by falling value."""
    if chosen is None:
        return (-1, 0)
    return (edits.FACETS.index(edits.facet_of(chosen)), -edits.argument(chosen))
