"""What is not chosen: `apply`.

In: its statements. Out: `ir.Facet`s with one alternative, or `ir.Rope`. Reports sites that there
are not (E0201), what fields report (`fields.py`), an FP8 cache without scales (E0207), scales
without one and layers of a rotary embedding (E0303), and two of those (E0404). Which values a
model allows is not known here (`passes/expand.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from surgery.diagnostics import Label
from surgery.expr import Number
from surgery.grammar import ast
from surgery.source import Span


def apply(check: Check, node: ast.Apply) -> ir.Facet | ir.Rope | None:
    """`apply kv_cache in LAYERS { dtype = fp8_e4m3, ... }`; `None` after a report."""
    site = node.site.text
    if site not in APPLY_SITES:
        unknown(check, "site", node.site, APPLY_SITES, "an `apply` can change")
        return None
    scope = Scope(check.main)
    if site == "rope":
        return _rope(check, node, scope)
    where = selector(check, node.where, scope) if node.where else None
    block = Block(f"apply {site}", node.head, node.span, node.fields)
    values = fields.read(check, block, scope)
    if values is None or (node.where and where is None):
        return None
    found = _cached(check, block, values, scope) if site == "kv_cache" else _routed(values)
    return found and ir.Facet(node.head, ir.FacetKind(site), where, (found,), applied=True)


def _rope(check: Check, node: ast.Apply, scope: Scope) -> ir.Rope | None:
    """One factor for all layers: they share the rotary embedding."""
    values = fields.read(check, Block("apply rope", node.head, node.span, node.fields), scope)
    if node.where is not None:
        message = "`apply rope` is about all layers, which share the rotary embedding"
        start = node.site.span.end
        span = Span(node.where.span.source, start, node.where.span.end)
        help = removing("leave the layers out", span)
        check.error(catalog.E0303, message, node.where.span, "not needed", helps=(help,))
        return None
    factor = values["factor"] if values else None
    return ir.Rope(node.head, factor.value) if isinstance(factor, Number) else None


def only_rope(check: Check, found: Sequence[ir.Facet | ir.Rope]) -> ir.Rope | None:
    """The one rotary embedding of a spec; reports another (E0404)."""
    ropes = [each for each in found if isinstance(each, ir.Rope)]
    for extra in ropes[1:]:
        first = Label(ropes[0].span, "first given here")
        message = "two `apply rope` give one model two rotary embeddings"
        check.error(catalog.E0404, message, extra.span, "given again", first)
    return ropes[0] if ropes else None


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
