"""What differs between two specs, as text for a terminal.

In: `SpecDiff`. Out: text without a final newline, no colour. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from surgery.diff import Op
from surgery.meaning import SpecChange, SpecDiff

_WIDTH = 100


def spec_diff_text(difference: SpecDiff) -> str:
    """The changes by kind of statement, with the values that moved without a word of theirs."""
    if difference.same_meaning:
        return "  same meaning"
    blocks = [_head(difference)]
    for kind, run in groupby(difference.changes, key=_kind):
        blocks.append("\n".join([f"  {kind}", *(_line(change, kind) for change in run)]))
    if difference.definitions:
        lines = [_line(change, "") for change in difference.definitions]
        blocks.append("\n".join(["  definitions that these may use", *lines]))
    return "\n\n".join(blocks)


def _head(difference: SpecDiff) -> str:
    lines: list[str] = []
    wishes = [c for c in difference.changes if _kind(c) == "require"]
    told = [c for c in wishes if c.op is Op.CHANGED and c.before != c.after]
    if len(wishes) == 1 and told:
        (only,) = told
        # What people ask first.
        lines.append(f"  {'require':<11}{_name(only, 'require')}: {_change(only)}")
    stayed = _counted(difference.unchanged.items())
    lines += [f"  {'unchanged':<11}{stayed}"] if stayed else []
    return "\n".join(lines)


def _counted(kinds: Iterable[tuple[str, int]]) -> str:
    return ", ".join(kind if count == 1 else f"{count} x {kind}" for kind, count in kinds)


def _kind(change: SpecChange) -> str:
    return change.address.partition(" ")[0].partition(".")[0]


def _name(change: SpecChange, kind: str) -> str:
    return change.address.removeprefix(kind).strip()


def _line(change: SpecChange, kind: str) -> str:
    name = _name(change, kind)
    head = f"    {change.op.value} {name}" if name else f"    {change.op.value}"
    told = _change(change)
    if told in ("", name):
        return head
    if len(head) + len(told) + 2 <= _WIDTH:
        return f"{head}{'  ' if name else ' '}{told}"
    parts = told.split(" -> ")
    return "\n".join([head, *(f"        {'-> ' if n else '   '}{p}" for n, p in enumerate(parts))])


def _change(change: SpecChange) -> str:
    match change.op:
        case Op.ADDED:
            return change.after or ""
        case Op.REMOVED:
            return change.before or ""
        case _ if change.before == change.after:
            return f"{change.after}  (something that it names has another value)"
        case _:
            return f"{change.before} -> {change.after}"
