"""W0704: an alternative that another one beats in everything that the spec counts.

In: the spec, its space and the scores that the library has. Out: one finding per alternative that
is beaten in every layer that offers it. A candidate beats another of its site when no row and not
the objective gets worse by the exchange, so no plan needs the other. `keep` does no damage,
measured or not; between two edits the scores decide, and nothing is said until they are all
there. Silent in specs whose space is not whole yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog
from surgery.diagnostics import Diagnostic, Fix, Help, Label, Safety
from surgery.edits import spelled
from surgery.edits.attention import WINDOWS
from surgery.edits.rewriting import dropped
from surgery.ir import (
    Alternative,
    Attention,
    Candidate,
    Choice,
    Facet,
    Measured,
    SiteOptions,
    Space,
    Spec,
)
from surgery.rules.rule import Rule, Subject
from surgery.scoring.blind import scores_in, scores_used
from surgery.solving.linear import ZERO, Linear
from surgery.solving.rows import Rows, lowered, nothing
from surgery.units import format_layers, significant

_MAX_SCORES = 8
"""Each score is a lowering of its own; who has more measures first."""


class _Prices(Struct, frozen=True):
    """What each candidate adds to every row and the goal; layers whose sites interact."""

    rows: tuple[Linear, ...]
    columns: Mapping[str, int]
    paired: frozenset[int]

    def of(self, candidate: Candidate) -> tuple[Fraction, ...]:
        """One number per row, the objective last; only differences within a site mean anything."""
        column = self.columns[candidate.address]
        return tuple(row.terms.get(column, ZERO) for row in self.rows)


class _Worth(Struct, frozen=True):
    """Prices with all scores measured, or else with no damage at all.

    `damaged` are then prices of what scores are a part of: without and with damage of one score.
    """

    prices: _Prices
    damaged: tuple[tuple[_Prices, _Prices], ...]

    @property
    def measured(self) -> bool:
        """Whether edits can be compared with each other."""
        return not self.damaged


class _Defeat(Struct, frozen=True):
    """Two candidates of one site: no plan needs the first."""

    loser: Candidate
    winner: Candidate


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding per alternative that no plan needs."""
    spec, space, rows = subject.spec, subject.space, subject.rows
    if spec is None or space is None or rows is None:
        return
    worth = _worth(spec, space, rows)
    if worth is None:
        return
    measured = subject.measured if rows.measured else None
    offers = _offers(space)
    facets = (facet for facet in spec.facets if not facet.applied)
    for choice in (*spec.choices, *facets):
        for alternative in choice.alternatives:
            defeats = _defeats(offers.get(id(alternative), ()), worth)
            if defeats and not _useless_window(subject, defeats[0].loser):
                yield _finding(spec, choice, alternative, defeats, measured)


def _offers(space: Space) -> Mapping[int, Sequence[tuple[Candidate, SiteOptions]]]:
    """Edited candidates, each with its site, by the alternative (the very object) they are from.

    One that has a facet as well belongs to two alternatives, and speaks for both.
    """
    found: dict[int, list[tuple[Candidate, SiteOptions]]] = {}
    for option in space.options:
        for candidate in option.candidates:
            if candidate.edit != "keep":
                found.setdefault(id(candidate.alternative), []).append((candidate, option))
            if candidate.facet is not None:
                found.setdefault(id(candidate.facet), []).append((candidate, option))
    return found


def _defeats(offers: Sequence[tuple[Candidate, SiteOptions]], worth: _Worth) -> list[_Defeat]:
    """What beats an alternative in each layer that offers it; nothing if one needs it."""
    found: list[_Defeat] = []
    for candidate, option in offers:
        winner = _better(candidate, option.candidates, worth)
        if winner is None:
            return []
        found.append(_Defeat(candidate, winner))
    return found


def _useless_window(subject: Subject, candidate: Candidate) -> bool:
    """Whether no scenario that matters is longer than the window: W0703 says so."""
    block = candidate.block
    windowed = candidate.edit in WINDOWS
    if not windowed or not isinstance(block, Attention) or block.held is None:
        return False
    lengths = [scenario.longest for scenario in subject.asked]
    return bool(lengths) and max(lengths) <= block.held


# ---- who beats whom --------------------------------------------------------------------------


def _worth(spec: Spec, space: Space, rows: Rows) -> _Worth | None:
    base = _prices(rows)
    if base is None or rows.measured:
        return base and _Worth(base, ())
    used = scores_used(spec)
    if len(used) > _MAX_SCORES:
        return None
    return _Worth(
        base, tuple(pair for score in used if (pair := _damaged(spec, space, score.name)))
    )


