"""The only file that knows Lark: the grammar -> the tables that `front.py` runs.

`python -m surgery.grammar.generate` writes `surg.tables.json` anew after a change of `surg.lark`.
In: the grammar. Out: `Tables`, equal for equal grammars whatever order Lark works in. Refuses a
grammar with a conflict, with two terminals that overlap, and a `?rule` that is neither one part nor
has a name for its branch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, cast

from msgspec import json

from surgery.grammar import scan
from surgery.grammar.tables import Rule, Tables, tables_path


class _Symbol(Protocol):
    """A terminal, or the origin of a rule."""

    name: str
    is_term: bool
    filter_out: bool
    """Of a terminal: punctuation and keywords, which make no part of a tree."""


class _Options(Protocol):
    expand1: bool


class _Rule(Protocol):
    origin: _Symbol
    expansion: list[_Symbol]
    alias: str | None
    options: _Options


class _Pattern(Protocol):
    def to_regexp(self) -> str: ...


class _Terminal(Protocol):
    name: str
    pattern: _Pattern


class _Grammar(Protocol):
    rules: list[_Rule]
    terminals: list[_Terminal]


class _Action(Protocol):
    name: str


class _ParseTable(Protocol):
    states: dict[object, dict[str, tuple[_Action, object]]]
    start_states: dict[str, object]
    end_states: dict[str, object]


def grammar_text() -> str:
    """The grammar, as shipped."""
    return Path(__file__).with_name("surg.lark").read_text(encoding="utf-8")


def analysed(text: str) -> tuple[_Grammar, _ParseTable]:
    """A grammar as Lark reads it, and its automaton; any conflict is an error of Lark."""
    from lark import Lark
    from lark.common import ParserConf
    from lark.parsers.lalr_analysis import LALR_Analyzer

    # Strict also compares the terminals, for which it needs interegular.
    grammar = Lark(text, parser="lalr", lexer="contextual", strict=True)
    analysis = LALR_Analyzer(ParserConf(grammar.rules, {}, ["start"]), strict=True)
    analysis.compute_lalr()
    return cast("_Grammar", grammar), cast("_ParseTable", analysis.parse_table)


def tables_of(text: str) -> Tables:
    """The tables of a grammar."""
    grammar, table = analysed(text)
    states = _numbered(table)
    one = _one_part(grammar.rules)
    rules: dict[object, int] = {}
    made: list[Rule] = []
    rows: list[dict[str, int]] = []
    for state in states:
        row: dict[str, int] = {}
        for name, (action, target) in sorted(table.states[state].items()):
            if action.name == "Shift":
                row[str(name)] = states[target]
                continue
            if target not in rules:
                rules[target] = len(made)
                made.append(_rule(cast("_Rule", target), one))
            row[str(name)] = ~rules[target]
        rows.append(row)
    end = states[table.end_states["start"]]
    return Tables(end, _spellings(grammar.terminals), tuple(made), tuple(rows))


def _numbered(table: _ParseTable) -> dict[object, int]:
    """The states in the order in which they are met from the start, by names of symbols."""
    first = table.start_states["start"]
    numbers, waiting = {first: 0}, [first]
    for state in waiting:
        for _, (action, target) in sorted(table.states[state].items(), key=lambda item: item[0]):
            if action.name == "Shift" and target not in numbers:
                numbers[target] = len(numbers)
                waiting.append(target)
    return numbers


def _rule(rule: _Rule, one: frozenset[str]) -> Rule:
    kept = _kept(rule)
    # Lark's names are tokens of its own grammar, which no file can keep.
    origin = str(rule.origin.name)
    tree = str(rule.alias or ("" if origin.startswith("_") or rule.options.expand1 else origin))
    if rule.options.expand1 and not rule.alias and not _is_one(rule, one):
        raise ValueError(f"an alternative of `?{origin}` needs a name: `-> name`")
    return Rule(origin, len(rule.expansion), kept, tree)


def _kept(rule: _Rule) -> tuple[int, ...]:
    symbols = enumerate(rule.expansion)
    return tuple(n for n, symbol in symbols if not (symbol.is_term and symbol.filter_out))


def _is_one(rule: _Rule, one: Iterable[str]) -> bool:
    """Whether a rule that makes no branch always stands for exactly one part."""
    kept = [rule.expansion[n] for n in _kept(rule)]
    return len(kept) == 1 and (not kept[0].name.startswith("_") or kept[0].name in one)


def _one_part(rules: list[_Rule]) -> frozenset[str]:
    """The `_rules` that always stand for exactly one part."""
    names = {rule.origin.name for rule in rules if rule.origin.name.startswith("_")}
    while True:
        wrong = {r.origin.name for r in rules if r.origin.name in names and not _is_one(r, names)}
        if not wrong:
            return frozenset(names)
        names -= wrong


def _spellings(terminals: list[_Terminal]) -> dict[str, tuple[str, ...]]:
    """What each reserved or special word and each mark of the scanner can be; a name comes last."""
    patterns = {each.name: re.compile(each.pattern.to_regexp()) for each in terminals}
    # A fold is one only before `(layers`.
    folds = {word: f"{word}(layers)" for word in scan.FOLDS}
    found: dict[str, tuple[str, ...]] = {}
    for text in sorted({*scan.RESERVED, *folds, *scan.MARKS}):
        fits = (name for name, pattern in patterns.items() if _fits(pattern, text, folds.get(text)))
        found[text] = tuple(sorted(map(str, fits), key=lambda name: (name == "NAME", name)))
    return found


def _fits(pattern: re.Pattern[str], text: str, inside: str | None) -> bool:
    match = pattern.match(inside or text)
    return match is not None and match[0] == text


def written(tables: Tables) -> bytes:
    """Tables as a file: one row on each line."""
    names = ("end", "terminals", "rules", "rows")
    lines: list[str] = []
    for name in names:
        value: object = getattr(tables, name)
        lines.append(f'"{name}":{_lines(value)}')
    return ("{" + ",\n".join(lines) + "}\n").encode()


def _lines(value: object) -> str:
    if not isinstance(value, tuple):
        return json.encode(value).decode()
    rows = cast("tuple[object, ...]", value)
    return "[\n" + ",\n".join(json.encode(row).decode() for row in rows) + "]"


if __name__ == "__main__":
    tables_path().write_bytes(written(tables_of(grammar_text())))
