"""Specs cut and stirred at random: every feature answers at every place, and none raises."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from lsp_fixtures import PART, SPEC, workplace
from lsprotocol import types
from spec_texts import OSS, SMOL

from surgery.grammar.scan import STATEMENTS
from surgery.lsp import (
    actions,
    completion,
    formatting,
    hover,
    inlay,
    links,
    navigate,
    rename,
    signature,
    symbols,
    tokens,
)
from surgery.lsp.documents import Document
from surgery.lsp.publish import by_document, findings
from surgery.lsp.workspace import Workspace

PIECES = (
    *'{}()[]"#=|@.,:%*/-<\n\r',
    *("##", "..", "\r\n", "is ", "not ", "where ", "layers", "by ", "init ", "when ", "except "),
    *("\U0001f600", "\ufeff", "\x00", "\u2028", "8K", " tok", 'import "', "if ", "then ", "else "),
    *(f"\n{word} " for word in STATEMENTS),
)


def stirred(randomly: random.Random) -> str:
    text = randomly.choice((SPEC, OSS, SMOL, PART))
    for _ in range(randomly.randrange(6)):
        start = randomly.randrange(len(text) + 1)
        end = start + randomly.choice((0, 0, 1, 3, 10, 80))
        text = text[:start] + randomly.choice(PIECES) + text[end:]
    return text[: randomly.randrange(len(text) + 1)] if randomly.random() < 0.3 else text


@pytest.mark.parametrize("seed", range(4))
def test_no_feature_raises(tmp_path: Path, seed: int) -> None:
    folder = workplace(tmp_path / "stirred")
    workspace, uri = Workspace(roots=(str(folder),)), (folder / "stirred.surg").as_uri()
    randomly = random.Random(seed)
    spoken = 0
    for version in range(12):
        text = stirred(randomly)
        workspace.put(Document(uri, version, text))
        analysis = workspace.analysis(uri)
        assert analysis is not None
        known = workspace.parents.learn(analysis)
        if known is not None:
            workspace.parents.keep(known)
        shown = by_document(workspace, analysis, findings(workspace, analysis))
        assert uri in shown
        places = analysis.document.places
        of_the_whole(workspace, uri, places.whole())
        for _ in range(4):
            place = places.position(randomly.randrange(len(text) + 1))
            spoken += of_a_place(workspace, uri, place)
    assert spoken > 10


def of_the_whole(workspace: Workspace, uri: str, whole: types.Range) -> None:
    found = tokens.semantic_tokens(workspace, uri)
    assert found is not None
    assert min(found.data, default=0) >= 0
    inlay.inlay_hints(workspace, uri, whole)
    for symbol in symbols.document_symbols(workspace, uri):
        assert symbol.name
        assert symbol.range.start <= symbol.selection_range.start
    for fold in symbols.folding_ranges(workspace, uri):
        assert fold.start_line < fold.end_line
    links.document_links(workspace, uri)
    formatting.document(workspace, uri)
    for action in actions.code_actions(workspace, uri, whole, None):
        assert action.edit is not None
    actions.code_actions(workspace, uri, whole, [types.CodeActionKind.SourceFixAll])


def of_a_place(workspace: Workspace, uri: str, place: types.Position) -> int:
    """Ask everything at one place; how many answers had something to say."""
    said = hover.hover(workspace, uri, place)
    offered = completion.complete(workspace, uri, place, snippets=True)
    assert offered is not None
    for item in offered.items[:3]:
        completion.resolved(workspace, item)
    navigate.definition(workspace, uri, place)
    navigate.references(workspace, uri, place, declaration=True)
    navigate.highlights(workspace, uri, place)
    signature.signature_help(workspace, uri, place)
    if rename.prepare(workspace, uri, place) is not None:
        with contextlib.suppress(rename.Refused):
            rename.rename(workspace, uri, place, "another")
    return (said is not None) + bool(offered.items)
