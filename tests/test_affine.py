"""Which expressions are linear in the choices."""

from __future__ import annotations

import pytest
from check_fixtures import BASE, check_text

from surgery.affine import Affinity, classify, offence
from surgery.checking.define import define
from surgery.checking.exprs import elaborate
from surgery.checking.modules import load
from surgery.checking.scope import Check, Scope
from surgery.checking.values import is_expr
from surgery.diagnostics import Sink
from surgery.expr import Expr, ScoreTotal
from surgery.grammar import ast
from surgery.grammar.parse import parse
from surgery.source import Source


def meaning(text: str) -> Expr:
    """The typed expression of a formula over the names of the base spec."""
    sink = Sink()
    tree = parse(Source("t.surg", f"{BASE}let it = {text}\n"), sink)
    item = tree.items[-1]
    assert isinstance(item, ast.Let)
    main = load(tree, sink)
    value = elaborate(Check(sink, {}, main, elaborate, define), item.value, Scope(main))
    assert sink.found == []
    # A score that stands alone becomes its total only where a number is needed.
    return value if is_expr(value) else ScoreTotal(value.span, value.span.text)


CONSTANT, LINEAR, RATIO, OTHER = Affinity


@pytest.mark.parametrize(
    ("text", "affinity"),
    [
        ("3", CONSTANT),
        ("parent.params * 2 / parent.heads", CONSTANT),
        ("parent.memory(chat) <= node.memory", CONSTANT),
        ("count(layers[0..3])", CONSTANT),
        ("count(layers where index > 3 and layer is not last)", CONSTANT),
        ("min(layers: index)", CONSTANT),
        ("damage", LINEAR),
        ("damage + 0.5 * reach - 3", LINEAR),
        ("memory(chat) / 2", LINEAR),
        ("latency(chat) + ttft(chat)", LINEAR),
        ("kv(1K tok) - parent.kv(1K tok)", LINEAR),
        ("sum(layers: experts * width)", LINEAR),
        ("count(layers where attention is full)", LINEAR),
        ("if parent.layers >= 3 then damage else reach", LINEAR),
        ("throughput(chat)", RATIO),
        ("throughput(chat) / parent.throughput(chat)", RATIO),
        ("1 / damage", RATIO),
        ("weights / params", RATIO),
        ("1x + throughput(chat) * 2 / parent.throughput(chat)", RATIO),
        ("damage * reach", OTHER),
        ("throughput(chat) + throughput(long)", OTHER),
        ("throughput(chat) / throughput(long)", OTHER),
        ("throughput(chat) * damage", OTHER),
        ("damage % 2", OTHER),
        ("2 % damage", OTHER),
        ("if damage <= 1 then 1 else 2", OTHER),
        ("max(layers: experts) + 1", OTHER),
        ("max(damage, reach)", OTHER),
        # conditions
        ("damage <= reach", LINEAR),
        ("1 <= throughput(chat) / parent.throughput(chat) <= 2", LINEAR),
        ("throughput(chat) >= damage * 1 tok / 1 s", OTHER),
        ("max(layers: experts) <= 96", LINEAR),
        ("96 >= max(layers: experts)", LINEAR),
        ("max(layers: experts) <= sum(layers: experts)", OTHER),
        ("damage <= 1 and reach <= 1 and every(layers: experts >= 8)", LINEAR),
        ("damage <= 1 or reach <= 1", OTHER),
        ("parent.layers == 3 or reach <= 1", LINEAR),
        ("parent.layers == 3 or parent.layers == 4", CONSTANT),
        ("not damage <= 1", LINEAR),
        ("not (damage <= 1 or reach <= 1)", LINEAR),
        ("not (damage <= 1 and reach <= 1)", OTHER),
        ("not 0 <= damage <= 1", OTHER),
        ("params == 3 params", LINEAR),
        ("params != 3 params", OTHER),
        ("not params == 3 params", OTHER),
        ("not params != 3 params", LINEAR),
        ("some(layers: attention is full)", LINEAR),
        ("every(layers: experts == 8 or experts == 16)", LINEAR),
    ],
)
def test_affinity(text: str, affinity: Affinity) -> None:
    found = meaning(text)
    assert classify(found) is affinity
    assert (offence(found) is not None) is (affinity is OTHER)


@pytest.mark.parametrize(
    ("text", "culprit", "kind", "parts"),
    [
        ("1 + 2 * (damage * reach) / 3", "damage * reach", "product", ["damage", "reach"]),
        ("damage + params * params / 1 params / 1 params", "params * params", "product", None),
        ("damage <= 1 and (reach <= 1 or damage <= 2)", "reach <= 1 or damage <= 2", "`or`", None),
        ("3 * (damage % 2) * reach", "damage % 2", "remainder", ["damage"]),
    ],
)
def test_the_smallest_guilty_part_is_named(
    text: str, culprit: str, kind: str, parts: list[str] | None
) -> None:
    found = offence(meaning(text))
    assert found is not None
    assert (found.culprit.span.text, found.kind) == (culprit, kind)
    if parts:
        assert [part.span.text for part in found.parts] == parts


def test_what_is_linear_here_is_accepted_there() -> None:
    spec, sink = check_text(f"{BASE}require @x not (damage > 1 or reach >= 1)\n")
    # The comparison of a measured value is strict, which is the only thing wrong.
    assert spec is None
    assert [found.code.id for found in sink.found] == ["E0505"]
