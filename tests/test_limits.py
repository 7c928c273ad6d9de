"""What is too much: texts that nobody writes cost no more than a moment, and say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from surgery import catalog
from surgery.checking.scope import MAX_ERRORS
from surgery.diagnostics import Diagnostic, Label, Sink
from surgery.grammar import front, scan
from surgery.grammar.near import distance, nearest
from surgery.grammar.parse import MAX_LEXEMES, parse
from surgery.linting import run
from surgery.passes import check
from surgery.render import render
from surgery.source import Source, Span


def lint(text: str, tmp_path: Path) -> tuple[Diagnostic, ...]:
    return run.lint(Source("t.surg", text), run.Options(tmp_path)).findings


def test_a_text_has_so_many_words_and_no_more() -> None:
    # `surg 1`, `let a = [`, `]`; then two lexemes for each item.
    most = "surg 1\nlet a = [" + "1," * ((MAX_LEXEMES - 7) // 2) + "]"
    sink = Sink()
    assert len(scan.lexemes(most)) in (MAX_LEXEMES - 1, MAX_LEXEMES)
    assert len(parse(Source("t.surg", most), sink).items) == 1
    assert sink.found == []
    tree = parse(Source("t.surg", most + " let b = 1"), sink)
    assert tree.items == ()
    assert [each.code for each in sink.found] == [catalog.E0110]
    assert "more than 20,000 words and marks" in sink.found[0].message


def test_nothing_is_said_to_be_missing_from_a_text_that_is_not_read(tmp_path: Path) -> None:
    found = lint("surg 1\n" + "let a = 1\n" * MAX_LEXEMES, tmp_path)
    assert [each.code for each in found] == [catalog.E0110]


def test_the_check_ends_after_so_many_mistakes() -> None:
    sink = Sink()
    text = "surg 1\n" + "".join(f"let a{n} = nowhere{n}\n" for n in range(MAX_ERRORS + 30))
    assert check.run(parse(Source("t.surg", text), sink), sink, {}) is None
    assert [each.code for each in sink.found] == [catalog.E0201] * (MAX_ERRORS + 1)


def test_names_that_are_defined_again_are_told_so_often() -> None:
    sink = Sink()
    text = "surg 1\n" + "let a = 1\n" * 300
    check.run(parse(Source("t.surg", text), sink), sink, {})
    again = [each for each in sink.found if each.code is catalog.E0202]
    assert len(again) == MAX_ERRORS


def test_a_rule_has_so_many_findings(tmp_path: Path) -> None:
    text = 'surg 1\nmodel parent = local("x")\n'
    text += "".join(f"let a{n} = {n}\n" for n in range(run.MOST + 30))
    found = [each for each in lint(text, tmp_path) if each.code is catalog.W0201]
    assert len(found) == run.MOST


def test_a_finding_in_a_huge_line_shows_where_it_is() -> None:
    text = "a" * 400_000 + " here " + "b" * 400_000
    at = text.index("here")
    source = Source("t.surg", text)
    label = Label(Span(source, at, at + 4), "look", primary=True)
    shown = render([Diagnostic(catalog.E0109, "something", (label,))]).splitlines()
    line, marks = shown[3], shown[4]
    assert len(line) < 200
    assert line[marks.index("^") : marks.rindex("^") + 1] == "here"


def test_what_was_taken_back_can_be_reported_again() -> None:
    sink = Sink()
    one, two = (Diagnostic(catalog.E0109, message) for message in ("one", "two"))
    sink.extend((one, two, one))
    assert sink.found == [one, two]
    del sink.found[1:]
    sink.report(two)
    assert sink.found == [one, two]


@pytest.mark.parametrize("text", ["letx = 1", "let x = a andb", 'import "x" asy', "let x = notb"])
def test_a_keyword_is_a_whole_word(text: str) -> None:
    sink = Sink()
    items = parse(Source("t.surg", f"surg 1\n{text}\n"), sink).items
    assert sink.failed or "notb" in items[0].span.text


def test_statements_of_one_shape_are_told_apart() -> None:
    sink = Sink()
    text = "surg 1\nlet a = b + 1\nlet second = other + 22\n"
    one, two = parse(Source("t.surg", text), sink).items
    assert (one.span.text, two.span.text) == ("let a = b + 1", "let second = other + 22")
    assert two.head.text == "let second"


def test_long_statements_are_read_like_short_ones() -> None:
    short, long = (scan.lexemes("let a = [" + "x, " * n + "y]") for n in (3, 600))
    for found in (short, long):
        tree = front.read(found, found[-1].end)
        assert isinstance(tree, front.Branch)
        assert (tree.start, tree.end) == (0, found[-1].end)
        let = tree.parts[0]
        assert isinstance(let, front.Branch)
        values = let.parts[1]
        assert isinstance(values, front.Branch)
        assert len(values.parts) == (len(found) - 4) // 2


def test_a_distance_is_exact_up_to_what_was_asked() -> None:
    words = ("window", "widow", "winodw", "dataset", "datasets", "data", "", "a", "layers")
    for one in words:
        for two in words:
            exact = distance(one, two)
            for most in range(5):
                found = distance(one, two, most)
                assert found == exact if exact <= most else found > most
    assert nearest("datasat", words) == ("dataset",)
    assert nearest("zzz", words) == ()


def test_a_character_is_reported_once() -> None:
    sink = Sink()
    parse(Source("t.surg", "surg 1\nlet a\u2066b = 1\u00a0+ 2\u00a0\n"), sink)
    told = [each.message.partition("character ")[2] for each in sink.sorted()]
    assert told == ["U+2066", "U+00A0 no-break space"]
