"""The plan file: canonical text, round trips, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from plan_fixtures import example, plans
from solving_fixtures import attention, ffn, toy_space, toy_spec

from surgery import plan as plans_
from surgery.diagnostics import Stop
from surgery.figures import Figure, of_text
from surgery.ir import Plan, Site

TEXT = """\
surgery-plan 1
decision  sha256:{decision}
spec      tiny-moe.surg sha256:1111111111111111
parent    local:tiny-moe sha256:2222222222222222
library   sha256:3333333333333333
toolchain surgery-0.1.0 highs-1.15.1

layer 00 attention=window(128) experts=32
layer 01 attention=full experts=32
layer 02 attention=window(128) experts=16#eeeeee
layer 03 attention=window(8K)#ababab experts=32
layer 04 attention=window(128) experts=16#ffffff
layer 05 attention=full experts=32

solver    status=optimal gap=0 seed=0
objective minimize damage + 0.5 * reach = 0.4127
require @kv 1346.2MiB <= 1400.0MiB
require @sight 2 >= 2
require @size 88.15B <= 88.50B
metric params 88.15B
metric weights 46.56GiB
metric kv@128K 1346.2MiB/seq
metric damage 0.4039
metric reach 0.0176

kept layer.02.experts 0-11,14,20-21,30
kept layer.04.experts 0-15
"""


def text_of_example() -> str:
    return plans_.text(example())


def test_text_is_canonical() -> None:
    lines = "\n".join(line for line in TEXT.splitlines() if line.startswith("layer "))
    decision = hashlib.sha256(lines.encode()).hexdigest()
    assert plans_.decision(example()) == decision
    assert text_of_example() == TEXT.format(decision=decision[:16])


@given(plans())
@settings(max_examples=60, deadline=None)
def test_text_round_trip(plan: Plan) -> None:
    text = plans_.text(plan)
    again = plans_.parse(text, "a.plan")
    if plan.stated is not None and plans_.decision(plan).startswith(plan.stated):
        plan = replace(plan, stated=None)
    assert again == plan
    assert plans_.text(again) == text


@given(plans())
@settings(max_examples=30, deadline=None)
def test_json_round_trip(plan: Plan) -> None:
    content = plans_.to_json(plan)
    assert plans_.from_json(content) == plan
    data = json.loads(content)
    assert data["format_version"] == 2
    assert data["decision"] == plans_.decision(plan)


def test_numbers_in_json_have_values_and_units() -> None:
    data = json.loads(plans_.to_json(example()))
    assert data["metrics"]["weights"] == {
        "text": "46.56GiB",
        "value": pytest.approx(46.56 * 2**30),
        "unit": "bytes",
        "exact": False,
    }
    assert data["metrics"]["params"]["value"] == 88_150_000_000
    assert data["metrics"]["kv@128K"]["unit"] == "bytes/seq"
    assert data["objective"] == {
        "expression": "minimize damage + 0.5 * reach",
        "text": "0.4127",
        "value": 0.4127,
        "unit": "",
        "exact": False,
    }
    size = next(each for each in data["requirements"] if each["label"] == "@size")
    assert (size["op"], size["limit"]["value"], size["limit"]["unit"]) == ("<=", 88.5e9, "params")
    assert data["solver"]["status"] == "optimal"
    assert data["solver"]["gap"]["value"] == 0
    known = {"metric.params": Figure("88.15B", Fraction(88_150_438_080), "params", exact=True)}
    exact = json.loads(plans_.to_json(example(), known))
    assert exact["metrics"]["params"] == {
        "text": "88.15B",
        "value": 88_150_438_080,
        "unit": "params",
        "exact": True,
    }
    assert plans_.from_json(json.dumps(exact)) == example()


@pytest.mark.parametrize(
    ("text", "name", "value", "unit"),
    [
        ("128B", "", 128, "bytes"),
        ("1.50B", "", 1_500_000_000, "params"),
        ("812", "params", 812, "params"),
        ("8K tok", "", 8192, "tok"),
        ("7.1 ms, modelled +-17%", "tpot@chat", Fraction(71, 10_000), "s"),
        ("12.5 tok/s", "", Fraction(25, 2), "tok/s"),
        ("64", "batch@chat", 64, "sequences"),
        ("0 exceptions", "", 0, "exceptions"),
        ("92%", "", Fraction(23, 25), ""),
        ("none", "", None, ""),
    ],
)
def test_texts_as_figures(text: str, name: str, value: Fraction | None, unit: str) -> None:
    assert of_text(text, name) == Figure(text, value, unit)


def test_json_keeps_full_digests() -> None:
    plan = example()
    assert plans_.from_json(plans_.to_json(plan)) == plan
    assert plan != plans_.short(plan)
    assert plans_.parse(text_of_example(), "a.plan") == plans_.short(plan)


def test_decision_hash_covers_the_decisions_alone() -> None:
    plan = example()
    other = replace(
        plan, library="9" * 64, metrics=(("params", "1"),), toolchain="surgery-2 highs-3"
    )
    assert plans_.decision(other) == plans_.decision(plan)
    first, *rest = plan.decisions
    moved = replace(plan, decisions=(replace(first, text="noop"), *rest))
    assert plans_.decision(moved) != plans_.decision(plan)


def test_an_edited_decision_is_legal_and_noticed() -> None:
    text = text_of_example().replace("layer 05 attention=full", "layer 05 attention=noop")
    plan = plans_.parse(text, "a.plan")
    assert plan.stated == plans_.decision(example())[:16]
    assert plans_.text(plan) == text
    assert plans_.parse(text_of_example(), "a.plan").stated is None


@pytest.mark.parametrize(
    ("old", "new", "message", "line"),
    [
        ("surgery-plan 1", "surgery-plan 2", "plan version `2` is unknown", 1),
        ("surgery-plan 1\n", "", "this is not a plan file", 1),
        ("metric params", "price params", "unknown key `price` in a plan", 20),
        ("layer 01 attention", "layer 01 depth", "unknown site `depth` in a plan", 9),
        ("layer 01", "layer 001", "a line of the plan is malformed", 9),
        ("layer 01", "layer 00", "the decisions are out of order", 9),
        ("16#eeeeee", "16#eee", "a line of the plan is malformed", 10),
        ("sha256:3333333333333333", "sha256:33", "a line of the plan is malformed", 5),
        ("library   sha256:3333333333333333\n", "", "the plan has no `library` line", 1),
        ("2 >= 2", "2", "a line of the plan is malformed", 18),
        ("metric weights", "metric params", "the metric `params` appears twice", 21),
        ("0-11,14", "0-10,11,14", "a kept list is not canonical", 26),
        ("0-11,14", "14,0-11", "a kept list is not canonical", 26),
        ("0-11,14", "0-99999999", "a line of the plan is malformed", 26),
        ("layer.04.experts", "layer.09.experts", "no decision for `layer.09.experts`", 27),
        ("solver    status", "solver    sta tus", "a line of the plan is malformed", 15),
        ("toolchain surgery-0.1.0 highs-1.15.1", "toolchain", "`toolchain` is empty", 6),
        ("toolchain ", "spec      ", "`spec` appears twice", 6),
    ],
)  # fmt: skip
def test_refusals_name_the_line(old: str, new: str, message: str, line: int) -> None:
    text = text_of_example()
    assert old in text
    with pytest.raises(Stop) as stop:
        plans_.parse(text.replace(old, new, 1), "a.plan")
    found = stop.value.diagnostic
    assert (found.code.id, found.message) == ("E0808", message)
    assert found.primary is not None
    assert found.primary.span.first.line == line
    assert found.primary.span.source.name == "a.plan"


@pytest.mark.parametrize("cut", [0, 10, 300, 600])
def test_truncated_files_are_refused(cut: int) -> None:
    with pytest.raises(Stop):
        plans_.parse(text_of_example()[:cut], "a.plan")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Stop) as stop:
        plans_.read(tmp_path / "missing.plan")
    assert stop.value.diagnostic.code.id == "E0001"
    (tmp_path / "binary.plan").write_bytes(b"surgery-plan 1\n\xff\xfe")
    with pytest.raises(Stop) as stop:
        plans_.read(tmp_path / "binary.plan")
    assert stop.value.diagnostic.code.id == "E0002"
    (tmp_path / "good.plan").write_text(text_of_example(), encoding="utf-8")
    assert plans_.read(tmp_path / "good.plan") == plans_.short(example())


@pytest.mark.parametrize(
    "broken", ["[]", "{}", '{"format_version": 1}', '{"format_version": 3}', "not json", "3"]
)
def test_json_refusals(broken: str) -> None:
    with pytest.raises(Stop) as stop:
        plans_.from_json(broken)
    assert stop.value.diagnostic.code.id == "E0808"


def test_json_refuses_unknown_keys() -> None:
    data = json.loads(plans_.to_json(example())) | {"extra": 1}
    with pytest.raises(Stop):
        plans_.from_json(json.dumps(data))


# ---- back to candidates ----------------------------------------------------------------------


def test_a_plan_rebuilds_its_candidates_without_a_library() -> None:
    layers = [
        {
            Site.ATTENTION: [attention("full", 9, 0.0)],
            Site.FFN: [ffn("64", 8, 0.0), ffn("32", 4, 0.5)],
        }
    ]
    space, measured = toy_space(layers)
    chosen = (space.candidates[0], space.candidates[2])
    plan = plans_.build(
        toy_spec(), space, measured, chosen,
        solver=(("status", "optimal"),), objective=("minimize damage", "0.5"),
        requirements=(), toolchain="surgery-0 highs-0",
    )  # fmt: skip
    read = plans_.parse(plans_.text(plan), "a.plan")
    unranked = replace(
        space,
        options=tuple(
            replace(o, candidates=tuple(replace(c, kept=None) for c in o.candidates))
            for o in space.options
        ),
    )
    assert plans_.chosen(read, unranked) == chosen
    assert dict(plan.metrics) == {
        "params": "1.01K",
        "weights": "1.98KiB",
        "kv@1K": "128.0KiB/seq",
        "damage": "0.5",
    }

    with pytest.raises(Stop) as stop:
        plans_.chosen(replace(read, decisions=read.decisions[:1]), space)
    assert stop.value.diagnostic.message == "the plan decides nothing for `layer.00.ffn`"
    other = replace(read.decisions[1], text="48")
    with pytest.raises(Stop) as stop:
        plans_.chosen(replace(read, decisions=(read.decisions[0], other)), space)
    assert stop.value.diagnostic.message == "the spec offers no `48` for `layer.00.ffn`"
    assert stop.value.diagnostic.code.id == "E0801"
