"""Signature help: the parameters of the call around the cursor.

In: an analysis and an offset. Out: the signature of a built-in function, a metric or a `fn`, with
the parameter that is being written; `None` outside of calls.
"""

from __future__ import annotations

from lsprotocol import types
from msgspec import Struct

from surgery.checking.tables import FUNCTIONS, METRICS
from surgery.grammar import ast
from surgery.lsp.analysis import Analysis
from surgery.lsp.context import argument, spot
from surgery.lsp.workspace import Workspace


class _Shape(Struct, frozen=True):
    params: tuple[tuple[str, str], ...]
    result: str
    doc: str


def signature_help(
    workspace: Workspace, uri: str, position: types.Position
) -> types.SignatureHelp | None:
    """The answer to `textDocument/signatureHelp`."""
    analysis = workspace.analysis(uri)
    if analysis is None:
        return None
    at = spot(analysis, analysis.document.places.offset(position))
    called = argument(at) if at.around != "comment" else None
    shape = _shape(analysis, called[0]) if called is not None else None
    if called is None or shape is None:
        return None
    name, index, given = called
    labels = [f"{n}: {t}" if n else t for n, t in shape.params]
    named = [n for n, _ in shape.params]
    active = named.index(given) if given in named else min(index, max(0, len(labels) - 1))
    return types.SignatureHelp(
        signatures=[
            types.SignatureInformation(
                label=f"{name}({', '.join(labels)}) -> {shape.result}",
                documentation=shape.doc or None,
                parameters=[types.ParameterInformation(label) for label in labels],
            )
        ],
        active_signature=0,
        active_parameter=active,
    )


def _shape(analysis: Analysis, callee: str) -> _Shape | None:
    owner, _, name = callee.rpartition(".")
    module = analysis.module.imports.get(owner) if owner else analysis.module
    item = module.items.get(name) if module is not None else None
    if isinstance(item, ast.Fn):
        params = tuple((p.name.text, p.type.text) for p in item.params)
        return _Shape(params, item.result.text, item.doc)
    if not owner and name in FUNCTIONS:
        found = FUNCTIONS[name]
        return _Shape(tuple((p.name, p.type) for p in found.params), found.result, found.doc)
    of_model = isinstance(analysis.module.items.get(owner), ast.Model)
    if name in METRICS and METRICS[name].takes and (not owner or of_model):
        rule = METRICS[name]
        return _Shape((("", rule.takes),), str(rule.dimension), rule.doc)
    return None
