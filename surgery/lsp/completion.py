"""Completion by context.

In: an analysis, an offset, whether the client has snippets. Out: items of the protocol. Each kind
of place has a function; the first that knows the place answers. Not here: what a place wants
(`context.py`), names and values (`completion_names.py`, `completion_values.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from lsprotocol import types
from msgspec import Struct

from surgery import catalog, ir
from surgery.checking.blocks import APPLY_SITES, BLOCKS, EMITS, STEPS
from surgery.checking.tables import EDITS, FACETS, READY_SITES, WORDS
from surgery.checking.values import TYPES
from surgery.lsp import completion_alternatives as alternatives
from surgery.lsp import completion_names as names
from surgery.lsp import completion_values as values
from surgery.lsp.analysis import Analysis
from surgery.lsp.context import Spot, argument, spot
from surgery.lsp.hover_names import describe_symbol
from surgery.lsp.items import KIND, Items
from surgery.lsp.keywords import KEYWORDS
from surgery.lsp.occurrences import Symbol
from surgery.lsp.paths import offered
from surgery.lsp.workspace import Workspace


class Request(Struct, frozen=True):
    """One question: where, of what, and where the answers go."""

    workspace: Workspace
    analysis: Analysis
    at: Spot
    items: Items
    model: ir.Model | None


def complete(
    workspace: Workspace, uri: str, position: types.Position, snippets: bool
) -> types.CompletionList | None:
    """The answer to `textDocument/completion`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return None
    places = analysis.document.places
    at = spot(analysis, places.offset(position))
    items = Items(uri, at, places.range(at.start, at.offset), snippets)
    request = Request(workspace, analysis, at, items, workspace.parents.model(analysis))
    for place in _PLACES:
        if place(request):
            break
    return types.CompletionList(is_incomplete=False, items=items.found)


def resolved(workspace: Workspace, item: types.CompletionItem) -> types.CompletionItem:
    """The answer to `completionItem/resolve`: what a name of the spec is, as hover shows it."""
    origin = names.origin(item)
    analysis = workspace.analysis(origin[0]) if origin is not None else None
    if origin is None or analysis is None:
        return item
    text = describe_symbol(workspace, analysis, Symbol("name", origin[1], origin[2]))
    if text:
        item.documentation = types.MarkupContent(types.MarkupKind.Markdown, text)
    return item


# ---- outside of code -------------------------------------------------------------------------

_ALLOW = re.compile(r"#\s*surg:\s*allow\(([^)]*)$")


def _comment(request: Request) -> bool:
    """Lint names in `# surg: allow(`."""
    at = request.at
    if at.around != "comment":
        return False
    text = request.analysis.source.text
    line = text[text.rfind("\n", 0, at.offset) + 1 : at.offset]
    match = _ALLOW.search(line)
    if match:
        typed = match[1].rpartition(",")[2].lstrip()
        place = request.analysis.document.places.range(at.offset - len(typed), at.offset)
        for code in catalog.BY_ID.values():
            if code.id.startswith("W"):
                request.items.add(code.name, KIND.EnumMember, code.id, code.summary, place=place)
    return True


def _string(request: Request) -> bool:
    """Paths in strings."""
    at = request.at
    if at.around != "string":
        return False
    text = request.analysis.source.text
    typed = text[at.start + 1 : at.offset]
    end = at.offset
    place = request.analysis.document.places.range(at.start + 1, end)
    called = argument(at)
    what = "import" if at.keyword == "import" else called[0] if called else ""
    for path, detail in offered(request.analysis, what, at.keyword, typed):
        request.items.add(path, KIND.File, detail, place=place)
    return True


def _statement(request: Request) -> bool:
    """Keywords at column 0."""
    at = request.at
    if not at.column_0:
        return False
    edition = bool(request.analysis.chunks) and request.analysis.chunks[0].keyword == "surg"
    for name, keyword in KEYWORDS.items():
        if name != "surg" or not edition:
            request.items.add(name, KIND.Keyword, keyword.act, keyword.doc, keyword.snippet)
    return True


# ---- code ------------------------------------------------------------------------------------


def _label(request: Request) -> bool:
    """A label is a new name: nothing to offer."""
    return request.at.word.startswith("@")


def _unit(request: Request) -> bool:
    """Units after a number."""
    return values.units_after(request.analysis, request.at, request.items)


def _member(request: Request) -> bool:
    """After a dot."""
    at = request.at
    if at.last != "." or len(at.before) < 2:
        return False
    names.members(request.analysis, at.before[-2].text, request.items)
    return True


def _word(request: Request) -> bool:
    """After `is`: what the part before it can be."""
    at = request.at
    tokens = [each.text for each in at.before]
    if tokens[-2:] == ["is", "not"]:
        tokens.pop()
    elif at.last == "is":
        request.items.add("not", KIND.Keyword)
    else:
        return False
    part = tokens[-2] if len(tokens) > 1 else ""
    for word in WORDS.get(part, ()):
        request.items.add(word, KIND.EnumMember, f"{part} is {word}", rank=1)
    return True


