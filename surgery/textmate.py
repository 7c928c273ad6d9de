"""Colours for specs in editors: the TextMate grammar, made from the vocabulary.

In: nothing. Out: `grammar/surg.tmLanguage.json`, which VS Code, Sublime Text, GitHub and others
read; `python -m surgery.textmate` prints it, and a test compares it with the file. TextMate matches
line by line, so what is written over several lines gets the same scopes where a word alone says
what it is. Scopes have the names that themes know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from surgery import lexicon
from surgery.lexicon import NAME, words

Json: TypeAlias = "str | Mapping[str, Json] | Sequence[Json]"

PATH = Path(__file__).parent / "grammar" / "surg.tmLanguage.json"
"""Where the grammar is kept."""


def grammar() -> Mapping[str, Json]:
    """The grammar as plain values."""
    root = _include("comments", "statements", "words", "marks")
    return {
        "name": "Surg",
        "scopeName": "source.surg",
        "fileTypes": ["surg"],
        "patterns": root,
        "repository": {
            "comments": {"patterns": _comments()},
            "statements": {"patterns": _statements()},
            "words": {"patterns": _words()},
            "marks": {
                "patterns": [
                    _match(lexicon.OPERATOR, "keyword.operator.symbol"),
                    _match(lexicon.PUNCTUATION, "punctuation"),
                ]
            },
        },
    }


def text() -> str:
    """The grammar as the file has it."""
    return json.dumps(grammar(), indent=2) + "\n"


def _comments() -> list[Json]:
    return [
        _match(lexicon.DIRECTIVE, "comment.line.directive"),
        _match(lexicon.DOC, "comment.line.documentation"),
        _match(lexicon.COMMENT, "comment.line.number-sign"),
    ]


def _statements() -> list[Json]:
    keyword, site = "keyword.control.statement", "entity.name.type.site"
    defined = "variable.other.definition"
    return [
        {
            "begin": rf"({words(['fn'])})\s+({NAME})",
            "beginCaptures": _captures(keyword, "entity.name.function"),
            "end": "=",
            "endCaptures": {"0": {"name": "keyword.operator.symbol.surg"}},
            "patterns": [
                *_include("comments"),
                _match(rf"{NAME}(?=\s*:)", "variable.parameter"),
                _match(NAME, "support.type"),
                *_include("marks"),
            ],
        },
        _groups(
            rf"({words(['input'])})\s+({NAME})\s*(:)\s*({NAME})",
            keyword,
            defined,
            "punctuation",
            "support.type",
        ),
        _groups(rf"({words(lexicon.NAMING)})\s+({NAME})", keyword, defined),
        _groups(rf"({words(['as'])})\s+({NAME})", "keyword.other.clause", "entity.name.namespace"),
        {
            "begin": rf"({words(['choose'])})\s+({NAME})",
            "beginCaptures": _captures(keyword, site),
            "end": r"\}",
            "endCaptures": {"0": {"name": "punctuation.surg"}},
            "patterns": [
                _groups(rf"^\s*({lexicon.EDIT})", "support.function.edit"),
                _groups(rf"(\{{)\s*({lexicon.EDIT})", "punctuation", "support.function.edit"),
                {"include": "$self"},
            ],
        },
        _groups(rf"({words(lexicon.SITED)})\s+({NAME})", keyword, site),
        _match(lexicon.STEP, "entity.name.type.step"),
    ]


def _words() -> list[Json]:
    word = "keyword.operator.word"
    return [
        _match(lexicon.STRING, "string.quoted.double"),
        _match(lexicon.NUMBER, "constant.numeric"),
        _match(lexicon.LABEL, "entity.name.label"),
        _groups(rf"(\.(?!\.))\s*({NAME})", "keyword.operator.symbol", "variable.other.member"),
        _match(lexicon.FIELD, "entity.other.attribute-name"),
        _groups(rf"([(,])\s*({lexicon.ARGUMENT})", "punctuation", "variable.parameter"),
        _groups(rf"^\s*({lexicon.ARGUMENT})", "variable.parameter"),
        _groups(
            rf"({words(['is'])})\s+({words(['not'])})\s+({NAME})", word, word, "support.constant"
        ),
        _groups(rf"({words(['is'])})\s+(?!not\b)({NAME})", word, "support.constant"),
        _match(lexicon.FOLD, "support.function.fold"),
        _match(words(lexicon.OPERATORS), word),
        _match(words(lexicon.STATEMENTS), "keyword.control.statement"),
        _match(words(lexicon.CLAUSES), "keyword.other.clause"),
        _match(words(lexicon.RESERVED), "keyword.other.reserved"),
        _match(lexicon.FUNCTION, "support.function"),
        _match(lexicon.KNOWN, "support.constant"),
        _match(NAME, "variable.other"),
    ]


def _include(*names: str) -> list[Json]:
    return [{"include": f"#{name}"} for name in names]


def _match(pattern: str, scope: str) -> Json:
    return {"match": pattern, "name": f"{scope}.surg"}


def _groups(pattern: str, *scopes: str) -> Json:
    """A pattern with a scope for each of its groups."""
    return {"match": pattern, "captures": _captures(*scopes)}


def _captures(*scopes: str) -> Json:
    return {str(n): {"name": f"{scope}.surg"} for n, scope in enumerate(scopes, 1)}


if __name__ == "__main__":
    print(text(), end="")
