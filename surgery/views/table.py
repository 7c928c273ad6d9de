"""Rows of cells as lines of text, or as Markdown.

In: rows of one length. Out: text without a final newline. Refuses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[tuple[str, ...]], alignment: str) -> str:
    """Rows indented by two, two blanks between columns, no blanks at line ends.

    `alignment` has one of `<` and `>` for each column.
    """
    widths = [max(len(row[n]) for row in rows) for n in range(len(alignment))]
    lines = (
        "  ".join(
            f"{cell:{side}{width}}"
            for cell, side, width in zip(row, alignment, widths, strict=True)
        )
        for row in rows
    )
    return "\n".join(f"  {line}".rstrip() for line in lines)


def markdown(rows: Sequence[tuple[str, ...]], alignment: str) -> str:
    """The same as a table of GitHub's Markdown; the first row is its head."""
    rules = tuple("---" if side == "<" else "---:" for side in alignment)
    lines = (rows[0], rules, *rows[1:])
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
