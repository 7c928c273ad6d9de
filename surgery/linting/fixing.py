"""Findings -> a better text: which fixes to apply, and applying them until none is left.

In: a `Source`, and a function that finds what is wrong with a text. Out: `Fixed`. Safe fixes are
applied, unsafe ones if asked, those for display never. A finding with several ways out of one
safety is left to the person. Fixes of one round never overlap; what had to wait is found again in
the next round. A fix must lie in the file at hand, whole. A round that would leave more syntax
errors than before is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from msgspec import Struct

from surgery.diagnostics import Diagnostic, Edit, Fix, Safety
from surgery.source import Source

Find: TypeAlias = Callable[[Source], Sequence[Diagnostic]]

MAX_ROUNDS = 100
"""Rounds after which fixing stops; each repairs something, and no spec has so many mistakes."""


class Fixed(Struct, frozen=True):
    """The text after fixing, how many findings were fixed, and those that are left in it.

    `safe` and `unsafe` count those left that a safe fix, and only an unsafe one, would mend.
    """

    source: Source
    count: int
    left: tuple[Diagnostic, ...]
    safe: int = 0
    unsafe: int = 0

    @property
    def changed(self) -> bool:
        """Whether the text is another one."""
        return self.count > 0


def fix(source: Source, find: Find, *, unsafe: bool = False) -> Fixed:
    """Apply fixes round by round until no applicable one is left."""
    found, count = tuple(find(source)), 0
    for _ in range(MAX_ROUNDS):
        chosen = choose(source, found, unsafe=unsafe)
        if not chosen:
            break
        after = Source(source.name, apply(source.text, _edits(chosen.values())))
        then = tuple(find(after))
        if _unreadable(then) > _unreadable(found) or after.text == source.text:
            break
        count += sum(_offered(each, source, unsafe=unsafe) in chosen.values() for each in found)
        source, found = after, then
    return Fixed(source, count, found, *fixable(source, found))


def fixable(source: Source, found: Sequence[Diagnostic]) -> tuple[int, int]:
    """How many of some findings a safe fix of this file would mend, and only an unsafe one."""
    safe = sum(_offered(each, source, unsafe=False) is not None for each in found)
    return safe, sum(_offered(each, source, unsafe=True) is not None for each in found) - safe


def choose(source: Source, found: Iterable[Diagnostic], *, unsafe: bool = False) -> dict[int, Fix]:
    """The fixes to apply at once, by the number of the finding; equal ones count once."""
    offered = ((n, _offered(each, source, unsafe=unsafe)) for n, each in enumerate(found))
    fixes = [(n, each) for n, each in offered if each is not None]
    # Small fixes first: a large one may no longer be wanted when what it contains is mended.
    fixes.sort(key=lambda pair: (_size(pair[1]), pair[1].edits[0].span.start, pair[0]))
    taken: list[Edit] = []
    chosen: dict[int, Fix] = {}
    for number, each in fixes:
        if each not in chosen.values() and not _clashes(each.edits, taken):
            chosen[number] = each
            taken += each.edits
    return chosen


def _offered(found: Diagnostic, source: Source, *, unsafe: bool) -> Fix | None:
    """The one fix of a finding that may be applied, if there is exactly one of its safety."""
    fixes = [help.fix for help in found.helps if help.fix is not None]
    for safety in (Safety.SAFE, Safety.UNSAFE) if unsafe else (Safety.SAFE,):
        ways = [each for each in fixes if each.safety is safety]
        if ways:
            here = all(edit.span.source.name == source.name for edit in ways[0].edits)
            return ways[0] if len(ways) == 1 and ways[0].edits and here else None
    return None


def _size(fix: Fix) -> int:
    return sum(edit.span.end - edit.span.start for edit in fix.edits)


def _unreadable(found: Iterable[Diagnostic]) -> int:
    return sum(each.code.id.startswith(("E00", "E01")) for each in found)


# ---- edits -----------------------------------------------------------------------------------


def _clashes(edits: Iterable[Edit], taken: Sequence[Edit]) -> bool:
    return any(_touch(edit, other) for edit in edits for other in taken)


def _touch(a: Edit, b: Edit) -> bool:
    """Whether two edits cannot be applied together: they overlap, or their order is open."""
    if a.span.start == a.span.end or b.span.start == b.span.end:
        # An insertion beside anything else could be meant before it or after it.
        return a.span.start <= b.span.end and b.span.start <= a.span.end
    return a.span.start < b.span.end and b.span.start < a.span.end


def _edits(fixes: Iterable[Fix]) -> tuple[Edit, ...]:
    return tuple(edit for each in fixes for edit in each.edits)


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text after edits that do not overlap; new lines end as the text's own lines do.

    Insertions at one place come in the order given. Raises `ValueError` for edits that overlap.
    """
    ending = "\r\n" if "\r\n" in text else "\n"
    parts: list[str] = []
    at = 0
    for edit in sorted(edits, key=lambda each: (each.span.start, each.span.end)):
        if edit.span.start < at:
            raise ValueError(f"edits overlap at {edit.span}")
        parts += (text[at : edit.span.start], edit.text.replace("\n", ending))
        at = edit.span.end
    return "".join((*parts, text[at:]))
