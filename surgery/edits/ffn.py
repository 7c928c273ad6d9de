"""Surgery on a dense FFN: fewer channels, or none at all.

In: an `Ffn` block and the argument of the edit. Out: the edited block, its plan text and its
tensors. Refuses a width above the parent's, or one that is no multiple of `alignment` (E0407).

`width n`: the `n` channels that the ranking puts first keep their rows of the gate and up
projections and their column of the down projection, in the parent's order. `noop`: the block and
the norm that feeds it disappear.
"""

from __future__ import annotations

from math import gcd

from surgery import catalog
from surgery.edits.edit import PACKED, Edit, Refusal, Selection, never, remove, taken
from surgery.ir import Block, Ffn, Model, Site, TensorSpec
from surgery.ops import Output

_BLOCK = PACKED
"""Weights that MXFP4, Q8_0 and Q4_0 pack together, and two 16-wide tiles of the tensor cores.

The down projection multiplies along the channels: a width that is no multiple can never be packed
without padding, and its matrix products end in a masked tile that costs as much as a full one.
"""

CHANNEL_AXES = {"ffn": 1, "ffn*2": 2}


def _ffn(block: Block) -> Ffn:
    if not isinstance(block, Ffn):
        raise TypeError(f"an FFN edit on {block!r}")
    return block


def alignment(width: int) -> int:
    """The number that new widths must be a multiple of: 32, or less where the parent has less.

    An edit must not align worse than its parent, and need not align better.
    """
    return gcd(_BLOCK, width)


def _refuse_width(_model: Model, block: Block, value: int) -> Refusal | None:
    width = _ffn(block).width
    return refuse_width(width, value, f"its FFN is {width} wide")


def refuse_width(width: int, value: int, has: str) -> Refusal | None:
    """E0407 for channels that are too many or not aligned; `has` says what the parent has."""
    step = alignment(width)
    legal = tuple(sorted(range(step, width, step), key=lambda n: (abs(n - value), n)))
    if value > width:
        return Refusal(
            catalog.E0407,
            f"a width of {value} is more than the layer has",
            f"{value} of {width}",
            why=has,
            help=f"use a smaller width; `keep` already means all {width}",
            legal=legal,
        )
    if value % step == 0:
        return None
    near = [str(n) for n in sorted(legal[:2]) if abs(n - value) < step]
    plural = "widths are" if len(near) > 1 else "width is"
    nearest = f"the nearest legal {plural} {' and '.join(near)}"
    return Refusal(
        catalog.E0407,
        f"a width of {value} is not a multiple of {step}",
        f"{value} = {value // step} * {step} + {value % step}",
        help=nearest if near else f"no width below {width} is a multiple of {step}",
        legal=legal,
    )


def _cut_width(tensor: TensorSpec, block: Block, _value: int, kept: tuple[int, ...]) -> Output:
    return taken(tensor, CHANNEL_AXES, _ffn(block).width, kept)


WIDTH = Edit(
    name="width",
    site=Site.FFN,
    valued=True,
    selects=Selection("channels", lambda block: _ffn(block).width),
    inits=(),
    refuse=_refuse_width,
    become=lambda _block, value: Ffn(value),
    text=str,
    cut=_cut_width,
)

NOOP = Edit(
    name="noop",
    site=Site.FFN,
    valued=False,
    selects=None,
    inits=(),
    refuse=never,
    become=remove,
    text=lambda _value: "noop",
    cut=None,
)
