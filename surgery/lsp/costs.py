"""What an alternative saves and what it costs, from the space and the library.

In: what is known of a version, and the span of an alternative. Out: Markdown: sizes against the
parent's own block, for one layer and for all, and the measured damage where the library has it.
Not here: any cost (`passes/expand.py` made them) or measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

from msgspec import Struct

from surgery import units
from surgery.ir import Candidate, Cost, Site
from surgery.lsp.parents import Known
from surgery.passes.expand import unchanged
from surgery.sizes import site_tensors
from surgery.source import Span


class _Change(Struct, frozen=True):
    candidate: Candidate
    before: Cost

    def saved(self, of: Callable[[Cost], int]) -> int:
        return of(self.candidate.cost) - of(self.before)


def of_alternative(known: Known, span: Span) -> str | None:
    """What the alternative written at `span` changes; `None` when no layer can take it."""
    changes = _changes(known, span)
    if not changes:
        return None
    context = known.model.context
    rows: tuple[tuple[str, Callable[[Cost], int], Callable[[Fraction], str]], ...] = (
        ("params", lambda cost: cost.params, units.format_params),
        ("weights", lambda cost: cost.weights, units.format_bytes),
        (
            f"kv@{units.format_tokens(context)}",
            lambda cost: cost.kv_bytes(context),
            units.format_bytes,
        ),
    )
    lines = [f"{_count(len(changes))}: {units.format_layers(c.candidate.layer for c in changes)}"]
    for name, of, shown in rows:
        each = [change.saved(of) for change in changes]
        if any(each):
            total = sum(each)
            one = _signed(each[0], shown) if len(set(each)) == 1 else "differs"
            lines.append(f"- {name}: {one} in a layer, {_signed(total, shown)} in all")
    lines += _damage(known, changes)
    return "\n".join(lines)


def _count(layers: int) -> str:
    return "1 layer" if layers == 1 else f"{layers} layers"


def _changes(known: Known, span: Span) -> list[_Change]:
    if known.space is None:
        return []
    tensors = site_tensors(known.model)
    found: dict[tuple[int, Site], _Change] = {}
    for candidate in known.space.candidates:
        # Of what goes with several facets, the parent's comes first; of a facet, what is kept.
        chosen = candidate.facet if candidate.edit == "keep" else candidate.alternative
        if chosen is not None and chosen.span == span:
            place = (candidate.layer, candidate.site)
            keep = unchanged(known.model, *place, tensors[place])
            found.setdefault(place, _Change(candidate, keep.cost))
    return list(found.values())


def _signed(value: int, shown: Callable[[Fraction], str]) -> str:
    if value == 0:
        return "nothing"
    return ("-" if value < 0 else "+") + shown(Fraction(abs(value)))


def _damage(known: Known, changes: Iterable[_Change]) -> list[str]:
    """One line for each score that has measured some of them."""
    if known.measured is None:
        return []
    lines: list[str] = []
    addresses = [change.candidate.address for change in changes]
    for score, damage in sorted(known.measured.damage.items()):
        found = [(damage[a], a) for a in addresses if a in damage]
        if not found:
            continue
        (least, where), (most, there) = min(found), max(found)
        if len(found) == 1:
            lines.append(f"- {score}: {units.significant(least)} measured")
        else:
            spread = f"{units.significant(least)} ({_layer(where)})"
            spread += f" to {units.significant(most)} ({_layer(there)})"
            missing = len(addresses) - len(found)
            lines.append(f"- {score}: {spread}" + (f", {missing} not measured" * bool(missing)))
    return lines


def _layer(address: str) -> str:
    return " ".join(address.split(".")[:2])
