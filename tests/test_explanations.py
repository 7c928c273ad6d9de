"""Every code has an explanation, and what the explanations show is true.

Each `surg` block is run: an example gives its code and nothing else, a remedy is free of it and of
errors, and where an example carries a fix that can be applied, applying it removes the finding and
introduces none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import snippets
from conftest import Workplace
from snippets import Block

from surgery import catalog, explanations, pipeline, render
from surgery.cli import main
from surgery.diagnostics import Code, Diagnostic, Fix, Safety, Severity, Sink
from surgery.explanations import layout
from surgery.grammar.parse import read_source
from surgery.linting import levels, run

CODES = tuple(catalog.BY_ID.values())
FOLDER = Path(explanations.__file__).parent
FILES = frozenset(path.stem for path in FOLDER.glob("*.md"))
EXPLAINED = tuple(code for code in CODES if code.id in FILES)


def _section(text: str, heading: str) -> tuple[Block, ...]:
    """The blocks below a heading."""
    return snippets.blocks(snippets.sections(text).get(heading, ""))


def _surg(section: tuple[Block, ...]) -> Iterator[str]:
    return (snippets.complete(block.text) for block in section if block.kind == "surg")


# ---- the catalogue ---------------------------------------------------------------------------


def test_every_code_has_a_file_and_every_file_a_code() -> None:
    assert set(catalog.BY_ID) == FILES


def test_codes_stand_in_the_order_of_their_groups() -> None:
    ids = list(catalog.BY_ID)
    assert ids == sorted(ids, key=lambda id: (id[1:3], id))
    assert {id[1:3] for id in ids} == set(catalog.GROUPS)
    assert len(ids) >= 75


def test_every_code_is_reported_somewhere() -> None:
    sources = [path for path in FOLDER.parent.rglob("*.py") if path.name != "catalog.py"]
    used: set[str] = set()
    for path in sources:
        used |= set(re.findall(r"\bcatalog\.([EWN]\d{4})\b", path.read_text(encoding="utf-8")))
    assert set(catalog.BY_ID) - used == set()


# ---- the texts -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", EXPLAINED, ids=lambda code: code.id)
def test_an_explanation_has_the_shape_of_one(code: Code) -> None:
    text = explanations.body(code)
    lines = text.splitlines()
    assert lines[0] == f"# {code.id} {code.name}"
    sections = snippets.sections(text)
    assert list(sections) == ["", "Example", "Remedy"]
    assert len(sections[""].split()) >= 40
    assert snippets.blocks(sections["Example"])
    assert len(sections["Remedy"].splitlines()) > 2
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert max(len(line) for line in lines) <= 100
    told = re.search(r"(?i)did you mean|\b(illegal|invalid)\b", text)
    assert told is None, told
    for mentioned in re.findall(r"\b[EW]\d{4}\b", text):
        assert mentioned in catalog.BY_ID


@pytest.mark.parametrize("code", EXPLAINED, ids=lambda code: code.id)
def test_the_ending_says_what_the_catalogue_says(code: Code) -> None:
    text = explanations.explanation(code)
    ending = text.removeprefix(explanations.body(code).rstrip("\n"))
    assert ("surgery lint --fix --unsafe-fixes" in ending) == (code.fix is Safety.UNSAFE)
    assert ("None is applied" in ending) == (code.fix is Safety.DISPLAY)
    assert ("No fix is promised" in ending) == (code.fix is None)
    assert (f"# surg: allow({code.name})" in ending) == (code.severity is Severity.WARNING)


# ---- the examples are run --------------------------------------------------------------------


def _examples(heading: str) -> list[object]:
    return [
        pytest.param(code, place, id=f"{code.id}-{place}")
        for code in EXPLAINED
        for place, _ in enumerate(_surg(_section(explanations.body(code), heading)))
    ]


def _found(code: Code, text: str, section: tuple[Block, ...]) -> tuple[Diagnostic, ...]:
    """What the command that is asked about such a code finds in a text in the current folder.

    A lint is for `lint`, what needs the parent for `plan`, the rest for `check`.
    """
    snippets.write(section, Path())
    Path("spec.surg").write_text(text, encoding="utf-8")
    sink = Sink()
    options = pipeline.Options(Path("library"), Path("cache"))
    if code.severity is Severity.WARNING or code is catalog.E0012:
        source = read_source("spec.surg", sink)
        assert source is not None
        known = levels.of("spec.surg", sink)
        sink.extend(run.lint(source, run.Options(options.cache, levels=known)).findings)
    elif code.id[1:3] < "04":
        pipeline.check("spec.surg", sink, options)
    else:
        pipeline.foresee("spec.surg", sink, options)
    return sink.sorted()


@pytest.fixture
def _place(workplace: Workplace) -> None:
    """A folder with the two parents under the names that the book gives them."""
    for name, parent in (("tiny", "gpt_oss"), ("dense", "llama")):
        (workplace.folder / name).symlink_to((workplace.folder / parent).resolve())


@pytest.mark.parametrize(("code", "place"), _examples("Example"))
@pytest.mark.usefixtures("_place")
def test_an_example_gives_its_code_and_nothing_else(code: Code, place: int) -> None:
    section = _section(explanations.body(code), "Example")
    text = list(_surg(section))[place]
    found = _found(code, text, section)
    assert {each.code.id for each in found} == {code.id}, render.render(found)
    if code.fix is not None:
        fixes = [help.fix for each in found for help in each.helps if help.fix]
        assert fixes
        assert all(_at_least(fix.safety, code.fix) for fix in fixes)
    for each in found:
        _fixes_mend(code, text, section, each)


def _at_least(safety: Safety, promised: Safety) -> bool:
    order = list(Safety)
    return order.index(safety) <= order.index(promised)


def _fixes_mend(code: Code, text: str, section: tuple[Block, ...], finding: Diagnostic) -> None:
    """Every fix that may be applied removes its finding and introduces none."""
    before = _found(code, text, section)
    for help in finding.helps:
        if help.fix is None or help.fix.safety is Safety.DISPLAY:
            continue
        after = _found(code, _applied(text, help.fix), section)
        assert len(after) < len(before), render.render(after)
        assert {each.code for each in after} <= {each.code for each in before}


def _applied(text: str, fix: Fix) -> str:
    for edit in reversed(fix.edits):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text


@pytest.mark.parametrize(("code", "place"), _examples("Remedy"))
@pytest.mark.usefixtures("_place")
def test_a_remedy_is_free_of_its_code_and_of_errors(code: Code, place: int) -> None:
    section = _section(explanations.body(code), "Remedy")
    found = _found(code, list(_surg(section))[place], section)
    bad = [each for each in found if each.code is code or each.severity is Severity.ERROR]
    assert bad == [], render.render(bad)


# ---- the command -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["E0301", "e0301", "mixed-dimensions", "Mixed_Dimensions"])
def test_a_code_is_found_by_number_and_name(text: str) -> None:
    assert explanations.find(text) is catalog.E0301


@pytest.mark.parametrize(
    ("text", "similar"),
    [
        ("mixed-dimension", "E0301"),
        ("E031", "E0301"),
        ("unused", "W0201"),
        ("W0203x", "W0203"),
    ],
)
def test_what_is_no_code_has_near_ones(text: str, similar: str) -> None:
    assert explanations.find(text) is None
    assert similar in [code.id for code in explanations.similar(text)]


def test_explain_prints_prose_and_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "mixed-dimensions"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("E0301 mixed-dimensions\n\n")
    assert "\n\n    require @size params <= 88.5GB\n\n" in told
    assert max(len(line) for line in told.splitlines()) <= 100
    assert "\x1b" not in told


def test_explain_lists_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    told = capsys.readouterr().out
    for code in CODES:
        assert f"{code.id}  {code.name} " in told
    for number, title in catalog.GROUPS.items():
        assert f"{number} {title}\n" in told


def test_explain_of_nothing_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "E9999"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "error[E0006]: there is no code or lint `E9999`" in told.err


def test_explain_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert main(["explain", "W0201", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "unused-name"
    assert told["severity"] == "warning"
    assert told["text"] == explanations.explanation(catalog.W0201)
    assert main(["explain", "--json"]) == 0
    assert [each["code"] for each in json.loads(capsys.readouterr().out)] == list(catalog.BY_ID)


def test_layout_wraps_prose_and_leaves_code_alone() -> None:
    long = "    x = " + "1 + " * 40
    text = f"# Title\n\n{'word ' * 40}\n\n- one\n  two\n- three\n\n```surg\n{long}\n\ny\n```\n"
    told = layout.plain(text, width=60)
    assert told.splitlines()[0] == "Title"
    assert all(len(line) <= 60 for line in told.splitlines() if "+" not in line)
    assert "- one two\n- three\n" in told
    assert f"    {long}\n\n    y" in told
    assert layout.plain(text, width=60, colour=True).startswith("\x1b[1mTitle\x1b[0m")
