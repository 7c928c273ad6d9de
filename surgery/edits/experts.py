"""Surgery on a mixture of experts: fewer of them in a layer, merged ones, or narrower ones.

In: an `Experts` block and the argument of the edit. Out: the edited block, its plan text and its
tensors. Refuses more experts than there are (E0405) and fewer than the router activates (E0406),
widths above the parent's or not aligned (E0407, as for an FFN), and averages of packed experts
(E0421).

`retain n` (paper A, MoE axis): the experts that the ranking puts first keep their slices of every
tensor with an expert axis, the router's rows among them, in the parent's order. Tensors that belong
to one expert are kept or dropped whole, and renumbered. Nothing is merged and no weight changes:
packed MXFP4 experts move as bytes, because the expert axis is the outermost.

`merge n`: experts that are alike become one, the mean of their parameters weighted by their tokens
(M-SMoE, arXiv 2310.01334; HC-SMoE, arXiv 2410.08589). Channels are averaged as they are, without
permuting them to match. The router keeps the row and bias of each group's survivor, its expert with
the most tokens: what was routed to the others is routed anew, and what was routed to the survivor
is routed as before. (A mean of rows would be the route of no expert's tokens, and stored formats
have one row per expert.) A mean of MXFP4 weights is no MXFP4 weight, so packed experts are refused.

`width n`: every expert keeps `n` of its channels, each its own: their columns of the gate and up
projections with their biases, their rows of the down projection. Routers, output biases and the
number of experts stay. (Expert widths per layer: arXiv 2607.04371.) MXFP4 packs the down
projection in blocks of 32 channels, so there channels go 32 at a time and packed bytes stay exact.
"""

from __future__ import annotations

from msgspec.structs import replace

from surgery import catalog
from surgery.edits.edit import (
    PACKED,
    Edit,
    Refusal,
    Selection,
    copied,
    renumbered,
    taken,
    taken_each,
)
from surgery.edits.ffn import CHANNEL_AXES, refuse_width
from surgery.ir import Block, Experts, Merging, Model, Site, TensorSpec
from surgery.ops import Blend, Merge, Output


def _experts(block: Block) -> Experts:
    if not isinstance(block, Experts):
        raise TypeError(f"an expert edit on {block!r}")
    return block


def _refuse_retain(_model: Model, block: Block, value: int) -> Refusal | None:
    return _refuse_count(_experts(block), "retain", value)


def _refuse_count(experts: Experts, name: str, value: int) -> Refusal | None:
    has = f"{experts.count} experts, {experts.active} active per token"
    if value > experts.count:
        return Refusal(
            catalog.E0405,
            f"`{name} {value}` keeps more experts than the layer has",
            f"{value} of {experts.count}",
            why=has,
            help=f"remove the alternative; `keep` already means all {experts.count}",
        )
    if value < experts.active:
        return Refusal(
            catalog.E0406,
            f"`{name} {value}` keeps fewer experts than the router activates",
            f"{value} kept, but each token is sent to {experts.active}",
            why=has,
            help=f"keep at least {experts.active}",
            legal=(experts.active,) if experts.active < experts.count else (),
        )
    return None


def _become_retain(block: Block, value: int) -> Experts:
    return replace(_experts(block), count=value)


def _cut_retain(
    tensor: TensorSpec, block: Block, _value: int, kept: tuple[int, ...]
) -> Output | None:
    if tensor.expert is not None:
        return renumbered(tensor, tensor.expert, kept)
    return taken(tensor, {"experts": 1}, _experts(block).count, kept)


RETAIN = Edit(
    name="retain",
    site=Site.EXPERTS,
    valued=True,
    selects=Selection("experts", lambda block: _experts(block).count),
    inits=(),
    refuse=_refuse_retain,
    become=_become_retain,
    text=str,
    cut=_cut_retain,
)


# ---- merge -----------------------------------------------------------------------------------


def _refuse_merge(model: Model, block: Block, value: int) -> Refusal | None:
    experts = _experts(block)
    if refusal := _refuse_count(experts, "merge", value):
        return refusal
    packed = any(t.site is Site.EXPERTS and f"ffn/{PACKED}" in t.axes for t in model.tensors)
    if not packed or value == experts.count:
        return None
    return Refusal(
        catalog.E0421,
        "experts in MXFP4 cannot be merged: their mean is no MXFP4 weight",
        "would have to be unpacked and rounded anew",
        why="its experts are packed as MXFP4",
        help="remove experts with `retain`, or merge those of the model in BF16 "
        "(`surgery twin --bf16`)",
    )


def of_experts(tensor: TensorSpec) -> bool:
    """Whether a tensor is the experts' own, and not their router's: by the parameter's name.

    Transformers calls the module of a layer's experts `experts` in every family.
    """
    return ".experts." in (tensor.parameter or tensor.name)


def _cut_merge(tensor: TensorSpec, block: Block, merging: Merging) -> Output | None:
    count = _experts(block).count
    if tensor.expert is not None:
        if tensor.expert.index not in merging.survivors:
            return None
        place = merging.survivors.index(tensor.expert.index)
        group = merging.groups[place]
        made = replace(copied(tensor), name=tensor.expert.named(place))
        parts = tuple((tensor.expert.named(e), weight) for e, weight in group)
        return made if len(group) == 1 else replace(made, op=Blend(parts))
    cut = taken(tensor, {"experts": 1}, count, merging.survivors)
    if not of_experts(tensor) or "experts" not in tensor.axes:
        return cut
    if tensor.axes[0] != "experts":
        raise ValueError(f"{tensor.name}: no axis of experts first in {tensor.axes}")
    return replace(cut, op=Merge(tensor.name, merging.groups))


MERGE = Edit(
    name="merge",
    site=Site.EXPERTS,
    valued=True,
    selects=Selection("groups", lambda block: _experts(block).count),
    inits=(),
    refuse=_refuse_merge,
    become=_become_retain,
    text=lambda value: f"merge({value})",
    cut=None,
    merge=_cut_merge,
)


# ---- width -----------------------------------------------------------------------------------


def _refuse_width(_model: Model, block: Block, value: int) -> Refusal | None:
    width = _experts(block).width
    return refuse_width(width, value, f"its experts are {width} wide")


def _cut_width(tensor: TensorSpec, block: Block, value: int, kept: tuple[int, ...]) -> Output:
    width = _experts(block).width
    if tensor.expert is None:
        return taken_each(tensor, CHANNEL_AXES, width, kept)
    own = tensor.expert.index
    mine = tuple(number - own * width for number in kept[own * value : (own + 1) * value])
    return taken(tensor, CHANNEL_AXES, width, mine)


WIDTH = Edit(
    name="width",
    site=Site.EXPERTS,
    valued=True,
    selects=Selection(
        "channels",
        lambda block: _experts(block).width,
        lambda block: _experts(block).count,
    ),
    inits=(),
    refuse=_refuse_width,
    become=lambda block, value: replace(_experts(block), width=value),
    text=lambda value: f"width({value})",
    cut=_cut_width,
)
