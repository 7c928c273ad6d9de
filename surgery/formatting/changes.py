"""Two texts -> the lines that differ, as replacements and as a diff for people.

In: the text before and after. Out: replacements in order, each of whole lines and none touching
another; or a unified diff. Not here: what the change is for.
"""

from __future__ import annotations

import difflib
from itertools import accumulate

from msgspec import Struct


class Replacement(Struct, frozen=True):
    """Characters [start, end) of the old text become `text`."""

    start: int
    end: int
    text: str


def minimal_edits(old: str, new: str) -> tuple[Replacement, ...]:
    """What turns `old` into `new`, line by line: lines that both have are not touched."""
    before, after = _lines(old), _lines(new)
    starts = [0, *accumulate(len(line) for line in before)]
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    matcher = difflib.SequenceMatcher(
        None, before[head : len(before) - tail], after[head : len(after) - tail]
    )
    return tuple(
        Replacement(starts[head + a], starts[head + b], "".join(after[head + c : head + d]))
        for tag, a, b, c, d in matcher.get_opcodes()
        if tag != "equal"
    )


def apply(old: str, edits: tuple[Replacement, ...]) -> str:
    """The old text with the replacements made."""
    for edit in reversed(edits):
        old = old[: edit.start] + edit.text + old[edit.end :]
    return old


def unified_diff(old: str, new: str, name: str) -> str:
    """The difference as `diff -u` prints it; empty without one."""
    lines: list[str] = []
    for line in difflib.unified_diff(_lines(old), _lines(new), name, name):
        lines.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(lines)


def _lines(text: str) -> list[str]:
    """The lines with their ends. Only a newline ends one: other marks may stand in a comment."""
    lines = text.split("\n")
    return (
        [*(f"{line}\n" for line in lines[:-1]), *lines[-1:]]
        if lines[-1]
        else [f"{line}\n" for line in lines[:-1]]
    )


def _common(a: list[str], b: list[str]) -> int:
    count = 0
    for one, two in zip(a, b, strict=False):
        if one != two:
            break
        count += 1
    return count
