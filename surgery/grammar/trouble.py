"""Where a parse failed and what stands around it: what every explanation looks at.

In: the lexemes of a statement and the `Failure` of the parser in them. Out: `Trouble`, with the
neighbours of the failure, the brackets that are open there, and the entries of a block. Explains
nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from msgspec import Struct

from surgery.diagnostics import Code, Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar.front import Branch, Failure, TooDeep
from surgery.grammar.scan import FUTURE, OPERATOR_WORDS, RESERVED, STATEMENTS, Lexeme
from surgery.source import Source, Span

CLOSER = {"(": ")", "[": "]", "{": "}"}
"""What closes each bracket."""

_CONTINUE = frozenset({*OPERATOR_WORDS, "by", "init", "when", "where", "except", "in", "on", "as"})
_COMPARISONS = ("<", ">", "<=", ">=", "==", "!=")
_OPEN_ENDED = frozenset(
    (*("=", "+", "-", "*", "/", "%", "|", ",", ":", ".", "..", "(", "["), *_COMPARISONS)
)


class Trouble(Struct, frozen=True, dict=True):
    """A statement that does not parse.

    `lexemes` are those of the statement, without comments; `after` is the keyword of the next
    statement, if there is one. `attempt` reads the statement as some edits would leave it.
    """

    source: Source
    lexemes: tuple[Lexeme, ...]
    failure: Failure
    after: Span | None
    attempt: Callable[[tuple[Edit, ...]], Branch | Failure | TooDeep]

    @cached_property
    def index(self) -> int:
        """The number of the lexeme at the failure; one past the last at the end."""
        ends = enumerate(self.lexemes)
        return next((n for n, each in ends if each.end > self.failure.start), len(self.lexemes))

    @property
    def keyword(self) -> str:
        """What the statement begins with."""
        return self.lexemes[0].text

    def at(self, offset: int) -> Lexeme | None:
        """The lexeme so many places from the failure."""
        n = self.index + offset
        return self.lexemes[n] if 0 <= n < len(self.lexemes) else None

    def text(self, offset: int) -> str:
        """The text of that lexeme, or nothing."""
        found = self.at(offset)
        return found.text if found is not None else ""

    def span(self, one: Lexeme, two: Lexeme | None = None) -> Span:
        """Where a lexeme stands, or everything from one to another."""
        return Span(self.source, one.start, (two or one).end)

    def same_line(self, one: Lexeme, two: Lexeme) -> bool:
        """Whether nothing but blanks of one line stands between two neighbours."""
        return not self.source.text[one.end : two.start].strip(" \t")

    def first_on_line(self, n: int) -> bool:
        """Whether the lexeme of that number begins a line."""
        if n == 0:
            return True
        gap = self.source.text[self.lexemes[n - 1].end : self.lexemes[n].start]
        return "\n" in gap

    def accepts(self, *kinds: str) -> bool:
        """Whether any of these terminals would have been accepted."""
        return not self.failure.accepts.isdisjoint(kinds)

    def only(self, *kinds: str) -> bool:
        """Whether nothing but these terminals would have been accepted."""
        return self.failure.accepts == frozenset(kinds)

    @cached_property
    def open(self) -> tuple[int, ...]:
        """The numbers of the brackets that are open at the failure, the innermost last."""
        return open_before(self.lexemes, self.index)

    @cached_property
    def pairs(self) -> dict[int, int]:
        """The closer of every bracket of the statement that has one, by number."""
        return paired(self.lexemes)

    @property
    def opener(self) -> Lexeme | None:
        """The innermost bracket that is open at the failure."""
        return self.lexemes[self.open[-1]] if self.open else None

    @property
    def in_block(self) -> bool:
        """Whether the failure is directly inside a block."""
        return bool(self.open) and self.lexemes[self.open[-1]].text == "{"

    def gets_further(self, edits: tuple[Edit, ...]) -> int:
        """Where the statement fails after some edits; beyond everything if it does not.

        A statement that is merely not finished fails at its end.
        """
        result = self.attempt(edits)
        if isinstance(result, Branch):
            return len(self.source.text) + 1
        return result.start if isinstance(result, Failure) else -1

    def mends(self, edits: tuple[Edit, ...]) -> bool:
        """Whether some edits leave nothing wrong up to the end of the line."""
        reached = self.gets_further(edits)
        if reached <= self.failure.start:
            return False
        end = min(reached, self.lexemes[-1].end)
        return reached > len(self.source.text) or "\n" in self.source.text[self.failure.start : end]


def report(
    code: Code,
    message: str,
    span: Span,
    text: str,
    *others: Label,
    helps: tuple[Help, ...] = (),
    notes: tuple[str, ...] = (),
) -> Diagnostic:
    """A diagnostic with one primary label."""
    labels = (Label(span, text, primary=True), *others)
    return Diagnostic(code, message, labels, notes=notes, helps=helps)


def change(say: str, span: Span, text: str, safety: Safety = Safety.UNSAFE) -> tuple[Help, ...]:
    """One help that replaces a span."""
    return (Help(say, Fix((Edit(span, text),), safety)),)


def insert(
    say: str, source: Source, at: int, text: str, safety: Safety = Safety.UNSAFE
) -> tuple[Help, ...]:
    """One help that inserts a text."""
    return change(say, Span(source, at, at), text, safety)


# ---- brackets and blocks ---------------------------------------------------------------------


def open_before(lexemes: Sequence[Lexeme], end: int) -> tuple[int, ...]:
    """The numbers of the brackets that are open before the lexeme of that number."""
    stack: list[int] = []
    for n, lexeme in enumerate(lexemes[:end]):
        if lexeme.kind != "mark":
            continue
        if lexeme.text in CLOSER:
            stack.append(n)
        elif lexeme.text in CLOSER.values() and stack:
            stack.pop()
    return tuple(stack)


def paired(lexemes: Sequence[Lexeme]) -> dict[int, int]:
    """Each bracket and its closer; a closer of another kind leaves it without one."""
    stack: list[int] = []
    pairs: dict[int, int] = {}
    for n, lexeme in enumerate(lexemes):
        if lexeme.kind != "mark":
            continue
        if lexeme.text in CLOSER:
            stack.append(n)
        elif lexeme.text in CLOSER.values():
            same = [m for m in stack if CLOSER[lexemes[m].text] == lexeme.text]
            if same:
                pairs[same[-1]] = n
                del stack[stack.index(same[-1]) :]
    return pairs


def entries(trouble: Trouble, opener: int) -> Iterator[tuple[int, int]]:
    """The fields, alternatives or steps of a block, each as a range of numbers of lexemes."""
    lexemes = trouble.lexemes
    end = trouble.pairs.get(opener, len(lexemes))
    start, n, depth = opener + 1, opener + 1, 0
    while n < end:
        if n > start and _begins_entry(trouble, n, depth):
            yield start, n
            start, depth = n, 0
        text = lexemes[n].text if lexemes[n].kind == "mark" else ""
        if text == "{":
            n = max(n, min(trouble.pairs.get(n, n), end - 1))
        depth += (text in ("(", "[")) - (text in (")", "]"))
        n += 1
    if start < end:
        yield start, end


def _begins_entry(trouble: Trouble, n: int, depth: int) -> bool:
    lexeme, before = trouble.lexemes[n], trouble.lexemes[n - 1]
    following = trouble.lexemes[n + 1].text if n + 1 < len(trouble.lexemes) else ""
    if lexeme.kind == "word" and following == "=" and before.text != ".":
        return depth <= 0 or trouble.first_on_line(n)
    if depth > 0 or not trouble.first_on_line(n):
        return before.text == "," and depth <= 0 and trouble.keyword != "choose"
    if lexeme.kind != "word" or lexeme.text in _CONTINUE:
        return False
    return before.text not in _OPEN_ENDED and before.text not in OPERATOR_WORDS


def begins_statement(text: str, lexemes: Sequence[Lexeme], n: int) -> bool:
    """Whether a statement begins at the lexeme of that number, in column 0 or not."""
    lexeme = lexemes[n]
    if lexeme.text not in STATEMENTS and lexeme.text not in FUTURE:
        return False
    line = text.rfind("\n", 0, lexeme.start) + 1
    if text[line : lexeme.start].strip(" \t\ufeff"):
        return False
    following = lexemes[n + 1] if n + 1 < len(lexemes) else None
    if following is None:
        return True
    if lexeme.text in ("minimize", "maximize"):
        return following.text not in ("=", ")", "]", ",", ".")
    if lexeme.text == "recover":
        return following.text == "{"
    if following.kind == "mark":
        return following.text.startswith("@") or lexeme.text in ("expect", "require")
    return following.kind != "word" or following.text not in RESERVED
