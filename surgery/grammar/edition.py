"""The first statement of a spec: `surg 1` (E0003).

In: the chunks of a text. Out: what is wrong with its edition, and the chunks without it. The
parser knows one edition; a second one would choose its grammar here.
"""

from __future__ import annotations

import itertools

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar.near import nearest
from surgery.grammar.scan import STATEMENTS, Chunk, Lexeme
from surgery.source import Source, Span

EDITION = "1"


def problems(source: Source, found: tuple[Chunk, ...]) -> tuple[Diagnostic, ...]:
    """Findings about the edition: at most one about the first line, and one for each other."""
    again = tuple(_again(source, chunk) for chunk in found[1:] if chunk.keyword == "surg")
    given = _given(source, found)
    words = [each.text for each in given]
    if words == ["surg", EDITION]:
        return again
    if not given:
        # An edition further down is the one that is missing here.
        return (_missing(source, found, again),)
    return (_unknown(Span(source, given[0].start, given[-1].end)), *again)


def without(source: Source, found: tuple[Chunk, ...]) -> tuple[Chunk, ...]:
    """The chunks that are not about the edition, and what else stood in its chunk."""
    rest = tuple(chunk for chunk in found[1:] if chunk.keyword != "surg")
    if not found:
        return ()
    more = found[0].lexemes[len(_given(source, found)) :]
    if not more:
        return rest
    keyword = more[0].text if more[0].text in STATEMENTS[1:] else ""
    return (Chunk(keyword, more[0].start, found[0].end, more), *rest)


def _given(source: Source, found: tuple[Chunk, ...]) -> tuple[Lexeme, ...]:
    """The lexemes that are meant as the edition, misspelt or not; none if there are none."""
    if not found:
        return ()
    lexemes = found[0].lexemes
    line = [lexemes[0]]
    for one, two in itertools.pairwise(lexemes):
        if "\n" in source.text[one.end : two.start]:
            break
        line.append(two)
    words = [each.text for each in line[:3]]
    if "surg" in words:
        last = words.index("surg")
        while last + 1 < min(len(line), 4) and line[last].kind != "number":
            if line[last + 1].text in STATEMENTS:
                break
            last += 1
        return tuple(line[: last + 1])
    if len(line) == 2 and line[1].kind == "number" and not _statement(line[0]):
        return tuple(line)
    near = bool(nearest(words[0], ("surg",)))
    return tuple(line[:2]) if near and len(line) > 1 and line[1].kind == "number" else ()


def _statement(first: Lexeme) -> bool:
    """Whether a statement other than the edition begins like this."""
    return bool(nearest(first.text, STATEMENTS[1:]))


def _again(source: Source, chunk: Chunk) -> Diagnostic:
    last = chunk.lexemes[min(1, len(chunk.lexemes) - 1)]
    span = Span(source, chunk.start, last.end)
    end = source.text.find("\n", span.end)
    line = Span(source, span.start, len(source.text) if end < 0 else end + 1)
    whole = span if source.text[span.end : line.end].strip() else line
    helps = (Help("remove it", Fix((Edit(whole, ""),), Safety.SAFE)),)
    return _report(span, "the edition is given again", "only the first line says it", *helps)


def _report(span: Span, message: str, text: str, *helps: Help) -> Diagnostic:
    return Diagnostic(catalog.E0003, message, (Label(span, text, primary=True),), helps=helps)


def _missing(source: Source, found: tuple[Chunk, ...], again: tuple[Diagnostic, ...]) -> Diagnostic:
    start = 1 if source.text.startswith("\ufeff") else 0
    span = Span(source, start, start)
    if found:
        first = found[0].lexemes[0]
        span = Span(source, first.start, first.end)
    edits = [Edit(Span(source, start, start), f"surg {EDITION}\n\n")]
    labels: tuple[Label, ...] = (Label(span, f"expected `surg {EDITION}` before this", True),)
    for other in again:
        edits += other.helps[0].fix.edits if other.helps[0].fix else ()
        labels += (Label(other.labels[0].span, "it belongs into the first line"),)
    helps = (Help(f"begin the file with `surg {EDITION}`", Fix(tuple(edits), Safety.SAFE)),)
    message = "a spec begins with its edition"
    return Diagnostic(catalog.E0003, message, labels, helps=helps)


def _unknown(span: Span) -> Diagnostic:
    fix = Fix((Edit(span, f"surg {EDITION}"),), Safety.SAFE)
    return _report(
        span,
        f"`{span.text}` names no edition that exists",
        f"the only edition is {EDITION}",
        Help(f"write `surg {EDITION}`", fix),
    )
