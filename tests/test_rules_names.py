"""Rules about names: unused ones, hidden ones, and units that say less than they seem to."""

from __future__ import annotations

from itertools import pairwise

import pytest
from lint_fixtures import (
    CLEAN,
    WORLD,
    changed,
    codes,
    findings,
    fixed,
    linted,
    marked,
    mended,
    only,
)
from spec_texts import SPECS

from surgery.diagnostics import Safety


def test_the_fixture_is_clean() -> None:
    assert codes(CLEAN) == []
    assert "no such folder" in linted(CLEAN).skipped


# ---- unused-name -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "noun"),
    [
        ("let ends = [0..1]", "`let`"),
        ("fn half(r: ratio) -> ratio = r / 2", "function"),
        ('import "std/kv.surg" as kv', "import"),
        ('dataset more = local("more.jsonl") { take = 1  length = 64 tok }', "dataset"),
        ("score other = swap_one(metric: kl(logits), on: text)", "score"),
        ('machine one = device("x") { memory = 80GB  bandwidth = 1TB / 1 s }', "machine"),
        ("## What nobody asks for.\ninput rest: ratio = 1%", "input"),
    ],
)
def test_an_unused_definition_goes_without_a_trace(statement: str, noun: str) -> None:
    text = changed("\nchoose experts", f"\n{statement}\n\nchoose experts")
    found = only(text, "W0201")
    name = statement.splitlines()[-1].replace(":", " ").replace("(", " ").split()[1]
    name = statement.rsplit(maxsplit=1)[-1] if "import" in statement else name
    assert found.message == f"the {noun} `{name}` is never used"
    assert marked(found) == name
    assert fixed(text, found, Safety.SAFE) == CLEAN


def test_docs_and_directives_go_plain_comments_stay() -> None:
    text = changed(
        "\nchoose experts",
        "\n# A plain one.\n\n## Doc.\n# surg: allow(magic-number)\nlet a = 2 # why\n"
        "\nchoose experts",
    )
    found = findings(text, "W0201")[0]
    expected = changed("\nchoose experts", "\n# A plain one.\n\nchoose experts")
    assert fixed(text, found, Safety.SAFE) == expected


def test_the_last_statement_leaves_no_blank_line() -> None:
    text = CLEAN + "\nlet a = 2\n"
    assert fixed(text, only(text, "W0201"), Safety.SAFE) == CLEAN


def test_a_statement_that_shares_its_line_leaves_the_others() -> None:
    text = CLEAN + "\nlet a = 2 let b = a\nrequire @b weights >= b * parent.weights * 0\n"
    assert codes(text) == []
    text = CLEAN + "\nlet a = 2 require @b weights >= 0 * parent.weights\n"
    after = fixed(text, findings(text, "W0201")[0], Safety.SAFE)
    assert after == CLEAN + "\n require @b weights >= 0 * parent.weights\n"


def test_what_only_the_unused_uses_is_unused_at_once() -> None:
    text = CLEAN + "\nlet a = 2\n\nlet b = a\n"
    found = findings(text)
    assert [(d.code.id, marked(d)) for d in found] == [("W0201", "a"), ("W0201", "b")]
    assert found[0].labels[1].text == "needs it, and is unused itself"
    # Without `a`, `b` would be a mistake, so it goes too.
    assert fixed(text, found[0], Safety.SAFE) == CLEAN
    assert fixed(text, found[1], Safety.SAFE) == CLEAN + "\nlet a = 2\n"


def test_chains_go_wherever_they_stand() -> None:
    text = changed("\nchoose experts", "\nlet c = b\n\nlet a = 2\n\nchoose experts")
    text = text.replace("\nminimize", "\nlet b = a\n\nminimize")
    for found in findings(text):
        after = fixed(text, found, Safety.SAFE)
        assert {d.code.id for d in findings(after)} <= {"W0201"}
    assert [fixed(text, d, Safety.SAFE) == CLEAN for d in findings(text)] == [False, True, False]


@pytest.mark.parametrize("spec", SPECS, ids=["llama", "gpt-oss"])
def test_edits_never_overlap_however_much_of_a_spec_is_there(spec: str) -> None:
    fixes = 0
    for n in range(1, spec.count("\n")):
        text = "\n".join(spec.split("\n")[:n])
        for fix in (help.fix for each in linted(text).findings for help in each.helps if help.fix):
            places = [edit.span for edit in fix.edits]
            assert all(one.end <= two.start for one, two in pairwise(places))
            fixes += len(places) > 1
    assert fixes > 0


