"""Rules about choices, requirements, data and what happens afterwards."""

from __future__ import annotations

import pytest
from lint_fixtures import CLEAN, WORLD, changed, codes, findings, fixed, marked, mended, only

from surgery.diagnostics import Diagnostic, Safety


def of(text: str, code: str) -> Diagnostic:
    """The one finding of a code."""
    (found,) = findings(text, code)
    return found


# ---- selection-covers-everything -------------------------------------------------------------

ALWAYS = [
    "index >= 0",
    "0 <= index",
    "not index < 0",
    "1 == 1",
    "1 < 2 <= 3",
    "(index >= 0)",
    "index % 2 >= 0",
    "attention is full or index >= 0",
    "index >= 0 and not 1 == 2",
]
OPEN = [
    "index >= 1",
    "0 < index",
    "attention is full",
    "index >= 0 and attention is full",
    "1 == 2",
]


@pytest.mark.parametrize("condition", ALWAYS)
def test_a_where_that_is_always_true(condition: str) -> None:
    text = changed("choose experts in layers {", f"choose experts in layers where {condition} {{")
    assert mended(text, "W0702", Safety.SAFE) == CLEAN


@pytest.mark.parametrize("condition", OPEN)
def test_a_where_that_may_be_false(condition: str) -> None:
    text = changed("choose experts in layers {", f"choose experts in layers where {condition} {{")
    assert codes(text) == []


def test_a_where_inside_a_fold_or_after_picks() -> None:
    for condition in ("index != 0 - 1", "(1 == 1)"):
        text = CLEAN + f"\nrequire @some count(layers[0..1] where {condition}) >= 0 layers\n"
        assert "count(layers[0..1]) >= 0" in mended(text, "W0702", Safety.SAFE)


# ---- missing-keep ----------------------------------------------------------------------------


def test_a_choice_among_changes_only() -> None:
    text = changed("  keep\n  retain", "  retain")
    assert mended(text, "W0708", Safety.UNSAFE) == CLEAN


def test_keep_on_one_line() -> None:
    line = "choose ffn in layers { noop width 2 | 1 by channel_contribution(text) }\n"
    text = changed("\nrequire", f"\n{line}\nrequire")
    after = mended(text, "W0708", Safety.UNSAFE)
    assert "{ keep noop width 2 | 1 by channel_contribution(text) }\n" in after


def test_one_alternative_is_another_lint() -> None:
    text = changed("  keep\n  window 128 tok", "  window 128 tok")
    assert codes(text) == ["W0719"]


# ---- single-scenario -------------------------------------------------------------------------

FAST = "\nrequire @fast throughput(chat) >= 100 tok/s\n"


def test_speed_in_one_scenario_only() -> None:
    found = of(CLEAN + WORLD + FAST, "W0709")
    assert found.message == ("speed is required in the scenario `chat` only, and memory in none")
    assert marked(found) == "throughput(chat) >= 100 tok/s"


@pytest.mark.parametrize(
    "other",
    [
        "require @fits memory(chat) <= 92% * node.memory",
        "require @wait latency(bulk) <= 1 s",
        "",
    ],
)
def test_speed_in_two_scenarios_or_with_memory(other: str) -> None:
    bulk = "\nscenario bulk on node { prefill = 512 tok  decode = 8 tok  batch = 1 }\n"
    fast = FAST if other else "\nrequire @fits memory(chat) <= 92% * node.memory\n"
    assert findings(CLEAN + WORLD + bulk + fast + other + "\n", "W0709") == ()


def test_speed_of_the_parent_is_no_requirement() -> None:
    text = CLEAN + WORLD + "\nexpect @fast parent.throughput(chat) >= 100 tok/s\n"
    assert findings(text, "W0709") == ()


# ---- scattered-acts --------------------------------------------------------------------------


def test_an_act_that_is_taken_up_again() -> None:
    late = "\nscore more = swap_one(metric: kl(logits), on: text)\n\nrequire @more more <= 0.1\n"
    found = findings(CLEAN + late)
    assert [d.code.id for d in found] == ["W0710", "W0710"]
    assert [marked(d) for d in found] == ["score more", "require @more"]
    assert found[0].message == "the world of this spec is told in two places"
    assert [label.span.text for label in found[0].labels[1:]] == ["score damage", "minimize"]


