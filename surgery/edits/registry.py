"""The kinds of surgery that there are, and when each is legal.

In: parent blocks and alternatives of a `choose`. Out: the edit of a name, the plan text of a
parent block, and refusals, which the file of each edit decides. Clauses that an edit does not
take are a `ValueError`: `checking/edits.py` reports them.
"""

from __future__ import annotations

import re

from surgery.edits import attention, experts, ffn, linear
from surgery.edits.edit import Edit, Refusal
from surgery.ir import Alternative, Attention, Block, Experts, Ffn, Linear, Model, Site
from surgery.units import format_tokens

EDITS: tuple[Edit, ...] = (
    attention.WINDOW,
    attention.SINK_WINDOW,
    attention.KV_HEADS,
    attention.NOOP,
    linear.ATTENTION,
    ffn.WIDTH,
    ffn.NOOP,
    linear.FFN,
    experts.RETAIN,
    experts.MERGE,
    experts.WIDTH,
)


def find(site: Site, name: str) -> Edit | None:
    """The edit called `name` at `site`, if there is one."""
    return next((e for e in EDITS if e.site is site and e.name == name), None)


def selects(name: str) -> bool:
    """Whether the edit needs a ranking to list what it keeps; `kept` is `None` until then."""
    return any(e.selects is not None for e in EDITS if e.name == name)


def known(site: Site, name: str) -> Edit:
    """The edit called `name` at `site`; `KeyError` if there is none."""
    edit = find(site, name)
    if edit is None:
        raise KeyError(f"no edit {name!r} of {site}")
    return edit


_ARGUMENT = re.compile(r"([0-9]{1,12})(K?)\)?$")


def written(site: Site, text: str) -> tuple[Edit, int] | None:
    """The edit and its argument that a plan writes as `text`; `None` if there is none.

    What a facet adds to the text (`64+top3`) is left out of account.
    """
    text = text.partition("+")[0]
    number = _ARGUMENT.search(text)
    value = int(number[1]) * (1024 if number[2] else 1) if number else 0
    for edit in EDITS:
        if edit.site is site and edit.text(value if edit.valued else 0) == text:
            return edit, value if edit.valued else 0
    return None


def argument(alternative: Alternative) -> int:
    """The whole number that an alternative gives its edit, 0 if it takes none."""
    return 0 if alternative.value is None else int(alternative.value)


def spelled(alternative: Alternative) -> str:
    """An alternative as a spec says it, less its clauses: `keep`, `retain 64`, `window 8K tok`."""
    if alternative.value is None:
        return alternative.edit
    tokens = alternative.edit in attention.WINDOWS
    value = f"{format_tokens(alternative.value)} tok" if tokens else str(alternative.value)
    return f"{alternative.edit} {value}"


def keep_text(site: Site, block: Block | None) -> str:
    """What a plan calls a parent block: `full`, `window(128)`, `1536`, `128`, `noop`."""
    match block:
        case None:
            return "noop"
        case Attention(window=None):
            return "full"
        case Attention(window=int(window), sinks=sinks):
            return f"{'sink_' if sinks else ''}window({format_tokens(window)})"
        case Ffn(width=width):
            return str(width)
        case Experts(count=count):
            return str(count)
        case Linear():
            return "linear"
        case _:
            raise TypeError(f"{block!r} at {site}")


# ---- legality --------------------------------------------------------------------------------


def refuse(model: Model, block: Block, site: Site, alternative: Alternative) -> Refusal | None:
    """Why `alternative` is illegal on a parent block, or `None`.

    An edit that would leave the block as it is (`retain 128` of 128) is legal: `expand` merges it
    with `keep`. Raises `KeyError` for an edit that there is not, and `ValueError` for clauses that
    it does not take or lacks, which `check` rules out.
    """
    edit = known(site, alternative.edit)
    value, init = alternative.value, alternative.init
    if edit.valued is not (value is not None):
        raise ValueError(f"`{edit.name}` with the argument {value}")
    if value is not None and (value.denominator != 1 or value < 1):
        raise ValueError(f"`{edit.name}` with the argument {value}")
    if (edit.selects is None) is not (alternative.by is None):
        raise ValueError(f"`{edit.name}` with the ranking {alternative.by}")
    if init is not None and init not in edit.inits:
        raise ValueError(f"`{edit.name}` with the initialiser {init}")
    return edit.refuse(model, block, argument(alternative))
