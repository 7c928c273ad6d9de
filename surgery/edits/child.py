"""What the child is made of: its tensors, its layers, and the identity of an edited block.

In: the parent and one candidate, or the chosen ones. Out: `ops.Output`s in the parent's canonical
order under names that the parent has, `Layer`s, and artefact hashes. Refuses with `ValueError`,
because earlier passes rule it out: a candidate that selects and is not ranked, a kept list that
does not fit, a site chosen twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from surgery.edits.edit import PACKED, Edit, copied
from surgery.edits.facets import added, missing, scaled
from surgery.edits.registry import argument, known
from surgery.ir import (
    Alternative,
    Attention,
    Block,
    Candidate,
    Experts,
    Ffn,
    Layer,
    Linear,
    Merging,
    Model,
    Scales,
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
    merged: Merging | None = None,
) -> tuple[Output, ...]:
    """What becomes of the `tensors` of a parent block under an alternative (`None`: keep).

    `kept` must list the survivors of an edit that selects, `merged` the groups of one that merges;
    both are ignored otherwise. A no-op leaves nothing. Raises `ValueError` if the list is missing
    or does not fit.
    """
    if alternative is None or alternative.edit == "keep":
        return tuple(copied(tensor) for tensor in tensors)
    if block is None:
        raise ValueError(f"{alternative.edit} on a block that is not there")
    edit = known(site, alternative.edit)
    value = argument(alternative)
    if edit.merge is not None:
        if merged is None:
            raise ValueError(f"{edit.name} at {site} is not ranked yet")
        _verify_merged(merged, value, block)
        made = (edit.merge(tensor, block, merged) for tensor in tensors)
        return tuple(part for part in made if part is not None)
    if edit.join is not None:
        return edit.join(tuple(tensors), block)
    if edit.cut is None:
        return ()
    if edit.selects is None:
        kept = ()
    elif kept is None:
        raise ValueError(f"{edit.name} at {site} is not ranked yet")
    else:
        edit.selects.verify(block, value, kept)
    parts = (edit.cut(tensor, block, value, kept) for tensor in tensors)
    return tuple(part for part in parts if part is not None)


def _verify_merged(merged: Merging, value: int, block: Block) -> None:
    if not isinstance(block, Experts):
        raise ValueError(f"{block!r} has no experts to merge")
    merged.verify(block.count, value)


def grain(model: Model, layer: int, edit: Edit) -> int:
    """How many neighbours can only stay or go together: 32 channels where they are packed."""
    if edit.selects is None or edit.selects.things != "channels":
        return 1
    tensors = block_tensors(model, layer, edit.site)
    return PACKED if any(f"ffn/{PACKED}" in tensor.axes for tensor in tensors) else 1


def outputs(model: Model, candidate: Candidate) -> tuple[Output, ...]:
    """The child tensors of one site, in the parent's canonical order; none for a no-op.

    What a facet adds comes last. Raises `ValueError` for a candidate that selects and has not been
    ranked, or needs scales and has none.
    """
    tensors = block_tensors(model, candidate.layer, candidate.site)
    return _outputs(tensors, model, candidate)


def _outputs(
    tensors: tuple[TensorSpec, ...], model: Model, candidate: Candidate
) -> tuple[Output, ...]:
    if scaled(candidate) and candidate.scales is None:
        raise ValueError(f"{candidate.address} has no scales yet")
    block = model.layers[candidate.layer].block(candidate.site)
    listed = candidate.kept, candidate.merged
    parts = cut(tensors, block, candidate.site, candidate.alternative, *listed)
    return (*parts, *added(tensors, candidate.facet, candidate.scales))


def child_outputs(model: Model, chosen: tuple[Candidate, ...]) -> tuple[Output, ...]:
    """Every tensor of the child, in canonical (name) order.

    Sites that `chosen` does not mention, and all tensors outside the sites, are copied. Raises
    `ValueError` if a site is chosen twice or a candidate is not ranked.
    """
    by_site = _by_site(chosen)
    grouped = site_tensors(model)
    made = [
        copied(tensor) for tensor in model.tensors if (tensor.layer, tensor.site) not in by_site
    ]
    for place, candidate in by_site.items():
        made += _outputs(grouped[place], model, candidate)
    return tuple(sorted(made, key=lambda output: output.name))


def child_layers(model: Model, chosen: tuple[Candidate, ...]) -> tuple[Layer, ...]:
    """The child's layers; sites that `chosen` does not mention stay as they are.

    Raises `ValueError` if a site is chosen twice.
    """
    layers = {layer.index: layer for layer in model.layers}
    for (index, site), candidate in _by_site(chosen).items():
        match site, candidate.block:
            case Site.ATTENTION, (Attention() | Linear() | None) as block:
                layers[index] = replace(layers[index], attention=block)
            case ((Site.FFN | Site.EXPERTS), (Ffn() | Experts() | Linear() | None) as block):
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
    argument and initialiser, the kept list, the facet and its scales. Which ranking made the list
    does not count, only the list. Raises `ValueError` for a candidate that selects and has not been
    ranked, or needs scales and has none.
    """
    if not candidate.changed:
        return ""
    if what := missing(candidate):
        raise ValueError(f"{candidate.address} {what}")
    listed: dict[str, object] = {"kept": candidate.kept}
    if candidate.merged is not None:
        listed = {"merged": candidate.merged.text}
    return _identity(model, candidate, listed)