def test_names_and_expectations_may_stand_anywhere() -> None:
    text = changed("\nminimize", "\nlet a = 2\n\nexpect @a parent.heads >= a\n\nminimize")
    assert codes(text) == []


# ---- short-calibration -----------------------------------------------------------------------


def test_no_score_looks_as_far_as_a_scenario() -> None:
    use = "\nrequire @fits memory(chat) <= 92% * node.memory\n"
    assert codes(CLEAN + WORLD + use) == ["W0710", "W0710"]
    long = CLEAN + WORLD.replace("prefill = 256 tok", "prefill = 64K tok") + use
    found = of(long, "W0712")
    assert found.message == "no score looks as far as the scenario `chat`, which has 65792 tok"
    assert marked(found) == "dataset text"
    # Without a window nothing is forgotten in between.
    assert findings(long.replace("window 128 tok", "noop"), "W0712") == ()


def test_a_judge_must_look_past_every_window() -> None:
    judge = """
dataset heldout = local("heldout.jsonl") {
  take   = 4
  length = 64 tok
}

emit checkpoint "out" { judge = heldout }
"""
    found = of(CLEAN + judge, "W0712")
    assert found.message == "the judge `heldout` cannot see a window of 128 tok"
    assert findings(CLEAN + judge.replace("64 tok", "129 tok"), "W0712") == ()


# ---- train-test-overlap and unfrozen-router --------------------------------------------------

RECOVER = """
dataset lessons = local("lessons.jsonl") {
  take   = 4
  length = 1K tok
}

recover {
  distill {
    teacher = parent
    data    = lessons
    tokens  = 1M tok
    length  = 1K tok
    loss    = kl(logits)
    freeze  = [experts, router]
  }
}
"""


def test_training_on_what_a_score_measures_with() -> None:
    assert findings(CLEAN + RECOVER, "W0713") == ()
    same = of(CLEAN + RECOVER.replace("data    = lessons", "data    = text"), "W0713")
    assert same.message == "`distill` trains on `text`, with which the score `damage` measures"
    assert marked(same) == "text"
    place = of(CLEAN + RECOVER.replace('"lessons.jsonl"', '"text.jsonl"'), "W0713")
    assert place.notes[0].startswith("`text` comes from the same place")


def test_training_on_what_judges() -> None:
    emit = '\nemit checkpoint "out" { judge = lessons }\n'
    found = of(CLEAN + RECOVER + emit, "W0713")
    assert found.message == "`distill` trains on `lessons`, which judges the child"


@pytest.mark.parametrize(
    ("freeze", "after"),
    [
        ("freeze  = [experts]", "freeze  = [router, experts]"),
        ("freeze  = []", "freeze  = [router]"),
    ],
)
def test_a_router_that_is_trained(freeze: str, after: str) -> None:
    assert findings(CLEAN + RECOVER, "W0803") == ()
    text = CLEAN + RECOVER.replace("freeze  = [experts, router]", freeze)
    found = of(text, "W0803")
    assert marked(found) == "distill"
    mended = fixed(text, found, Safety.UNSAFE)
    assert after in mended
    assert findings(mended, "W0803") == ()


def test_a_router_without_a_freeze() -> None:
    text = CLEAN + RECOVER.replace("    freeze  = [experts, router]\n", "")
    mended = fixed(text, of(text, "W0803"), Safety.UNSAFE)
    assert "freeze = [router]" in mended
    assert findings(mended, "W0803") == ()
    dense = text.replace("choose experts", "choose ffn").replace("retain 64", "width 64")
    assert findings(dense, "W0803") == ()


# ---- magic-number ----------------------------------------------------------------------------

THREE = """
require @a kv(64 tok) <= 10% * parent.kv(64 tok)
require @b kv(128 tok) <= 10% * parent.kv(128 tok)
## The third.
require @c kv(512 tok) <= 10% * parent.kv(512 tok)
"""


