"""Colours for specs in documents and terminals: a lexer for Pygments.

In: any text. Out: Pygments tokens that together are the text. Pygments finds it by the entry point
`surg`, so `pygmentize -l surg`, Sphinx and Markdown processors colour specs once surgery is
installed. Nothing else imports this module, and Pygments is no dependency of surgery. Not here:
whether a spec is right; what cannot be a token is `Error`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, TypeAlias

from pygments.lexer import Lexer, RegexLexer, include
from pygments.token import (
    Comment,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Whitespace,
)

from surgery import lexicon
from surgery.lexicon import NAME, words

__all__ = ["SurgLexer"]

_Kind: TypeAlias = tuple[str, ...]
_Tokens: TypeAlias = Iterator[tuple[int, _Kind, str]]


def _groups(*kinds: _Kind) -> Callable[[Lexer, re.Match[str]], _Tokens]:
    """A token for each group of a match."""

    def tokens(_lexer: Lexer, match: re.Match[str]) -> _Tokens:
        for number, kind in enumerate(kinds, 1):
            if match[number]:
                yield match.start(number), kind, match[number]

    return tokens


class SurgLexer(RegexLexer):
    """Tokens of `.surg` files, the declarative language for model surgery."""

    name = "Surg"
    aliases: ClassVar[Sequence[str]] = ["surg"]
    filenames: ClassVar[Sequence[str]] = ["*.surg"]
    mimetypes: ClassVar[Sequence[str]] = ["text/x-surg"]
    flags = re.MULTILINE

    tokens: ClassVar[dict[str, list[object]]] = {
        "root": [
            include("blanks"),
            include("statements"),
            include("words"),
            include("marks"),
        ],
        "blanks": [
            # Line ends apart, so that `^` can match behind them.
            (r"\n+", Whitespace),
            (r"[ \t\r\ufeff]+", Whitespace),
            (lexicon.DIRECTIVE, Comment.Preproc),
            (lexicon.DOC, Comment.Special),
            (lexicon.COMMENT, Comment.Single),
        ],
        "statements": [
            (
                rf"({words(['fn'])})(\s+)({NAME})",
                _groups(Keyword.Declaration, Whitespace, Name.Function),
                "signature",
            ),
            (
                rf"({words(['input'])})(\s+)({NAME})(\s*)(:)(\s*)({NAME})",
                _groups(
                    Keyword.Declaration,
                    Whitespace,
                    Name.Variable,
                    Whitespace,
                    Punctuation,
                    Whitespace,
                    Keyword.Type,
                ),
            ),
            (
                rf"({words(lexicon.NAMING)})(\s+)({NAME})",
                _groups(Keyword.Declaration, Whitespace, Name.Variable),
            ),
            (rf"({words(['as'])})(\s+)({NAME})", _groups(Keyword, Whitespace, Name.Namespace)),
            (
                rf"({words(['choose'])})(\s+)({NAME})",
                _groups(Keyword, Whitespace, Name.Class),
                "choose",
            ),
            (
                rf"({words(lexicon.SITED)})(\s+)({NAME})",
                _groups(Keyword, Whitespace, Name.Class),
            ),
            (lexicon.STEP, Name.Class),
        ],
        "words": [
            (lexicon.STRING, String.Double),
            (lexicon.NUMBER, Number),
            (lexicon.LABEL, Name.Label),
            (rf"(\.(?!\.))(\s*)({NAME})", _groups(Operator, Whitespace, Name.Property)),
            (lexicon.FIELD, Name.Attribute),
            (
                rf"([(,])(\s*)({lexicon.ARGUMENT})",
                _groups(Punctuation, Whitespace, Name.Attribute),
            ),
            (
                rf"({words(['is'])})(\s+)({words(['not'])})(\s+)({NAME})",
                _groups(Operator.Word, Whitespace, Operator.Word, Whitespace, Name.Constant),
            ),
            (
                rf"({words(['is'])})(\s+)(?!not\b)({NAME})",
                _groups(Operator.Word, Whitespace, Name.Constant),
            ),
            (lexicon.FOLD, Name.Builtin),
            (words(lexicon.OPERATORS), Operator.Word),
            (words(lexicon.STATEMENTS), Keyword),
            (words(lexicon.CLAUSES), Keyword),
            (words(lexicon.RESERVED), Keyword.Reserved),
            (lexicon.FUNCTION, Name.Builtin),
            (lexicon.KNOWN, Name.Builtin.Pseudo),
            (NAME, Name),
        ],
        "marks": [
            (lexicon.OPERATOR, Operator),
            (lexicon.PUNCTUATION, Punctuation),
        ],
        "signature": [
            include("blanks"),
            (rf"{NAME}(?=\s*:)", Name.Variable),
            (NAME, Keyword.Type),
            (r"=", Operator, "#pop"),
            include("marks"),
        ],
        "choose": [
            (r"\{", Punctuation, ("#pop", "alternatives")),
            include("root"),
        ],
        "alternatives": [
            (rf"^([ \t]*)({lexicon.EDIT})", _groups(Whitespace, Name.Function)),
            (rf"(?<=\{{)(\s*)({lexicon.EDIT})", _groups(Whitespace, Name.Function)),
            (r"\}", Punctuation, "#pop"),
            include("root"),
        ],
    }

    @staticmethod
    def analyse_text(text: str) -> float:
        """How sure it is that a text is a spec: its first statement says so."""
        return 0.8 if re.search(r"^surg [0-9]+$", text, re.MULTILINE) else 0.0
