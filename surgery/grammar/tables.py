"""The tables of the parser, as `generate.py` makes them from `surg.lark`.

In: `surg.tables.json`, which is shipped. Out: `Tables`, read once per process. Refuses nothing: a
test holds the file to the grammar. To make these tables takes Lark a third of a second, and a tenth
to be imported; neither has to happen wherever a spec is read.
"""

from __future__ import annotations

import functools
from pathlib import Path

from msgspec import Struct, json

END = "$END"
"""The kind of the token after the last one."""


class Rule(Struct, frozen=True):
    """One way to reduce: `size` values from the stack become one.

    `kept` says which of them count; the others are keywords and punctuation. They become the parts
    of a branch called `tree` or, when that is empty, parts of whatever contains them.
    """

    origin: str
    size: int
    kept: tuple[int, ...]
    tree: str


class Tables(Struct, frozen=True):
    """An LALR(1) automaton, and what the words and marks of the language can be.

    `rows` has one row for each state, the first one for the start. For the kind of the next token
    a row says what to do: a number above zero is the state to go to, one below is the complement
    of the number of the rule to reduce by. For the origin of a rule that was reduced it says where
    to go on. In the state `end` the text is complete. `terminals` are the kinds that a spelling can
    have, the likeliest first.
    """

    end: int
    terminals: dict[str, tuple[str, ...]]
    rules: tuple[Rule, ...]
    rows: tuple[dict[str, int], ...]


def tables_path() -> Path:
    """The file that is shipped."""
    return Path(__file__).with_name("surg.tables.json")


@functools.cache
def tables() -> Tables:
    """The tables of edition 1."""
    return json.decode(tables_path().read_bytes(), type=Tables)
