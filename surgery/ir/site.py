"""Where surgery is done: the sites of a layer, in the fixed order of plans."""

from __future__ import annotations

from enum import StrEnum


class Site(StrEnum):
    """What a `choose` changes, in the fixed order of plans."""

    ATTENTION = "attention"
    FFN = "ffn"
    EXPERTS = "experts"
