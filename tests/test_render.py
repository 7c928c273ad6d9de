"""What reports look like, character by character."""

from __future__ import annotations

import re

import pytest

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.render import full
from surgery.source import Source, Span


def source(lines: dict[int, str], name: str = "specs/gpt-oss-120b.surg") -> Source:
    """A source whose other lines are empty."""
    return Source(name, "".join(lines.get(n, "") + "\n" for n in range(1, max(lines) + 1)))


def at(where: Source, text: str, nth: int = 0) -> Span:
    start = -1
    for _ in range(nth + 1):
        start = where.text.index(text, start + 1)
    return Span(where, start, start + len(text))


def shows(found: Diagnostic, text: str) -> None:
    assert full(found) == text


LIMIT = source({88: "require @size   params <= 88.5GB"})
MIXED = Diagnostic(
    catalog.E0301,
    "cannot compare a parameter count with a number of bytes",
    (
        Label(at(LIMIT, "88.5GB"), "this is a number of bytes", primary=True),
        Label(at(LIMIT, "params"), "this is a count of parameters"),
    ),
    notes=("the limit is attached to `@size`; `weights` is the size in bytes",),
    helps=(
        Help(
            "to limit the count, write the unit of a count",
            Fix((Edit(at(LIMIT, "88.5GB"), "88.5B params"),), Safety.DISPLAY),
        ),
        Help(
            "to limit the bytes, compare `weights`",
            Fix((Edit(at(LIMIT, "params"), "weights"),), Safety.DISPLAY),
        ),
    ),
)


def test_marks_hanging_labels_notes_and_fixes() -> None:
    shows(
        MIXED,
        """\
error[E0301]: cannot compare a parameter count with a number of bytes
  --> specs/gpt-oss-120b.surg:88:27
   |
88 | require @size   params <= 88.5GB
   |                 ------    ^^^^^^ this is a number of bytes
   |                 |
   |                 this is a count of parameters
   |
   = note: the limit is attached to `@size`; `weights` is the size in bytes
help: to limit the count, write the unit of a count
   |
88 - require @size   params <= 88.5GB
88 + require @size   params <= 88.5B params
help: to limit the bytes, compare `weights`
   |
88 - require @size   params <= 88.5GB
88 + require @size   weights <= 88.5GB""",
    )


def test_three_labels_on_one_line() -> None:
    where = source({94: "minimize damage * reach"})
    found = Diagnostic(
        catalog.E0502,
        "this product is not linear in the choices",
        (
            Label(at(where, "*"), "product of two choice-dependent values", primary=True),
            Label(at(where, "damage"), "depends on the choices"),
            Label(at(where, "reach"), "depends on the choices"),
        ),
        notes=("the solver handles sums of choice-dependent values, each times a constant",),
        helps=(
            Help("weigh them instead: `damage + 0.5 * reach`"),
            Help("or bound one: `require @reach reach <= 0.020` and `minimize damage`"),
        ),
    )
    shows(
        found,
        """\
error[E0502]: this product is not linear in the choices
  --> specs/gpt-oss-120b.surg:94:17
   |
94 | minimize damage * reach
   |          ------ ^ ----- depends on the choices
   |          |      |
   |          |      product of two choice-dependent values
   |          depends on the choices
   |
   = note: the solver handles sums of choice-dependent values, each times a constant
   = help: weigh them instead: `damage + 0.5 * reach`
   = help: or bound one: `require @reach reach <= 0.020` and `minimize damage`""",
    )


