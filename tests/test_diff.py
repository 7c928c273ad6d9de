"""Differences as data: they can be applied, and say why."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from plan_fixtures import changed, example, plans

from surgery import diff as diffs
from surgery import figures
from surgery import plan as plans_
from surgery.diff import Op, Reason
from surgery.ir import Evidence, Plan, Site


@given(plans(), plans())
@settings(max_examples=50, deadline=None)
def test_patch_makes_the_other_plan(a: Plan, b: Plan) -> None:
    assert diffs.patch(a, diffs.diff(a, b)) == b


@given(plans())
@settings(max_examples=25, deadline=None)
def test_a_plan_does_not_differ_from_itself(plan: Plan) -> None:
    found = diffs.diff(plan, plan)
    assert found.changes == ()
    assert found.same_decisions


@given(plans(), plans())
@settings(max_examples=40, deadline=None)
def test_same_decisions_is_equality_of_the_decision_hash(a: Plan, b: Plan) -> None:
    same = plans_.decision(a) == plans_.decision(b)
    assert diffs.diff(a, b).same_decisions is same
    assert diffs.diff(a, replace(b, decisions=a.decisions)).same_decisions


def test_changes_of_the_example() -> None:
    found = diffs.diff(example(), changed())
    decided = [(c.op, c.address, c.before, c.after, c.reason) for c in found.decisions]
    tight = Reason.REQUIREMENT_TIGHTENED
    assert decided == [
        (Op.CHANGED, "layer.00.experts", "32", "16#cccccc", tight),
        (Op.CHANGED, "layer.01.experts", "32", "16#cccccc", tight),
        (Op.CHANGED, "layer.03.attention", "window(8K)#ababab", "full", tight),
        (Op.REMADE, "layer.04.experts", "16#ffffff", "16#dddddd", Reason.RERANKED),
    ]
    assert found.pair("require.@size") == ("88.15B <= 88.50B", "83.37B <= 84.00B")
    assert found.pair("metric.reach") == ("0.0176", "0.0176")
    assert not found.same_decisions
    added = [c for c in found.changes if c.op is Op.ADDED]
    assert [c.address for c in added] == ["kept.layer.00.experts", "kept.layer.01.experts"]


def test_reasons() -> None:
    a, b = example(), changed()

    def reasons(plan: Plan) -> set[Reason | None]:
        return {c.reason for c in diffs.diff(a, plan).decisions if c.op is Op.CHANGED}

    same_spec = replace(b, spec=a.spec)
    assert reasons(same_spec) == {Reason.TIE_BROKEN}
    assert reasons(replace(same_spec, library="9" * 64)) == {Reason.REMEASURED}
    assert reasons(replace(b, parent=("local:other", "8" * 64))) == {Reason.PARENT_CHANGED}
    assert reasons(replace(b, requirements=a.requirements)) == {Reason.SPEC_CHANGED}
    loose = (*a.requirements[:2], Evidence("@size", "95.00B", "<=", "99.00B"))
    assert reasons(replace(b, requirements=loose)) == {Reason.SPEC_CHANGED}
    floor = (a.requirements[0], Evidence("@sight", "3", ">=", "3"), a.requirements[2])
    assert reasons(replace(b, requirements=floor)) == {Reason.REQUIREMENT_TIGHTENED}
    assert reasons(replace(b, stated="0" * 16)) == {Reason.FORCED}


def test_layers_that_come_and_go() -> None:
    plan = example()
    shorter = replace(plan, decisions=tuple(d for d in plan.decisions if d.layer < 5))
    gone = diffs.diff(plan, shorter).decisions
    assert [(c.op, c.address) for c in gone] == [
        (Op.REMOVED, "layer.05.attention"),
        (Op.REMOVED, f"layer.05.{Site.EXPERTS}"),
    ]


def test_patch_refuses_another_plan() -> None:
    found = diffs.diff(example(), changed())
    with pytest.raises(ValueError, match="in this plan"):
        diffs.patch(changed(), found)


def test_json() -> None:
    data = json.loads(diffs.to_json(diffs.diff(example(), changed())))
    assert data["format_version"] == 1
    assert data["same_decisions"] is False
    assert {
        "op": "~",
        "address": "layer.03.attention",
        "before": "window(8K)#ababab",
        "after": "full",
        "reason": "requirement_tightened",
    } in data["changes"]
    assert data["unchanged"]["metric.reach"] == "0.0176"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.63x", Fraction(163, 100)),
        ("80%", Fraction(4, 5)),
        ("46.56GiB", Fraction(4656, 100) * 2**30),
        ("1346.2MiB/seq", Fraction(13462, 10) * 2**20),
        ("88.15B", Fraction(8815, 100) * 10**9),
        ("134.5M", Fraction(1345, 10) * 10**6),
        ("512B", Fraction(512)),
        ("8K tok", Fraction(8192)),
        ("100 tok", Fraction(100)),
        ("12.5 ms", Fraction(125, 10**4)),
        ("3 exceptions", Fraction(3)),
        ("-1e-07", Fraction(-1, 10**7)),
        ("none", None),
        ("", None),
    ],
)
def test_reading_printed_values(text: str, value: Fraction | None) -> None:
    assert figures.reading(text) == value
