"""The digest of a spec: the same for the same meaning, another for another."""

from __future__ import annotations

from fractions import Fraction

import pytest
from check_fixtures import BASE, good
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.expr import Compare, Number
from surgery.units import UNITS, magnitude

FULL = (
    BASE
    + """
let ends = [0..1, last(2)]

fn speedup(s: scenario) -> ratio = throughput(s) / parent.throughput(s)

expect @shape parent.layers == 36

apply kv_cache { dtype = fp8_e4m3 scales = kv.max_calibrated(text) }

choose ffn in layers except layers[ends] { keep noop when index >= 2 linear }

require @size params <= share * parent.params
require @speed speedup(long) >= 1.6x
require @sight count(layers where attention is full) >= 8 layers else "look further"
require weights <= 46.5GiB

recover {
  distill { teacher = parent data = text tokens = 1M tok length = 1K tok loss = kl(logits) }
}

emit checkpoint "out" { shard = 5GB }
emit runtime "out"
"""
)
EDITION, *STATEMENTS = FULL.strip().split("\n\n")
DIGEST = good(FULL).digest


def test_the_digest_is_a_sha256() -> None:
    assert len(DIGEST) == 64
    assert set(DIGEST) <= set("0123456789abcdef")


@settings(max_examples=40, deadline=None)
@given(st.permutations(STATEMENTS))
def test_the_order_of_statements_does_not_matter(statements: list[str]) -> None:
    spec = good("\n\n".join([EDITION, *statements]) + "\n")
    first = good(FULL)
    assert spec.digest == DIGEST
    for name in ("machines", "scenarios", "datasets", "scores", "inputs", "emits"):
        assert [each.name for each in getattr(spec, name) if hasattr(each, "name")] == [
            each.name for each in getattr(first, name) if hasattr(each, "name")
        ]
    assert [c.site for c in spec.choices] == [c.site for c in first.choices]
    assert [r.label for r in spec.requirements] == [r.label for r in first.requirements]
    assert {n.what for n in spec.not_yet} == {n.what for n in first.not_yet}


SAME = [
    ("let ends", "let borders", "layers[ends]", "layers[borders]"),
    ("layers[ends]", "layers[0..1, last(2)]"),
    ("[0..1, last(2)]", "[0, 1, last(1), last(2)]"),
    ("[0..1, last(2)]", "[last(2), 1, 0..1]"),
    (
        "fn speedup(s",
        "fn faster(t",
        "throughput(s) / parent.throughput(s)",
        "throughput(t) / parent.throughput(t)",
        "speedup(long)",
        "faster(long)",
    ),
    ("speedup(long)", "throughput(long) / parent.throughput(long)"),
    ("prefill = 64K tok", "prefill = 65_536 tok"),
    ("85%", "0.85"),
    ("85%", "0.85x"),
    ("46.5GiB", "47616MiB"),
    ("1.6x", "160%"),
    ("8 layers", "8"),
    ("0.5 * reach", "1 / 2 * reach"),
    ('else "look further"', 'else "look much further"'),
    ("tokens = 1M tok", "tokens = 1_000_000 tok"),
    ("surg 1\n", "surg 1\n\n## A description.\n"),
    ("\nemit runtime", "\n# a comment\n\n\n## and more\nemit runtime"),
    ("let ends", "let unused = 3\n\nlet ends"),
    (
        'import "std/moe.surg" as moe',
        'import "std/moe.surg" as e',
        "moe.contribution",
        "e.contribution",
    ),
    ("64 | 32", "32 | 64"),
    ("  keep\n  window 4K tok\n", "  window 4K tok\n  keep\n"),
    ("kl(logits)", "kl(of: logits)"),
    ('emit checkpoint "out"', 'emit checkpoint "elsewhere"'),
    ('emit checkpoint "out" { shard = 5GB }\n', ""),
    ("shard = 5GB", "shard = 4GB"),
    ("shard = 5GB", "shard = 5GB judge = text"),
    ('emit runtime "out"', 'emit runtime "out" { context = 1K tok }'),
    ("swap_one(metric: kl(logits), on: text) {", "swap_one(on: text, metric: kl(logits)) {"),
]


