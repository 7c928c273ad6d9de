"""Completion of fields, their values, and units.

In: a place in a block, or behind a number. Out: fields that are missing (required ones first, with
an example of their value), what a field can hold, and the units of the dimension that is wanted.
"""

from __future__ import annotations

import re
from itertools import pairwise

from surgery import units
from surgery.checking.blocks import BLOCKS, FieldRule
from surgery.checking.tables import EDITS, FUNCTIONS, METRICS
from surgery.checking.values import DIMENSIONS
from surgery.grammar.scan import Lexeme
from surgery.lsp import completion_names as names
from surgery.lsp.analysis import Analysis
from surgery.lsp.context import Spot, argument
from surgery.lsp.expected import expected
from surgery.lsp.items import KIND, Items

_NUMBER = re.compile(r"[0-9][0-9_]*(\.[0-9]+)?")
_LETTERS = re.compile(r"[A-Za-z%/]*")
_SPELLINGS = {
    units.TOK: (" tok", "K tok", "M tok", "B tok"),
    units.PARAMS: ("M params", "B params", " params"),
    units.BYTES: ("GiB", "MiB", "KiB", "TiB", "GB", "MB", "kB", "TB"),
    units.TIME: (" ms", " s", " us"),
    units.TOK_PER_S: (" tok/s", "K tok/s"),
    units.REQ_PER_S: (" req/s",),
    units.WATT: (" W", " kW"),
    units.J_PER_TOK: (" J/tok",),
    units.NUMBER: ("%", "x", " layers"),
}


# ---- units -----------------------------------------------------------------------------------


def units_after(analysis: Analysis, at: Spot, items: Items) -> bool:
    """Units for the number before the cursor; `False` when there is none."""
    text = analysis.source.text
    previous = at.before[-1] if at.before else None
    if at.word and _NUMBER.match(at.word):
        start = at.start
    elif previous is not None and previous.kind == "number":
        start = previous.start
        if "\n" in text[previous.end : at.offset] or not (at.word or _adjacent(at, previous)):
            return False
    else:
        return False
    number = _NUMBER.match(text, start)
    if number is None or not _LETTERS.fullmatch(text[number.end() : at.offset].strip()):
        return False
    place = analysis.document.places.range(start, at.offset)
    kind = _type(at, start)
    if kind == "count":
        # A whole number of things has no unit.
        return False
    wanted = DIMENSIONS.get(kind) or expected(analysis, _at_number(at, start))
    for dimension, spellings in _SPELLINGS.items():
        if wanted is not None and dimension != wanted:
            continue
        for n, spelling in enumerate(spellings):
            rank = min(n, 8) if wanted is not None else 5
            items.add(number[0] + spelling, KIND.Unit, dimension.noun, rank=rank, place=place)
    return True


def _adjacent(at: Spot, previous: Lexeme) -> bool:
    return at.offset - previous.end <= 1


def _at_number(at: Spot, start: int) -> Spot:
    """The place of a number that begins at `start`."""
    before = tuple(each for each in at.before if each.end <= start)
    return Spot(at.offset, start, "", "code", before, (), at.opened, False, False)


def _type(at: Spot, start: int) -> str:
    """The type of a number that begins at `start`, where a table says it; else empty."""
    at = _at_number(at, start)
    called = argument(at)
    if called is not None:
        name = called[0].rpartition(".")[2]
        params = FUNCTIONS[name].params if name in FUNCTIONS else ()
        if called[1] < len(params):
            return params[called[1]].type
        return METRICS[name].takes if name in METRICS else ""
    if at.bracket == "{" and at.keyword == "choose":
        rules = {rule.name: rule for rule in EDITS.get(at.before[1].text, ())}
        edit = next((rules[e.text] for e in reversed(at.before) if e.text in rules), None)
        return edit.value if edit is not None and at.last in (edit.name, "|") else ""
    if at.bracket == "{" and at.last == "=" and len(at.before) > 1:
        rule = _rule(at, at.before[-2].text)
        return rule.type if rule is not None else ""
    return ""


# ---- fields ----------------------------------------------------------------------------------


def kind_at(at: Spot) -> str | None:
    """The kind of the innermost block of fields."""
    braces = [n for n in at.opened if at.before[n].text == "{"]
    if not braces:
        return None
    head = [each.text for each in at.before[: braces[-1]]]
    if at.keyword == "recover" and len(braces) > 1:
        opened = at.before[braces[-2] + 1 : braces[-1]]
        words = [each.text for each in opened]
        steps = [word for word in words if word in BLOCKS]
        return steps[-1] if steps else None
    kind = {
        "model": f"{_after(head, '=')} model",
        "machine": "device" if _after(head, "=") == "device" else "machine",
        "apply": f"apply {_after(head, 'apply')}",
        "emit": f"emit {_after(head, 'emit')}",
    }.get(at.keyword, at.keyword)
    return kind if kind in BLOCKS else None


def _after(words: list[str], word: str) -> str:
    return words[words.index(word) + 1] if word in words[:-1] else ""


def _rule(at: Spot, name: str) -> FieldRule | None:
    return next((rule for rule in BLOCKS.get(kind_at(at) or "", ()) if rule.name == name), None)


def example(rule: FieldRule) -> str:
    """A value that a field could have."""
    text = rule.example or (rule.words[0] if rule.words else rule.type)
    return f"[{text}]" if rule.many else text


def field(analysis: Analysis, at: Spot, items: Items) -> bool:
    """A field that is missing, or the value of the one that is being written."""
    kind = kind_at(at)
    if kind is None:
        return True
    if at.bracket == "{" and at.begins:
        given = {a.text for a, b in pairwise(at.block) if b.text == "="}
        # What a field can stand in for needs saying no more, nor what stands in for it.
        said = {r.name for r in BLOCKS[kind] if r.instead in given}
        said |= {r.instead for r in BLOCKS[kind] if r.name in given}
        for rule in BLOCKS[kind]:
            if rule.name not in {*given, *said}:
                insert = f"{rule.name} = ${{1:{example(rule)}}}"
                detail = "required" if rule.required else "optional"
                first = 1 if rule.required else 4
                items.add(rule.name, KIND.Field, detail, rule.doc, insert, first)
        return True
    equals = [n for n, each in enumerate(at.before) if each.text == "="]
    rule = _rule(at, at.before[equals[-1] - 1].text) if equals and equals[-1] else None
    if rule is None or at.last not in ("=", "[", ","):
        return False
    _values(analysis, at, items, rule)
    return True


def _values(analysis: Analysis, at: Spot, items: Items, rule: FieldRule) -> None:
    if rule.many and at.last == "=":
        items.add("[", KIND.Value, "a list", insert=f"[${{1:{example(rule).strip('[]')}}}]")
    for word in rule.words:
        items.add(word, KIND.EnumMember, rule.doc, rank=1)
    if rule.type == "step":
        for step in _steps(at):
            items.add(step, KIND.EnumMember, "a step", rank=1)
    elif rule.type in DIMENSIONS:
        if rule.example and not rule.words:
            items.add(rule.example, KIND.Value, "for example", rank=2)
        names.numbers(analysis, items, DIMENSIONS[rule.type])
    elif rule.type:
        names.of_type(analysis, items, rule.type)


def _steps(at: Spot) -> tuple[str, ...]:
    """Names of the steps written so far."""
    found = zip(at.before, at.before[1:], at.before[2:], strict=False)
    return tuple(b.text for a, b, c in found if a.text in BLOCKS and c.text == "{")