def _damaged(spec: Spec, space: Space, score: str) -> tuple[_Prices, _Prices] | None:
    """Prices of what one score is a part of, without any damage and with damage of this score."""
    about = tuple(each for each in spec.requirements if score in scores_in(each.expr))
    few = replace(spec, requirements=about)
    before = _prices(lowered(few, space, None))
    after = _prices(lowered(few, space, nothing(spec, space, score)))
    return (before, after) if before and after else None


def _prices(rows: Rows) -> _Prices | None:
    complete = rows.complete
    if complete is None:
        return None
    columns = {c.address: column for column, c in enumerate(rows.columns.candidates)}
    return _Prices(complete, columns, frozenset(rows.columns.grids))


def _better(candidate: Candidate, others: Sequence[Candidate], worth: _Worth) -> Candidate | None:
    """The first other candidate of the site that is no worse in anything."""
    prices = worth.prices
    if candidate.layer in prices.paired:
        return None
    for other in others:
        if other is candidate or (other.changed and not worth.measured):
            continue
        gains = _gains(candidate, other, prices)
        # Of two edits that come to the same, neither is better; of an edit and `keep`, `keep` is.
        if min(gains) < 0 or (other.changed and not any(gains)):
            continue
        # Damage may be anything above 0: each score may only make the edit dearer.
        if all(_rising(candidate, other, *pair) for pair in worth.damaged):
            return other
    return None


def _rising(candidate: Candidate, other: Candidate, before: _Prices, after: _Prices) -> bool:
    gains = zip(_gains(candidate, other, before), _gains(candidate, other, after), strict=True)
    return all(less <= more for less, more in gains)


def _gains(candidate: Candidate, other: Candidate, prices: _Prices) -> tuple[Fraction, ...]:
    """What every row and the objective, all to be small, win by the exchange."""
    pairs = zip(prices.of(candidate), prices.of(other), strict=True)
    return tuple(mine - its for mine, its in pairs)


# ---- words -----------------------------------------------------------------------------------


def _finding(
    spec: Spec,
    choice: Choice | Facet,
    alternative: Alternative,
    defeats: Sequence[_Defeat],
    measured: Measured | None,
) -> Diagnostic:
    text = f"`{spelled(alternative)}`"
    fix = Fix((dropped(alternative, choice.alternatives),), Safety.UNSAFE)
    by: dict[str, list[_Defeat]] = {}
    for defeat in defeats:
        by.setdefault(_called(defeat.winner), []).append(defeat)
    here = "no requirement gets easier by it, and the objective no better"
    if by.keys() == {"keep"}:
        return Diagnostic(
            catalog.W0704,
            f"{text} saves nothing that this spec counts",
            (Label(alternative.span, here, primary=True),),
            notes=("`keep` costs no more and does no damage, so no plan will choose this",),
            helps=(Help("require what it is to save"), Help("or remove it", fix)),
        )
    labels = [Label(alternative.span, here, primary=True)]
    for name, won in sorted(by.items()):
        layers = [defeat.loser.layer for defeat in won]
        where = f"{'layer' if len(layers) == 1 else 'layers'} {format_layers(layers)}"
        span = next((a.span for a in choice.alternatives if spelled(a) == name), None)
        if span is not None:
            labels.append(Label(span, f"beats it in {where}"))
    rivals = " and ".join(f"`{name}`" for name in sorted(by))
    return Diagnostic(
        catalog.W0704,
        f"{text} is beaten by {rivals} in everything that this spec counts",
        tuple(labels),
        values=tuple(_damages(spec, text, defeats, measured)),
        helps=(Help(f"remove {text}: no plan will choose it", fix),),
    )


def _called(candidate: Candidate) -> str:
    """As a spec writes it, where that says it all."""
    if candidate.facet is not None:
        return candidate.text
    return spelled(candidate.alternative) if candidate.alternative else "keep"


def _damages(
    spec: Spec, text: str, defeats: Sequence[_Defeat], measured: Measured | None
) -> Iterator[tuple[str, str]]:
    """Mean damage over the layers, of the loser and of what beats it."""
    for score in spec.scores:
        damage = measured.damage.get(score.name) if measured else None
        if damage is None:
            continue
        lost = sum(damage[each.loser.address] for each in defeats) / len(defeats)
        won = sum(damage[each.winner.address] for each in defeats) / len(defeats)
        yield f"`{score.name}` of {text}", f"{significant(lost)} per layer"
        yield f"`{score.name}` of what beats it", f"{significant(won)} per layer"


RULE = Rule(catalog.W0704, check)
