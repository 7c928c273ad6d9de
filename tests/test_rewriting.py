"""Taking an alternative out of a choice, or giving it another argument, in the text of a spec."""

from __future__ import annotations

import pytest
from check_fixtures import check_text

from surgery.diagnostics import Edit
from surgery.edits.rewriting import dropped, replaced
from surgery.ir import Alternative, Choice

HEAD = """surg 1
import "std/moe.surg" as moe
model parent = local("tiny")
dataset text = local("text.jsonl") { take = 4, length = 64 tok }
score damage = swap_one(metric: kl(logits), on: text)
minimize damage
"""
BY = "by moe.contribution(text)"


def choice_of(alternatives: str, site: str = "experts") -> Choice:
    spec, sink = check_text(f"{HEAD}choose {site} in layers {{\n{alternatives}}}\n")
    assert spec is not None, [found.message for found in sink.found]
    (choice,) = spec.choices
    return choice


def alternative(choice: Choice, value: int | None) -> Alternative:
    return next(each for each in choice.alternatives if each.value == value)


def applied(edit: Edit) -> str:
    """What stands between the braces afterwards."""
    text = edit.span.source.text
    text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text.partition("in layers {\n")[2].removesuffix("}\n")


@pytest.mark.parametrize(
    ("value", "left"),
    [(6, "retain 4 | 2"), (4, "retain 6 | 2"), (2, "retain 6 | 4")],
)
def test_an_arm_goes_with_the_bar_that_sets_it_apart(value: int, left: str) -> None:
    choice = choice_of(f"  keep\n  retain 6 | 4 | 2 {BY}\n")
    edit = dropped(alternative(choice, value), choice.alternatives)
    assert applied(edit) == f"  keep\n  {left} {BY}\n"


@pytest.mark.parametrize(("value", "left"), [(6, "retain 4"), (4, "retain ( 2 * 3 )")])
def test_parentheses_go_with_their_arm(value: int, left: str) -> None:
    choice = choice_of(f"  keep\n  retain ( 2 * 3 ) | 4 {BY}\n")
    edit = dropped(alternative(choice, value), choice.alternatives)
    assert applied(edit) == f"  keep\n  {left} {BY}\n"


def test_arms_on_lines_of_their_own() -> None:
    choice = choice_of(f"  keep\n  retain 6\n    | 4\n    | 2\n    {BY}\n")
    edit = dropped(alternative(choice, 4), choice.alternatives)
    assert applied(edit) == f"  keep\n  retain 6\n    | 2\n    {BY}\n"


def test_a_clause_goes_with_its_line() -> None:
    choice = choice_of(f"  keep\n  retain 6 {BY}\n  retain 4 {BY} when index > 1\n")
    assert applied(dropped(alternative(choice, 4), choice.alternatives)) == (
        f"  keep\n  retain 6 {BY}\n"
    )
    assert applied(dropped(alternative(choice, None), choice.alternatives)) == (
        f"  retain 6 {BY}\n  retain 4 {BY} when index > 1\n"
    )


def test_what_shares_a_line_stays() -> None:
    choice = choice_of(f"  keep  retain 4 {BY}  # the best\n")
    edit = dropped(alternative(choice, 4), choice.alternatives)
    assert applied(edit) == "  keep    # the best\n"


def test_the_last_alternative_becomes_keep() -> None:
    choice = choice_of(f"  retain 4 {BY}\n")
    edit = dropped(alternative(choice, 4), choice.alternatives)
    assert applied(edit) == "  keep\n"


def test_another_argument() -> None:
    choice = choice_of(f"  keep\n  retain 6 | 4 {BY}\n")
    assert applied(replaced(alternative(choice, 4), 2)) == f"  keep\n  retain 6 | 2 {BY}\n"
    window = choice_of("  keep\n  window 32 tok | 2K tok\n", "attention")
    edit = replaced(alternative(window, 2048), 1024)
    assert applied(edit) == "  keep\n  window 32 tok | 1K tok\n"
