"""A session over stdio: documents as they are typed, and what is published of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from lsp_client import Editor
from lsp_fixtures import PART, SPEC, position, workplace
from lsprotocol import types

from surgery.diagnostics import Diagnostic
from surgery.linting.run import Options, lint
from surgery.lsp.positions import Places
from surgery.source import Source


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    editor = Editor(workplace(tmp_path_factory.mktemp("server")))
    yield editor
    assert editor.stop() == ""
    assert editor.log == []


def codes(found: list[types.Diagnostic]) -> list[str]:
    return [str(each.code) for each in found]


def at(text: str, needle: str, shift: int = 0) -> types.Range:
    place = position(text, needle, shift)
    return types.Range(place, place)


# ---- diagnostics -----------------------------------------------------------------------------


def test_a_spec_with_mistakes(editor: Editor) -> None:
    text = SPEC.replace("minimize damage", "minimize damge").replace("512 tok\n", "512\n", 1)
    uri = editor.open("wrong.surg", text)
    found = editor.diagnostics(uri)
    assert codes(found) == ["E0302", "E0201"]
    name = found[1]
    assert name.range == types.Range(position(text, "damge"), position(text, "damge", 5))
    assert name.severity is types.DiagnosticSeverity.Error
    assert name.message.splitlines()[0] == "there is no name `damge` here"
    assert "help: use the score `damage`" in name.message
    related = list(name.related_information or ())
    assert [each.message for each in related] == ["a score with a similar name is defined here"]
    assert related[0].location.uri == uri
    assert related[0].location.range.start == position(text, "score damage")
    editor.rewrite(uri, 2, SPEC)
    assert "E0201" not in codes(editor.diagnostics(uri, 2))


def test_lints_and_their_tags(editor: Editor) -> None:
    uri = editor.open("lints.surg", SPEC)
    found = editor.diagnostics(uri)
    unused = next(each for each in found if each.code == "W0201")
    assert unused.severity is types.DiagnosticSeverity.Warning
    assert unused.tags == (types.DiagnosticTag.Unnecessary,)
    assert unused.range.start == position(SPEC, "limit")
    editor.rewrite(uri, 2, SPEC.replace("let limit", "# surg: allow(unused-name)\nlet limit"))
    assert "W0201" not in codes(editor.diagnostics(uri, 2))


def test_findings_that_need_the_parent(editor: Editor) -> None:
    text = SPEC.replace("retain 6 | 4", "retain 6 | 16")
    uri = editor.open("parent.surg", text)
    found = editor.diagnostics(uri, until=lambda found: "E0405" in codes(found))
    assert next(e for e in found if e.code == "E0405").range.start == position(text, "16 by")


def test_the_last_version_counts(editor: Editor) -> None:
    uri = editor.open("fast.surg", SPEC)
    behind = at(SPEC, "minimize damage", 15)
    for version in range(2, 12):
        editor.change(uri, version, types.TextDocumentContentChangePartial(behind, "z"))
    found = editor.diagnostics(uri, 11)
    assert "there is no name `damagezzzzzzzzzz` here" in {e.message.split("\n")[0] for e in found}
    editor.rewrite(uri, 12, SPEC)
    assert "E0201" not in codes(editor.diagnostics(uri, 12))


def test_a_closed_document_is_silent(editor: Editor) -> None:
    uri = editor.open("closing.surg", "surg 1\n")
    assert editor.diagnostics(uri) != []
    editor.close(uri)
    assert editor.diagnostics(uri, None) == []


def test_a_client_that_asks_is_not_told(tmp_path: Path) -> None:
    asking = Editor(workplace(tmp_path / "asking"), pulls=True)
    text = SPEC.replace("retain 6 | 4", "retain 6 | 16")
    uri = asking.open("asked.surg", text)
    asking.refreshed()
    params = types.DocumentDiagnosticParams(types.TextDocumentIdentifier(uri))
    report = asking.ask(lambda: asking.client.text_document_diagnostic_async(params))
    assert isinstance(report, types.RelatedFullDocumentDiagnosticReport)
    assert "E0405" in codes(list(report.items))
    assert uri not in asking.published
    assert asking.stop() == ""


# ---- several files ---------------------------------------------------------------------------


def test_mistakes_in_an_imported_file(editor: Editor) -> None:
    spec = editor.open("importing.surg", SPEC)
    editor.diagnostics(spec)
    part = editor.open("parts/load.surg", PART.replace("92%", "92 %% 1"))
    assert "E0201" not in codes(editor.diagnostics(part, until=lambda found: found != []))
    editor.rewrite(part, 2, PART.replace("let part", "let partly"))
    found = editor.diagnostics(spec, until=lambda found: "E0205" in codes(found))
    member = next(each for each in found if each.code == "E0205")
    assert member.range.start == position(SPEC, "load.part", 5)
    editor.close(part)
    editor.diagnostics(spec, until=lambda found: "E0205" not in codes(found))


def test_an_imported_file_that_is_not_open(editor: Editor) -> None:
    other = editor.folder / "parts" / "broken.surg"
    other.write_text("surg 1\n\nlet part = 1K tok + 2\n", encoding="utf-8")
    uri = editor.open("outside.surg", SPEC.replace("load.surg", "broken.surg"))
    there = editor.uri("parts/broken.surg")
    found = editor.diagnostics(there, None, lambda found: found != [])
    assert codes(found) == ["E0301"]
    assert found[0].range.start == types.Position(2, 20)
    editor.rewrite(uri, 2, SPEC)
    assert editor.diagnostics(there, None, lambda found: found == []) == []


def test_a_file_of_definitions_needs_no_model(editor: Editor) -> None:
    uri = editor.open("parts/load.surg", PART)
    assert editor.diagnostics(uri) == []
    editor.close(uri)


def test_standard_files_are_good(editor: Editor) -> None:
    where = types.DefinitionParams(
        types.TextDocumentIdentifier(editor.open("std-user.surg", SPEC)),
        position(SPEC, "moe.contribution", 6),
    )
    found = editor.ask(lambda: editor.client.text_document_definition_async(where))
    assert isinstance(found, types.Location)
    assert found.uri.endswith("/surgery/std/moe.surg")
    path = Path(found.uri.removeprefix("file://"))
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[found.range.start.line].startswith("fn contribution(")
    uri = editor.open("", text, uri=found.uri)
    assert editor.diagnostics(uri) == []
    editor.close(uri)


# ---- odd documents ---------------------------------------------------------------------------

ODD = {
    "empty": "",
    "blank": " \t\n\n",
    "unclosed": "surg 1\nchoose experts in layers {\n  retain ",
    "open string": 'surg 1\nmodel p = local("',
    "crlf": SPEC.replace("\n", "\r\n"),
    "cr": SPEC.replace("\n", "\r"),
    "astral": SPEC.replace("## Damage", "## \U0001f600\U0001f680 damage"),
    "surrogate": SPEC + "# \ud83d",
    "separators": SPEC.replace("## Damage", "## a\u2028b\x0bc\x85d"),
    "mark": "\ufeff" + SPEC,
    "braces": "}{)(][" * 40,
    "deep": "surg 1\nlet a = " + "(" * 200 + "1" + ")" * 200,
    "nul": "surg 1\n\0",
}


@pytest.mark.parametrize("name", sorted(ODD))
def test_no_request_fails(editor: Editor, name: str) -> None:
    text = ODD[name]
    uri = editor.open(f"odd/{name}.surg", text)
    editor.diagnostics(uri)
    end = Places(text).whole().end
    randomly = random.Random(name)
    places = [end, types.Position(end.line + 9, 7), types.Position(0, 99999)]
    places += [types.Position(randomly.randrange(60), randomly.randrange(60)) for _ in range(2)]
    for place in places:
        everything(editor, uri, place)
    editor.close(uri)


def test_documents_without_a_file(editor: Editor) -> None:
    for uri in ("untitled:Untitled-1", "inmemory://model/1", "file://[", "x"):
        editor.open("", SPEC, uri=uri)
        assert editor.diagnostics(uri) != []
        everything(editor, uri, position(SPEC, "retain 6", 7))
        editor.close(uri)


def test_unknown_documents(editor: Editor) -> None:
    for uri in (editor.uri("nowhere.surg"), editor.root, "untitled:none", "", "file:///\0"):
        everything(editor, uri, types.Position(0, 0))
    change = types.TextDocumentContentChangeWholeDocument("surg 1")
    editor.change(editor.uri("never-opened.surg"), 7, change)
    editor.close(editor.uri("never-opened.surg"))


def everything(editor: Editor, uri: str, place: types.Position) -> None:
    """Every request that there is, at one place; each must be answered."""
    document = types.TextDocumentIdentifier(uri)
    client, here = editor.client, types.Range(place, place)
    whole = types.Range(types.Position(0, 0), place)
    context = types.CodeActionContext([])
    fix_all = types.CodeActionContext([], only=[types.CodeActionKind.SourceFixAll])
    options = types.FormattingOptions(2, True)
    ask = editor.ask
    ask(lambda: client.text_document_hover_async(types.HoverParams(document, place)))
    ask(lambda: client.text_document_completion_async(types.CompletionParams(document, place)))
    ask(lambda: client.text_document_definition_async(types.DefinitionParams(document, place)))
    references = types.ReferenceParams(types.ReferenceContext(True), document, place)
    ask(lambda: client.text_document_references_async(references))
    highlight = types.DocumentHighlightParams(document, place)
    ask(lambda: client.text_document_document_highlight_async(highlight))
    signature = types.SignatureHelpParams(document, place)
    ask(lambda: client.text_document_signature_help_async(signature))
    prepare = types.PrepareRenameParams(document, place)
    ask(lambda: client.text_document_prepare_rename_async(prepare))
    for wanted in (context, fix_all):
        actions = types.CodeActionParams(document, here, wanted)
        ask(lambda actions=actions: client.text_document_code_action_async(actions))
    lines = types.DocumentRangeFormattingParams(document, whole, options)
    ask(lambda: client.text_document_range_formatting_async(lines))
    formatting = types.DocumentFormattingParams(document, options)
    ask(lambda: client.text_document_formatting_async(formatting))
    hints = types.InlayHintParams(document, whole)
    ask(lambda: client.text_document_inlay_hint_async(hints))
    symbols = types.DocumentSymbolParams(document)
    ask(lambda: client.text_document_document_symbol_async(symbols))
    ask(lambda: client.text_document_folding_range_async(types.FoldingRangeParams(document)))
    tokens = types.SemanticTokensParams(document)
    ask(lambda: client.text_document_semantic_tokens_full_async(tokens))
    ask(lambda: client.text_document_document_link_async(types.DocumentLinkParams(document)))


# ---- random edits ----------------------------------------------------------------------------

PIECES = (
    *("\n", "\r\n", " ", "{", "}", '"', "#", "## ", "=", "8K tok", "layers", "require @a ", "keep"),
    *("\U0001f600", "\u00e9", "damage", "let x = 1\n", "", "", ""),
)


def fresh(editor: Editor, name: str, text: str) -> list[tuple[str, str]]:
    """Code and message of what a lint of the same text finds in it."""
    source = Source(str(editor.folder / name), text)

    def inside(each: Diagnostic) -> bool:
        return each.primary is None or each.primary.span.source == source

    found = lint(source, Options(editor.folder / "cache")).findings
    return sorted((each.code.id, each.message) for each in found if inside(each))


def test_random_edits_end_like_a_fresh_look(editor: Editor) -> None:
    randomly = random.Random(20260101)
    text, version = SPEC, 1
    uri = editor.open("fuzz.surg", text)
    for _ in range(12):
        changes: list[types.TextDocumentContentChangeEvent] = []
        for _ in range(randomly.randrange(1, 5)):
            places = Places(text)
            a, b = sorted(randomly.randrange(len(text) + 1) for _ in range(2))
            b = min(b, a + randomly.randrange(20))
            piece = randomly.choice(PIECES)
            if "\r\n" in text[max(0, a - 1) : a + 1] or "\r\n" in text[max(0, b - 1) : b + 1]:
                continue
            changes.append(types.TextDocumentContentChangePartial(places.range(a, b), piece))
            text = text[:a] + piece + text[b:]
        version += 1
        editor.change(uri, version, *changes)
        expected = fresh(editor, "fuzz.surg", text)
        found = editor.diagnostics(
            uri, version, lambda found, expected=expected: told(found) == expected
        )
        assert told(found) == expected
    editor.close(uri)


def told(found: list[types.Diagnostic]) -> list[tuple[str, str]]:
    return sorted((str(each.code), each.message.split("\n")[0]) for each in found)
