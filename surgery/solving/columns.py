"""The columns of the problem: one per candidate, and one per pair where two sites interact.

In: `Space`. Out: column numbers, the groups of which exactly one is active, and the layers that
each combination of a layer's candidates would make. A formula about a layer becomes a linear form
over candidates where it is additive, and over pairs where it is not. Not here: formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import product

from msgspec import Struct, field
from msgspec.structs import replace

from surgery.ir import Candidate, Experts, Ffn, Layer, Site, Space
from surgery.ir import Linear as LinearBlock
from surgery.solving.linear import ZERO, Linear


class Grid(Struct, frozen=True):
    """Products `y[a, b] = x[a] * x[b]` of all candidates of two sites of one layer."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    start: int

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The two candidate columns of every pair column, in column order."""
        return tuple(product(self.first, self.second))

    @property
    def columns(self) -> tuple[int, ...]:
        """The pair columns."""
        return tuple(range(self.start, self.start + len(self.first) * len(self.second)))

    def links(self) -> Iterator[dict[int, float]]:
        """Rows that must be 0: the pairs of a candidate add up to the candidate.

        This is the convex hull of the products, so the pairs need no integrality of their own.
        """
        pairs = list(zip(self.columns, self.pairs, strict=True))
        for side, site in enumerate((self.first, self.second)):
            for candidate in site:
                link = {column: 1.0 for column, pair in pairs if pair[side] == candidate}
                yield {candidate: -1.0, **link}


class Columns(Struct):
    """Numbers the columns of a space; grids of pairs are added when a formula needs one."""

    space: Space
    candidates: tuple[Candidate, ...] = ()
    sites: tuple[tuple[int, ...], ...] = ()
    grids: dict[int, Grid] = field(default_factory=dict[int, Grid])
    _by_layer: dict[int, list[int]] = field(default_factory=dict[int, list[int]])

    def __post_init__(self) -> None:
        self.candidates = self.space.candidates
        starts, sites = 0, list[tuple[int, ...]]()
        for number, option in enumerate(self.space.options):
            sites.append(tuple(range(starts, starts + len(option.candidates))))
            starts += len(option.candidates)
            self._by_layer.setdefault(option.layer, []).append(number)
        self.sites = tuple(sites)

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Sites, then grids: exactly one column of each is active."""
        return (*self.sites, *(grid.columns for grid in self.grids.values()))

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.candidates) + sum(len(grid.columns) for grid in self.grids.values())

    def active(self, chosen: Iterable[int]) -> frozenset[int]:
        """The chosen candidate columns and the pairs that follow from them."""
        on = frozenset(chosen)
        pairs = {
            column
            for grid in self.grids.values()
            for column, pair in zip(grid.columns, grid.pairs, strict=True)
            if on.issuperset(pair)
        }
        return on | pairs

    def combinations(self, layer: int) -> Iterator[tuple[tuple[int, ...], Layer]]:
        """Every choice of a layer: the active columns, one per site, and the layer it makes."""
        parent = self.space.model.layers[layer]
        for columns in product(*(self.sites[n] for n in self._by_layer[layer])):
            made = parent
            for column in columns:
                made = become(made, self.candidates[column])
            yield columns, made

    def form(self, layer: int, worth: Callable[[Layer], Fraction]) -> Linear:
        """The linear form of a property of one layer: over sites if additive, else over pairs."""
        return self._form(layer, {c: worth(made) for c, made in self.combinations(layer)})

    def same(self, layer: int, chosen: Collection[int]) -> Linear:
        """1 where all of a layer is decided as in `chosen`, else 0."""
        on = frozenset(chosen)
        decided = (columns for columns, _ in self.combinations(layer))
        return self._form(layer, {c: Fraction(on.issuperset(c)) for c in decided})

    def _form(self, layer: int, values: dict[tuple[int, ...], Fraction]) -> Linear:
        sites = [self.sites[n] for n in self._by_layer[layer]]
        base = tuple(site[0] for site in sites)
        terms: dict[int, Fraction] = {}
        for number, site in enumerate(sites):
            for column in site:
                alone = (*base[:number], column, *base[number + 1 :])
                terms[column] = values[alone] - values[base]
        linear = Linear(values[base], terms)
        if all(linear.at(columns) == value for columns, value in values.items()):
            return linear
        return self._paired(layer, sites, values)

    def _paired(
        self,
        layer: int,
        sites: Sequence[tuple[int, ...]],
        values: dict[tuple[int, ...], Fraction],
    ) -> Linear:
        first, second = sites  # one site alone is always additive, and layers have at most two
        if layer not in self.grids:
            self.grids[layer] = Grid(first, second, self.width)
        grid = self.grids[layer]
        pairs = zip(grid.columns, grid.pairs, strict=True)
        return Linear(ZERO, {column: values[pair] for column, pair in pairs})


def become(layer: Layer, candidate: Candidate) -> Layer:
    """The layer with one site replaced by a candidate's block."""
    block = candidate.block
    if candidate.site is Site.ATTENTION:
        if isinstance(block, Ffn | Experts):
            raise TypeError(f"{candidate.address}: no attention block")
        return replace(layer, attention=block)
    if block is not None and not isinstance(block, Ffn | Experts | LinearBlock):
        raise TypeError(f"{candidate.address}: no MLP block")
    return replace(layer, mlp=block)
