"""How unequally experts are chosen: a number in scenarios, or what the parent does on text."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import pytest
from msgspec.structs import replace
from test_gpt_oss_120b import GOLDEN

from surgery import evaluate, facts
from surgery.affine import walk
from surgery.costing import routing
from surgery.diagnostics import Sink
from surgery.expr import Metric
from surgery.grammar.parse import parse
from surgery.ir import Space, Spec
from surgery.passes import check, expand, resolve
from surgery.source import Source

SPEC = """surg 1

import "std/nvidia.surg" as nvidia

model parent = local("parent")

machine one = 1 * nvidia.h100_sxm

scenario chat on one { prefill = 4K tok  decode = 1K tok  batch = 16 FIELDS }

dataset text = local("text.jsonl") { take = 4  length = 128K tok  seed = 0 }
score damage = swap_one(metric: kl(logits), on: text)

choose experts in layers[30..35] {
  keep
  retain 96 | 64 by rank_experts("random", text)
}

require tpot(chat) <= 1 s
minimize damage
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unequal") / "work"
    shutil.copytree(GOLDEN / "parent", folder / "parent")
    return folder


def checked(place: Path, fields: str, sink: Sink) -> Spec | None:
    text = SPEC.replace("FIELDS", fields)
    return check.run(parse(Source(str(place / "spec.surg"), text), sink), sink, {})


def expanded(place: Path, fields: str) -> tuple[Spec, Space]:
    sink = Sink()
    spec = checked(place, fields, sink)
    model = resolve.run(spec, sink, place / "cache") if spec else None
    space = expand.run(spec, model, sink) if spec and model else None
    assert spec is not None
    assert space is not None, sink.found
    return spec, space


def per_token(place: Path, fields: str, pick: int = 0) -> Fraction:
    """`tpot` of a child that takes everywhere what is offered in that place."""
    spec, space = expanded(place, fields)
    asked = next(
        part
        for each in spec.requirements
        for part in walk(each.expr)
        if isinstance(part, Metric) and part.name == "tpot"
    )
    parts = (o.candidates[min(pick, len(o.candidates) - 1)] for o in space.options)
    context = evaluate.parent_context(spec, space.model)
    result = (space.fixed, *(c.cost for c in parts))
    return facts.metric(asked, replace(context, result=result))


# ---- a number --------------------------------------------------------------------------------


def test_the_more_unequal_the_fewer_are_read(place: Path) -> None:
    times = [per_token(place, f"skew = {skew}") for skew in ("0", "0.4", "0.7", "1.5", "4")]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 5
    # What a prompt reads is most of them in any case; the rest is not of experts.
    assert times[-1] < times[0] * Fraction(9, 10)


def test_specs_that_do_not_say_it_are_what_they_were(place: Path) -> None:
    silent = checked(place, "", Sink())
    said = checked(place, "skew = 0.7", Sink())
    other = checked(place, "skew = 0.71", Sink())
    assert silent is not None
    assert said is not None
    assert other is not None
    assert silent.digest == said.digest != other.digest
    assert per_token(place, "") == per_token(place, "skew = 0.7")


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ("skew = 4.5", "E0309", "`skew` is at most 4, and `4.5` is more"),
        ("skew = 3 tok", "E0302", "`skew` cannot be a number of tokens"),
        ("skew = 0.7  skew = 0", "E0202", "the field `skew` is given twice"),
    ],
)
def test_what_is_no_skew(place: Path, fields: str, code: str, text: str) -> None:
    sink = Sink()
    assert checked(place, fields, sink) is None
    assert [(each.code.id, each.message) for each in sink.found] == [(code, text)]


def test_a_token_goes_to_as_many_experts_as_there_are_active() -> None:
    """Also where most were never seen."""
    for shares in ((1.0, 0, 0, 0, 0, 0), (0.0,) * 6, (5.0, 5, 1, 0, 0, 0), (1e9, 1, 1, 1, 1, 1)):
        assert routing.distinct_of(shares, 3, 1) == pytest.approx(3)
        assert routing.distinct_of(shares, 3, 1e7) <= 6
