"""Chapters of the book as data: a markdown file becomes sections, a section its fenced blocks.

In: the path of a chapter. Out: `Section`s in order, and a way to put a fresh snapshot back into
the file. Refuses, as `ChapterError` with file and line: a fence that is never closed, a block of
a kind that the book does not know, two sections of one heading. Not here: running (`book_runner`).
"""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

KINDS = frozenset({"surg", "file", "diagnostic", "console", "python", "output", "format"})
PROSE = frozenset({"", "text", "sh", "toml"})
"""Kinds that are only read: nothing runs them."""

SNAPSHOTS = frozenset({"diagnostic", "console", "output", "format"})

_FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<info>[^`]*)$")
_HEADING = re.compile(r"^#{1,6}\s+(?P<text>.*\S)\s*$")


class ChapterError(Exception):
    """A chapter that cannot be read as one; the message begins with file and line."""


class Block(Struct, frozen=True):
    """A fenced block: `words` is what follows the kind; `line` is that of the opening fence.

    `text` is empty or ends with a newline; its first line is line `line + 1` of the chapter.
    """

    kind: str
    words: tuple[str, ...]
    text: str
    line: int


class Section(Struct, frozen=True):
    """A heading and the blocks below it; `preamble` is the last one the chapter gave before."""

    chapter: Path
    heading: str
    blocks: tuple[Block, ...]
    preamble: Block | None

    @property
    def id(self) -> str:
        """`codes-04-model.md::E0405 too-many-experts`."""
        return f"{self.chapter.name}::{self.heading}"

    def place(self, line: int) -> str:
        """How messages name a line of the chapter."""
        return f"{self.chapter.parent.name}/{self.chapter.name}:{line}"


def sections(chapter: Path) -> tuple[Section, ...]:
    """The sections of a chapter that have something to run."""
    found: list[Section] = []
    preamble: Block | None = None
    for heading, blocks in _headings(chapter):
        own: list[Block] = []
        for block in blocks:
            if block.kind == "surg" and block.words == ("preamble",):
                preamble = block
            else:
                own.append(block)
        if not own:
            continue
        if any(each.heading == heading for each in found):
            raise ChapterError(f"{chapter.name}:{own[0].line}: a second section `{heading}`")
        found.append(Section(chapter, heading, tuple(own), preamble))
    return tuple(found)


def _headings(chapter: Path) -> list[tuple[str, list[Block]]]:
    lines = chapter.read_text(encoding="utf-8").splitlines(keepends=True)
    found: list[tuple[str, list[Block]]] = [("", [])]
    number = 0
    while number < len(lines):
        line = lines[number].rstrip("\n")
        if opened := _FENCE.match(line):
            block, number = _block(chapter, lines, number, opened)
            if block.kind not in PROSE:
                found[-1][1].append(block)
        elif heading := _HEADING.match(line):
            found.append((heading["text"].replace("`", ""), []))
        number += 1
    return found


def _block(chapter: Path, lines: list[str], start: int, opened: re.Match[str]) -> tuple[Block, int]:
    """The block that opens at `lines[start]`, and the index of its closing fence."""
    kind, *words = opened["info"].split() or [""]
    if kind not in KINDS | PROSE:
        known = ", ".join(sorted(KINDS))
        raise ChapterError(f"{chapter.name}:{start + 1}: no block kind `{kind}`; there are {known}")
    for end in range(start + 1, len(lines)):
        if lines[end].rstrip() == opened["ticks"]:
            return Block(kind, tuple(words), "".join(lines[start + 1 : end]), start + 1), end
    raise ChapterError(f"{chapter.name}:{start + 1}: this block is not closed")


def rewrite(section: Section, fresh: dict[int, str]) -> None:
    """Put fresh snapshots into the chapter: `fresh` maps a block's place in the section to text.

    The chapter is read again, since an earlier section of it may have been rewritten before.
    """
    for place, text in sorted(fresh.items()):
        now = next(each for each in sections(section.chapter) if each.heading == section.heading)
        block = now.blocks[place]
        lines = section.chapter.read_text(encoding="utf-8").splitlines(keepends=True)
        count = len(block.text.splitlines())
        lines[block.line : block.line + count] = [text]
        section.chapter.write_text("".join(lines), encoding="utf-8")
