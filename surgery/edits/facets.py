"""The facets that there are, and what candidates say of theirs.

In: alternatives of `choose kv_cache` and its kind, candidates, texts of plans. Out: the record of a
name, the tensors that a facet adds, texts with and without their facet. Refuses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from surgery.edits.facet import FacetEdit
from surgery.edits.kv_cache import FP8
from surgery.edits.registry import argument, selects, written
from surgery.edits.router import ACTIVE
from surgery.ir import (
    Alternative,
    Block,
    Candidate,
    Decision,
    FacetKind,
    Plan,
    Scales,
    Site,
    TensorSpec,
)
from surgery.ops import Output

FACETS: tuple[FacetEdit, ...] = (FP8, ACTIVE)

_VALUE = re.compile(r"[0-9]{1,9}$")


def facet(kind: FacetKind, name: str) -> FacetEdit:
    """What `name` makes of a facet; `KeyError` if there is nothing of this name."""
    for each in FACETS:
        if each.kind is kind and each.name == name:
            return each
    raise KeyError(f"no {name!r} of {kind}")


def facet_of(alternative: Alternative) -> FacetEdit:
    """The record of a facet's alternative; `KeyError` for `keep`, which has none."""
    for each in FACETS:
        if each.name == alternative.edit:
            return each
    raise KeyError(f"{alternative.edit!r} is no facet")


def with_facet(block: Block, chosen: Alternative | None) -> Block:
    """The block with a facet as chosen (`None` and `keep`: as it is)."""
    if chosen is None or chosen.edit == "keep":
        return block
    return facet_of(chosen).become(block, argument(chosen))


def shown(chosen: Alternative | None, block: Block | None) -> bool:
    """Whether `block` has become what was chosen for its facet."""
    if chosen is None or chosen.edit == "keep":
        return False
    return facet_of(chosen).shows(block, argument(chosen))


def suffix(chosen: Alternative | None) -> str:
    """What a facet adds to the text of its site: `+fp8`, `+top3`."""
    return "" if chosen is None else facet_of(chosen).suffix(argument(chosen))


def base_text(text: str) -> str:
    """The text of a site without its facet."""
    return text.partition("+")[0]


def written_facet(site: Site, text: str) -> tuple[FacetEdit, int] | None:
    """The facet and its argument that a plan writes in `text`; `None` if there is none."""
    _, plus, rest = text.partition("+")
    number = _VALUE.search(rest)
    for each in FACETS:
        value = int(number[0]) if number and each.valued else 0
        if plus and each.kind.site is site and each.suffix(value) == f"+{rest}":
            return each, value
    return None


def added(
    tensors: Sequence[TensorSpec], chosen: Alternative | None, scales: Scales | None
) -> tuple[Output, ...]:
    """What a facet adds to the tensors of its site; without scales, of the right size only."""
    if chosen is None:
        return ()
    by = chosen.by
    how = "" if by is None else f"{by.criterion} of {by.dataset}" if by.dataset else by.criterion
    return facet_of(chosen).adds(tensors, scales, how)


def unlisted(plan: Plan) -> tuple[Decision, ...]:
    """The decisions of a plan for which it lacks a kept list, or scales, that they need."""
    return tuple(each for each in plan.decisions if each.artefact and _open(each))


def _open(decided: Decision) -> bool:
    edit, facet = written(decided.site, decided.text), written_facet(decided.site, decided.text)
    unranked = edit is not None and edit[0].selects is not None and _bare(decided)
    return unranked or (facet is not None and facet[0].scaled and decided.scales is None)


def _bare(made: Decision | Candidate) -> bool:
    return not made.kept and made.merged is None


def scaled(candidate: Candidate) -> bool:
    """Whether a candidate needs scales."""
    return candidate.facet is not None and facet_of(candidate.facet).scaled


def missing(candidate: Candidate) -> str:
    """What a candidate lacks before it can be made: a kept list, scales, or nothing."""
    if selects(candidate.edit) and _bare(candidate):
        return "is not ranked yet"
    return "has no scales yet" if scaled(candidate) and candidate.scales is None else ""