def test_skipped_lines_and_plain_facts() -> None:
    where = source(
        {
            85: "require @long   speedup(long) >= 1.60x",
            89: "require @reach  reach <= 0.020",
            92: "require @sight  count(layers where attention is full) >= 8 layers",
        }
    )
    found = Diagnostic(
        catalog.E0601,
        "no architecture satisfies all of the requirements",
        (
            Label(
                at(where, "speedup(long) >= 1.60x"), "best possible with the others: 1.47x", True
            ),
            Label(at(where, "reach <= 0.020"), "best possible with the others: 0.031"),
            Label(
                at(where, "count(layers where attention is full) >= 8 layers"),
                "best possible with the others: 5 layers",
            ),
        ),
        notes=(
            "= these 3 of 7 requirements conflict; any 2 of them can be satisfied",
            "relaxing one is enough:  @long to 1.47x,  or @reach to 0.031,  or @sight to 5 layers",
        ),
        helps=(
            Help(
                "`surgery plan --relax @reach` solves for the least relaxation and shows its plan"
            ),
        ),
    )
    shows(
        found,
        """\
error[E0601]: no architecture satisfies all of the requirements
  --> specs/gpt-oss-120b.surg:85:17
   |
85 | require @long   speedup(long) >= 1.60x
   |                 ^^^^^^^^^^^^^^^^^^^^^^ best possible with the others: 1.47x
...|
89 | require @reach  reach <= 0.020
   |                 -------------- best possible with the others: 0.031
...|
92 | require @sight  count(layers where attention is full) >= 8 layers
   |                 ------------------------------------------------- best possible with the \
others: 5 layers
   |
   = these 3 of 7 requirements conflict; any 2 of them can be satisfied
   = note: relaxing one is enough:  @long to 1.47x,  or @reach to 0.031,  or @sight to 5 layers
   = help: `surgery plan --relax @reach` solves for the least relaxation and shows its plan""",
    )


def test_the_primary_label_names_the_place_even_when_it_is_not_first() -> None:
    where = source({7: "score reach = swap_one()", 12: "require @reach  reech <= 0.020"}, "a.surg")
    found = Diagnostic(
        catalog.E0201,
        "there is no name `reech` here",
        (
            Label(at(where, "score reach"), "a score with a similar name is defined here"),
            Label(at(where, "reech"), "not defined", primary=True),
        ),
    )
    shows(
        found,
        """\
error[E0201]: there is no name `reech` here
  --> a.surg:12:17
   |
 7 | score reach = swap_one()
   | ----------- a score with a similar name is defined here
...|
12 | require @reach  reech <= 0.020
   |                 ^^^^^ not defined""",
    )


def test_neighbouring_lines_have_nothing_between_them() -> None:
    where = Source("a.surg", "let x = 1\nlet x = 2\n")
    found = Diagnostic(
        catalog.E0202,
        "`x` is defined twice",
        (
            Label(at(where, "let x", 1), "again", primary=True),
            Label(at(where, "let x"), "first"),
        ),
    )
    shows(
        found,
        """\
error[E0202]: `x` is defined twice
 --> a.surg:2:1
  |
1 | let x = 1
  | ----- first
2 | let x = 2
  | ^^^^^ again""",
    )


def test_findings_without_a_place_in_a_spec() -> None:
    found = Diagnostic(
        catalog.E0411,
        "tensor `lm_head.weight` has another shape",
        subject="model-00001-of-00002.safetensors",
        values=(("expected", "[49152, 576]"), ("found", "[49152, 512]")),
        helps=(Help("fetch the checkpoint again"),),
    )
    shows(
        found,
        """\
error[E0411]: tensor `lm_head.weight` has another shape
  --> model-00001-of-00002.safetensors
   |
   = expected is [49152, 576]
   = found is [49152, 512]
   = help: fetch the checkpoint again""",
    )
    assert full(Diagnostic(catalog.E0603, "stopped early")) == "error[E0603]: stopped early"


def test_labels_in_two_files() -> None:
    spec = Source("a.surg", "let x = kv.scale\n")
    module = Source("std/kv.surg", "\nlet scales = 1\n")
    found = Diagnostic(
        catalog.E0205,
        "`kv` has no member `scale`",
        (
            Label(at(spec, "scale"), "not defined", primary=True),
            Label(at(module, "let scales"), "a similar name"),
        ),
    )
    shows(
        found,
        """\
error[E0205]: `kv` has no member `scale`
 --> a.surg:1:12
  |
1 | let x = kv.scale
  |            ^^^^^ not defined
 ::: std/kv.surg:2:1
  |
2 | let scales = 1
  | ---------- a similar name""",
    )


def test_fixes_over_several_lines_show_only_what_changes() -> None:
    where = Source("a.surg", "let a = 1\nlet b = 2\nlet c = 3\n")
    edits = (Edit(at(where, "1"), "10\nlet z = 5"), Edit(at(where, "let c = 3\n"), ""))
    found = Diagnostic(
        catalog.W0714,
        "the same number",
        (Label(at(where, "1"), primary=True),),
        helps=(Help("split it", Fix(edits, Safety.UNSAFE)),),
    )
    shows(
        found,
        """\
warning[W0714]: the same number
 --> a.surg:1:9
  |
1 | let a = 1
  |         ^
  |
help: split it
  |
1 - let a = 1
1 + let a = 10
2 + let z = 5
3 - let c = 3
note: this is an unsafe fix: it may change what the spec means""",
    )