def test_a_name_is_used_by_parameters_of_another_name_only() -> None:
    used = CLEAN + "\nfn f(x: ratio) -> ratio = x * a\n\nlet a = 2\n"
    used += "\nrequire @b weights <= f(1) * parent.weights\n"
    assert codes(used) == []
    hidden = used.replace("x: ratio) -> ratio = x * a", "a: ratio) -> ratio = a")
    assert codes(hidden) == ["W0202", "W0201"]


def test_a_machine_is_used_by_its_scenario() -> None:
    text = CLEAN + WORLD + "\nrequire @fits memory(chat) <= 92% * node.memory\n"
    assert [c for c in codes(text) if c == "W0201"] == []


def test_nothing_is_unused_that_broken_text_mentions() -> None:
    broken = CLEAN + "\nlet a = 2\n\nrequire @b weights <= a * * parent.weights\n"
    assert [c for c in codes(broken) if c == "W0201"] == []


def test_a_file_of_definitions_exports_them() -> None:
    text = 'surg 1\n\nimport "std/moe.surg" as moe\n\nlet a = 2\n\nfn f(x: ratio) -> ratio = x\n'
    assert [(d.code.id, marked(d)) for d in findings(text)] == [("W0201", "moe")]
    # A spec with a broken statement is no file of definitions: it still needs its model.
    assert "E0209" in codes(text + "\nminimize a b\n")


# ---- shadowed-std ----------------------------------------------------------------------------


def test_a_parameter_hides_an_import() -> None:
    function = "fn f(moe: ratio) -> ratio = moe * moe\n"
    text = CLEAN + f"\n{function}\nrequire @b weights <= f(1) * parent.weights\n"
    found = only(text, "W0202")
    assert found.message == "the parameter `moe` hides the import `moe`"
    assert "fn f(moe_: ratio) -> ratio = moe_ * moe_" in mended(text, "W0202", Safety.UNSAFE)


def test_a_parameter_with_a_name_of_its_own_hides_nothing() -> None:
    function = "fn f(x: ratio) -> ratio = x\n"
    assert codes(CLEAN + f"\n{function}\nrequire @b weights <= f(1) * parent.weights\n") == []


# ---- decimal-context-length ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "mended_to"),
    [
        ("length = 1K tok", "length = 1M tok", "length = 1024K tok"),
        ("window 128 tok", "window 0.5M tok", "window 512K tok"),
        ("weights <= share * parent.weights", "kv(1M tok) <= 1GiB", "kv(1024K tok) <= 1GiB"),
    ],
)
def test_a_decimal_length(before: str, after: str, mended_to: str) -> None:
    text = changed(before, after)
    found = findings(text, "W0204")
    assert len(found) == 1
    after = fixed(text, found[0], Safety.UNSAFE)
    assert after == changed(before, mended_to)
    assert findings(after, "W0204") == ()


def test_a_decimal_length_behind_a_name() -> None:
    text = changed("length = 1K tok", "length = long") + "\nlet long = 1M tok\n"
    found = only(text, "W0204")
    assert marked(found) == "1M tok"
    assert found.labels[1].span.text == "long"
    assert "let long = 1024K tok" in mended(text, "W0204", Safety.UNSAFE)


def test_a_corpus_is_decimal() -> None:
    recover = """
recover {
  distill {
    teacher = parent
    data = other
    tokens = 50M tok
    length = 1K tok
    loss = kl(logits)
    freeze = [router]
  }
}
dataset other = local("other.jsonl") { take = 1  length = 64 tok }
"""
    assert findings(CLEAN + recover, "W0204") == ()
    long = recover.replace("length = 1K tok", "length = 1M tok")
    assert len(findings(CLEAN + long, "W0204")) == 1


# ---- decimal-gpu-memory ----------------------------------------------------------------------

GPU = """
machine one = device("x") {
  memory    = 80GB
  bandwidth = 1TB / 1 s
}

scenario chat on one {
  prefill = 256 tok
  decode  = 256 tok
  batch   = 16
}
"""


def test_decimal_memory_beside_binary_memory() -> None:
    text = CLEAN + GPU + "\nrequire @fits memory(chat) <= 72GiB\n"
    found = findings(text, "W0205")
    assert [marked(d) for d in found] == ["80GB"]
    assert found[0].primary is not None
    assert found[0].primary.text == "74.51GiB"
    after = fixed(text, found[0], Safety.UNSAFE)
    assert "memory    = 80GiB\n" in after
    assert findings(after, "W0205") == ()


@pytest.mark.parametrize("bound", ["72GB", "90% * one.memory"])
def test_memory_that_counts_one_way_is_fine(bound: str) -> None:
    text = CLEAN + GPU + f"\nrequire @fits memory(chat) <= {bound}\nrequire @w weights <= 9GiB\n"
    assert findings(text, "W0205") == ()
