"""Surgery on a mixture of experts: fewer of them in a layer, or narrower ones.

In: an `Experts` block and the argument of the edit. Out: the edited block, its plan text and its
tensors. Refuses more experts than there are (E0405) and fewer than the router activates (E0406),
widths above the parent's or not aligned (E0407, as for an FFN).

`retain n` (paper A, MoE axis): the experts that the ranking puts first keep their slices of every
tensor with an expert axis, the router's rows among them, in the parent's order. Tensors that belong
to one expert are kept or dropped whole, and renumbered. Nothing is merged and no weight changes:
packed MXFP4 experts move as bytes, because the expert axis is the outermost.

`width n`: every expert keeps `n` of its channels, each its own: their columns of the gate and up
projections with their biases, their rows of the down projection. Routers, output biases and the
number of experts stay. (Expert widths per layer: arXiv 2607.04371.) MXFP4 packs the down
projection in blocks of 32 channels, so there channels go 32 at a time and packed bytes stay exact.
"""

from __future__ import annotations

from msgspec.structs import replace

from surgery import catalog
from surgery.edits.edit import Edit, Refusal, Selection, renumbered, taken, taken_each
from surgery.edits.ffn import CHANNEL_AXES, refuse_width
from surgery.ir import Block, Experts, Model, Site, TensorSpec
from surgery.ops import Output


def _experts(block: Block) -> Experts:
    if not isinstance(block, Experts):
        raise TypeError(f"an expert edit on {block!r}")
    return block


def _refuse_retain(_model: Model, block: Block, value: int) -> Refusal | None:
    experts = _experts(block)
    has = f"{experts.count} experts, {experts.active} active per token"
    if value > experts.count:
        return Refusal(
            catalog.E0405,
            f"`retain {value}` keeps more experts than the layer has",
            f"{value} of {experts.count}",
            why=has,
            help=f"remove the alternative; `keep` already means all {experts.count}",
        )
    if value < experts.active:
        return Refusal(
            catalog.E0406,
            f"`retain {value}` keeps fewer experts than the router activates",
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
