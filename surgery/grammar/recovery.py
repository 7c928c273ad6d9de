"""Reading on after a mistake: what is wrong with a statement, and as much of it as can be read.

In: the chunk of a text from one statement keyword to the next, which does not parse. Out: the
branches of the statements in it, one diagnostic for each mistake, and the holes where something
could not be read. Three ways to go on,
tried in this order:

1. as if the fix of the diagnostic had been applied;
2. without the field, alternative or step that is broken;
3. without the statement.

The first that leads past the mistake is taken; one that leads to another mistake on the same line
is not, for that would probably be the same one again. What comes after a fix that is not safe, or
without a field, counts as incomplete, so that nobody complains about what is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Label, Safety, Sink
from surgery.grammar import ast, front, patch, scan, statement_errors, word_errors
from surgery.grammar.front import MAX_DEPTH, Branch, Failure, TooDeep
from surgery.grammar.scan import Chunk, Lexeme
from surgery.grammar.syntax_errors import Finding, explain
from surgery.grammar.trouble import Trouble, entries
from surgery.source import Source, Span

_MAX_MISTAKES = 12
"""Mistakes that are looked for in one statement."""

_BUDGET = 150_000
"""Characters that may be read again, for all mistakes of a text together."""

_LONG = 15_000
"""Characters of a statement that is too long to be read again."""

_NAMING = frozenset((*scan.DEFINING, "as", "distill", "reinforce", "average"))

_Result: TypeAlias = Branch | Failure | TooDeep
_Lexemes: TypeAlias = tuple[Lexeme, ...]


class Part(Struct, frozen=True):
    """The lexemes of at least one statement; `after` is the keyword of the next, if there is one.

    The text of the part ends at `end`.
    """

    lexemes: tuple[Lexeme, ...]
    end: int
    after: Span | None


class _State(Struct):
    """A part as it is read by now: the edits that are made and the ranges that are left out.

    `line` is where the last mistake was reported. It was `guessed` how to go on unless all fixes
    were obvious.
    """

    part: Part
    edits: tuple[Edit, ...]
    lexemes: tuple[Lexeme, ...]
    masks: tuple[Span, ...] = ()
    doubtful: tuple[Span, ...] = ()
    line: int = 0
    guessed: bool = False


class Recovery(Struct):
    """Reads the statements of one source that do not parse.

    `base` are edits that have been reported already. Mistakes go to the sink until it holds
    `limit` of them, what could not be read to `unread` and `holes`.
    """

    source: Source
    base: tuple[Edit, ...]
    sink: Sink
    unread: list[ast.Unread]
    holes: list[Span]
    limit: int
    budget: int = _BUDGET

    def read(self, chunk: Chunk, after: Span | None) -> Iterator[Branch]:
        """The statements of a chunk, as far as they can be read."""
        whole = Part(chunk.lexemes, chunk.end, after)
        cuts = statement_errors.cuts(self.source, chunk.lexemes)
        pending = self._split(whole, cuts)[::-1]
        while pending:
            part = pending.pop()
            if len(self.sink.found) >= self.limit:
                self.lose(part.lexemes)
                continue
            result = front.read(part.lexemes, part.end)
            if isinstance(result, Branch) and self._hidden(part.lexemes) is None:
                yield result
                continue
            if isinstance(result, Failure):
                cut = statement_errors.cut_at(self.source, part.lexemes, result)
                if cut is not None:
                    pending += self._split(part, (cut,))[::-1]
                    continue
            branch = self._mend(part, result)
            if branch is not None:
                yield branch

    def nested(self, deep: Lexeme, lexemes: _Lexemes, limit: int) -> None:
        """Give up on a statement with too many brackets."""
        self.sink.report(_too_deep(Span(self.source, deep.start, deep.end), limit))
        self.lose(lexemes)

    def _split(self, part: Part, cuts: Sequence[int]) -> list[Part]:
        pieces: list[Part] = []
        bounds = [0, *cuts, len(part.lexemes)]
        for first, last in itertools.pairwise(bounds):
            end, after = part.end, part.after
            if last < len(part.lexemes):
                following = part.lexemes[last]
                end, after = following.start, Span(self.source, following.start, following.end)
            pieces.append(Part(part.lexemes[first:last], end, after))
        return pieces

    # ---- one statement -----------------------------------------------------------------------

    def _mend(self, part: Part, result: _Result) -> Branch | None:
        """Report what is wrong with a statement, and read it without that."""
        start = part.lexemes[0].start
        base = tuple(e for e in self.base if start <= e.span.start and e.span.end <= part.end)
        state = _State(part, base, part.lexemes)
        for _ in range(_MAX_MISTAKES):
            if isinstance(result, TooDeep):
                self.sink.report(_too_deep(Span(self.source, result.start, result.end), MAX_DEPTH))
                break
            if isinstance(result, Branch):
                hidden = self._hidden(state.lexemes)
                if hidden is None:
                    self.holes += state.doubtful
                    for mask in state.masks:
                        self.lose(_inside(part.lexemes, mask), part=True)
                    return result
                at = hidden.labels[0].span.start
                result = Failure(at, "NAME", frozenset())
            else:
                hidden = None
            step = self._explained(state, result, hidden)
            if step is None:
                break
            state, result = step
        self.lose(part.lexemes)
        return None

    def lose(self, lexemes: Sequence[Lexeme], *, part: bool = False) -> None:
        """Note what would have been defined by statements that are not read."""
        span = Span(self.source, lexemes[0].start, lexemes[-1].end)
        keyword = statement_errors.meant_by(lexemes)
        if not part and keyword:
            self.unread.append(ast.Unread(span, keyword, ""))
        elif not part:
            # It may have been anything.
            self.unread += (ast.Unread(span, word, "") for word in scan.STATEMENTS)
        self.unread += (ast.Unread(span, keyword, name) for name in _names(lexemes))

    def _explained(
        self, state: _State, failure: Failure, hidden: Diagnostic | None
    ) -> tuple[_State, _Result] | None:
        """Report a mistake; how to go on, or nothing when the statement is lost."""
        known = sum(each.end <= failure.start for each in state.lexemes)
        accepts = front.accepts(state.lexemes, known)
        trouble = Trouble(
            self.source,
            state.lexemes,
            Failure(failure.start, failure.kind, accepts),
            state.part.after,
            lambda edits: self._attempt(state, edits)[1],
        )
        finding = Finding(hidden, certain=True) if hidden else explain(trouble)
        line = finding.diagnostic.labels[0].span.first.line
        if state.line and not _another(state, trouble, finding):
            # There may be more below.
            return self._without(state, trouble, finding)
        self.sink.report(finding.diagnostic)
        state.line = max(line, state.line)
        return self._by_fix(state, trouble, finding) or self._without(state, trouble, finding)

    def _hidden(self, lexemes: tuple[Lexeme, ...]) -> Diagnostic | None:
        return word_errors.hidden(self.source, lexemes)

    # ---- going on ----------------------------------------------------------------------------

    def _attempt(self, state: _State, edits: tuple[Edit, ...]) -> tuple[_Lexemes, _Result]:
        """The statement with more edits."""
        start, end = state.part.lexemes[0].start, state.part.end
        self.budget -= end - start
        if self.budget < 0 or end - start > _LONG:
            return state.lexemes, Failure(start, "", frozenset())
        found = patch.lexemes(self.source, start, end, (*state.edits, *edits))
        kept = _masked((each for each in found if each.kind != "comment"), state.masks)
        return kept, front.read(kept, end)

    def _by_fix(
        self, state: _State, trouble: Trouble, finding: Finding
    ) -> tuple[_State, _Result] | None:
        """As if the fix had been applied; the first one when there are several."""
        diagnostic = finding.diagnostic
        fix = next((each.fix for each in diagnostic.helps if each.fix), None)
        if fix is None or diagnostic.code is catalog.E0107:
            return None
        lexemes, result = self._attempt(state, fix.edits)
        if not _better(trouble, finding, result, fix.edits[-1].span.end):
            return None
        doubtful = state.doubtful
        if fix.safety is not Safety.SAFE:
            doubtful = (*doubtful, _extent(fix))
        edits = (*state.edits, *fix.edits)
        guessed = state.guessed or fix.safety is Safety.UNSAFE
        found = _State(state.part, edits, lexemes, state.masks, doubtful, state.line, guessed)
        return found, result

    def _without(
        self, state: _State, trouble: Trouble, finding: Finding
    ) -> tuple[_State, _Result] | None:
        """Without the broken entry of a block: the one without which most can be read."""
        best: tuple[int, _State, _Result] | None = None
        for mask in self._entries(trouble, finding.diagnostic):
            masks = (*state.masks, mask)
            lexemes = _masked(state.lexemes, masks)
            size = state.part.end - state.part.lexemes[0].start
            if self.budget < 0 or size > _LONG or not lexemes:
                break
            self.budget -= size
            result = front.read(lexemes, state.part.end)
            if not _better(trouble, finding, result, mask.end):
                continue
            reached = result.start if isinstance(result, Failure) else state.part.end + 1
            if best is None or reached > best[0]:
                doubtful = (*state.doubtful, mask)
                found = _State(state.part, state.edits, lexemes, masks, doubtful, state.line, True)
                best = (reached, found, result)
            if finding.certain:
                break
        return best[1:] if best is not None else None

    def _entries(self, trouble: Trouble, diagnostic: Diagnostic) -> Iterator[Span]:
        """What may be left out, the likeliest first: where the mistake is, where it shows, and
        what comes before that."""
        primary = diagnostic.primary
        at = primary.span.start if primary else trouble.failure.start
        for opener in reversed(trouble.open):
            if trouble.lexemes[opener].text != "{":
                continue
            found = tuple(entries(trouble, opener))
            spans = [trouble.span(trouble.lexemes[a], trouble.lexemes[b - 1]) for a, b in found]
            shows = sum(span.start <= trouble.failure.start for span in spans)
            order = [n for n, span in enumerate(spans) if span.start <= at < span.end]
            order += [shows - 1, shows - 2]
            yield from (spans[n] for n in dict.fromkeys(order) if n >= 0)
            if shows > 1:
                yield spans[shows - 2].to(spans[shows - 1])


def _another(state: _State, trouble: Trouble, finding: Finding) -> bool:
    """Whether a mistake is not just what the last one that was reported has led to."""
    line = finding.diagnostic.labels[0].span.first.line
    if finding.certain:
        # A block that nothing closes is told at its end, but shown where it begins.
        unclosed = not state.guessed and _runs_out(trouble, finding.diagnostic)
        return line > state.line or unclosed
    braces = {"{", "}"} & {trouble.text(0), trouble.text(-1)}
    return line > state.line + 1 and not finding.guess and not braces


def _runs_out(trouble: Trouble, diagnostic: Diagnostic) -> bool:
    """Whether a block is not closed up to the end of its statement."""
    opener = trouble.opener
    if diagnostic.code is not catalog.E0102 or trouble.at(0) is not None or opener is None:
        return False
    return opener.text == "{" and "\n" in trouble.source.text[opener.start : trouble.failure.start]


def _masked(lexemes: Iterable[Lexeme], masks: Sequence[Span]) -> _Lexemes:
    return tuple(
        each
        for each in lexemes
        if not any(mask.start <= each.start and each.end <= mask.end for mask in masks)
    )


def _inside(lexemes: Sequence[Lexeme], span: Span) -> tuple[Lexeme, ...]:
    return tuple(each for each in lexemes if span.start <= each.start and each.end <= span.end)


def _extent(fix: Fix) -> Span:
    return fix.edits[0].span.to(fix.edits[-1].span)


def _better(trouble: Trouble, finding: Finding, result: _Result, past: int) -> bool:
    """Whether a way to go on leads past the mistake, and past the line that it is on."""
    if isinstance(result, Branch):
        return True
    if isinstance(result, TooDeep) or result.start <= trouble.failure.start:
        return False
    label = finding.diagnostic.primary
    last = max(label.span.start if label else 0, past)
    if not finding.certain:
        last = max(last, trouble.failure.start)
    # What is not finished is so because of this mistake, unless more was read since.
    return "\n" in trouble.source.text[last : min(result.start, trouble.lexemes[-1].start)]


def _names(lexemes: Sequence[Lexeme]) -> tuple[str, ...]:
    """Names that statements and steps would have defined, had they been read."""
    names: list[str] = []
    for n, (one, two) in enumerate(itertools.pairwise(lexemes)):
        if two.kind != "word" and two.text != "=":
            continue
        # The first word of a statement that does not exist may still be meant to define a name.
        if one.text in _NAMING or (n == 0 and one.text not in scan.STATEMENTS):
            names.append(two.text)
        elif one.kind == "word" and two.text in ("=", "on"):
            names.append(one.text)
    return tuple(dict.fromkeys(names))


def _too_deep(span: Span, limit: int) -> Diagnostic:
    """E0110 for brackets or operators."""
    label = Label(span, f"more than {limit} levels", primary=True)
    message = "this is nested too deeply, or too long a chain of operators"
    return Diagnostic(catalog.E0110, message, (label,))
