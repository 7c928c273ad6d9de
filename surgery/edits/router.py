"""A facet of experts: how many of them a token is sent to.

In: an `Experts` block and the number. Out: the block. Refuses more than there are (E0406); whether
an edit leaves enough of them is asked of that edit (`experts.py`). No tensor changes: the router's
softmax runs over those that it selects.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from surgery import catalog
from surgery.edits.edit import Refusal
from surgery.edits.facet import FacetEdit
from surgery.ir import Block, Experts, FacetKind, Scales, TensorSpec
from surgery.ops import Output


def _refuse(block: Block, value: int) -> Refusal | None:
    if not isinstance(block, Experts) or value <= block.count:
        return None
    return Refusal(
        catalog.E0406,
        f"`active {value}` sends each token to more experts than the layer has",
        f"{value} of {block.count}",
        why=f"{block.count} experts, {block.active} active per token",
        help=f"use at most {block.count}",
        legal=(block.count,) if block.count != block.active else (),
    )


def _become(block: Block, value: int) -> Block:
    return replace(block, active=value) if isinstance(block, Experts) else block


def _shows(block: Block | None, value: int) -> bool:
    return isinstance(block, Experts) and block.active == value


def _adds(_tensors: Sequence[TensorSpec], _scales: Scales | None, _how: str) -> tuple[Output, ...]:
    return ()


ACTIVE = FacetEdit(
    name="active",
    kind=FacetKind.ROUTER,
    valued=True,
    scaled=False,
    refuse=_refuse,
    become=_become,
    shows=_shows,
    suffix=lambda value: f"+top{value}",
    adds=_adds,
)
