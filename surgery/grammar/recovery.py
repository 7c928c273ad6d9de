"""Reading on after a mistake: what is wrong with a statement, and as much of it as can be read.

In: the lexemes between two statement keywords. Out: the branches of the statements in them, one
diagnostic for each mistake, and the holes where something could not be read. Three ways to go on,
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

from msgspec import Struct, field

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Label, Safety
from surgery.grammar import ast, front, patch, scan, statement_errors, syntax_errors, word_errors
from surgery.grammar.front import MAX_DEPTH, Branch, Failure, TooDeep
from surgery.grammar.scan import Lexeme
from surgery.grammar.syntax_errors import explain
from surgery.grammar.trouble import Trouble, entries
from surgery.source import Source, Span

_MAX_MISTAKES = 12
"""Mistakes that are looked for in one statement."""

_BUDGET = 400_000
"""Characters that may be read again, for all mistakes of a text together."""

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

    `line` is where the last mistake was reported.
    """

    part: Part
    edits: tuple[Edit, ...]
    lexemes: tuple[Lexeme, ...]
    masks: tuple[Span, ...] = ()
    doubtful: tuple[Span, ...] = ()
    line: int = 0


class Recovery(Struct):
    """Reads the parts of one source; `base` are edits that have been reported already."""

    source: Source
    base: tuple[Edit, ...]
    found: list[Diagnostic] = field(default_factory=list[Diagnostic])
    unread: list[ast.Unread] = field(default_factory=list[ast.Unread])
    holes: list[Span] = field(default_factory=list[Span])
    budget: int = _BUDGET

    def read(self, part: Part) -> Iterator[Branch]:
        """The statements of a part, as far as they can be read."""
        result = front.read(part.lexemes, part.end)
        if isinstance(result, Branch) and self._hidden(part.lexemes) is None:
            yield result
            return
        pending = self._split(part, statement_errors.cuts(self.source, part.lexemes))[::-1]
        while pending:
            piece = pending.pop()
            result = front.read(piece.lexemes, piece.end)
            hidden = isinstance(result, Branch) and self._hidden(piece.lexemes)
            if isinstance(result, Branch) and not hidden:
                yield result
                continue
            if isinstance(result, Failure):
                cut = statement_errors.cut_at(self.source, piece.lexemes, result)
                if cut is not None:
                    pending += self._split(piece, (cut,))[::-1]
                    continue
            branch = self._mend(piece, result)
            if branch is not None:
                yield branch

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
                self.found.append(too_deep(Span(self.source, result.start, result.end), MAX_DEPTH))
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
        finding = syntax_errors.Finding(hidden, certain=True) if hidden else explain(trouble)
        diagnostic = finding.diagnostic
        line = diagnostic.labels[0].span.first.line
        if state.line and not (finding.certain and line > state.line):
            # Probably the mistake that has been reported already; there may be more below it.
            return self._without(state, trouble, diagnostic)
        self.found.append(diagnostic)
        state.line = max(line, state.line)
        return self._by_fix(state, trouble, diagnostic) or self._without(state, trouble, diagnostic)

    def _hidden(self, lexemes: tuple[Lexeme, ...]) -> Diagnostic | None:
        return word_errors.hidden(self.source, lexemes)

    # ---- going on ----------------------------------------------------------------------------

    def _attempt(self, state: _State, edits: tuple[Edit, ...]) -> tuple[_Lexemes, _Result]:
        """The statement with more edits."""
        start, end = state.part.lexemes[0].start, state.part.end
        self.budget -= end - start
        if self.budget < 0:
            return state.lexemes, Failure(start, "", frozenset())
        found = patch.lexemes(self.source, start, end, (*state.edits, *edits))
        kept = _masked((each for each in found if each.kind != "comment"), state.masks)
        return kept, front.read(kept, end)

    def _by_fix(
        self, state: _State, trouble: Trouble, diagnostic: Diagnostic
    ) -> tuple[_State, _Result] | None:
        """As if the fix had been applied; the first one when there are several."""
        fix = next((each.fix for each in diagnostic.helps if each.fix), None)
        if fix is None or diagnostic.code is catalog.E0107:
            return None
        lexemes, result = self._attempt(state, fix.edits)
        if not _better(trouble, diagnostic, result, fix.edits[-1].span.end):
            return None
        doubtful = state.doubtful
        if fix.safety is not Safety.SAFE:
            doubtful = (*doubtful, _extent(fix))
        edits = (*state.edits, *fix.edits)
        return _State(state.part, edits, lexemes, state.masks, doubtful, state.line), result

    def _without(
        self, state: _State, trouble: Trouble, diagnostic: Diagnostic
    ) -> tuple[_State, _Result] | None:
        """Without the broken entry of a block: the one without which most can be read."""
        best: tuple[int, _State, _Result] | None = None
        for mask in self._entries(trouble, diagnostic):
            masks = (*state.masks, mask)
            lexemes = _masked(state.lexemes, masks)
            if self.budget < 0 or not lexemes:
                break
            self.budget -= state.part.end - state.part.lexemes[0].start
            result = front.read(lexemes, state.part.end)
            if not _better(trouble, diagnostic, result, mask.end):
                continue
            reached = result.start if isinstance(result, Failure) else state.part.end + 1
            if best is None or reached > best[0]:
                doubtful = (*state.doubtful, mask)
                found = _State(state.part, state.edits, lexemes, masks, doubtful, state.line)
                best = (reached, found, result)
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


def _better(trouble: Trouble, diagnostic: Diagnostic, result: _Result, past: int) -> bool:
    """Whether a way to go on leads past the mistake, and past the line that it is on."""
    if isinstance(result, Branch):
        return True
    if isinstance(result, TooDeep) or result.start <= trouble.failure.start:
        return False
    label = diagnostic.primary
    last = max(trouble.failure.start, label.span.start if label else 0, past)
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


def too_deep(span: Span, limit: int) -> Diagnostic:
    """E0110 for brackets or operators."""
    label = Label(span, f"more than {limit} levels", primary=True)
    message = "this is nested too deeply, or too long a chain of operators"
    return Diagnostic(catalog.E0110, message, (label,))
