"""The book runs: every section of `tests/book/*.md` says what surgery does today.

`pytest tests/test_book.py --update-golden` renews the snapshots; the expectations that stand in
the specs themselves are for people to change.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import book_runner
import pytest
import snippets
from book_chapters import Section, rewrite, sections
from conftest import write_text

from surgery import catalog, explanations
from surgery.diagnostics import Code, Severity

BOOK = Path(__file__).parent / "book"
SECTIONS = tuple(section for chapter in sorted(BOOK.glob("*.md")) for section in sections(chapter))

Ran = Callable[[Section], book_runner.Outcome]


@pytest.fixture(scope="session")
def book_parents(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every section finds in its folder."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "tiny").symlink_to(parents / "gpt_oss")
    (folder / "dense").symlink_to(parents / "llama")
    (folder / "text.jsonl").symlink_to(parents / "text.jsonl")
    write_text(folder / "heldout.jsonl", documents=30, shift=5)
    return folder


@pytest.fixture(scope="session")
def ran(book_parents: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Runs a section, once in a session."""
    known: dict[str, book_runner.Outcome] = {}

    def run(section: Section) -> book_runner.Outcome:
        if section.id not in known:
            folder = tmp_path_factory.mktemp("section")
            known[section.id] = book_runner.run(section, folder, book_parents)
        return known[section.id]

    return run


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.id)
def test_the_section_tells_the_truth(
    section: Section, ran: Ran, request: pytest.FixtureRequest
) -> None:
    outcome = ran(section)
    if request.config.getoption("--update-golden"):
        rewrite(section, outcome.stale)
        outcome.stale.clear()
    complaints = outcome.complaints(section)
    if complaints:
        pytest.fail("\n" + "\n".join(complaints), pytrace=False)


def test_every_code_of_the_catalogue_is_shown(ran: Ran) -> None:
    shown = {code for section in SECTIONS for code in ran(section).printed}
    missing = [f"{code} {entry.name}" for code, entry in catalog.BY_ID.items() if code not in shown]
    assert not missing, f"{len(missing)} codes are shown in no section: {', '.join(missing)}"


# ---- explanations ----------------------------------------------------------------------------

_HEAD = re.compile(r"^(?:error|warning)\[[EW]\d{4}\]: .*$", re.MULTILINE)


def _shape(head: str) -> str:
    """The first line of a finding without its names and numbers."""
    return re.sub(r"`[^`]*`|\d[\d.]*", "_", head)


QUOTES = [
    pytest.param(code, head, id=code.id)
    for code in catalog.BY_ID.values()
    for block in snippets.blocks(explanations.body(code))
    if block.kind == "console"
    for head in _HEAD.findall(block.text)
]


@pytest.mark.parametrize(("code", "head"), QUOTES)
def test_what_an_explanation_quotes_is_what_the_book_shows(code: Code, head: str, ran: Ran) -> None:
    assert head.partition("[")[2].startswith(code.id)
    shown = (text for section in SECTIONS for text in ran(section).printed.get(code.id, ()))
    heads = [_shape(text.partition("\n")[0]) for text in shown]
    assert any(each.startswith(_shape(head)) for each in heads), heads


# ---- ways out that are shown and never applied -----------------------------------------------

SHOWN = ("E0405", "E0406", "E0408", "E0502", "E0507", "E0508", "E0509", "E0601")


@pytest.mark.parametrize("id", SHOWN)
def test_a_fix_that_is_only_shown_mends_as_well(
    id: str, book_parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in book_parents.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    example = snippets.sections(explanations.body(catalog.BY_ID[id]))["Example"]
    text = next(snippets.complete(b.text) for b in snippets.blocks(example) if b.kind == "surg")
    Path("spec.surg").write_text(text, encoding="utf-8")
    (found,) = book_runner.findings("spec.surg", "plan")
    fixes = [each.fix for each in found.helps if each.fix is not None]
    assert fixes
    for fix in fixes:
        mended = text
        for edit in reversed(fix.edits):
            mended = mended[: edit.span.start] + edit.text + mended[edit.span.end :]
        Path("spec.surg").write_text(mended, encoding="utf-8")
        left = [each.code for each in book_runner.findings("spec.surg", "plan")]
        assert all(code.severity is Severity.WARNING for code in left), (mended, left)
