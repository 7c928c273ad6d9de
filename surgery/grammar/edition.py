"""The first statement of a spec: `surg 1` (E0003).

In: the chunks of a text. Out: what is wrong with its edition, and the chunks without it. The
parser knows one edition; a second one would choose its grammar here.
"""

from __future__ import annotations

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar.near import nearest
from surgery.grammar.scan import STATEMENTS, Chunk
from surgery.source import Source, Span

EDITION = "1"


def problems(source: Source, found: tuple[Chunk, ...]) -> tuple[Diagnostic, ...]:
    """Findings about the edition: at most one about the first line and one about others."""
    again = [
        _report(_span(source, chunk), "the edition is given again", "only the first line says it")
        for chunk in found[1:]
        if chunk.keyword == "surg"
    ][:1]
    if not found or not _is_edition(found[0]):
        return (_missing(source, found), *again)
    words = [each.text for each in found[0].lexemes[:2]]
    if words != ["surg", EDITION]:
        return (_unknown(source, found[0]), *again)
    return tuple(again)


def without(found: tuple[Chunk, ...]) -> tuple[Chunk, ...]:
    """The chunks that are not about the edition, and what else stood in its chunk."""
    rest = tuple(chunk for chunk in found[1:] if chunk.keyword != "surg")
    if not found:
        return ()
    if not _is_edition(found[0]):
        return (found[0], *rest)
    more = found[0].lexemes[2:]
    if not more:
        return rest
    keyword = more[0].text if more[0].text in STATEMENTS[1:] else ""
    return (Chunk(keyword, more[0].start, found[0].end, more), *rest)


def _is_edition(chunk: Chunk) -> bool:
    """Whether this is meant as an edition, misspelt or not."""
    first, *rest = chunk.lexemes
    if chunk.keyword == "surg":
        return True
    return (
        not chunk.keyword
        and bool(rest)
        and rest[0].kind == "number"
        and bool(nearest(first.text, ("surg",)))
    )


def _span(source: Source, chunk: Chunk) -> Span:
    return Span(source, chunk.start, chunk.lexemes[min(1, len(chunk.lexemes) - 1)].end)


def _report(span: Span, message: str, text: str, *helps: Help) -> Diagnostic:
    return Diagnostic(catalog.E0003, message, (Label(span, text, primary=True),), helps=helps)


def _missing(source: Source, found: tuple[Chunk, ...]) -> Diagnostic:
    start = 1 if source.text.startswith("\ufeff") else 0
    span = Span(source, start, start)
    if found:
        first = found[0].lexemes[0]
        span = Span(source, first.start, first.end)
    fix = Fix((Edit(Span(source, start, start), f"surg {EDITION}\n\n"),), Safety.SAFE)
    return _report(
        span,
        "a spec begins with its edition",
        f"expected `surg {EDITION}` before this",
        Help(f"begin the file with `surg {EDITION}`", fix),
    )


def _unknown(source: Source, chunk: Chunk) -> Diagnostic:
    span = _span(source, chunk)
    fix = Fix((Edit(span, f"surg {EDITION}"),), Safety.SAFE)
    return _report(
        span,
        f"`{span.text}` names no edition that exists",
        f"the only edition is {EDITION}",
        Help(f"write `surg {EDITION}`", fix),
    )
