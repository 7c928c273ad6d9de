"""Where surgery is done: the sites of a layer, in the fixed order of plans, and their facets."""

from __future__ import annotations

from enum import StrEnum


class Site(StrEnum):
    """What a `choose` changes, in the fixed order of plans."""

    ATTENTION = "attention"
    FFN = "ffn"
    EXPERTS = "experts"


class FacetKind(StrEnum):
    """What else can be chosen about a block: it multiplies the alternatives of its site.

    Not sites of their own: KV bytes are window times precision, and a product of two choices is no
    sum of costs.
    """

    KV_CACHE = "kv_cache"
    ROUTER = "router"

    @property
    def site(self) -> Site:
        """Whose facet it is."""
        return Site.ATTENTION if self is FacetKind.KV_CACHE else Site.EXPERTS
