"""The one layout of a spec, and so the style guide of the language.

In: a `Source`. Out: its text in the one layout, or `None` and findings when it does not parse.
There are no options. Formatting changes no meaning and loses no comment: every token is printed
once and in order, and only commas, redundant parentheses and blanks come and go.

Lines
  Lines have at most 100 columns and end in a newline (no carriage return, no byte order mark, no
  blank at the end). A step of indentation is two spaces. A blank line stands below `surg 1`.
  Elsewhere blank lines between statements, and between the entries of a block, are the writer's:
  several become one, and those at the begin or end of a block or file go.

Statements
  One statement, one line, in the order in which they were written. The message of an `expect` or
  `require` has its own line: `else "..."`, indented.

Blocks
  A block that was written on one line stays there if it fits, with commas: `{ a = 1, b = 2 }`.
  Otherwise each field has its line and no comma, except before a field that is called like a
  keyword (`model = 1`), where the language wants one. `choose` and `recover` always have a line for
  each alternative and step.

Columns
  Neighbours share a column: the `=` of the fields of a block and of statements with the same
  keyword (`model`, `input`, `let`, `machine`, `dataset`, `score`), the condition behind the label
  of an `expect` or `require`, the first clause of alternatives if it is the same (`by`, `init`,
  `when`), and comments at the ends of lines. A blank line or a comment line ends a run, so that a
  change moves as little else as possible; and where names are so long that the column would be
  beyond 50, nothing is aligned. Arguments, parameters and imports never are.

Long lines
  What does not fit breaks at its outermost level first, and there everywhere:
  * between brackets, one item per line, with a comma after the last one;
  * operators of one level (`or`; `and`; comparisons; `+ -`; `* / %`), a line before each; what
    follows a bracket that had to break may stay behind it (`) >= 8 layers`);
  * `if`, before `then` and `else`; a selector, before each `where` and `except`, and then the brace
    of its block has its own line too;
  * an alternative, before each clause, and if that is not enough, before each `|`.
  Nothing breaks after `=` or inside a name, number, string or comment, however long.

Spelling
  Numbers and units stay as written. One blank around every operator and `=`, none inside `(...)`,
  `[...]`, around `..` and `.`, or before `:` and `,`. Parentheses around a whole value or a single
  thing go, doubled ones become one pair; those around an operation inside another stay, needed or
  not: `a or (b and c)` may be easier to read.

Comments
  A comment stays between the tokens between which it stood, at the end of its line or on a line of
  its own as before, letter by letter; two blanks separate it from code. It does not count when
  lines are measured, so writing one never breaks code. `##` stays above what it documents.

Why not rebuild the text from the tree alone? It has neither comments nor parentheses. Why not from
the tokens alone? They do not know what belongs together. So the tree decides, and every token it
prints is taken from the text (`tokens.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from surgery.diagnostics import Sink
from surgery.formatting import columns
from surgery.formatting.changes import Replacement, minimal_edits, unified_diff
from surgery.formatting.layout import lay_out
from surgery.formatting.statements import StatementPrinter
from surgery.grammar import scan
from surgery.grammar.parse import parse
from surgery.grammar.scan import Lexeme
from surgery.source import Source

__all__ = ["Replacement", "format_range", "format_text", "minimal_edits", "unified_diff"]


def format_text(source: Source, sink: Sink) -> str | None:
    """The text of a spec in its one layout, or `None` and findings if it does not parse."""
    found = Sink()
    tree = parse(source, found)
    sink.extend(found.found)
    if found.failed:
        return None
    before = scan.lexemes(source.text, 1 if source.text.startswith("\ufeff") else 0)
    text = columns.text(lay_out(StatementPrinter(source.text, before).spec(tree)))
    assert _kept(scan.lexemes(text)) == _kept(before), "formatting would change the spec"
    return text


def format_range(
    source: Source, start: int, end: int, sink: Sink
) -> tuple[Replacement, ...] | None:
    """What `format_text` would change in the lines of [start, end), or `None` and findings."""
    text = format_text(source, sink)
    if text is None:
        return None
    edits = minimal_edits(source.text, text)
    return tuple(edit for edit in edits if edit.start <= end and start <= edit.end)


def _kept(lexemes: Sequence[Lexeme]) -> list[str]:
    """What formatting must not touch, in order: all but commas, parentheses and blanks."""
    return [each.text.rstrip().replace("\t", " ") for each in lexemes if each.text not in "(),"]
