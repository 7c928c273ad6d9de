"""Which children are run, and what comes of it: plain records, without torch.

In: the blocks on offer in each layer. Out: children as shapes of layers; `Times` of their rounds.
Not here: running (`rounds.py`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from surgery.ir import Attention, Experts, Ffn, Linear

Phase: TypeAlias = Literal["prefill", "decode"]
PHASES: tuple[Phase, Phase] = ("prefill", "decode")

Shape: TypeAlias = "tuple[Attention | Linear | None, Ffn | Experts | Linear | None]"
"""Both blocks of a layer."""
Offer: TypeAlias = (
    "tuple[tuple[Attention | Linear | None, ...], tuple[Ffn | Experts | Linear | None, ...]]"
)
"""What a layer can have for either block."""


class Split(Struct, frozen=True):
    """One step in parts of the parent's: (attention, FFN or experts) by layer, and the rest."""

    blocks: tuple[tuple[float, float], ...]
    rest: float


class Times(Struct, frozen=True):
    """Splits and whole steps by child and round, in parts of the parent's step; `parent` is that
    in seconds."""

    parent: tuple[float, ...]
    splits: tuple[tuple[Split, ...], ...]
    wholes: tuple[tuple[float, ...], ...]


def mixed(offers: Sequence[Offer]) -> tuple[tuple[Shape, ...], ...]:
    """As few children as have everything that each layer is offered, all of it mixed."""
    turns = max(len(each) for offer in offers for each in offer)
    return tuple(
        tuple(_turned(offer, layer, turn) for layer, offer in enumerate(offers))
        for turn in range(turns)
    )


def _turned(offer: Offer, layer: int, turn: int) -> Shape:
    one, other = offer
    # Where both have as many, the same two would always meet.
    shift = layer // len(one) if len(one) == len(other) else 0
    return one[(layer + turn) % len(one)], other[(layer + turn + shift) % len(other)]


def drawn(offers: Sequence[Offer], count: int, seed: int) -> tuple[tuple[Shape, ...], ...]:
    """Children that are drawn by lot, not those of `mixed`."""
    lots = random.Random(seed)
    return tuple(
        tuple((lots.choice(one), lots.choice(other)) for one, other in offers) for _ in range(count)
    )