@pytest.mark.parametrize("swaps", SAME, ids=lambda s: s[0])
def test_spelling_does_not_matter(swaps: tuple[str, ...]) -> None:
    text = FULL
    for old, new in zip(swaps[::2], swaps[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    assert text != FULL
    assert good(text).digest == DIGEST


OTHER = [
    ('local("parent")', 'local("other")'),
    ("85%", "84%"),
    ("prefill = 64K tok", "prefill = 64K tok # no\n"[:0] + "prefill = 32K tok"),
    ("batch   = fit", "batch   = 8"),
    ("8 * nvidia.h100_sxm", "8 * nvidia.h200_sxm"),
    ("take   = 4", "take   = 5"),
    ("length = 8K tok", "length = 8K tok\n  seed = 1"),
    ("tail = 1K tok", "tail = 2K tok"),
    ("64 | 32", "64 | 48"),
    ("attention is full", "attention is not full"),
    ("window 4K tok", "window 2K tok"),
    ("[0..1, last(2)]", "[0..2, last(2)]"),
    ("[0..1, last(2)]", "[0..1]"),
    ("index >= 2", "index >= 3"),
    (" linear }", " }"),
    ("linear }", "linear when index >= 7 }"),
    ("@size", "@sise"),
    ("params <= share", "params >= share"),
    ("share * parent.params", "share * parent.params + 1 params"),
    ("expect @shape parent.layers == 36", "require @shape parent.layers == 36"),
    ("0.5 * reach", "0.25 * reach"),
    ("minimize", "maximize"),
    ("dtype = fp8_e4m3 scales = kv.max_calibrated(text)", "dtype = bf16"),
    ("kv.max_calibrated(text)", "kv.mse_calibrated(text)"),
    ("tokens = 1M tok", "tokens = 2M tok"),
]


@pytest.mark.parametrize(("old", "new"), OTHER)
def test_meaning_matters(old: str, new: str) -> None:
    assert old in FULL
    assert good(FULL.replace(old, new)).digest != DIGEST


def test_inputs_matter_by_value() -> None:
    assert good(FULL, {"share": "84%"}).digest != DIGEST
    assert good(FULL, {"share": "0.85"}).digest == DIGEST
    assert good(FULL, {"share": "84%"}).digest == good(FULL.replace("85%", "84%")).digest


# ---- units -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    digits=st.integers(1, 999_999),
    places=st.integers(0, 4),
    letter=st.sampled_from(["", "K", "M", "B", "T"]),
    unit=st.sampled_from(["", *UNITS]),
)
def test_a_literal_is_its_number_times_magnitude_times_unit(
    digits: int, places: int, letter: str, unit: str
) -> None:
    number = Fraction(digits, 10**places)
    shown = f"{digits / 10**places:.{places}f}"
    space = "" if unit in ("%", "x", "") or not unit[0].islower() else " "
    if letter and unit and not space:
        return  # a magnitude sticks to words only: `3K%` is no literal
    text = f"{shown}{letter}{space}{unit}"
    other = {"": "damage", "tok": "0 tok", "tok/s": "throughput(chat)"}.get(unit)
    spec = good(f"{BASE}require @x {text} <= {other or f'2 * {text}'}\n")
    (found,) = (each.expr for each in spec.requirements)
    assert isinstance(found, Compare)
    literal = found.first
    assert isinstance(literal, Number)
    scale = UNITS[unit].scale if unit else 1
    assert literal.value == number * magnitude(letter, unit) * scale
    assert literal.unit == unit
    assert literal.dimension == (UNITS[unit].dimension if unit else literal.dimension)
