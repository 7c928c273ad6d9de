"""Syntax errors: their codes, places, words and fixes; and one error for each mistake."""

from __future__ import annotations

import pytest
from spec_texts import OSS, SMOL

from surgery import catalog
from surgery.diagnostics import Code, Diagnostic, Fix, Safety, Sink
from surgery.grammar import ast
from surgery.grammar.parse import parse
from surgery.source import Source


def read(text: str) -> tuple[ast.Spec, tuple[Diagnostic, ...]]:
    sink = Sink()
    spec = parse(Source("t.surg", text), sink)
    return spec, sink.sorted()


def only(text: str) -> Diagnostic:
    """The one finding about a statement between two good ones, which both have to be read."""
    spec, found = read(f"surg 1\nlet first = 1\n{text}\nlet last = 2\n")
    assert len(found) == 1, found
    heads = [item.head.text for item in spec.items]
    assert heads[0] == "let first"
    assert heads[-1] == "let last"
    return found[0]


def marked(diagnostic: Diagnostic) -> str:
    assert diagnostic.primary is not None
    return diagnostic.primary.span.text


def applied(text: str, fix: Fix) -> str:
    for edit in reversed(fix.edits):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text


CASES: tuple[tuple[str, Code, str, str], ...] = (
    # text, code, what the primary label marks, message
    ("let x 5", catalog.E0101, "5", "expected `=` after `x`"),
    (
        "scenario s on m {\n  decode    64K tok\n}",
        catalog.E0101,
        "64K tok",
        "expected `=` after the field name `decode`",
    ),
    ("input a: ratio 80%", catalog.E0101, "80%", "expected `=` after `ratio`"),
    (
        "choose a in layers {\n  keep\n  noop",
        catalog.E0102,
        "{",
        "the block of `choose a` is not closed",
    ),
    ("recover { distill { a = 1 }", catalog.E0102, "{", "the block of `recover` is not closed"),
    ("let x = (1 + 2", catalog.E0102, "(", "this `(` is not closed"),
    ("let x = [1, 2)", catalog.E0102, "[", "this `[` is not closed"),
    (
        "apply a {\n  b = kl(logits\n  c = 3\n}",
        catalog.E0102,
        "(",
        "this `(` is not closed",
    ),
    ("chose a in layers { keep noop }", catalog.E0103, "chose", "there is no statement `chose`"),
    ("mkae a", catalog.E0103, "mkae", "there is no statement `mkae`"),
    ("let x = 45G", catalog.E0104, "45G", "`45G` does not say which bytes it counts"),
    ("let x = 64k tok", catalog.E0104, "64k", "there is no magnitude `k`"),
    ("let x = 64 toks", catalog.E0104, "64 toks", "there is no unit `toks`"),
    ("let x = 92 percent", catalog.E0104, "92 percent", "there is no unit `percent`"),
    ("let x = 5zorkmid", catalog.E0104, "5zorkmid", "there is no unit `zorkmid`"),
    ("apply a { b = 8K toks\n c = 3 }", catalog.E0104, "8K toks", "there is no unit `toks`"),
    (
        "choose a in layers {\n  keep\n  window 8K toks\n}",
        catalog.E0104,
        "8K toks",
        "there is no unit `toks`",
    ),
    (
        "choose a in layers {\n  keep\n  window 8K toks | 128 tok\n}",
        catalog.E0104,
        "8K toks",
        "there is no unit `toks`",
    ),
    ("choose a in layers { }", catalog.E0105, "choose a", "`choose a` has no alternatives"),
    (
        'model m = hf("a/b {',
        catalog.E0106,
        '"a/b {',
        "this string is not closed on its line",
    ),
    (
        "let score = 3",
        catalog.E0107,
        "score",
        "`score` is a reserved word and cannot name anything",
    ),
    (
        "fn f(in: ratio) -> ratio = 1",
        catalog.E0107,
        "in",
        "`in` is a reserved word and cannot name anything",
    ),
    (
        "prefer a < 3",
        catalog.E0107,
        "prefer",
        "`prefer` is reserved for a later edition of the language",
    ),
    ("let x = a && b", catalog.E0108, "&&", "`&&` is not used here"),
    ("let x = a || b", catalog.E0108, "||", "`||` is not used here"),
    ("let x = !a", catalog.E0108, "!", "`!` is not used here"),
    ("// words", catalog.E0108, "//", "`//` is not used here"),
    ("let x = 5 // two words", catalog.E0108, "//", "`//` is not used here"),
    ("let x = 5 // words", catalog.E0109, "//", "`//` is not used here"),
    ("apply a { b: 3 }", catalog.E0108, ":", "`:` is not used here"),
    ("apply a { b == 3 }", catalog.E0108, "==", "`==` is not used here"),
    ("require @a x = 3", catalog.E0108, "=", "`=` is not used here"),
    ("let x = f(a = 3)", catalog.E0108, "=", "`=` is not used here"),
    ("let x = 3;", catalog.E0108, ";", "`;` is not used here"),
    ("fn f(a: b) => c = 3", catalog.E0108, "=>", "`=>` is not used here"),
    ("require a =< 3", catalog.E0108, "=<", "`=<` is not used here"),
    ("require a => 3", catalog.E0108, "=>", "`=>` is not used here"),
    ("let x = a ** b", catalog.E0109, "**", "there is no operator `**`"),
    ("model m = hf('a')", catalog.E0108, "'a'", "strings are not written in single quotes"),
    ("let Foo = 3", catalog.E0109, "Foo", "`Foo` cannot be a name"),
    ("let größe = 3", catalog.E0109, "größe", "`größe` cannot be a name"),
    ("let x = .5", catalog.E0109, ".5", "a number begins with a digit"),
    ("let x = 3 }", catalog.E0109, "}", "this `}` closes nothing"),
    ("let x = 5 $ 3", catalog.E0109, "$", "unexpected `$` after number `5`"),
    ("emit a 'b", catalog.E0106, "'", "this string is not closed on its line"),
    (
        "let",
        catalog.E0109,
        "let",
        "`let` is not complete: the next statement begins after `let`",
    ),
    (
        "require a >=",
        catalog.E0109,
        ">=",
        "`require` is not complete: the next statement begins after `>=`",
    ),
    (
        "choose a in layers { keep\nretain 3 by b by c }",
        catalog.E0202,
        "by c",
        "this alternative has two `by` clauses",
    ),
    ("surg 1", catalog.E0003, "surg 1", "the edition is given again"),
)


