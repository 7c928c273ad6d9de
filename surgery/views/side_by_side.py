"""Two plans next to each other, layer by layer.

In: a `PlanDiff` and the names of its plans. Out: text for a terminal; runs of layers that are alike
fold unless all are asked for. Refuses nothing. Not here: requirements and metrics (`show.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from msgspec import Struct

from surgery.diff import PlanDiff
from surgery.ir import Site
from surgery.lockfile import SITES

_FOLD = 2
"""The shortest run of equal layers that folds."""


class _Row(Struct, frozen=True):
    """One layer: the cells of both plans, and what is between them."""

    layer: int
    old: tuple[str, ...]
    new: tuple[str, ...]
    mark: str


def side_by_side(difference: PlanDiff, old: str, new: str, *, everything: bool = False) -> str:
    """Every layer of `old` beside the same of `new`; `~` changed, `=` same with other slices."""
    rows = tuple(_rows(difference))
    if not rows:
        return "  no layers"
    sites = range(len(rows[0].old))
    widths = [max(len(cell) for row in rows for cell in (row.old[n], row.new[n])) for n in sites]

    def joined(cells: Sequence[str]) -> str:
        return "  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True))

    width = max(len(old), sum(widths) + 2 * (len(widths) - 1))
    lines = [f"  {'layer':>7}  {old:<{width}}    {new}".rstrip()]
    lines.append("  " + "-" * (2 * width + 13))
    for same, run in groupby(rows, key=lambda row: not row.mark):
        found = tuple(run)
        if same and len(found) >= _FOLD and not everything:
            span = f"{found[0].layer}-{found[-1].layer}"
            lines.append(f"  {span:>7}  ({len(found)} layers, identical)")
            continue
        for row in found:
            left = f"{joined(row.old):<{width}}"
            lines.append(f"  {row.layer:>7}  {left}  {row.mark or ' '} {joined(row.new)}".rstrip())
    return "\n".join(lines)


def _rows(difference: PlanDiff) -> Iterator[_Row]:
    addresses = [a for a in difference.addresses if a.startswith("layer.")]
    marks: dict[int, str] = {}
    for change in difference.decisions:
        layer = int(change.address.split(".")[1])
        # What is decided otherwise weighs more than other slices of the same size.
        marks[layer] = "=" if change.op.value == "=" and marks.get(layer, "=") == "=" else "~"
    present = [site for site in SITES if any(a.endswith(f".{site}") for a in addresses)]
    layers = dict.fromkeys(int(address.split(".")[1]) for address in addresses)
    for layer in layers:
        pairs = [difference.pair(f"layer.{layer:02}.{site}") for site in present]
        old, new = (
            tuple(_cell(pair[side], site) for pair, site in zip(pairs, present, strict=True))
            for side in (0, 1)
        )
        yield _Row(layer, old, new, marks.get(layer, ""))


def _cell(value: str | None, site: Site) -> str:
    """`128 experts`, `window(8K)`; nothing where a plan has no such site."""
    text = (value or "").partition("#")[0]
    return f"{text} {site.value}" if text and site is not Site.ATTENTION else text
