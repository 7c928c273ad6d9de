"""Rename a name, a parameter, a label or a recovery step, wherever it stands.

In: an analysis, an offset, the new name. Out: the edits. Refuses, with the reason: words that are
reserved or built in, names that the file has already, names of the standard files, and any new
name that would come to mean something else where it is used (tried on the edited texts); and
whatever is mentioned in a statement that does not parse, for nobody knows what it means there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lsprotocol import types
from msgspec.structs import replace

from surgery.checking.modules import load
from surgery.checking.tables import BUILT_IN
from surgery.diagnostics import Sink
from surgery.grammar.parse import parse
from surgery.grammar.scan import RESERVED
from surgery.lsp.analysis import Analysis
from surgery.lsp.edits import Change, workspace_edit
from surgery.lsp.navigate import defined, everywhere
from surgery.lsp.occurrences import Occurrence, Symbol, occurrences
from surgery.lsp.workspace import Workspace
from surgery.rules.places import loose_words
from surgery.source import Source

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_LABEL = re.compile(r"[a-z][a-z0-9-]*")


class Refused(Exception):
    """Why something cannot be renamed."""


def prepare(
    workspace: Workspace, uri: str, position: types.Position
) -> types.PrepareRenamePlaceholder | None:
    """The answer to `textDocument/prepareRename`: `None` for what cannot be renamed."""
    analysis = workspace.analysis(uri)
    found = _at(analysis, position)
    if analysis is None or found is None or _fixed(analysis, found.symbol):
        return None
    return types.PrepareRenamePlaceholder(workspace.range(found.span), found.symbol.name)


def rename(
    workspace: Workspace, uri: str, position: types.Position, new: str
) -> types.WorkspaceEdit | None:
    """The answer to `textDocument/rename`; raises `Refused`."""
    analysis = workspace.analysis(uri)
    found = _at(analysis, position)
    if analysis is None or found is None:
        raise Refused("there is no name here")
    if why := _fixed(analysis, found.symbol):
        raise Refused(why)
    new = new.removeprefix("@") if found.symbol.kind == "label" else new
    if new == found.symbol.name:
        return None
    if why := _unfit(found.symbol, new):
        raise Refused(why)
    places = everywhere(workspace, analysis, found.symbol)
    changes = tuple(Change(o.span.source, o.span.start, o.span.end, new) for o in places)
    for source in {place.span.source.name: place.span.source for place in places}.values():
        if found.symbol.name in loose_words(parse(source, Sink())):
            why = f"a statement that cannot be read mentions `{found.symbol.name}`"
            raise Refused(why)
        if not _same(workspace, source, found.symbol, new, places):
            raise Refused(
                f"`{new}` means something else already where `{found.symbol.name}` stands"
            )
    return workspace_edit(workspace, changes)


def _at(analysis: Analysis | None, position: types.Position) -> Occurrence | None:
    if analysis is None:
        return None
    return analysis.occurrence(analysis.document.places.offset(position))


def _fixed(analysis: Analysis, symbol: Symbol) -> str:
    """Why a symbol has the name that it has, or nothing."""
    if symbol.file.startswith("std/"):
        return f"`{symbol.name}` is a name of the standard file `{symbol.file}`"
    return "" if defined(analysis, symbol) else f"`{symbol.name}` is not defined anywhere"


def _unfit(symbol: Symbol, new: str) -> str:
    """Why a text is no name, or nothing."""
    if symbol.kind == "label":
        return "" if _LABEL.fullmatch(new) else f"`{new}` is no label: `a-z`, `0-9` and `-`"
    if not _NAME.fullmatch(new):
        return f"`{new}` is no name: `a-z`, `0-9` and `_`"
    if new in RESERVED:
        return f"`{new}` is a reserved word"
    return f"`{new}` is built in" if new in BUILT_IN and symbol.kind != "step" else ""


def _same(
    workspace: Workspace, source: Source, symbol: Symbol, new: str, places: tuple[Occurrence, ...]
) -> bool:
    """Whether exactly the renamed places mean the new name once the edits are made."""
    texts = {each.name: text for each, text in _edited(new, places)}
    tree = parse(Source(source.name, texts[source.name]), Sink())
    after = [o.symbol for o in occurrences(load(tree, Sink(), workspace.texts() | texts))]
    before = [o.symbol for o in workspace.occurrences(source)]
    wanted = replace(symbol, name=new)
    if wanted in before:
        return False
    return after == [wanted if o == symbol else _owned(o, symbol, new) for o in before]


def _owned(symbol: Symbol, renamed: Symbol, new: str) -> Symbol:
    """The parameters of a function that is renamed belong to its new name."""
    owner = symbol.kind == "parameter" and renamed.kind == "name"
    if owner and symbol.file == renamed.file and symbol.owner == renamed.name:
        return replace(symbol, owner=new)
    return symbol


def _edited(new: str, places: tuple[Occurrence, ...]) -> Iterator[tuple[Source, str]]:
    sources = {place.span.source.name: place.span.source for place in places}
    for name, source in sources.items():
        text = source.text
        spans = [o.span for o in places if o.span.source.name == name]
        for span in sorted(spans, key=lambda span: -span.start):
            text = text[: span.start] + new + text[span.end :]
        yield source, text