def unranked(model: Model, candidate: Candidate) -> Candidate:
    """The candidate with the artefact hash of a block that lacks its kept list or scales.

    Covers what `artefact` covers, and the criterion in place of what is missing: such a block has a
    size and a place in a plan, and cannot be made.
    """
    if not missing(candidate):
        return replace(candidate, artefact=artefact(model, candidate))
    alternative = candidate.alternative
    open_end: dict[str, object] = {"kept": candidate.kept}
    listed = candidate.kept is not None or candidate.merged is not None
    if alternative is not None and alternative.by is not None and not listed:
        open_end = {"kept": "not ranked yet", "by": alternative.by.criterion}
    return replace(candidate, artefact=_identity(model, candidate, open_end))


def _identity(model: Model, candidate: Candidate, kept: Mapping[str, object]) -> str:
    alternative, facet = candidate.alternative, candidate.facet
    name, value, init = "keep", 0, None
    if alternative is not None and alternative.edit != "keep":
        edit = known(candidate.site, alternative.edit)
        name, value = edit.name, argument(alternative)
        init = alternative.init or next(iter(edit.inits), None)
    tensors = block_tensors(model, candidate.layer, candidate.site)
    subject = {
        "tool": TOOL_MAJOR,
        "parent": model.digest,
        "tensors": [[t.name, list(t.shape), t.dtype] for t in tensors],
        "edit": name,
        "argument": value,
        "init": init,
        **kept,
    }
    if facet is not None:
        subject["facet"] = [facet.edit, argument(facet), _scaling(candidate)]
    text = json.dumps(subject, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _scaling(candidate: Candidate) -> object:
    """The scales of a candidate; how they would be found where they are missing."""
    if not scaled(candidate):
        return None
    if candidate.scales is not None:
        return [candidate.scales.k, candidate.scales.v]
    by = candidate.facet.by if candidate.facet else None
    return f"not calibrated yet: {by.criterion if by else 'unknown'}"


def calibrated(model: Model, candidate: Candidate, scales: Scales) -> Candidate:
    """The candidate with the scales of its KV cache, and its artefact hash unless that is open."""
    if not scaled(candidate) or min(scales.k, scales.v) <= 0:
        raise ValueError(f"{candidate.address} cannot have the scales {scales}")
    filled = replace(candidate, scales=scales)
    return filled if missing(filled) else replace(filled, artefact=artefact(model, filled))


def ranked(model: Model, candidate: Candidate, kept: tuple[int, ...]) -> Candidate:
    """The candidate with what it keeps (ascending parent indices) and its artefact hash."""
    block = model.layers[candidate.layer].block(candidate.site)
    if block is None or candidate.alternative is None:
        raise ValueError(f"{candidate.address} selects nothing")
    edit = known(candidate.site, candidate.edit)
    if edit.selects is None:
        raise ValueError(f"{candidate.address} selects nothing")
    value = argument(candidate.alternative)
    edit.selects.verify(block, value, kept, grain(model, candidate.layer, edit))
    filled = replace(candidate, kept=kept)
    return filled if missing(filled) else replace(filled, artefact=artefact(model, filled))


def merged(model: Model, candidate: Candidate, groups: Merging) -> Candidate:
    """The candidate with the groups that become one each, and its artefact hash."""
    block = model.layers[candidate.layer].block(candidate.site)
    if block is None or candidate.alternative is None:
        raise ValueError(f"{candidate.address} merges nothing")
    if known(candidate.site, candidate.edit).merge is None:
        raise ValueError(f"{candidate.address} merges nothing")
    _verify_merged(groups, argument(candidate.alternative), block)
    filled = replace(candidate, merged=groups)
    return filled if missing(filled) else replace(filled, artefact=artefact(model, filled))
