"""What literals, formulas and inputs become."""

from __future__ import annotations

from fractions import Fraction

import pytest
from check_fixtures import BASE, compared, good, number, required

from surgery import ir, units
from surgery.expr import Arith, Compare, Fold, Is, Logic, Number


def limit_of(text: str) -> Number:
    spec = good(BASE + f"require @limit {text}\n")
    _, _, limit = compared(required(spec, "limit"))
    assert isinstance(limit, Number)
    return limit


@pytest.mark.parametrize(
    ("text", "value", "dimension"),
    [
        ("kv(1K tok) <= 3GiB", 3 * 2**30, units.BYTES),
        ("kv(1K tok) <= 1.5kB * 2", 3000, units.BYTES),
        ("params <= 88.5B params", 88_500_000_000, units.PARAMS),
        ("latency(chat) <= 12.5 ms", Fraction(1, 80), units.TIME),
        ("damage <= 92%", Fraction(23, 25), units.NUMBER),
        ("damage <= -1 + 3", 2, units.NUMBER),
        ("count(layers) <= 7 % 4", 3, units.NUMBER),
        ("count(layers) <= 18 layers / 2", 9, units.NUMBER),
        ("throughput(chat) >= 3K tok / 2 s", 1536, units.TOK_PER_S),
        ("kv(1K tok) <= node.memory / node.gpus", Fraction(791, 10) * 2**30, units.BYTES),
        ("damage <= min(3, 4) + max(1, 2)", 5, units.NUMBER),
        ("damage <= (if 1 <= 2 then 3 else 4) * 0 + 3", None, units.NUMBER),
    ],
)
def test_constants_are_folded_in_base_units(
    text: str, value: Fraction | None, dimension: units.Dimension
) -> None:
    if value is None:
        spec = good(BASE + f"require @limit {text}\n")
        _, _, limit = compared(required(spec, "limit"))
        assert isinstance(limit, Arith)
        return
    limit = limit_of(text)
    assert (limit.value, limit.dimension) == (value, dimension)


def test_the_unit_of_the_user_is_kept() -> None:
    assert limit_of("damage <= 92%").unit == "%"
    assert limit_of("kv(1K tok) <= 2 * 3GiB").unit == "GiB"


def test_machines_multiply_and_override() -> None:
    text = BASE + "machine big = 2 * node { memory = 96GiB tensor_parallel = 16 }\n"
    big = next(each for each in good(text).machines if each.name == "big")
    assert (big.gpus, big.device) == (16, "h100_sxm")
    assert dict(big.fields)["memory"] == 96 * 2**30
    assert dict(big.fields)["bandwidth"] == 335 * 10**10


def test_predicates_are_tests_on_layers() -> None:
    text = "require @x count(layers where attention is not full and index >= 2) >= 1 layers\n"
    fold, _, _ = compared(required(good(BASE + text), "x"))
    assert isinstance(fold, Fold)
    where = fold.selector.include.where
    assert isinstance(where, Logic)
    test, index = where.operands
    assert isinstance(test, Is)
    assert (test.site, test.word, test.negated) == ("attention", "full", True)
    assert isinstance(index, Compare)


def test_when_conditions_reach_the_alternative() -> None:
    text = (
        BASE + "choose ffn in layers {\n  keep\n  noop when index >= 2 and layer is not last\n}\n"
    )
    ffn = next(each for each in good(text).choices if each.site is ir.Site.FFN)
    assert isinstance(ffn.alternatives[1].when, Logic)


def test_kv_heads_are_pooled_by_default() -> None:
    text = BASE + "choose attention in layers[0] { keep kv_heads 4 | 2 | 1 }\n"
    added = next(each for each in good(text).choices if each.selector.include.picks)
    assert [(a.edit, a.value, a.init) for a in added.alternatives] == [
        ("keep", None, None),
        ("kv_heads", 4, "mean"),
        ("kv_heads", 2, "mean"),
        ("kv_heads", 1, "mean"),
    ]


# ---- inputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "shown", "value"),
    [
        (None, "85%", Fraction(85, 100)),
        ("70%", "70%", Fraction(7, 10)),
        ("0.7", "70%", Fraction(7, 10)),
        ("1 / 3", "1 / 3", Fraction(1, 3)),
        ("12.5%", "12.5%", Fraction(1, 8)),
    ],
)
def test_settings_replace_defaults(setting: str | None, shown: str, value: Fraction) -> None:
    text = BASE + "require @size params <= share * parent.params\n"
    spec = good(text, {"share": setting} if setting else {})
    assert [(each.name, each.text) for each in spec.inputs] == [("share", shown)]
    _, _, limit = compared(required(spec, "size"))
    assert isinstance(limit, Arith)
    assert number(limit.left) == value


def test_an_input_can_name_a_dataset_or_be_a_text() -> None:
    text = BASE.replace("on: text) {", "on: chosen) {") + (
        "input chosen: dataset = text\n"
        'dataset other = local("b.txt") { take = 1 length = 2K tok }\n'
        'input where: text = "x"\n'
    ).replace("input where", "input place")
    spec = good(text, {"chosen": "other", "place": '"y z"'})
    assert [(each.name, each.text) for each in spec.inputs] == [
        ("chosen", "other"),
        ("place", '"y z"'),
        ("share", "85%"),
    ]
    assert next(each for each in spec.scores if each.name == "reach").dataset == "other"
