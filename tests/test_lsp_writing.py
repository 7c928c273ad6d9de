"""Changes of a text: fixes, rewrites, renaming, formatting; in process, and once over stdio."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from lsp_client import Editor
from lsp_fixtures import PART, SPEC, applied, opened, position, workplace
from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams

from surgery.diagnostics import Sink
from surgery.formatting import format_text
from surgery.lsp import formatting, rename
from surgery.lsp.actions import code_actions
from surgery.lsp.documents import Document
from surgery.lsp.publish import findings
from surgery.lsp.workspace import Workspace
from surgery.source import Source

_KIND = types.CodeActionKind


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workplace(tmp_path_factory.mktemp("writing"))


def actions(
    spec: tuple[Workspace, str],
    text: str,
    needle: str,
    shift: int = 0,
    only: Sequence[types.CodeActionKind] | None = None,
) -> dict[str, types.CodeAction]:
    place = position(text, needle, shift)
    return {a.title: a for a in code_actions(*spec, types.Range(place, place), only)}


def edits_of(edit: types.WorkspaceEdit | None, uri: str) -> list[types.TextEdit]:
    assert edit is not None
    assert edit.changes is not None
    return list(edit.changes[uri])


def after(text: str, uri: str, action: types.CodeAction) -> str:
    return applied(text, edits_of(action.edit, uri))


def codes(spec: tuple[Workspace, str]) -> list[str]:
    analysis = spec[0].analysis(spec[1])
    assert analysis is not None
    return [each.code.id for each in findings(spec[0], analysis)]


# ---- fixes -----------------------------------------------------------------------------------

BROKEN = (
    ("minimize damage", "minimize damge", "damge", "Use the score `damage`", "E0201"),
    ("tensor_parallel = 2", "tensor_paralel = 2", "tensor_paralel", None, "E0206"),
    ("let limit = 64K tok", "let limit 64K tok", "64K", None, "E0101"),
    ("minimize damage", "minimise damage", "minimise", None, "E0103"),
)


@pytest.mark.parametrize(("old", "new", "at", "title", "code"), BROKEN)
def test_a_fix_makes_its_finding_vanish(
    folder: Path, old: str, new: str, at: str, title: str | None, code: str
) -> None:
    text = SPEC.replace(old, new)
    spec = opened(folder, text, "fixing.surg")
    assert code in codes(spec)
    found = actions(spec, text, at, 1)
    fixes = [a for t, a in found.items() if title in (None, t) and a.kind is _KIND.QuickFix]
    fixes = [a for a in fixes if a.diagnostics and a.diagnostics[0].code == code]
    assert fixes != []
    mended = after(text, spec[1], fixes[0])
    assert mended == SPEC
    assert code not in codes(opened(folder, mended, "fixing.surg"))


def test_a_safe_fix_is_preferred(folder: Path) -> None:
    text = SPEC.replace("tensor_parallel = 2", "tensor_paralel = 2")
    found = actions(opened(folder, text, "safe.surg"), text, "tensor_paralel")
    (fix,) = [action for action in found.values() if action.kind is _KIND.QuickFix]
    assert fix.is_preferred
    unsafe = SPEC.replace("minimize damage", "minimize damge")
    found = actions(opened(folder, unsafe, "safe.surg"), unsafe, "damge")
    assert not any(action.is_preferred for action in found.values())


def test_everything_safe_at_once(folder: Path) -> None:
    text = SPEC.replace("tensor_parallel = 2", "tensor_paralel = 2").replace(
        "let limit =", "let limit"
    )
    spec = opened(folder, text, "all.surg")
    (action,) = actions(spec, text, "surg 1", 0, [_KIND.SourceFixAll]).values()
    assert action.kind is _KIND.SourceFixAll
    # The unused `let` goes too: that is a safe fix.
    assert after(text, spec[1], action) == SPEC.replace("let limit = 64K tok\n\n", "")
    assert actions(opened(folder, PART, "fine.surg"), PART, "surg 1", 0, [_KIND.SourceFixAll]) == {}
    assert "Fix everything that is safe" not in actions(spec, text, "surg 1")


def test_allowing_a_lint(folder: Path) -> None:
    spec = opened(folder, SPEC, "allow.surg")
    action = actions(spec, SPEC, "let limit", 5)["Allow unused-name here"]
    text = after(SPEC, spec[1], action)
    assert "\n# surg: allow(unused-name)\nlet limit = 64K tok\n" in text
    assert "W0201" not in codes(opened(folder, text, "allow.surg"))


def test_allowing_a_second_lint_of_a_line(folder: Path) -> None:
    text = SPEC.replace("let limit", "# surg: allow(magic-number)\nlet limit")
    spec = opened(folder, text, "allow.surg")
    action = actions(spec, text, "let limit", 5)["Allow unused-name here"]
    mended = after(text, spec[1], action)
    assert "# surg: allow(magic-number, unused-name)\nlet limit" in mended
    assert "W0201" not in codes(opened(folder, mended, "allow.surg"))


# ---- rewrites --------------------------------------------------------------------------------


def test_labels(folder: Path) -> None:
    text = SPEC.replace("require @few  params", "require params")
    spec = opened(folder, text, "label.surg")
    action = actions(spec, text, "require params", 3)["Label this require `@params`"]
    assert "require @params params <= 1M params" in after(text, spec[1], action)
    assert not any("Label" in title for title in actions(spec, text, "require @kv", 3))


def test_a_let_for_a_literal(folder: Path) -> None:
    spec = opened(folder, SPEC, "extract.surg")
    action = actions(spec, SPEC, "70%", 1)["Name `70%` with a `let`"]
    text = after(SPEC, spec[1], action)
    assert "let share_2 = 70%\n\nrequire @kv   kv(1K tok) <= share_2 * parent.kv(1K tok)\n" in text
    assert [c for c in codes(opened(folder, text, "extract.surg")) if c.startswith("E")] == []
    action = actions(spec, SPEC, "window 64 tok", 8)["Name `64 tok` with a `let`"]
    text = after(SPEC, spec[1], action)
    assert "window (length)" in text
    assert [c for c in codes(opened(folder, text, "extract.surg")) if c.startswith("E")] == []


def test_only_what_was_asked_for(folder: Path) -> None:
    spec = opened(folder, SPEC, "only.surg")
    kinds = {a.kind for a in actions(spec, SPEC, "70%", 1, [_KIND.Refactor]).values()}
    assert kinds == {_KIND.RefactorExtract}
    assert actions(spec, SPEC, "70%", 1, [_KIND.QuickFix]) == {}


def test_edits_name_their_version_where_the_client_can(folder: Path) -> None:
    workspace, uri = opened(folder, SPEC, "versioned.surg")
    workspace.versioned_edits = True
    action = actions((workspace, uri), SPEC, "70%", 1)["Name `70%` with a `let`"]
    assert action.edit is not None
    (change,) = list(action.edit.document_changes or ())
    assert isinstance(change, types.TextDocumentEdit)
    assert change.text_document.version == 1
    assert len(change.edits) == 2


# ---- rename ----------------------------------------------------------------------------------


def renamed(spec: tuple[Workspace, str], needle: str, shift: int, new: str) -> str:
    edit = rename.rename(*spec, position(SPEC, needle, shift), new)
    return applied(SPEC, edits_of(edit, spec[1]))


def test_names_labels_parameters_and_steps(folder: Path) -> None:
    spec = opened(folder)
    assert renamed(spec, "score damage", 8, "loss") == re.sub(r"\bdamage\b", "loss", SPEC)
    assert renamed(spec, "@size", 2, "bytes") == SPEC.replace("@size", "@bytes")
    assert renamed(spec, "@size", 0, "@bytes") == SPEC.replace("@size", "@bytes")
    body = "fn room(s: scenario, part: ratio) -> truth = memory(s) <= part * node.memory"
    new = "fn room(s: scenario, of: ratio) -> truth = memory(s) <= of * node.memory"
    assert renamed(spec, "part: ratio", 1, "of") == SPEC.replace(body, new)
    moe = SPEC.replace("as moe", "as experts_of").replace("by moe.", "by experts_of.")
    assert renamed(spec, "as moe", 4, "experts_of") == moe


def test_a_name_of_an_imported_file(tmp_path: Path) -> None:
    here = workplace(tmp_path / "imported")
    workspace, uri = opened(here)
    part = (here / "parts" / "load.surg").as_uri()
    edit = rename.rename(workspace, uri, position(SPEC, "load.part", 6), "portion")
    assert applied(SPEC, edits_of(edit, uri)) == SPEC.replace("load.part", "load.portion")
    assert applied(PART, edits_of(edit, part)) == PART.replace("let part", "let portion")
    workspace.put(Document(part, 1, PART))
    edit = rename.rename(workspace, part, position(PART, "part =", 1), "portion")
    assert applied(SPEC, edits_of(edit, uri)) == SPEC.replace("load.part", "load.portion")


REFUSED = (
    ("score damage", 8, "let", "reserved"),
    ("score damage", 8, "params", "built in"),
    ("score damage", 8, "text", "something else"),
    ("score damage", 8, "Loss", "no name"),
    ("score damage", 8, "", "no name"),
    ("part: ratio", 1, "s", "something else"),
    ("machine node", 9, "part", "something else"),
    ("@size", 2, "kv", "something else"),
    ("@size", 2, "a_b", "no label"),
    ("moe.contribution", 6, "other", "standard file"),
    ("let limit =", 10, "x", "no name here"),
)


@pytest.mark.parametrize(("needle", "shift", "new", "why"), REFUSED)
def test_what_cannot_be_renamed(folder: Path, needle: str, shift: int, new: str, why: str) -> None:
    spec = opened(folder)
    with pytest.raises(rename.Refused, match=why):
        rename.rename(*spec, position(SPEC, needle, shift), new)


def test_a_name_in_a_statement_that_cannot_be_read(folder: Path) -> None:
    text = SPEC + "\nrequire @more damage <= \n"
    spec = opened(folder, text, "unread.surg")
    with pytest.raises(rename.Refused, match="mentions `damage`"):
        rename.rename(*spec, position(text, "score damage", 8), "loss")
    edit = rename.rename(*spec, position(text, "let limit", 5), "most")
    assert len(edits_of(edit, spec[1])) == 1


def test_prepare(folder: Path) -> None:
    spec = opened(folder)
    found = rename.prepare(*spec, position(SPEC, "@size", 3))
    assert found is not None
    assert found.placeholder == "size"
    assert found.range.start == position(SPEC, "@size", 1)
    assert rename.prepare(*spec, position(SPEC, "moe.contribution", 6)) is None
    assert rename.prepare(*spec, position(SPEC, "kl(logits", 4)) is None


# ---- formatting ------------------------------------------------------------------------------

UNTIDY = SPEC.replace("  prefill = 512 tok\n", "  prefill   =   512 tok\n").replace(
    " <= 1M", "<=1M"
)


def test_formatting_is_that_of_the_command(folder: Path) -> None:
    spec = opened(folder, UNTIDY, "untidy.surg")
    tidy = format_text(Source("x", UNTIDY), Sink())
    found = formatting.document(*spec)
    assert found is not None
    assert applied(UNTIDY, found) == tidy
    assert tidy != UNTIDY
    assert formatting.document(*opened(folder, tidy or "", "tidy.surg")) == []
    assert formatting.document(*opened(folder, "surg 1\nlet", "broken.surg")) is None


def test_formatting_some_lines(folder: Path) -> None:
    spec = opened(folder, UNTIDY, "untidy.surg")
    row = position(UNTIDY, "prefill").line
    place = types.Range(types.Position(row, 0), types.Position(row, 5))
    found = formatting.lines(*spec, place)
    assert found is not None
    text = applied(UNTIDY, found)
    assert "  prefill = 512 tok\n" in text
    assert "params<=1M" in text


# ---- over stdio ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    utf8 = types.PositionEncodingKind.Utf8
    editor = Editor(workplace(tmp_path_factory.mktemp("wire")), utf8)
    assert editor.server.capabilities.position_encoding == utf8
    yield editor
    # The one refusal is logged, and nothing else went wrong.
    errors = re.findall(r"^([\w.]+)(?::|$)", editor.stop(), re.M)
    assert set(errors) <= {"surgery.lsp.rename.Refused", "pygls.exceptions.JsonRpcInvalidParams"}
    assert editor.log == []


def test_a_session_from_mistake_to_clean_text(editor: Editor) -> None:
    client, ask = editor.client, editor.ask
    text = UNTIDY.replace("minimize damage", "minimize damge")
    uri = editor.open("session.surg", text)
    document = types.TextDocumentIdentifier(uri)
    (found,) = [d for d in editor.diagnostics(uri) if d.code == "E0201"]
    wanted = types.CodeActionParams(document, found.range, types.CodeActionContext([found]))
    offered = ask(lambda: client.text_document_code_action_async(wanted))
    fix = next(a for a in offered or () if isinstance(a, types.CodeAction) and a.diagnostics)
    text = applied(text, edits_of(fix.edit, uri))
    editor.rewrite(uri, 2, text)
    assert "E0201" not in [d.code for d in editor.diagnostics(uri, 2)]
    options = types.DocumentFormattingParams(document, types.FormattingOptions(2, True))
    text = applied(text, list(ask(lambda: client.text_document_formatting_async(options)) or ()))
    assert text == format_text(Source("x", SPEC), Sink())
    editor.rewrite(uri, 3, text)
    place = position(text, "score damage", 8)
    new = types.RenameParams(document, place, "loss")
    edit = ask(lambda: client.text_document_rename_async(new))
    text = applied(text, edits_of(edit, uri))
    editor.rewrite(uri, 4, text)
    assert [d for d in editor.diagnostics(uri, 4) if str(d.code).startswith("E")] == []
    hover = types.HoverParams(document, position(text, "minimize loss", 10))
    said = ask(lambda: client.text_document_hover_async(hover))
    assert said is not None
    assert "score loss = swap_one(" in str(said.contents)
    typing = types.CompletionParams(document, position(text, "minimize loss", 9))
    items = ask(lambda: client.text_document_completion_async(typing))
    assert isinstance(items, types.CompletionList)
    assert "loss" in [item.label for item in items.items]


def test_a_refusal_says_why(editor: Editor) -> None:
    uri = editor.open("refused.surg", SPEC)
    place = position(SPEC, "score damage", 8)
    wanted = types.RenameParams(types.TextDocumentIdentifier(uri), place, "let")
    with pytest.raises(JsonRpcInvalidParams, match="`let` is a reserved word"):
        editor.ask(lambda: editor.client.text_document_rename_async(wanted))


def test_the_units_of_the_client(editor: Editor) -> None:
    uri = editor.open("units.surg", 'surg 1\nlet a = "\U0001f600\u00e9"  nothing')
    (found,) = [d for d in editor.diagnostics(uri) if str(d.code).startswith("E01")]
    assert found.range.start == types.Position(1, len('let a = "') + 4 + 2 + len('"  '))
