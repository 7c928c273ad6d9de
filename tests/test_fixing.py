"""Applying fixes: which ones, in which order, and never two at one place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lint_fixtures import CLEAN, changed, linted
from spec_texts import SPECS

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.linting import fixing
from surgery.source import Source, Span

TEXT = Source("t.surg", "abcdefghij\nklmnopqrst\n")


def edit(start: int, end: int, text: str) -> Edit:
    return Edit(Span(TEXT, start, end), text)


def finding(*edits: Edit, safety: Safety = Safety.SAFE, more: tuple[Fix, ...] = ()) -> Diagnostic:
    label = Label(edits[0].span, "", primary=True)
    helps = (Help("do it", Fix(edits, safety)), *(Help("or", fix) for fix in more))
    return Diagnostic(catalog.W0714, f"no {edits}", (label,), helps=helps)


def once(*found: Diagnostic, unsafe: bool = False) -> str:
    """The text after one round."""
    chosen = fixing.choose(TEXT, found, unsafe=unsafe)
    return fixing.apply(TEXT.text, [e for fix in chosen.values() for e in fix.edits])


# ---- which fixes -----------------------------------------------------------------------------


def test_safe_ones_are_applied_and_others_are_not() -> None:
    safe = finding(edit(0, 1, "A"))
    unsafe = finding(edit(2, 3, "C"), safety=Safety.UNSAFE)
    display = finding(edit(4, 5, "E"), safety=Safety.DISPLAY)
    assert once(safe, unsafe, display)[:6] == "Abcdef"
    assert once(safe, unsafe, display, unsafe=True)[:6] == "AbCdef"


def test_of_several_ways_out_none_is_taken() -> None:
    also = Fix((edit(0, 1, "B"),), Safety.SAFE)
    assert once(finding(edit(0, 1, "A"), more=(also,))) == TEXT.text
    worse = Fix((edit(0, 1, "B"),), Safety.UNSAFE)
    assert once(finding(edit(0, 1, "A"), more=(worse,)), unsafe=True)[:2] == "Ab"


def test_fixes_in_other_files_are_left_alone() -> None:
    other = Edit(Span(Source("u.surg", "xyz"), 0, 1), "X")
    assert once(finding(edit(0, 1, "A"), other)) == TEXT.text


def test_equal_fixes_count_once_and_adjacent_ones_both() -> None:
    same = finding(edit(0, 1, "A"))
    assert once(same, same, finding(edit(1, 2, "B")))[:3] == "ABc"


def test_two_insertions_at_one_place_wait_for_each_other() -> None:
    assert once(finding(edit(3, 3, "1")), finding(edit(3, 3, "2")))[:6] == "abc1de"
    assert once(finding(edit(3, 3, "1")), finding(edit(3, 3, "1")))[:6] == "abc1de"
    assert once(finding(edit(0, 3, "")), finding(edit(3, 3, "1")))[:3] == "abc"
    assert once(finding(edit(0, 3, "")), finding(edit(4, 4, "1")))[:3] == "d1e"


def test_a_fix_is_applied_whole_or_not_at_all() -> None:
    small = finding(edit(0, 2, "."))
    large = finding(edit(1, 4, "-"), edit(8, 9, "!"))
    assert once(small, large)[:8] == ".cdefghi"


def test_edits_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        fixing.apply(TEXT.text, [edit(0, 3, ""), edit(2, 4, "")])


def test_new_lines_end_as_the_others_do() -> None:
    source = Source("t.surg", "a\r\nb\r\n")
    assert fixing.apply(source.text, [Edit(Span(source, 3, 3), "x\n")]) == "a\r\nx\r\nb\r\n"


# ---- to a fixpoint ---------------------------------------------------------------------------


def test_what_had_to_wait_is_fixed_in_a_later_round() -> None:
    def find(source: Source) -> Sequence[Diagnostic]:
        """Every `a` is to become `b`, and the first character is to be doubled once."""
        found: list[Diagnostic] = []
        for n, char in enumerate(source.text):
            if char == "a":
                fix = Fix((Edit(Span(source, n, n + 1), "b"),), Safety.SAFE)
                label = Label(Span(source, n, n + 1), "", primary=True)
                found.append(Diagnostic(catalog.W0714, "a", (label,), helps=(Help("b", fix),)))
        if len(source.text) == 3:
            fix = Fix((Edit(Span(source, 0, 0), "a"),), Safety.SAFE)
            label = Label(Span(source, 0, 0), "", primary=True)
            found.append(Diagnostic(catalog.W0714, "more", (label,), helps=(Help("a", fix),)))
        return found

    result = fixing.fix(Source("t", "axa"), find)
    assert result.source.text == "bbxb"
    assert (result.count, result.left) == (4, ())


def test_a_fix_that_breaks_the_text_is_not_kept() -> None:
    def find(source: Source) -> Sequence[Diagnostic]:
        label = Label(Span(source, 0, 1), "", primary=True)
        if "!" in source.text:
            return [Diagnostic(catalog.E0109, "broken", (label,))]
        fix = Fix((Edit(Span(source, 0, 1), "!"),), Safety.SAFE)
        return [Diagnostic(catalog.W0714, "bad", (label,), helps=(Help("!", fix),))]

    result = fixing.fix(Source("t", "abc"), find)
    assert (result.source.text, result.count) == ("abc", 0)
    assert [d.message for d in result.left] == ["bad"]


def test_fixing_ends_even_where_fixes_never_do() -> None:
    def find(source: Source) -> Sequence[Diagnostic]:
        label = Label(Span(source, 0, 0), "", primary=True)
        fix = Fix((Edit(Span(source, 0, 0), "x"),), Safety.SAFE)
        return [Diagnostic(catalog.W0714, "more", (label,), helps=(Help("x", fix),))]

    assert len(fixing.fix(Source("t", ""), find).source.text) == fixing.MAX_ROUNDS


def _busy() -> str:
    """The clean spec with six things to fix, two of which are in each other's way."""
    text = changed(
        "\nchoose experts",
        "\nlet a = 2\n\n## Doc.\nlet b = a # surg: allow(magic-number)\n\nchoose experts",
    )
    text = text.replace("in layers {", "in layers where index >= 0 {", 1)
    return text.replace("  keep\n  window", "  noop\n  window").replace("@size ", "")


