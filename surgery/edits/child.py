"""What the child is made of: its tensors, its layers, and the identity of an edited block.

In: the parent and one candidate, or the chosen ones. Out: `ops.Output`s in the parent's canonical
order under the parent's names, `Layer`s, and artefact hashes. Refuses with `ValueError`, because
earlier passes rule it out: a candidate that selects and is not ranked, a kept list that does not
fit, a site chosen twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from itertools import pairwise

from msgspec.structs import replace

from surgery.edits.edit import copied
from surgery.edits.registry import argument, known
from surgery.ir import (
    Alternative,
    Attention,
    Block,
    Candidate,
    Experts,
    Ffn,
    Layer,
    Model,
    Site,
    TensorSpec,
)
from surgery.ops import Output
from surgery.sizes import site_tensors

TOOL_MAJOR = 0
"""Part of every artefact hash: raised when an edit begins to cut or initialise differently."""


# ---- tensors ---------------------------------------------------------------------------------


def block_tensors(model: Model, layer: int, site: Site) -> tuple[TensorSpec, ...]:
    """The parent's tensors of one site, the norm that feeds it included, in canonical order."""
    return tuple(t for t in model.tensors if t.layer == layer and t.site is site)


def cut(
    tensors: Iterable[TensorSpec],
    block: Block | None,
    site: Site,
    alternative: Alternative | None,
    kept: tuple[int, ...] | None,
) -> tuple[Output, ...]:
    """What becomes of the `tensors` of a parent block under an alternative (`None`: keep).

    `kept` must list the survivors of an edit that selects, and is ignored otherwise. A no-op
    leaves nothing. Raises `ValueError` if the list is missing or does not fit.
    """
    if alternative is None or alternative.edit == "keep":
        return tuple(copied(tensor) for tensor in tensors)
    if block is None:
        raise ValueError(f"{alternative.edit} on a block that is not there")
    edit = known(site, alternative.edit)
    value = argument(alternative)
    if edit.cut is None:
        return ()
    if not edit.selects:
        kept = ()
    elif kept is None:
        raise ValueError(f"{edit.name} at {site} is not ranked yet")
    else:
        _verify_kept(kept, value, block)
    return tuple(edit.cut(tensor, block, value, kept) for tensor in tensors)


def _verify_kept(kept: tuple[int, ...], value: int, block: Block) -> None:
    match block:
        case Experts(count=full) | Ffn(width=full):
            pass
        case Attention():
            raise ValueError("attention edits keep no list")
    ascending = all(a < b for a, b in pairwise(kept))
    if len(kept) != value or not ascending or kept[0] < 0 or kept[-1] >= full:
        raise ValueError(f"kept list of {len(kept)} is not {value} ascending numbers below {full}")


def outputs(model: Model, candidate: Candidate) -> tuple[Output, ...]:
    """The child tensors of one site, in the parent's canonical order; none for a no-op.

    Raises `ValueError` for a candidate that selects and has not been ranked.
    """
    tensors = block_tensors(model, candidate.layer, candidate.site)
    block = model.layers[candidate.layer].block(candidate.site)
    return cut(tensors, block, candidate.site, candidate.alternative, candidate.kept)


def child_outputs(model: Model, chosen: tuple[Candidate, ...]) -> tuple[Output, ...]:
    """Every tensor of the child, in the parent's canonical order.

    Sites that `chosen` does not mention, and all tensors outside the sites, are copied. Raises
    `ValueError` if a site is chosen twice or a candidate is not ranked.
    """
    by_site = _by_site(chosen)
    grouped = site_tensors(model)
    made: dict[str, Output] = {}
    for (layer, site), candidate in by_site.items():
        block = model.layers[layer].block(site)
        parts = cut(grouped[layer, site], block, site, candidate.alternative, candidate.kept)
        made.update((part.name, part) for part in parts)
    return tuple(
        made[tensor.name] if (tensor.layer, tensor.site) in by_site else copied(tensor)
        for tensor in model.tensors
        if (tensor.layer, tensor.site) not in by_site or tensor.name in made
    )


def child_layers(model: Model, chosen: tuple[Candidate, ...]) -> tuple[Layer, ...]:
    """The child's layers; sites that `chosen` does not mention stay as they are.

    Raises `ValueError` if a site is chosen twice.
    """
    layers = {layer.index: layer for layer in model.layers}
    for (index, site), candidate in _by_site(chosen).items():
        match site, candidate.block:
            case Site.ATTENTION, (Attention() | None) as block:
                layers[index] = replace(layers[index], attention=block)
            case ((Site.FFN | Site.EXPERTS), (Ffn() | Experts() | None) as block):
                layers[index] = replace(layers[index], mlp=block)
            case _:
                raise ValueError(f"{candidate.address} becomes {candidate.block!r}")
    return tuple(layers[layer.index] for layer in model.layers)


def _by_site(chosen: tuple[Candidate, ...]) -> dict[tuple[int, Site], Candidate]:
    by_site = {(candidate.layer, candidate.site): candidate for candidate in chosen}
    if len(by_site) != len(chosen):
        raise ValueError("a site is chosen twice")
    return by_site


# ---- identity --------------------------------------------------------------------------------


def artefact(model: Model, candidate: Candidate) -> str:
    """SHA-256, 64 hex digits, of what makes an edited block: "" for the parent's own.

    Covers the parent's digest, names, shapes and dtypes of the block's tensors, the edit with its
    argument and initialiser, and the kept list. Which ranking made the list does not count, only
    the list. Raises `ValueError` for a candidate that selects and has not been ranked.
    """
    alternative = candidate.alternative
    if alternative is None or not candidate.changed:
        return ""
    edit = known(candidate.site, alternative.edit)
    if edit.selects and candidate.kept is None:
        raise ValueError(f"{candidate.address} is not ranked yet")
    return _identity(model, candidate, alternative, {"kept": candidate.kept})


def unranked(model: Model, candidate: Candidate) -> Candidate:
    """The candidate that selects with the artefact hash of a block that is not ranked yet.

    Covers what `artefact` covers, and the criterion in place of the kept list: such a block has a
    size and a place in a plan, and cannot be made.
    """
    alternative = candidate.alternative
    if alternative is None or alternative.by is None:
        raise ValueError(f"{candidate.address} selects nothing")
    open_end: dict[str, object] = {"kept": "not ranked yet", "by": alternative.by.criterion}
    made = _identity(model, candidate, alternative, open_end)
    return replace(candidate, kept=None, artefact=made)


def _identity(
    model: Model, candidate: Candidate, alternative: Alternative, kept: Mapping[str, object]
) -> str:
    edit = known(candidate.site, alternative.edit)
    tensors = block_tensors(model, candidate.layer, candidate.site)
    subject = {
        "tool": TOOL_MAJOR,
        "parent": model.digest,
        "tensors": [[t.name, list(t.shape), t.dtype] for t in tensors],
        "edit": edit.name,
        "argument": argument(alternative),
        "init": alternative.init or next(iter(edit.inits), None),
        **kept,
    }
    text = json.dumps(subject, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def ranked(model: Model, candidate: Candidate, kept: tuple[int, ...]) -> Candidate:
    """The candidate with what it keeps (ascending parent indices) and its artefact hash."""
    block = model.layers[candidate.layer].block(candidate.site)
    if block is None or candidate.alternative is None:
        raise ValueError(f"{candidate.address} selects nothing")
    _verify_kept(kept, argument(candidate.alternative), block)
    filled = replace(candidate, kept=kept)
    return replace(filled, artefact=artefact(model, filled))
