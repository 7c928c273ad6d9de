"""Where a fix may cut or write: whole statements, free names, the lines above a statement.

In: nodes of a tree. Out: spans, edits and names that rules make their fixes of. Not here: any rule.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from surgery.checking.modules import definitions
from surgery.checking.tables import BUILT_IN
from surgery.diagnostics import Edit
from surgery.grammar import ast, scan
from surgery.source import Span


def removal(item: ast.Item, tree: ast.Spec) -> Edit:
    """Take a statement away: its lines, the doc comment and directives above, one blank line.

    Plain comments above stay, because they may be about more. A statement that shares its lines
    with others leaves these as they are.
    """
    source, text = item.span.source, item.span.source.text
    start, end = item.span.start, item.span.end
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end + 1
    before, after = text[line_start:start].strip("\ufeff \t"), text[end:line_end].strip()
    if before or (after and not after.startswith("#")):
        return Edit(item.span, "")
    start = max(_block_start(item, tree), 1 if text.startswith("\ufeff") else 0)
    end = line_end
    if _blank_before(text, start):
        while _blank_at(text, end):
            end = text.find("\n", end) + 1
        if not text[end:].strip():
            # The last statement: the blank line before it goes instead.
            start, end = len(text[:start].rstrip()), len(text)
            return Edit(Span(source, start, end), "\n" if start else "")
    return Edit(Span(source, start, end), "")


def removals(items: Collection[ast.Item], tree: ast.Spec) -> tuple[Edit, ...]:
    """Take several statements away; what they leave between them goes too."""
    merged: list[Edit] = []
    for each in sorted((removal(item, tree) for item in items), key=lambda e: e.span.start):
        edit = each
        # The last statement of a file takes blank lines that those before it take as well.
        while merged and merged[-1].span.end > edit.span.start:
            source, start = edit.span.source, merged.pop().span.start
            start = len(source.text[:start].rstrip()) if edit.text else start
            edit = Edit(Span(source, start, edit.span.end), edit.text if start else "")
        merged.append(edit)
    return tuple(merged)


def _block_start(item: ast.Item, tree: ast.Spec) -> int:
    """The start of the first line of the docs and directives directly above, or of the item's."""
    source, alone = item.span.source, tree.alone
    line = item.span.first.line
    while (above := alone.get(line - 1)) and (above.doc or above.text.startswith("surg:")):
        line -= 1
    return start_of_line(source.text, alone[line].span.start if line in alone else item.span.start)


def _blank_before(text: str, offset: int) -> bool:
    """Whether the line before this offset is blank, or there is none."""
    if not text[:offset].strip("\ufeff \t\r\n"):
        return True
    return not text[text.rfind("\n", 0, offset - 1) + 1 : offset].strip()


def _blank_at(text: str, offset: int) -> bool:
    """Whether the line that begins at this offset is there and blank."""
    end = text.find("\n", offset)
    return end >= 0 and not text[offset:end].strip()


def start_of_line(text: str, offset: int) -> int:
    """Where the line of an offset begins, after a byte order mark."""
    start = text.rfind("\n", 0, offset) + 1
    return start + 1 if text[start : start + 1] == "\ufeff" else start


def above(item: ast.Item, tree: ast.Spec) -> Span:
    """An empty place before a statement and all comments that stand directly above it."""
    source, alone = item.span.source, tree.alone
    line, start = item.span.first.line, item.span.start
    while line - 1 in alone:
        line -= 1
        start = alone[line].span.start
    start = start_of_line(source.text, start)
    return Span(source, start, start)


def clause(word: str, condition: ast.Expr, start: int) -> Span:
    """`where CONDITION` with its parentheses and the blanks before; `start` lies before it."""
    source, text = condition.span.source, condition.span.source.text
    at = text.rfind(word, start, condition.span.start)
    end = condition.span.end
    for _ in range(text.count("(", at, condition.span.start)):
        end = text.index(")", end) + 1
    return Span(source, len(text[:at].rstrip()), end)


def taken(tree: ast.Spec) -> set[str]:
    """Names that a new definition cannot have."""
    params = (
        each.name.text for item in tree.items if isinstance(item, ast.Fn) for each in item.params
    )
    names = (item.name.text for item in definitions(tree))
    return {*BUILT_IN, *scan.RESERVED, *params, *names, *loose_words(tree)}


def free(wanted: str, used: Collection[str], joint: str = "_") -> str:
    """A name or label that nothing has yet: the wanted one, or with a number."""
    number, name = 1, wanted
    while name in used:
        number += 1
        name = f"{wanted}{joint}{number}"
    return name


def loose_words(tree: ast.Spec) -> Iterator[str]:
    """Words outside of everything that was read: they may mean anything."""
    text = tree.span.source.text
    at = 0
    # Looking between the statements only, because they are nearly all of the text.
    for start, end in (*sorted((i.span.start, i.span.end) for i in tree.items), (len(text),) * 2):
        yield from _words(text[at:start])
        at = max(at, end)
    for hole in tree.holes:
        yield from _words(hole.text)


def _words(text: str) -> Iterator[str]:
    return (each.text for each in scan.lexemes(text) if each.kind == "word")
