"""Random specs: every statement, expression and selector, written as badly as the grammar allows.

`specs()` draws a text; `written(tokens)` draws one way to write given tokens: blanks, line breaks,
blank lines, comments and carriage returns between them. The texts parse; they need not check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from hypothesis import strategies as st

from surgery.grammar.scan import FUTURE, RESERVED, STATEMENTS

Tokens: TypeAlias = list[str]
Draw: TypeAlias = st.DrawFn

BEGIN = "\0begin"
"""A mark before the first token of a statement: it may stand in column 0."""
END = "\0end"
"""A mark where a line has to end, because a number and a word follow each other."""

NAMES = ("a", "b2", "reach", "speed_up", "min", "count", "attention", "parent", "kl", "_")
LONG = "a_name_of_some_length"
FIELDS = ("dtype", "layers", "model", "length_pen", "a", "score")
QUANTITIES = (
    *("0", "7", "64K tok", "92%", "1.60x", "12.5 ms", "88.5B params", "46.5GiB", "1_000"),
    *("2e-3", "8 layers", "1.5e3 tok/s", "8\ttok"),
)
STRINGS = ('""', '"out/x"', '"# no comment"', '"ünïcode, (a)"', '"{"')
COMMENTS = (
    *("#", "# why", "## said", "##", "#tight", "# surg: allow(unused-name)", "# ends  ", "#  two"),
    *("# (", '# "', "# a, b", "### three", "# 日本", "# ---- where it must run ----------------"),
)


def _one(draw: Draw, options: Sequence[str]) -> str:
    return draw(st.sampled_from(options))


def _many(draw: Draw, one: Callable[[], Tokens], least: int, most: int) -> list[Tokens]:
    return [one() for _ in range(draw(st.integers(least, most)))]


def _name(draw: Draw) -> str:
    return _one(draw, (*NAMES, LONG))


def _comma(draw: Draw) -> Tokens:
    return [","] if draw(st.booleans()) else []


def _separated(items: list[Tokens], mark: str) -> Tokens:
    found: Tokens = []
    for number, item in enumerate(items):
        found += [mark, *item] if number else item
    return found


# ---- expressions -----------------------------------------------------------------------------

OR, AND, NOT, RELATION, SUM, PRODUCT, UNARY, POSTFIX = range(8)
_OPERATORS = {OR: ("or",), AND: ("and",), SUM: ("+", "-"), PRODUCT: ("*", "/", "%")}


def _expr(draw: Draw, depth: int) -> Tokens:
    if depth and draw(st.integers(0, 9)) == 0:
        parts = [_level(draw, depth - 1, OR), _expr(draw, depth - 1), _expr(draw, depth - 1)]
        return ["if", *parts[0], "then", *parts[1], "else", *parts[2]]
    return _level(draw, depth, OR)


def _level(draw: Draw, depth: int, level: int) -> Tokens:
    """An expression that binds at least as tightly as `level`."""
    if depth <= 0:
        return _atom(draw)
    below = depth - 1
    found = draw(st.integers(level, 9))
    if found in _OPERATORS:
        return _chain(draw, below, found, _OPERATORS[found])
    match found:
        case 2:
            return ["not", *_level(draw, below, NOT)]
        case 3:
            return _relation(draw, below)
        case 6:
            return ["-", *_level(draw, below, UNARY)]
        case 7:
            return _postfix(draw, below)
        case 8:
            return _parenthesised(draw, _expr(draw, below))
        case _:
            return _bracketed(draw, below)


def _relation(draw: Draw, depth: int) -> Tokens:
    if draw(st.booleans()):
        word = ["is", "not"] if draw(st.booleans()) else ["is"]
        return [*_level(draw, depth, SUM), *word, _name(draw)]
    return _chain(draw, depth, RELATION, ("<=", ">=", "==", "!=", "<", ">"))


def _chain(draw: Draw, depth: int, level: int, operators: Sequence[str]) -> Tokens:
    found = _level(draw, depth, level + 1)
    for _ in range(draw(st.integers(1, 3))):
        found += [_one(draw, operators), *_level(draw, depth, level + 1)]
    return found


def _parenthesised(draw: Draw, inside: Tokens) -> Tokens:
    pairs = draw(st.sampled_from((1, 1, 1, 2, 3)))
    return ["("] * pairs + inside + [")"] * pairs


def _atom(draw: Draw) -> Tokens:
    match draw(st.integers(0, 4)):
        case 0:
            return [_one(draw, QUANTITIES)]
        case 1:
            return [_one(draw, STRINGS)]
        case 2:
            return [_one(draw, ("0", "12")), "..", _one(draw, ("12", "35"))]
        case _:
            return [_name(draw)]


def _postfix(draw: Draw, depth: int) -> Tokens:
    found = [_name(draw)] if draw(st.booleans()) else _parenthesised(draw, _level(draw, depth, OR))
    for _ in range(draw(st.integers(1, 2))):
        match draw(st.integers(0, 2)):
            case 0:
                found += [".", _one(draw, ("memory", "layers", "heads"))]
            case 1:
                found += ["[", *_expr(draw, depth), "]"]
            case _:
                found += _arguments(draw, depth)
    return found


def _arguments(draw: Draw, depth: int) -> Tokens:
    def one() -> Tokens:
        name = [_name(draw), ":"] if draw(st.booleans()) else []
        return [*name, *_expr(draw, depth)]

    items = _many(draw, one, 0, 3)
    return ["(", *_separated(items, ","), *(_comma(draw) if items else []), ")"]


def _bracketed(draw: Draw, depth: int) -> Tokens:
    if draw(st.booleans()):
        items = _many(draw, lambda: _expr(draw, depth), 1, 4)
        return ["[", *_separated(items, ","), *_comma(draw), "]"]
    kind = _one(draw, ("count", "sum", "min", "max", "every", "some"))
    body = [":", *_expr(draw, depth)] if draw(st.booleans()) else []
    return [kind, "(", *_selector(draw, depth), *body, ")"]


def _selector(draw: Draw, depth: int) -> Tokens:
    return _separated(_many(draw, lambda: _layer_set(draw, depth), 1, 3), "except")


def _layer_set(draw: Draw, depth: int) -> Tokens:
    found = ["layers"]
    if draw(st.booleans()):
        items = _many(draw, lambda: _expr(draw, min(depth, 1)), 1, 3)
        found += ["[", *_separated(items, ","), *_comma(draw), "]"]
    if draw(st.booleans()):
        found += ["where", *_expr(draw, depth)]
    return found


# ---- statements ------------------------------------------------------------------------------

DEPTH = 3


def _block(draw: Draw, *, optional: bool = False) -> Tokens:
    if optional and draw(st.booleans()):
        return []
    found = ["{"]
    for number in range(draw(st.integers(0, 4))):
        name = _one(draw, FIELDS)
        if number:
            # A field that is called like a statement needs the comma; without one, any field needs
            # its own line, because a number may stand before it.
            found += [","] if name in RESERVED or draw(st.booleans()) else [END]
        found += [name, "=", *_expr(draw, 2)]
    return [*found, *(_comma(draw) if len(found) > 1 else []), "}"]


def _call(draw: Draw) -> Tokens:
    callee = [_name(draw)] + ([".", _name(draw)] if draw(st.booleans()) else [])
    return [*callee, *_arguments(draw, 2)]


def _alternative(draw: Draw) -> Tokens:
    if draw(st.integers(0, 3)) == 0:
        return ["keep"]
    found = [_one(draw, ("retain", "window", "noop", "kv_heads"))]
    many = draw(st.sampled_from((1, 2, 3, 20)))
    found += _separated([_arm(draw) for _ in range(draw(st.integers(0, many)))], "|")
    for clause in draw(st.permutations(("by", "init", "when")))[: draw(st.integers(0, 3))]:
        found += [clause, *_expr(draw, 2)]
    return found


def _arm(draw: Draw) -> Tokens:
    match draw(st.integers(0, 3)):
        case 0:
            return _parenthesised(draw, _expr(draw, 2))
        case 1:
            return [_one(draw, STRINGS)]
        case _:
            return [_one(draw, QUANTITIES)]


def _wish(draw: Draw, keyword: str) -> Tokens:
    label = [_one(draw, ("@long", "@a-b", "@x1"))] if draw(st.booleans()) else []
    message = ["else", _one(draw, STRINGS)] if draw(st.booleans()) else []
    return [keyword, *label, *_expr(draw, DEPTH), *message]


def _choose(draw: Draw) -> Tokens:
    found = ["choose", _name(draw), "in", *_selector(draw, 2), "{"]
    for alternative in _many(draw, lambda: _alternative(draw), 1, 4):
        found += [*alternative, END]
    return [*found, "}"]


def _recover(draw: Draw) -> Tokens:
    found = ["recover", "{"]
    for _ in range(draw(st.integers(1, 3))):
        name = [_name(draw)] if draw(st.booleans()) else []
        found += [_one(draw, ("distill", "average")), *name, *_block(draw)]
    return [*found, "}"]


def _fn(draw: Draw) -> Tokens:
    params = _many(draw, lambda: [_name(draw), ":", _name(draw)], 0, 4)
    inside = [*_separated(params, ","), *(_comma(draw) if params else [])]
    return ["fn", _name(draw), "(", *inside, ")", "->", "ratio", "=", *_expr(draw, DEPTH)]


def _input(draw: Draw) -> Tokens:
    default = ["=", *_expr(draw, 2)] if draw(st.booleans()) else []
    return ["input", _name(draw), ":", "ratio", *default]


def _apply(draw: Draw) -> Tokens:
    where = ["in", *_selector(draw, 2)] if draw(st.booleans()) else []
    return ["apply", _name(draw), *where, *_block(draw)]


_STATEMENTS: tuple[Callable[[Draw], Tokens], ...] = (
    lambda d: ["import", _one(d, STRINGS), "as", _name(d)],
    lambda d: ["model", _name(d), "=", *_call(d), *_block(d, optional=True)],
    _input,
    lambda d: ["let", _name(d), "=", *_expr(d, DEPTH)],
    lambda d: ["let", _name(d), "=", *_expr(d, DEPTH)],
    _fn,
    lambda d: ["machine", _name(d), "=", *_expr(d, 2), *_block(d, optional=True)],
    lambda d: ["scenario", _name(d), "on", _name(d), *_block(d)],
    lambda d: ["dataset", _name(d), "=", *_call(d), *_block(d, optional=True)],
    lambda d: ["score", _name(d), "=", *_call(d), *_block(d, optional=True)],
    _apply,
    _choose,
    lambda d: _wish(d, "expect"),
    lambda d: _wish(d, "require"),
    lambda d: [_one(d, ("minimize", "maximize")), *_expr(d, DEPTH)],
    _recover,
    lambda d: ["emit", _name(d), _one(d, STRINGS), *_block(d, optional=True)],
)


@st.composite
def tokens(draw: Draw) -> Tokens:
    """The tokens of a spec, with the marks that `written` needs."""
    found = [BEGIN, "surg 1"]
    for _ in range(draw(st.integers(0, 5))):
        found += [BEGIN, *draw(st.sampled_from(_STATEMENTS))(draw)]
    return found


# ---- how it is written -----------------------------------------------------------------------

_TIGHT = frozenset("()[]{},:|")
_BLANKS = (" ", " ", " ", "  ", "\t", "\n", "\n  ", "\n\n", "  \n\n\n \t")


@st.composite
def written(draw: Draw, given: Sequence[str]) -> str:
    """One way to write tokens: any blanks, comments anywhere, perhaps Windows line ends."""
    parts: list[str] = []
    busy = draw(st.sampled_from((0, 2, 10)))
    before = ""
    for token in (*given, BEGIN):
        if token in (BEGIN, END):
            before = f"{before}{token}"
            continue
        parts += [_between(draw, before, token, busy), token]
        before = token
    parts.append(_between(draw, f"{before}{END}", "", busy))
    text = "".join(parts)
    if draw(st.integers(0, 4)) == 0:
        text = text.replace("\n", "\r\n")
    return "\ufeff" + text if draw(st.integers(0, 9)) == 0 else text


def _between(draw: Draw, before: str, token: str, busy: int) -> str:
    """What stands between two tokens; a word that begins statements keeps out of column 0."""
    text = ""
    if busy and draw(st.integers(0, busy)) == 0:
        lines = [_blank(draw) + _one(draw, COMMENTS) for _ in range(draw(st.integers(1, 3)))]
        text = "\n".join(lines) + "\n" + draw(st.sampled_from(("", "", "  ", "\n")))
    elif before.endswith((BEGIN, END)):
        # The next statement may even stand on the same line.
        ways = ("\n", "\n", "\n\n", "\n \n\n", "\n" if before.endswith(END) else "  ")
        text = draw(st.sampled_from(ways))
    elif not (before[-1:] in _TIGHT or token in _TIGHT) or draw(st.booleans()):
        text = _blank(draw)
    begins = before.endswith(BEGIN)
    if begins and draw(st.integers(0, 5)):
        return text
    keyword = token in STATEMENTS or token in FUTURE
    return f"{text} " if text.endswith("\n") and (keyword or begins) else text


def _blank(draw: Draw) -> str:
    return draw(st.sampled_from(_BLANKS))


def specs() -> st.SearchStrategy[str]:
    """Texts of random specs."""
    return tokens().flatmap(written)