def test_the_same_literal_in_three_requirements() -> None:
    text = CLEAN.replace("\nminimize damage\n", THREE + "\nminimize damage\n")
    found = only(text, "W0714")
    assert found.message == "`10%` stands in 3 requirements"
    assert found.primary is not None
    assert found.primary.span.first.line == text[: text.index("require @c")].count("\n") + 1
    after = mended(text, "W0714", Safety.UNSAFE)
    assert "let share_2 = 10%\n\nrequire @a kv(64 tok) <= share_2 *" in after
    assert "10%" not in after.replace("let share_2 = 10%", "")


def test_two_requirements_or_zero_and_one_are_no_habit() -> None:
    two = THREE.replace("10% * parent.kv(512", "11% * parent.kv(512")
    assert codes(CLEAN.replace("\nminimize", two + "\nminimize")) == []
    ones = "\n".join(
        f"require @r{n} count(layers[{n}..3] where attention is full) >= 1 layers" for n in range(3)
    )
    assert codes(CLEAN.replace("\nminimize", f"\n{ones}\n\nminimize")) == []


# ---- vacuous-memory --------------------------------------------------------------------------


def test_memory_that_fit_fills() -> None:
    fit = WORLD.replace("batch   = 16", "batch   = fit")
    bound = "\nrequire @fits memory(chat) <= 92% * node.memory\n"
    assert findings(CLEAN + WORLD + bound, "W0716") == ()
    text = CLEAN + fit + bound
    found = of(text, "W0716")
    assert marked(found) == "memory(chat) <= 92% * node.memory"
    for number, help in enumerate(found.helps):
        after = fixed(text, found, Safety.DISPLAY, number)
        assert findings(after, "W0716") == (), help.text
    assert len(found.helps) == 2


# ---- no-recover ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "gone"),
    [
        ("params <= 75% * parent.params", "25%"),
        ("parent.params * 0.5 >= params", "50%"),
        ("params <= parent.params / 4", "75%"),
        ("params <= 90% * parent.params and params <= 60% * parent.params", "40%"),
    ],
)
def test_a_heavy_cut_without_recovery(bound: str, gone: str) -> None:
    text = changed("weights <= share * parent.weights", bound)
    text = text.replace(
        "## Fraction of the parent's bytes to keep.\ninput share: ratio = 75%\n\n", ""
    )
    found = only(text, "W0804")
    assert found.message.startswith(f"{gone} of the parameters are cut")
    assert findings(text + RECOVER, "W0804") == ()


@pytest.mark.parametrize(
    "bound",
    ["params <= 80% * parent.params", "params >= 10% * parent.params", "params <= 1B params"],
)
def test_a_light_cut(bound: str) -> None:
    assert findings(changed("weights <= share * parent.weights", bound), "W0804") == ()


# ---- style -----------------------------------------------------------------------------------


def test_an_input_without_documentation() -> None:
    text = changed("## Fraction of the parent's bytes to keep.\n", "# Fraction.\n")
    assert marked(only(text, "W0902")) == "input share"


@pytest.mark.parametrize(
    ("condition", "label"),
    [
        ("weights <= share * parent.weights", "weights"),
        ("kv(64 tok) <= 1GiB", "kv"),
        ("count(layers where attention is full) >= 1 layers", "full-attention"),
        ("count(layers where attention is not full) >= 1 layers", "no-full-attention"),
        ("every(layers: experts % 8 == 0)", "experts"),
        ("damage <= 0.1", "damage"),
        ("1 == 1", "limit"),
    ],
)
def test_a_requirement_gets_a_label(condition: str, label: str) -> None:
    text = changed("\nminimize", f"\nrequire {condition}\n\nminimize")
    after = fixed(text, of(text, "W0903"), Safety.UNSAFE)
    assert f"require @{label} {condition}\n" in after
    assert findings(after, "W0903") == ()


def test_suggested_labels_are_free() -> None:
    text = changed("\nminimize", "\nrequire damage <= 0.1\nrequire damage >= 0.01\n\nminimize")
    text = text.replace("@size", "@damage")
    assert [d.helps[0].text for d in findings(text, "W0903")] == [
        "call it `@damage-2`",
        "call it `@damage-3`",
    ]