@pytest.mark.parametrize(("text", "code", "place", "message"), CASES)
def test_one_mistake_is_one_error(text: str, code: Code, place: str, message: str) -> None:
    found = only(text)
    assert (found.code, marked(found), found.message) == (code, place, message)


FIXES = (
    ("let x 5", "let x = 5", Safety.SAFE),
    ("apply a {\n  decode    64K tok\n}", "apply a {\n  decode  = 64K tok\n}", Safety.SAFE),
    ("apply a {\n  b = 3", "apply a {\n  b = 3\n}", Safety.UNSAFE),
    ("let x = f(1, 2", "let x = f(1, 2)", Safety.UNSAFE),
    ("chose a in layers { keep noop }", "choose a in layers { keep noop }", Safety.SAFE),
    ("let x = 64 toks", "let x = 64 tok", Safety.DISPLAY),
    ("let x = 92 percent", "let x = 92%", Safety.DISPLAY),
    ("let x = 64k tok", "let x = 64K tok", Safety.DISPLAY),
    ('import "a as b', 'import "a" as b', Safety.UNSAFE),
    ("let x = a && b", "let x = a and b", Safety.SAFE),
    ("let x = a || b", "let x = a or b", Safety.SAFE),
    ("let x = !a", "let x = not a", Safety.SAFE),
    ("// words", "# words", Safety.SAFE),
    ("let x = 5 // two words", "let x = 5 # two words", Safety.SAFE),
    ("apply a { b: 3 }", "apply a { b = 3 }", Safety.SAFE),
    ("apply a { b == 3 }", "apply a { b = 3 }", Safety.SAFE),
    ("require @a x = 3", "require @a x == 3", Safety.SAFE),
    ("require @a x =< 3", "require @a x <= 3", Safety.SAFE),
    ("require @a x => 3", "require @a x >= 3", Safety.SAFE),
    ("require x=<3", "require x<=3", Safety.SAFE),
    ("let x = f(a =< 3)", "let x = f(a <= 3)", Safety.SAFE),
    ("let x = f(a = 3)", "let x = f(a: 3)", Safety.SAFE),
    ("let x = 3;", "let x = 3", Safety.SAFE),
    ("fn f(a: b) => c = 3", "fn f(a: b) -> c = 3", Safety.SAFE),
    ("model m = hf('a')", 'model m = hf("a")', Safety.SAFE),
    ("let Foo = 3", "let foo = 3", Safety.UNSAFE),
    ("let x = .5", "let x = 0.5", Safety.SAFE),
)


