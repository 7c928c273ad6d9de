"""The formatter: one golden pair per rule, properties over random specs, replacements."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from formatting_fixtures import comments, formatted, meaning, read, too_wide
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from spec_mutations import changed_characters, changed_tokens, spliced, truncated
from spec_strategies import BEGIN, specs, written
from spec_texts import SPECS

from surgery.diagnostics import Sink
from surgery.formatting import Replacement, changes, format_range, format_text, minimal_edits
from surgery.grammar import scan
from surgery.grammar.parse import parse
from surgery.passes import check
from surgery.source import Source

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "fmt"
NAMES = sorted(path.name.removesuffix(".in.surg") for path in GOLDEN.glob("*.in.surg"))
SHIPPED = sorted([*(ROOT / "specs").glob("*.surg"), *(ROOT / "surgery" / "std").glob("*.surg")])
QUICK = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)


# ---- goldens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, request: pytest.FixtureRequest) -> None:
    text = (GOLDEN / f"{name}.in.surg").read_bytes().decode()
    path = GOLDEN / f"{name}.out.surg"
    found = formatted(text)
    if request.config.getoption("--update-golden"):
        path.write_bytes(found.encode())
    assert found == path.read_bytes().decode()
    assert formatted(found) == found
    assert meaning(read(found)) == meaning(read(text))


def test_every_golden_has_a_pair_and_most_change_something() -> None:
    outs = sorted(path.name.removesuffix(".out.surg") for path in GOLDEN.glob("*.out.surg"))
    assert outs == NAMES
    assert len(NAMES) >= 25
    same = [
        name
        for name in NAMES
        if (GOLDEN / f"{name}.in.surg").read_bytes() == (GOLDEN / f"{name}.out.surg").read_bytes()
    ]
    assert same == ["columns_too_far", "parentheses_kept", "unbreakable"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_specs_are_formatted(path: Path) -> None:
    text = path.read_bytes().decode()
    assert formatted(text) == text
    assert too_wide(text) == []


# ---- properties ------------------------------------------------------------------------------


def assert_formats(text: str) -> str:
    """Everything that holds for the layout of any spec."""
    found = formatted(text)
    assert meaning(read(found)) == meaning(read(text))
    assert formatted(found) == found
    assert [each for each, _ in comments(found)] == [each for each, _ in comments(text)]
    assert too_wide(found) == []
    assert found.endswith("\n")
    lines = found.split("\n")
    assert [line for line in lines if line != line.rstrip()] == []
    assert "\n\n\n" not in found
    assert "\r" not in found
    return found


@settings(QUICK, max_examples=25)
@given(specs())
def test_random_specs_keep_their_meaning_and_comments(text: str) -> None:
    assert_formats(text)


def _tokens(text: str) -> list[str]:
    """The tokens of a real spec with the marks of `written`: statements, and ends of lines."""
    found: list[str] = []
    end = 0
    for lexeme in scan.lexemes(text):
        if lexeme.kind == "comment":
            continue
        if scan.in_column_0(text, lexeme.start) and lexeme.text in scan.STATEMENTS:
            found.append(BEGIN)
        elif "\n" in text[end : lexeme.start]:
            found.append("\0end")
        found.append(lexeme.text)
        end = lexeme.end
    # The edition is one thing, on one line.
    return [BEGIN, "surg 1", *found[3:]]


def _digest(text: str) -> str:
    sink = Sink()
    spec = check.run(parse(Source("t.surg", text), sink), sink, {})
    assert spec is not None, [each.message for each in sink.found]
    return spec.digest


@pytest.mark.parametrize("text", SPECS)
def test_real_specs_badly_written_mean_the_same(text: str) -> None:
    digest, tokens = _digest(text), _tokens(text)

    @settings(QUICK, max_examples=3, phases=[Phase.explicit, Phase.generate])
    @given(written(tokens))
    def holds(bad: str) -> None:
        found = assert_formats(bad)
        assert _digest(found) == digest

    holds()


@pytest.mark.parametrize("change", [changed_tokens, changed_characters, spliced, truncated])
def test_mutated_specs_have_a_layout_or_findings(
    change: Callable[[random.Random, str, str], bytes],
) -> None:
    good = 0
    for number in range(40):
        rng = random.Random(number)
        text = change(rng, *rng.sample(SPECS, 2)).decode()
        sink = Sink()
        if format_text(Source("t.surg", text), sink) is None:
            assert sink.failed
        else:
            good += 1
            assert_formats(text)
    assert 0 < good < 40


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_layout_does_not_depend_on_blanks(path: Path) -> None:
    # Blanks around `=`, lines indented further, blanks behind them, Windows line ends: all goes.
    text = path.read_bytes().decode()
    bad: list[str] = []
    for line in text.split("\n"):
        inside = line.startswith(" ")
        loose = line if "#" in line or '"' in line else line.replace(" = ", "  =\t ")
        bad.append(f"   {loose} " if inside else loose)
    assert formatted("\r\n".join(bad)) == text


def test_a_spec_with_a_syntax_error_has_no_layout() -> None:
    sink = Sink()
    assert format_text(Source("t.surg", "surg 1\nlet a = \nlet b = 1\n"), sink) is None
    assert [each.code.id for each in sink.found] != []
    assert all(each.primary is not None for each in sink.found)


def test_deep_and_long_expressions() -> None:
    deep = "(" * 30 + "a" + " + 1)" * 30
    long = " + ".join(f"value_{n}" for n in range(100))
    found = assert_formats(f"surg 1\nlet a = {deep}\nlet b = {long}\n")
    assert found.count("\n  + value_") == 99


# ---- replacements ----------------------------------------------------------------------------


def test_replacements_touch_only_lines_that_differ() -> None:
    old = "a\nb\nc\nd\n"
    assert minimal_edits(old, old) == ()
    assert minimal_edits(old, "a\nB\nc\nd\n") == (Replacement(2, 4, "B\n"),)
    assert minimal_edits(old, "a\nc\nd\ne\n") == (Replacement(2, 4, ""), Replacement(8, 8, "e\n"))
    assert minimal_edits("a", "a\n") == (Replacement(0, 1, "a\n"),)


@settings(QUICK, max_examples=200)
@given(st.text("ab\n", max_size=30), st.text("ab\n", max_size=30))
def test_replacements_make_the_new_text(old: str, new: str) -> None:
    edits = minimal_edits(old, new)
    assert changes.apply(old, edits) == new
    assert all(one.end < two.start for one, two in pairwise(edits))


def test_a_range_is_formatted_alone() -> None:
    text = "surg 1\n\nlet a=1\n\nlet b=2\n\nlet c=3\n"
    start = text.index("let b")
    edits = format_range(Source("t.surg", text), start, start + 3, Sink())
    assert edits is not None
    assert changes.apply(text, edits) == text.replace("b=2", "b = 2")
    assert format_range(Source("t.surg", "let"), 0, 3, Sink()) is None


def test_a_diff_names_the_file_and_the_missing_newline() -> None:
    assert changes.unified_diff("a\n", "a\n", "x") == ""
    assert changes.unified_diff("a\nb", "a\nb\n", "x.surg") == (
        "--- x.surg\n+++ x.surg\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"
    )
