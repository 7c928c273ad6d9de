"""Terminals and lexemes in words.

In: the terminals that the parser would have accepted, or a lexeme. Out: a short phrase for a
person, at most five things long. Not here: which failure deserves a better explanation.
"""

from __future__ import annotations

from surgery.grammar.scan import STATEMENTS, Lexeme
from surgery.grammar.tables import END

_LIMIT = 5
_VALUE = {"QUANTITY", "STRING", "NAME", "MINUS", "LPAR", "LSQB"}
_OPERATORS = {"ADD", "MUL", "CMP", "AND", "OR", "IS"}
_POSTFIX = {"DOT", "LPAR", "LSQB"}
_STATEMENTS = {word.upper() for word in STATEMENTS}
_WORDS = {
    "EQUAL": "`=`",
    "NAME": "a name",
    "STRING": "a string in quotes",
    "QUANTITY": "a number",
    "INT": "a whole number",
    "LBRACE": "a block `{`",
    "RBRACE": "`}`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "DOT": "`.`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "VBAR": "`|`",
    "_ARROW": "`->`",
    "_DOTS": "`..`",
    "LABEL": "a label such as `@size`",
    "MINUS": "`-`",
    "LAYERS": "`layers`",
    "KEEP": "an alternative",
}


def words(accepts: frozenset[str]) -> str:
    """What would have been accepted, the likeliest first."""
    phrases: list[str] = []
    rest = set(accepts)
    if rest >= _VALUE:
        phrases.append("a value")
        rest -= _VALUE | {"FOLD", "IF", "NOT"}
    if rest & _OPERATORS:
        phrases.append("an operator")
        rest -= _OPERATORS | _POSTFIX | {"_DOTS"}
    if "KEEP" in rest:
        rest.discard("NAME")
    ends = rest & (_STATEMENTS | {END})
    rest -= ends
    # Words with a phrase of their own before bare keywords; both in a fixed order.
    phrases += [phrase for kind, phrase in _WORDS.items() if kind in rest]
    phrases += sorted(f"`{kind.lower()}`" for kind in rest - _WORDS.keys() if kind.isalpha())
    if ends:
        phrases.append("the next statement")
    return _joined(phrases)


def _joined(phrases: list[str]) -> str:
    if not phrases:
        return "nothing more"
    shown = phrases[:_LIMIT]
    if len(shown) == 1:
        return shown[0]
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


def found(lexeme: Lexeme) -> str:
    """One lexeme, shortened when it is long."""
    text = lexeme.text if len(lexeme.text) <= 40 else lexeme.text[:37] + "..."
    if lexeme.kind == "string":
        return f"string {text}"
    if lexeme.kind == "number":
        return f"number `{text}`"
    return f"`{text}`"
