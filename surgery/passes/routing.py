"""How often the parent chooses each of its experts on text, for the times of serving.

In: a spec, its space, a library. Out: the space whose costs know, for every dataset that a timed
scenario names as its `routing`, which part of all choices falls on each expert: those of the parent
and, where it is ranked what they keep, of candidates. Counts are those of `rank.py`, in the same
place of the library: any ranking of experts on that text has them. Raises `Stop` for a parent
without weights (E0701). Not here: what follows for a step (`costing/routing.py`).

A child is not run. That its kept experts share what the dropped ones got in proportion to what they
have is an approximation: tokens of a dropped expert go to the next best of each. What a merge
leaves are the survivors' routes, so it is taken alike. Requirements on such times are judged after
rankings only; an `expect` is judged before, and takes the default `skew`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from surgery import catalog, edits
from surgery.diagnostics import Diagnostic, Help, Label, Stop
from surgery.ir import Candidate, Cost, Experts, Model, Scenario, Site, Space, Spec
from surgery.library import Library
from surgery.passes import estimates, rank, timing
from surgery.progress import Progress


def run(spec: Spec, space: Space, library: Library, progress: Progress) -> Space:
    """The space with shares; measures what the library lacks. Raises `Stop`."""
    model = space.model
    wanted = [each for each in estimates.timed(spec) if each.routing]
    if not wanted or not any(isinstance(layer.mlp, Experts) for layer in model.layers):
        return space
    if not model.files:
        raise _weightless(wanted[0])
    names = sorted({each.routing for each in wanted if each.routing})
    counts = {name: rank.counted(spec, model, library, name, progress) for name in names}
    return _told(replace(space, routing=counts))


def settled(space: Space, chosen: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Candidates that have been ranked since, with their shares."""
    return tuple(_candidate(space, candidate) for candidate in chosen)


def _told(space: Space) -> Space:
    options = tuple(
        replace(option, candidates=settled(space, option.candidates)) for option in space.options
    )
    model = space.model
    places = ((layer.index, site) for layer in model.layers for site in layer.sites)
    fixed, *blocks = timing.parent_of(space)
    parent = (
        replace(cost, routing=_of(space.routing, layer, None)) if site is Site.EXPERTS else cost
        for cost, (layer, site) in zip(blocks, places, strict=True)
    )
    return replace(space, options=options, parent=(fixed, *parent))


def _candidate(space: Space, candidate: Candidate) -> Candidate:
    if not space.routing or not isinstance(candidate.block, Experts):
        return candidate
    cost, survivors = candidate.cost, _survivors(space.model, candidate)
    if survivors is not None and len(survivors) != candidate.block.count:
        return candidate
    found: Cost = replace(cost, routing=_of(space.routing, candidate.layer, survivors))
    return replace(candidate, cost=found)


def _survivors(model: Model, candidate: Candidate) -> tuple[int, ...] | None:
    """The parent's experts that are left; `None` is all of them, `()` is not known yet."""
    if candidate.merged is not None:
        return candidate.merged.survivors
    parent, block = model.layers[candidate.layer].mlp, candidate.block
    assert isinstance(parent, Experts)
    assert isinstance(block, Experts)
    if not edits.selects(candidate.edit) or block.count == parent.count:
        return None
    return candidate.kept or ()


def _of(
    counts: Mapping[str, Mapping[int, tuple[float, ...]]],
    layer: int,
    survivors: tuple[int, ...] | None,
) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Shares by dataset; they add up to 1, or are all 0 where no token chose any of them."""
    found: list[tuple[str, tuple[float, ...]]] = []
    for name in sorted(counts):
        if layer not in counts[name]:
            continue
        whole = counts[name][layer]
        some = whole if survivors is None else tuple(whole[expert] for expert in survivors)
        total = sum(some) or 1.0
        found.append((name, tuple(count / total for count in some)))
    return tuple(found)


def _weightless(scenario: Scenario) -> Stop:
    name, text = scenario.name, scenario.routing
    return Stop(
        Diagnostic(
            catalog.E0701,
            f"`{name}` takes the routing of `{text}`, and there are no weights to measure it with",
            (Label(scenario.span, "this scenario", primary=True),),
            helps=(Help("fetch the weights, or write `skew = 0.7` in place of `routing`"),),
        )
    )
