"""Facets that are not chosen: `apply`.

In: its statements. Out: `ir.Facet`s with one alternative. Reports sites that there are not (E0201),
what fields report (`fields.py`), an FP8 cache without scales (E0207) and scales without one
(E0303). Which values a model allows is not known here (`passes/expand.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from surgery import catalog, ir
from surgery.checking import fields
from surgery.checking.blocks import APPLY_SITES, BLOCKS
from surgery.checking.edits import ranking
from surgery.checking.fields import Block
from surgery.checking.layers import selector
from surgery.checking.names import unknown
from surgery.checking.repairs import removing
from surgery.checking.scope import Check, Scope
from surgery.checking.types import whole
from surgery.checking.values import Made, Value, Word
from surgery.grammar import ast


def apply(check: Check, node: ast.Apply) -> ir.Facet | None:
    """`apply kv_cache in LAYERS { dtype = fp8_e4m3, ... }`; `None` after a report."""
    site = node.site.text
    if site not in APPLY_SITES:
        unknown(check, "site", node.site, APPLY_SITES, "an `apply` can change")
        return None
    scope = Scope(check.main)
    where = selector(check, node.where, scope) if node.where else None
    block = Block(f"apply {site}", node.head, node.span, node.fields)
    values = fields.read(check, block, scope)
    if values is None or (node.where and where is None):
        return None
    found = _cached(check, block, values, scope) if site == "kv_cache" else _routed(values)
    return found and ir.Facet(node.head, ir.FacetKind(site), where, (found,), applied=True)


def _routed(values: Mapping[str, Value]) -> ir.Alternative:
    active = values["active"]
    return ir.Alternative(active.span, "active", Fraction(whole(active)))


def _cached(
    check: Check, block: Block, values: Mapping[str, Value], scope: Scope
) -> ir.Alternative | None:
    """How K and V are stored: with scales in FP8, without any in BF16."""
    dtype, scales = values["dtype"], values.get("scales")
    name = dtype.text if isinstance(dtype, Word) else ""
    if name == "bf16" and scales is None:
        return ir.Alternative(dtype.span, "keep")
    if name == "bf16":
        field = next(each for each in block.fields if each.name.text == "scales")
        helps = (removing("leave them out", field.span),)
        message = "a cache in BF16 takes no scales"
        check.error(catalog.E0303, message, field.span, "not needed", helps=helps)
        return None
    if not isinstance(scales, Made):
        rule = next(each for each in BLOCKS[block.kind] if each.name == "scales")
        fields.report_missing(check, block, [rule], scope)
        return None
    return ir.Alternative(dtype.span, name, by=ranking(scales, scales.span))