BUSY = _busy()


def test_a_spec_with_many_findings_comes_clean() -> None:
    def find(source: Source) -> Sequence[Diagnostic]:
        return linted(source.text, source.name).findings

    source = Source("t.surg", BUSY)
    before = find(source)
    assert sorted(d.code.id for d in before) == [
        "W0201", "W0201", "W0702", "W0708", "W0901", "W0903",
    ]  # fmt: skip
    assert fixing.fixable(source, before) == (4, 2)
    safe = fixing.fix(source, find)
    assert sorted(d.code.id for d in safe.left) == ["W0708", "W0903"]
    assert (safe.safe, safe.unsafe) == (0, 2)
    everything = fixing.fix(source, find, unsafe=True)
    assert everything.left == ()
    expected = CLEAN.replace("  keep\n  window", "  keep\n  noop\n  window")
    assert everything.source.text == expected.replace("@size", "@weights")
    again = fixing.fix(everything.source, find, unsafe=True)
    assert not again.changed
    assert again.source == everything.source


# ---- random fixes ----------------------------------------------------------------------------


@st.composite
def fixes(draw: st.DrawFn) -> Diagnostic:
    """A finding whose fix has one to three edits that do not overlap."""
    cuts = sorted(draw(st.lists(st.integers(0, len(TEXT.text)), min_size=2, max_size=6)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    distinct = [spans[0], *(b for a, b in pairwise(spans) if a[1] < b[0])]
    edits = tuple(edit(a, b, draw(st.sampled_from(["", "X", "YZ", "\n"]))) for a, b in distinct)
    return finding(*edits, safety=draw(st.sampled_from(list(Safety))))


@settings(max_examples=200, deadline=None)
@given(st.lists(fixes(), max_size=8), st.booleans())
def test_chosen_fixes_never_overlap(found: list[Diagnostic], unsafe: bool) -> None:
    chosen = fixing.choose(TEXT, found, unsafe=unsafe)
    edits = sorted(
        (e for fix in chosen.values() for e in fix.edits), key=lambda e: (e.span.start, e.span.end)
    )
    for a, b in pairwise(edits):
        assert a.span.end <= b.span.start
        assert (a.span.start, a.span.end) != (b.span.start, b.span.end)
    # Every fix that may be applied and was not stands in the way of one that was.
    for number, each in enumerate(found):
        fix = each.helps[0].fix
        assert fix is not None
        if fix.safety is Safety.SAFE or (unsafe and fix.safety is Safety.UNSAFE):
            if number not in chosen and fix not in chosen.values():
                assert any(a.span.start <= b.span.end and b.span.start <= a.span.end
                           for a in fix.edits for b in edits)  # fmt: skip
        else:
            assert number not in chosen
    # The order of findings decides nothing but ties.
    text = fixing.apply(TEXT.text, edits)
    assert len(text) == len(TEXT.text) + sum(
        len(e.text) - (e.span.end - e.span.start) for e in edits
    )


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([CLEAN, BUSY, *SPECS]), st.data())
def test_fixing_mutated_specs_ends_and_is_idempotent(text: str, data: st.DataObject) -> None:
    lines = text.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 4))):
        n = data.draw(st.integers(0, len(lines) - 1))
        lines[n] = data.draw(
            st.sampled_from(["", lines[n] * 2, lines[n][:-3] + "\n", lines[n].replace("=", "")])
        )
    source = Source("t.surg", "".join(lines))

    def find(where: Source) -> Sequence[Diagnostic]:
        return linted(where.text, where.name).findings

    before = fixing.fix(source, find, unsafe=True)
    broken = [sum(d.code.id[:3] in ("E00", "E01") for d in found)
              for found in (find(source), before.left)]  # fmt: skip
    assert broken[1] <= broken[0]
    again = fixing.fix(before.source, find, unsafe=True)
    assert again.source == before.source
