"""Explanations -> text for a terminal.

In: the Markdown of an explanation, of which these files use a small part: headings, paragraphs,
lists and fenced blocks. Out: wrapped text, code indented by four; bold headings only where colour
is asked for. Refuses nothing: what it does not know stays as it was written.
"""

from __future__ import annotations

import re
import textwrap

WIDTH = 100
"""Longest line of prose."""

_BOLD, _CYAN, _RESET = "\x1b[1m", "\x1b[36m", "\x1b[0m"
_ITEM = re.compile(r"(- |\d+\. )")


def plain(markdown: str, *, width: int = WIDTH, colour: bool = False) -> str:
    """The text to print, without a final newline; prose lines have at most `width` columns."""
    return "\n\n".join(_block(block, min(width, WIDTH), colour) for block in _blocks(markdown))


def _blocks(markdown: str) -> list[list[str]]:
    """Lines between blank lines; a fenced block is one, whatever is in it."""
    found: list[list[str]] = [[]]
    fenced = False
    for line in markdown.splitlines():
        fenced = fenced != line.startswith("```")
        if line or fenced:
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [block for block in found if block]


def _block(lines: list[str], width: int, colour: bool) -> str:
    first = lines[0]
    if first.startswith("```"):
        return "\n".join(_code(line, colour) for line in lines[1:-1])
    if first.startswith("#"):
        title = first.lstrip("# ")
        return f"{_BOLD}{title}{_RESET}" if colour else title
    if _ITEM.match(first):
        return "\n".join(_item(item, width) for item in _items(lines))
    return textwrap.fill(" ".join(lines), width, break_long_words=False, break_on_hyphens=False)


def _code(line: str, colour: bool) -> str:
    if not line:
        return ""
    return f"    {_CYAN}{line}{_RESET}" if colour else f"    {line}"


def _items(lines: list[str]) -> list[str]:
    found: list[str] = []
    for line in lines:
        if _ITEM.match(line):
            found.append(line)
        else:
            found[-1] += f" {line.strip()}"
    return found


def _item(text: str, width: int) -> str:
    mark = _ITEM.match(text)
    indent = " " * (len(mark.group()) if mark else 0)
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