@pytest.mark.parametrize(("wrong", "right", "safety"), FIXES)
def test_fixes(wrong: str, right: str, safety: Safety) -> None:
    text = f"surg 1\nlet first = 1\n{wrong}\nlet last = 2\n"
    fixes = [each.fix for each in only(wrong).helps if each.fix is not None]
    assert len(fixes) == 1
    assert fixes[0].safety is safety
    assert applied(text, fixes[0]) == f"surg 1\nlet first = 1\n{right}\nlet last = 2\n"


@pytest.mark.parametrize("right", [r for _, r, _ in FIXES])
def test_what_a_fix_writes_can_be_read(right: str) -> None:
    _, found = read(f"surg 1\n{right}\n")
    assert found == ()


INVISIBLE = (
    ("\u00a0", "U+00A0 no-break space", " "),
    ("\u3000", "U+3000 ideographic space", " "),
    ("\u200b", "U+200B zero width space", ""),
    ("\ufeff", "U+FEFF zero width no-break space", ""),
    ("\u00ad", "U+00AD soft hyphen", ""),
)


@pytest.mark.parametrize(("char", "name", "instead"), INVISIBLE)
def test_invisible_characters_are_named_and_replaced(char: str, name: str, instead: str) -> None:
    quiet = f'# a{char}b\nmodel m = local("a{char}b")'
    text = f"surg 1\n{quiet}\nlet x ={char} 5\nlet y = 6{char}\n"
    spec, (found,) = read(text)
    assert len(spec.items) == 3
    assert found.code is catalog.E0111
    assert found.message == f"only strings and comments can contain the character {name}"
    assert found.primary is not None
    assert found.primary.span.start == text.index("let x") + len("let x =")
    assert found.notes == ("2 such characters in this file",)
    (help,) = found.helps
    assert help.fix is not None
    assert help.fix.safety is Safety.SAFE
    right = f"surg 1\n{quiet}\nlet x ={instead} 5\nlet y = 6{instead}\n"
    assert applied(text, help.fix) == right
    again, rest = read(right)
    assert rest == ()
    assert len(again.items) == 3


def test_bare_bytes_show_both_units() -> None:
    found = only("let x = 45G")
    assert [each.text for each in found.helps] == ["write `45GiB`", "write `45GB`"]
    assert {each.fix.safety for each in found.helps if each.fix} == {Safety.DISPLAY}


def test_missing_equals_marks_the_field_too() -> None:
    found = only("apply a {\n  decode    64K tok\n}")
    assert [(label.span.text, label.text) for label in found.labels] == [
        ("64K tok", "expected `=` before this value"),
        ("decode", "this field"),
    ]