def _head(request: Request) -> bool:
    """Between the keyword of a statement and its block."""
    at, items = request.at, request.items
    if at.opened and at.keyword != "fn":
        return False
    head = _HEADS.get(at.keyword)
    return head is not None and head(request, tuple(e.text for e in at.before), items)


def _choose_head(request: Request, tokens: tuple[str, ...], items: Items) -> bool:
    if len(tokens) == 1:
        sites = (
            {site for layer in request.model.layers for site in layer.sites}
            if (request.model)
            else READY_SITES
        )
        for site in EDITS:
            owner = FACETS.get(site, site)
            rank = 1 if site in sites else 2 if owner in sites and site in FACETS else 9
            rank = 8 if rank == 9 and owner in READY_SITES else rank
            edits = ", ".join(rule.name for rule in EDITS[site])
            items.add(site, KIND.EnumMember, edits, rank=rank)
        return True
    return _layers_head(request, tokens, items)


def _layers_head(request: Request, tokens: tuple[str, ...], items: Items) -> bool:
    if len(tokens) == 2:
        items.add("in", KIND.Keyword)
        return True
    if tokens[-1] in ("in", "except"):
        items.add("layers", KIND.Keyword, "every layer")
        return True
    if tokens[-1] in ("layers", "]") and "where" not in tokens:
        items.add("where", KIND.Keyword, "those for which a condition holds")
        items.add("except", KIND.Keyword, "without some of them", insert="except layers[$0]")
        return True
    return False


def _apply_head(request: Request, tokens: tuple[str, ...], items: Items) -> bool:
    if len(tokens) == 1:
        for site in APPLY_SITES:
            items.add(site, KIND.EnumMember)
        return True
    return _layers_head(request, tokens, items)


def _emit_head(_request: Request, tokens: tuple[str, ...], items: Items) -> bool:
    if len(tokens) == 1:
        for kind in EMITS:
            items.add(kind, KIND.EnumMember, insert=f'{kind} "${{1:out}}"')
    return len(tokens) == 1


def _scenario_head(request: Request, tokens: tuple[str, ...], items: Items) -> bool:
    if len(tokens) == 2:
        items.add("on", KIND.Keyword)
        return True
    if tokens[-1] == "on":
        names.of_type(request.analysis, items, "machine", imported=False)
        return True
    return False


def _import_head(_request: Request, tokens: tuple[str, ...], items: Items) -> bool:
    if len(tokens) == 2 and tokens[1].startswith('"'):
        items.add("as", KIND.Keyword)
    return "=" not in tokens


def _typed_head(_request: Request, tokens: tuple[str, ...], items: Items) -> bool:
    if tokens[-1] in (":", "->") and "=" not in tokens:
        for name, doc in TYPES.items():
            items.add(name, KIND.TypeParameter, doc)
        return True
    return len(tokens) == 1


def _named_head(_request: Request, tokens: tuple[str, ...], _items: Items) -> bool:
    # A new name: nothing to offer.
    return "=" not in tokens


def _maker_head(request: Request, tokens: tuple[str, ...], items: Items) -> bool:
    if "=" not in tokens:
        return True
    if tokens[-1] == "=":
        made = {"model": "source", "dataset": "source", "score": "recipe"}[tokens[0]]
        names.makers(items, made)
        return True
    return False


_HEADS: Mapping[str, Callable[[Request, tuple[str, ...], Items], bool]] = {
    "choose": _choose_head,
    "apply": _apply_head,
    "emit": _emit_head,
    "scenario": _scenario_head,
    "import": _import_head,
    "input": _typed_head,
    "fn": _typed_head,
    "let": _named_head,
    "machine": _named_head,
    "model": _maker_head,
    "dataset": _maker_head,
    "score": _maker_head,
}


def _call(request: Request) -> bool:
    """An argument of a call."""
    called = argument(request.at)
    return called is not None and names.arguments(request.analysis, request.items, *called)


def _block(request: Request) -> bool:
    """Inside braces: alternatives, steps, or fields and their values."""
    at = request.at
    if not any(at.before[n].text == "{" for n in at.opened):
        return False
    if at.keyword == "choose":
        return alternatives.offer(request.analysis, at, request.items, request.model)
    if at.keyword == "recover" and len(at.opened) == 1:
        for step in STEPS:
            fields = "".join(
                f"\n    {rule.name} = ${{{n}:{values.example(rule)}}}"
                for n, rule in enumerate((r for r in BLOCKS[step] if r.required), 1)
            )
            request.items.add(step, KIND.EnumMember, insert=f"{step} {{{fields}\n  }}")
        return True
    return values.field(request.analysis, at, request.items)


def _expression(request: Request) -> bool:
    """Anything that can stand in an expression."""
    names.expression(request.analysis, request.at, request.items)
    return True


_PLACES: tuple[Callable[[Request], bool], ...] = (
    _comment,
    _string,
    _statement,
    _label,
    _unit,
    _member,
    _word,
    _head,
    _call,
    _block,
    _expression,
)
