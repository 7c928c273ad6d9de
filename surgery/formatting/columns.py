"""What stands in columns: `=` signs, labels, clauses, and comments at the ends of lines.

In: the entries of a file or block, or finished lines. Out: how many blanks to add. Only neighbours
are aligned: an empty line or the line of a comment ends a run, so that a change moves as little
else as possible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from msgspec import Struct

from surgery.formatting.document import Doc
from surgery.formatting.layout import WIDTH, Row
from surgery.formatting.tokens import Gap

MAX_COLUMN = 50
"""Where a name is so long that the column would be further right, nothing is aligned."""


class Entry(Struct, frozen=True):
    """One statement, field, alternative or step.

    `head` is the width of what stands before the column, `kind` what it can share a column with
    (nothing, if empty). `build` makes the entry with so many blanks before the column.
    """

    gap: Gap
    kind: str
    head: int
    build: Callable[[int], Doc]


def built(entries: Sequence[Entry]) -> tuple[Doc, ...]:
    """The entries, each run with its column."""
    runs: list[list[Entry]] = []
    for entry in entries:
        begins = not runs or not entry.kind or entry.kind != runs[-1][-1].kind or entry.gap.apart
        if begins:
            runs.append([])
        runs[-1].append(entry)
    return tuple(doc for run in runs for doc in _run(run))


def _run(run: Sequence[Entry]) -> list[Doc]:
    column = max(entry.head for entry in run)
    if column > MAX_COLUMN:
        return [entry.build(0) for entry in run]
    return [entry.build(column - entry.head) for entry in run]


def text(rows: Sequence[Row]) -> str:
    """Lines as text, comments behind code in columns."""
    lines = (line for key, run in groupby(rows, key=_shared) for line in _lines(key, [*run]))
    return "".join(f"{line}\n" for line in lines)


def _shared(row: Row) -> tuple[int, bool] | None:
    """What lines with code and comment have in common where their comments share a column."""
    if not row.code or not row.comment:
        return None
    # A bracket that closes has nothing in common with the statement below.
    return row.indent, row.code[0] in ")]}"


def _lines(shared: tuple[int, bool] | None, rows: Sequence[Row]) -> list[str]:
    if shared is None:
        return [(" " * row.indent + row.code + row.comment).rstrip() for row in rows]
    column = max(row.width for row in rows)
    if any(column + 2 + len(row.comment) > WIDTH for row in rows):
        column = 0
    return [(" " * row.indent + row.code).ljust(column) + "  " + row.comment for row in rows]