def test_an_unclosed_block_names_the_next_statement() -> None:
    found = only("apply a {\n  b = 3")
    assert [(label.span.text, label.text) for label in found.labels] == [
        ("{", "opened here"),
        ("let", "the next statement begins here"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("let x = 3 4", "expected an operator or the next statement"),
        ("choose a layers { keep noop }", "expected `in`"),
        ("scenario s on m\n  a = 3\n", "expected a block `{`"),
        ("expect a else b", "expected a string in quotes"),
        ("model m = hf\n", "expected `(` or `.` after this"),
        ("let x = ]", ""),
        ("score d = swap(metric kl)", "expected an operator, `)`, `,` or `:`"),
        ("require a is", "expected a name or `not` after this"),
    ],
)
def test_what_is_expected_is_said_in_words(text: str, expected: str) -> None:
    found = only(text)
    assert found.primary is not None
    assert found.code is catalog.E0109
    assert found.primary.text == expected or not expected


def test_expected_lists_have_at_most_five_things() -> None:
    for text in (
        "let x = f(a b)",
        "apply a { b }",
        "choose a in layers { retain 3 = }",
        "emit a b",
    ):
        found = only(text)
        assert found.primary is not None
        assert found.primary.text.count(",") + found.primary.text.count(" or ") <= 4


# ---- the edition -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "fixed"),
    [
        ("", "", "surg 1\n\n"),
        ("# words\nlet x = 1\n", "let", "surg 1\n\n# words\nlet x = 1\n"),
        ("surg 2\nlet x = 1\n", "surg 2", "surg 1\nlet x = 1\n"),
        ("surg\nlet x = 1\n", "surg", "surg 1\nlet x = 1\n"),
        ("surge 1\nlet x = 1\n", "surge 1", "surg 1\nlet x = 1\n"),
    ],
)
def test_the_edition_comes_first(text: str, place: str, fixed: str) -> None:
    spec, (found,) = read(text)
    assert found.code is catalog.E0003
    assert marked(found) == place
    fix = found.helps[0].fix
    assert fix is not None
    assert fix.safety is Safety.SAFE
    assert applied(text, fix) == fixed
    assert len(spec.items) == text.count("let")


# ---- several mistakes ------------------------------------------------------------------------


def test_four_mistakes_are_four_errors_and_the_rest_is_read() -> None:
    text = OSS
    for old, new in (
        ("  tokens  = 84B tok\n", "  tokens    84B tok\n"),
        ("scenario solo on one {\n", "scenario solo on one\n"),
        ("retain 112 | 96 | 80 | 64 | 48 by moe.contribution(traces)\n}", "retain 112 | 96\n"),
        ("minimize damage", "minimise damage"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    spec, found = read(text)
    whole, _ = read(OSS)
    lines = text.split("\n")
    places = [(d.code.id, lines[d.primary.span.first.line - 1]) for d in found if d.primary]
    assert places == [
        ("E0109", "  prefill = 64K tok"),
        ("E0102", "choose experts in layers {"),
        ("E0103", "minimise damage + 0.5 * reach"),
        ("E0101", "    tokens    84B tok"),
    ]
    # All but the fields of `solo` are as they were meant.
    heads = [item.head.text.replace("minimise", "minimize") for item in spec.items]
    assert heads == [item.head.text for item in whole.items]
    assert [hole.text for hole in spec.holes] == ["", ""]


def test_an_unclosed_block_before_a_misspelt_statement_is_two_errors() -> None:
    spec, found = read("surg 1\napply a {\n  b = 1\nchose c in layers {\n  keep noop\n}\nlet d = 1")
    assert [d.code.id for d in found] == ["E0102", "E0103"]
    assert [item.head.text for item in spec.items] == ["apply a", "chose c", "let d"]


def test_a_broken_statement_never_hides_the_others() -> None:
    whole, _ = read(SMOL)
    for item in whole.items:
        text = SMOL[: item.span.end] + " $ (" + SMOL[item.span.end :]
        spec, found = read(text)
        assert len(found) == 1
        heads = [each.head.text for each in spec.items]
        assert heads == [each.head.text for each in whole.items if each is not item]


def test_messages_keep_the_house_style() -> None:
    for text, *_ in CASES:
        found = only(text)
        words = [found.message, *found.notes, *(each.text for each in found.helps)]
        words += [label.text for label in found.labels]
        for word in words:
            assert not word.endswith(".")
            assert "did you mean" not in word.lower()
            assert not word[:1].isupper() or word.startswith("GiB")
