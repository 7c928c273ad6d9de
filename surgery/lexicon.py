"""The words of the language by what they are, and the shapes of its tokens, for colouring text.

In: the vocabulary of `grammar/scan.py` (words), `grammar/ast.py` (which statements name something)
and `checking/tables.py` (what has a meaning by its name). Out: sorted words and regular expressions
that Python's `re` and Oniguruma both read. Not here: which colour or scope they get
(`highlight.py` for Pygments, `textmate.py` for editors).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from surgery.checking import blocks, tables
from surgery.grammar import ast, scan

NAME = r"[a-z_][a-z0-9_]*"
LABEL = r"@[a-z][a-z0-9-]*"
STRING = r'"[^"\r\n]*"'
NUMBER = scan.QUANTITY
DIRECTIVE = r"#[ \t]*surg:[^\r\n]*"
DOC = r"##[^\r\n]*"
COMMENT = r"#[^\r\n]*"
OPERATOR = r"->|\.\.|<=|>=|==|!=|[-+*/%<>=|.]"
PUNCTUATION = r"[(){}\[\],:]"

_ENDS = r"(?![a-z0-9_])"


def words(given: Iterable[str]) -> str:
    """One of some words, whole."""
    return rf"\b(?:{'|'.join(sorted(given))}){_ENDS}"


def _statements(field: str) -> tuple[str, ...]:
    """The statements whose syntax tree has a field of this name."""
    kinds: tuple[type[ast.Statement], ...] = get_args(ast.Item)
    found = {kind.__name__.lower() for kind in kinds if field in kind.__struct_fields__}
    return tuple(sorted(found & {*scan.STATEMENTS}))


NAMING = tuple(word for word in _statements("name") if word not in ("import", "fn"))
"""Statements that begin with what they define; `fn` also has parameters."""

SITED = tuple(sorted({*_statements("site"), *_statements("kind")} - {"choose"}))
"""Statements that begin with a kind of thing; `choose` also has alternatives."""

STATEMENTS = tuple(sorted(scan.STATEMENTS))
RESERVED = tuple(sorted(scan.FUTURE))
CLAUSES = tuple(sorted(scan.CLAUSE_WORDS))
OPERATORS = tuple(sorted(scan.OPERATOR_WORDS))

# ---- words in their places -------------------------------------------------------------------

# Editors match line by line: a bracket that ends its line may have anything behind it.
FOLD = rf"{words(get_args(ast.FoldKind))}(?=\s*\(\s*(?:layers{_ENDS}|$))"
FIELD = rf"\b{NAME}(?=\s*=(?!=))"
ARGUMENT = rf"\b(?!layers{_ENDS}){NAME}(?=\s*:)"
"""The name of an argument, behind `(` or `,`. `(layers: ...)` begins the body of a fold."""
EDIT = rf"{words({rule.name for rules in tables.EDITS.values() for rule in rules})}(?!\s*[.=])"
"""An alternative, at the start of a line or block."""
STEP = rf"{words(blocks.STEPS)}(?=(?:\s+{NAME})?\s*\{{)"
FUNCTION = rf"{words({*tables.FUNCTIONS, *tables.METRICS})}(?!\s*\.)"
KNOWN = words({*tables.CONSTANTS, *tables.LAYER_FACTS, *tables.WORDS})
