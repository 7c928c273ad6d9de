"""Colours: the Pygments lexer, the TextMate grammar, and that both see the same in every spec."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import pytest
from conftest import untyped
from hypothesis import given, settings
from pygments.token import Comment, Error, Keyword, Number, Operator, String, Whitespace
from spec_strategies import specs
from spec_texts import SPECS

from surgery import lexicon, textmate
from surgery.checking import tables
from surgery.grammar import scan
from surgery.highlight import SurgLexer

ROOT = Path(__file__).parent.parent
FILES = sorted(
    [
        *(ROOT / "specs").glob("*.surg"),
        *(ROOT / "surgery" / "std").glob("*.surg"),
        *(ROOT / "tests" / "golden" / "fmt").glob("*.out.surg"),
    ]
)
TEXTS = [*(path.read_bytes().decode() for path in FILES), *SPECS]


def tokens(text: str) -> list[tuple[int, tuple[str, ...], str]]:
    return list(SurgLexer().get_tokens_unprocessed(text))


def within(kind: tuple[str, ...], family: tuple[str, ...]) -> bool:
    """Whether a kind of token is of a family: `Comment.Single` is a `Comment`."""
    return kind[: len(family)] == family


def kinds(text: str) -> list[tuple[str, str]]:
    """Kind and text of every token that is not blank."""
    found = tokens(text)
    return [(str(kind).removeprefix("Token."), t) for _, kind, t in found if kind is not Whitespace]


# ---- pygments --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_every_spec_has_tokens_and_they_are_its_text(text: str) -> None:
    found = tokens(text)
    assert "".join(part for _, _, part in found) == text
    assert [part for _, kind, part in found if kind is Error] == []
    assert [start for start, _, _ in found] == [
        sum(len(part) for _, _, part in found[:n]) for n in range(len(found))
    ]


@settings(max_examples=15, deadline=None, database=None)
@given(specs())
def test_random_specs_have_tokens(text: str) -> None:
    found = tokens(text)
    assert "".join(part for _, _, part in found) == text
    assert [part for _, kind, part in found if kind is Error] == []
    # The scanner of the language and the lexer cut comments, strings and numbers alike.
    for kind, family in (("comment", Comment), ("string", String), ("number", Number)):
        ours = [each.text for each in scan.lexemes(text) if each.kind == kind]
        assert [part for _, each, part in found if within(each, family)] == ours


def test_what_is_no_token_is_an_error() -> None:
    assert [t for k, t in kinds('let a = "open\nlet b = $')[3:] if k == "Error"] == ['"', "$"]


def test_statements_and_what_they_define() -> None:
    assert kinds("## Half.\ninput share: ratio = 50% # of all\n") == [
        ("Comment.Special", "## Half."),
        ("Keyword.Declaration", "input"),
        ("Name.Variable", "share"),
        ("Punctuation", ":"),
        ("Keyword.Type", "ratio"),
        ("Operator", "="),
        ("Literal.Number", "50%"),
        ("Comment.Single", "# of all"),
    ]
    assert kinds("fn f(s: scenario) -> ratio = s.x")[:8] == [
        ("Keyword.Declaration", "fn"),
        ("Name.Function", "f"),
        ("Punctuation", "("),
        ("Name.Variable", "s"),
        ("Punctuation", ":"),
        ("Keyword.Type", "scenario"),
        ("Punctuation", ")"),
        ("Operator", "->"),
    ]
    assert kinds("# surg: allow(unused-name)") == [
        ("Comment.Preproc", "# surg: allow(unused-name)")
    ]


def test_one_word_by_where_it_stands() -> None:
    found = kinds(
        "choose ffn in layers where width > 1 {\n  keep\n  width 3 by f(width: width)\n}\n"
        "let x = a.width\nscenario s on m { width = 1 }\n"
    )
    assert [kind for kind, text in found if text == "width"] == [
        "Name.Builtin.Pseudo",
        "Name.Function",
        "Name.Attribute",
        "Name.Builtin.Pseudo",
        "Name.Property",
        "Name.Attribute",
    ]
    folds = kinds("let a = count(layers where a is not count)")
    assert [kind for kind, text in folds if text == "count"] == ["Name.Builtin", "Name.Constant"]
    assert ("Operator.Word", "not") in folds


def test_numbers_carry_their_units() -> None:
    units = [unit for unit in scan.UNITS if unit not in "%x"]
    for unit in (*units, *(f" {unit}" for unit in units), "%", "x", "", "K tok", "B params"):
        assert kinds(f"let a = 1.5{unit}")[-1] == ("Literal.Number", f"1.5{unit}")


@pytest.mark.parametrize("word", sorted({*scan.STATEMENTS, *scan.FUTURE, *scan.CLAUSE_WORDS}))
def test_every_word_of_the_language_is_a_keyword(word: str) -> None:
    ((kind, _),) = kinds(word)
    assert kind.startswith("Keyword")


def test_the_vocabulary_is_that_of_the_checker() -> None:
    names = (*tables.FUNCTIONS, *tables.METRICS, *tables.CONSTANTS, *tables.LAYER_FACTS)
    for name in (*names, *tables.WORDS):
        assert kinds(name)[0][0].startswith("Name.Builtin"), name
    for site in ("attention", "ffn", "experts"):
        for edit in tables.EDITS[site]:
            text = f"choose {site} in layers {{\n  {edit.name} 1\n}}"
            assert ("Name.Function", edit.name) in kinds(text)
    assert set(lexicon.NAMING) == {
        *("model", "input", "let", "machine", "scenario", "dataset", "score")
    }
    assert set(lexicon.SITED) == {"apply", "emit"}


def test_pygments_finds_the_lexer() -> None:
    lexers = untyped("pygments.lexers")
    assert isinstance(lexers.get_lexer_by_name("surg"), SurgLexer)
    assert isinstance(lexers.get_lexer_for_filename("a.surg"), SurgLexer)
    assert SurgLexer.analyse_text(SPECS[0]) > 0.5
    assert SurgLexer.analyse_text("a: 1\n") == 0


def test_surgery_runs_without_pygments() -> None:
    code = (
        "import sys; sys.modules['pygments'] = None\n"
        "import surgery.cli, surgery.commands.fmt, surgery.textmate, surgery.lexicon\n"
        "assert surgery.textmate.text().startswith('{')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- textmate --------------------------------------------------------------------------------


def test_the_grammar_file_is_up_to_date(request: pytest.FixtureRequest) -> None:
    """`python -m surgery.textmate > surgery/grammar/surg.tmLanguage.json` renews it, too."""
    if request.config.getoption("--update-golden"):
        textmate.PATH.write_text(textmate.text(), encoding="utf-8")
    assert textmate.PATH.read_text(encoding="utf-8") == textmate.text()
    assert json.loads(textmate.text())["scopeName"] == "source.surg"


def _patterns(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in cast("dict[str, object]", value).items():
            if key in ("match", "begin", "end"):
                yield cast("str", part)
            else:
                yield from _patterns(part)
    elif isinstance(value, list):
        for part in cast("list[object]", value):
            yield from _patterns(part)


def test_every_pattern_compiles_and_none_matches_nothing() -> None:
    oniguruma = untyped("onigurumacffi")
    patterns = list(_patterns(json.loads(textmate.text())))
    assert len(patterns) > 25
    for pattern in patterns:
        assert re.compile(pattern).match("") is None
        assert oniguruma.compile(pattern).match("") is None


class _Element(Protocol):
    def flatten(self) -> list[tuple[tuple[int, int], str, list[str]]]: ...


class _Engine(Protocol):
    def parse_string(self, input: str) -> _Element: ...


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Engine:
    """A TextMate engine on Oniguruma with the grammar; its cache goes where the test is."""
    monkeypatch.chdir(tmp_path)
    parsers = untyped("textmate_grammar.parsers.base")
    return cast("_Engine", parsers.LanguageParser(json.loads(textmate.text())))


_SCOPES = {
    "comment": "comment",
    "string": "string",
    "constant.numeric": "number",
    "keyword.operator.symbol": "other",
    "keyword": "keyword",
}


def _scope_class(scope: str) -> str:
    return next((name for start, name in _SCOPES.items() if scope.startswith(start)), "other")


def _token_class(kind: tuple[str, ...]) -> str:
    for family, name in ((Comment, "comment"), (String, "string"), (Number, "number")):
        if within(kind, family):
            return name
    word = kind is Operator.Word or (within(kind, Keyword) and kind is not Keyword.Type)
    return "keyword" if word else "other"


def test_pygments_and_textmate_agree(engine: _Engine) -> None:
    seen: set[str] = set()
    for text in TEXTS:
        lines = text.split("\n")
        starts = [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines))]
        ours = [
            (start + n, name)
            for start, kind, part in tokens(text)
            if (name := _token_class(kind)) != "other"
            for n in range(len(part))
        ]
        theirs = [
            (starts[line] + column + n, name)
            for (line, column), part, scopes in engine.parse_string(text).flatten()
            if (name := _scope_class(scopes[-1])) != "other"
            for n in range(len(part))
        ]
        assert theirs == ours
        seen |= {name for _, name in ours}
    assert seen == {"comment", "string", "number", "keyword"}


def test_textmate_scopes(engine: _Engine) -> None:
    text = "choose ffn in layers {\n  width 3 by f(on: a)\n}\nlet b = count(layers) / a.c\n"
    scopes = {part: names[-1] for _, part, names in engine.parse_string(text).flatten()}
    assert scopes["choose"] == "keyword.control.statement.surg"
    assert scopes["ffn"] == "entity.name.type.site.surg"
    assert scopes["width"] == "support.function.edit.surg"
    assert scopes["by"] == "keyword.other.clause.surg"
    assert scopes["on"] == "variable.parameter.surg"
    assert scopes["b"] == "variable.other.definition.surg"
    assert scopes["count"] == "support.function.fold.surg"
    assert scopes["c"] == "variable.other.member.surg"
    assert scopes["3"] == "constant.numeric.surg"