def test_a_fix_of_a_blank_can_be_seen() -> None:
    where = Source("a.surg", "let a =\u00a01\n")
    fix = Fix((Edit(at(where, "\u00a0"), " "),), Safety.SAFE)
    label = Label(at(where, "\u00a0"), "here", primary=True)
    found = Diagnostic(catalog.E0111, "odd", (label,), helps=(Help("write a space", fix),))
    lines = full(found).split("\n")
    assert lines[3:5] == ["1 | let a =\u24231", "  |        ^ here"]
    assert lines[-2:] == ["1 - let a =\u24231", "1 + let a = 1"]


def test_a_line_that_a_fix_empties_is_shown_as_removed() -> None:
    where = Source("a.surg", "let a = 1\n}\n")
    fix = Fix((Edit(at(where, "}"), ""),), Safety.SAFE)
    label = Label(at(where, "}"), "closes nothing", primary=True)
    found = Diagnostic(catalog.E0109, "stray", (label,), helps=(Help("remove it", fix),))
    assert full(found).endswith("help: remove it\n  |\n2 - }")


def test_inserted_lines_have_no_old_line() -> None:
    where = Source("a.surg", "let a = 1\n")
    fix = Fix((Edit(Span(where, 0, 0), "surg 1\n\n"),), Safety.SAFE)
    label = Label(at(where, "let"), "here", primary=True)
    found = Diagnostic(catalog.E0003, "no edition", (label,), helps=(Help("add it", fix),))
    assert full(found).endswith("help: add it\n  |\n1 + surg 1\n2 +")


@pytest.mark.parametrize(
    ("line", "word", "shown", "caret"),
    [
        ("\tlet x", "x", "    let x", 8),
        ('let "日本" x', "x", 'let "日本" x', 11),
        ('let "e\u0301" x', "x", 'let "e\u0301" x', 8),
        ('let "\x1b[31m" x', "x", 'let "\ufffd[31m" x', 12),
        ('let "a\u202eb" x', "x", 'let "a\ufffdb" x', 10),
    ],
)
def test_carets_stand_below_what_they_mark(line: str, word: str, shown: str, caret: int) -> None:
    where = Source("a.surg", line + "\n")
    text = full(Diagnostic(catalog.E0109, "no", (Label(at(where, word), "here", primary=True),)))
    assert text.split("\n")[-2:] == [f"1 | {shown}", "  | " + " " * caret + "^ here"]


def test_long_lines_are_cut_around_the_mark() -> None:
    where = Source("a.surg", "x" * 5000 + "!" + "y" * 5000)
    text = full(Diagnostic(catalog.E0109, "no", (Label(at(where, "!"), "here", primary=True),)))
    line, carets = text.split("\n")[-2:]
    assert len(line) < 200
    assert carets.index("^") == line.index("!")


def test_overlapping_labels_keep_both_texts() -> None:
    where = Source("a.surg", "let x = a + b\n")
    outer = Label(at(where, "a + b"), "the sum")
    inner = Label(at(where, "a", 0), "this", primary=True)
    shows(
        Diagnostic(catalog.E0301, "no", (inner, outer)),
        """\
error[E0301]: no
 --> a.surg:1:9
  |
1 | let x = a + b
  |         ^---- the sum
  |         |
  |         this""",
    )


def test_spans_over_several_lines_mark_the_first() -> None:
    where = Source("a.surg", "apply a {  \n  b = 1\n}\n")
    span = Span(where, 0, len(where.text) - 1)
    text = full(Diagnostic(catalog.E0301, "no", (Label(span, "all of it", primary=True),)))
    assert text.split("\n")[-2:] == ["1 | apply a {", "  | ^^^^^^^^^ all of it"]


def test_an_empty_span_at_the_end_still_shows_a_caret() -> None:
    where = Source("a.surg", "let x =")
    text = full(Diagnostic(catalog.E0109, "no", (Label(Span(where, 7, 7), "here", primary=True),)))
    assert text.split("\n")[-1] == "  |        ^ here"


def test_colour_adds_nothing_but_colour() -> None:
    coloured = full(MIXED, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == full(MIXED)
    assert "\x1b" not in full(MIXED)
