"""Typed mistakes: each is one message, at its place, in the user's words, and its fix cures it.

`golden/mistakes.txt` has statements as someone may type them, each to be put between two good ones
that have to be read. `⟦` and `⟧` enclose what the message marks; then come the message, and every
help with the safety of its fix and the statement that the fix makes.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import Struct
from spec_texts import OSS, SMOL

from surgery import catalog
from surgery.diagnostics import Diagnostic, Fix, Safety, Severity, Sink
from surgery.grammar import ast, scan
from surgery.grammar.parse import parse
from surgery.passes import check
from surgery.source import Source

BEFORE, AFTER = "surg 1\nlet first = 1\n", "\nlet last = 2\n"
SPECS = Path(__file__).parents[1] / "specs"
MISTAKES = Path(__file__).with_name("golden") / "mistakes.txt"


def read(text: str) -> tuple[ast.Spec, tuple[Diagnostic, ...]]:
    sink = Sink()
    spec = parse(Source("t.surg", text), sink)
    return spec, sink.sorted()


def checked(text: str) -> list[str]:
    """Codes of the errors of parser and check together."""
    sink = Sink()
    tree = parse(Source(str(SPECS / "t.surg"), text), sink)
    check.run(tree, sink, {})
    return [each.code.id for each in sink.sorted() if each.severity is Severity.ERROR]


def applied(text: str, fix: Fix) -> str:
    for edit in reversed(fix.edits):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text


def heads(spec: ast.Spec) -> list[str]:
    return [item.head.text for item in spec.items]


class Mistake(Struct, frozen=True):
    """One entry of the file; `helps` are pairs of a line and the statement that it leads to."""

    typed: str
    told: str
    helps: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        return BEFORE + re.sub("[⟦⟧]", "", self.typed) + AFTER


def _mistakes() -> tuple[Mistake, ...]:
    found: list[Mistake] = []
    for entry in MISTAKES.read_text(encoding="utf-8").removesuffix("\n").split("\n%%\n"):
        match = re.fullmatch(r"(.*?)\n(E\d{4}: [^\n]*)(.*)", entry, re.DOTALL)
        assert match is not None, entry
        helps = re.findall(r"\n(\w+: [^\n]*)((?:\n    [^\n]*)*)", match[3])
        made = tuple(
            (line, text.replace("\n    ", "\n").removeprefix("\n")) for line, text in helps
        )
        found.append(Mistake(match[1], match[2], made))
    return tuple(found)


CASES = _mistakes()


def test_there_are_many_and_all_differ() -> None:
    assert len({each.typed for each in CASES}) == len(CASES) >= 250


@pytest.mark.parametrize("case", CASES, ids=[each.typed.split("\n")[0] for each in CASES])
def test_one_mistake_is_one_message_that_can_be_cured(case: Mistake) -> None:
    spec, found = read(case.text)
    assert [f"{each.code.id}: {each.message}" for each in found] == [case.told]
    assert heads(spec)[:1] == ["let first"]
    assert heads(spec)[-1:] == ["let last"]
    (found,) = found
    primary = found.primary
    assert primary is not None
    marked = f"{case.text[: primary.span.start]}⟦{primary.span.text}⟧"
    marked += case.text[primary.span.end :]
    assert marked == BEFORE + case.typed + AFTER
    assert len(found.helps) == len(case.helps)
    for help, (line, made) in zip(found.helps, case.helps, strict=True):
        kind = help.fix.safety.value if help.fix else "help"
        assert f"{kind}: {help.text}" == line
        if help.fix is not None and (made or kind != "display"):
            cured = applied(case.text, help.fix)
            assert cured in (BEFORE + made + AFTER, BEFORE + (made + AFTER).lstrip("\n"))
            assert read(cured)[1] == ()


def test_codes_with_a_promise_carry_their_fix() -> None:
    for case in CASES:
        (found,) = read(case.text)[1]
        promised = found.code.fix
        fixes = [each.fix for each in found.helps if each.fix is not None]
        if promised is None:
            continue
        assert fixes, case.typed
        order = [Safety.DISPLAY, Safety.UNSAFE, Safety.SAFE]
        assert max(order.index(fix.safety) for fix in fixes) >= order.index(promised)


def test_the_promises_are_those_of_the_catalogue() -> None:
    promised = {
        code.id: code.fix.value
        for code in catalog.BY_ID.values()
        if code.fix is not None and code.id[1:3] in ("00", "01") and code.id[0] == "E"
    }
    assert promised == {
        "E0003": "safe",
        "E0101": "safe",
        "E0102": "unsafe",
        "E0104": "display",
        "E0106": "unsafe",
        "E0107": "unsafe",
        "E0108": "safe",
        "E0111": "unsafe",
    }


# ---- what can be read is read ----------------------------------------------------------------


def test_each_broken_field_is_told_and_the_others_are_kept() -> None:
    text = (
        BEFORE
        + ('dataset text = local("a") {\n  take = \n  of = all\n  length 4K tok\n  seed = 3 4\n}')
        + AFTER
    )
    spec, found = read(text)
    assert [each.code.id for each in found] == ["E0109", "E0101", "E0109"]
    item = spec.items[1]
    assert isinstance(item, ast.Dataset)
    # The second is as it was meant, the first and the third cannot be known.
    assert [each.span.text for each in item.fields] == ["of = all", "length 4K tok"]
    assert [hole.text for hole in spec.holes] == ["take =", "seed = 3 4"]


def test_each_broken_alternative_is_told_and_the_others_are_kept() -> None:
    alternatives = ("keep", "window 8K tok |", "noop", "kv_heads 1 inot mean")
    typed = "choose attention in layers {\n  " + "\n  ".join(alternatives) + "\n}"
    text = BEFORE + typed + AFTER
    spec, found = read(text)
    assert [each.message for each in found] == [
        "there is no value after `|`",
        "`inot` has no meaning here",
    ]
    item = spec.items[1]
    assert isinstance(item, ast.Choose)
    names = [each.name.text for each in item.alternatives if isinstance(each, ast.Edit)]
    assert names[-1:] == ["kv_heads"]
    assert isinstance(item.alternatives[0], ast.Keep)


def test_each_broken_step_is_told_and_the_others_are_kept() -> None:
    text = OSS.replace("    teacher = parent\n", "    teacher   parent\n")
    text = text.replace("    effort  = [high]\n", "    effort  = [high\n")
    spec, found = read(text)
    assert [each.code.id for each in found] == ["E0101", "E0102"]
    recover = next(item for item in spec.items if isinstance(item, ast.Recover))
    assert [len(step.fields) for step in recover.steps] == [6, 3, 4, 1]


def test_a_choose_without_a_readable_alternative_is_one_message() -> None:
    spec, found = read(BEFORE + "choose ffn in layers {\n  retain 3 = 4 =\n}" + AFTER)
    assert len(found) == 1
    assert heads(spec) == ["let first", "choose ffn", "let last"]


def test_names_of_unread_statements_are_known() -> None:
    spec, _ = read(BEFORE + "let broken = (\n\nmetric speed = 4 5\n  scenario s on = {}" + AFTER)
    assert {each.name for each in spec.unread} >= {"broken", "speed", "s"}
    assert {"let", "scenario"} <= {each.keyword for each in spec.unread}


FOLLOWING = (
    ("  prefill = 1K tok\n", "  prefill = \n"),
    ("  prefill = 1K tok\n", "  prefill : 1K tok\n"),
    ("  prefill = 1K tok\n", "  prefill = 1k tok\n"),
    ("  prefill = 1K tok\n", "  prefill = (1K tok\n"),
    ("scenario chat on gpu {", "scenario chat onn gpu {"),
    ("scenario chat on gpu {", "scenaro chat on gpu {"),
    ("scenario chat on gpu {", "workload chat on gpu ["),
    ("  batch   = 64\n}", "  batch   = 64\n"),
    ("minimize damage", "minimise damage"),
    ("minimize damage", "objective damage"),
    ("minimize damage", "minimize damage *"),
    ("model parent =", "modle parent ="),
    ("model parent =", "modelling parent of"),
    ("let ends =", "lets ends 1"),
    ("  width 1280 |", "  width 1280 | |"),
    ("  noop when index >= 2\n", "  noop wen index >= 2\n"),
    ("import ", "include "),
    ("import ", "importing "),
    ("score damage = swap_one(", "score damage = swap_one "),
    ("    teacher = parent\n", "    teacher parent of all\n"),
)


@pytest.mark.parametrize(("old", "new"), FOLLOWING)
def test_the_check_does_not_complain_about_what_could_not_be_read(old: str, new: str) -> None:
    text = (SMOL if old in SMOL else OSS).replace("data/", "")
    assert old in text
    assert checked(text) == []
    assert len(checked(text.replace(old, new, 1))) == 1


def test_statements_that_are_indented_do_not_hide_each_other() -> None:
    text = "  surg 1\n  let a = (1\n  let b = 2\n  scenario c on d {\n    e = 3\n  let f = 4\n"
    spec, found = read(text)
    assert [each.code.id for each in found] == ["E0102", "E0102"]
    assert heads(spec) == ["let a", "let b", "scenario c", "let f"]


# ---- reserved words --------------------------------------------------------------------------


def test_a_reserved_name_is_renamed_where_it_is_used() -> None:
    text = (
        "surg 1\nlet score = 3\nlet a = score + f(score, score: score, b.score)\n"
        "score d = swap(on: score) { score = score }\n"
    )
    _, (found,) = read(text)
    assert found.code is catalog.E0107
    fix = found.helps[0].fix
    assert fix is not None
    assert applied(text, fix) == (
        "surg 1\nlet score_ = 3\nlet a = score_ + f(score_, score: score_, b.score)\n"
        "score d = swap(on: score_) { score = score_ }\n"
    )


# ---- while typing ----------------------------------------------------------------------------


def _ends(text: str) -> list[int]:
    return [each.end for each in scan.lexemes(text) if each.kind != "comment"]


@pytest.mark.parametrize("name", ["quickstart", "smollm2-135m", "gpt-oss-120b"])
def test_what_is_not_typed_yet_is_about_the_last_statement_alone(name: str) -> None:
    text = (SPECS / f"{name}.surg").read_text(encoding="utf-8")
    whole, _ = read(text)
    for end in _ends(text):
        spec, found = read(text[:end])
        assert len(found) <= 1, text[:end][-60:]
        done = [item for item in whole.items if item.span.end <= end]
        last = max((item.span.end for item in done), default=0)
        assert heads(spec)[: len(done)] == [item.head.text for item in done]
        assert len(spec.items) <= len(done) + 1
        for each in found:
            assert each.primary is not None
            assert each.primary.span.start >= last or done[-1].span.end == end


@pytest.mark.parametrize("name", ["quickstart", "smollm2-135m", "gpt-oss-120b"])
def test_what_is_typed_in_the_middle_leaves_the_rest_alone(name: str) -> None:
    text = (SPECS / f"{name}.surg").read_text(encoding="utf-8")
    whole, _ = read(text)
    for item in whole.items:
        others = [each.head.text for each in whole.items if each is not item]
        for end in (end for end in _ends(text) if item.span.start < end < item.span.end):
            spec, found = read(text[:end] + "\n" + text[item.span.end :])
            assert len(found) <= 1, text[item.span.start : end]
            assert [head for head in heads(spec) if head != item.head.text] == [
                head for head in others if head != item.head.text
            ]
            for each in found:
                assert each.primary is not None
                assert item.span.start <= each.primary.span.start <= end
