"""What candidates and chosen architectures cost, exactly, before any weight is read.

In: parent tensors and blocks, alternatives, a space and a choice in it. Out: `ir.Cost`s. Not
here: the formulas (`sizes.py`, whose names are also this module's), time, which costs matter
(`constrain.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from surgery import evaluate
from surgery.edits import added, argument, cut, known, selects
from surgery.facts import Context
from surgery.ir import (
    Alternative,
    Block,
    Candidate,
    Cost,
    Experts,
    Merging,
    Site,
    Space,
    Spec,
    TensorSpec,
)
from surgery.sizes import (
    KV_BYTES,
    block_cost,
    fixed,
    kv,
    kv_per_token,
    memory,
    params,
    parent_costs,
    weights,
)

__all__ = [
    "KV_BYTES",
    "alternative_cost",
    "block_cost",
    "chosen_costs",
    "fixed",
    "kv",
    "kv_per_token",
    "memory",
    "params",
    "parent_context",
    "parent_costs",
    "weights",
]


def alternative_cost(
    tensors: Iterable[TensorSpec],
    parent: Block,
    child: Block | None,
    site: Site,
    alternative: Alternative | None,
    facet: Alternative | None = None,
) -> Cost:
    """The cost of a parent block once edited, and with its facet as chosen.

    Known before any ranking, because sizes do not depend on which slices are kept, nor on scales.
    """
    stored, some, groups = tuple(tensors), None, None
    if alternative is not None and selects(alternative.edit):
        edit, value = known(site, alternative.edit), argument(alternative)
        some = edit.selects.first(parent, value) if edit.selects else None
        if edit.merge is not None and isinstance(parent, Experts):
            others = ((e, 1) for e in range(value, parent.count))
            groups = Merging((((0, 1), *others), *(((e, 1),) for e in range(1, value))))
    parts = cut(stored, parent, site, alternative, some, groups)
    return block_cost(child, (*parts, *added(stored, facet, None)))


def chosen_costs(space: Space, chosen: Iterable[Candidate]) -> tuple[Cost, ...]:
    """The child: the fixed cost, then that of every chosen candidate."""
    return (space.fixed, *(candidate.cost for candidate in chosen))


def parent_context(spec: Spec, space: Space) -> Context:
    """The context of everything that is about the parent, with the times that its space knows."""
    context = evaluate.parent_context(spec, space.model)
    return replace(context, parent=space.parent) if space.parent else context
