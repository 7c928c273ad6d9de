"""Predicates, facts and metrics, exactly; `expect` with the values of both sides."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import pytest
from msgspec.structs import replace
from space_fixtures import compare, fact, gpt_oss, is_test, layers, num, smollm, span, spec

from surgery.diagnostics import Sink, Stop
from surgery.evaluate import Context, expects, holds, layers_of, number, parent_context
from surgery.expr import (
    Arith,
    Compare,
    Expr,
    Fact,
    Fold,
    If,
    Logic,
    MachineFact,
    Metric,
    Number,
    ScoreTotal,
)
from surgery.ir import Machine, Requirement, Scenario
from surgery.source import Source, Span
from surgery.units import BYTES, NUMBER, PARAMS

MOE = gpt_oss()
DENSE = smollm()
FULL = is_test("attention", "full")


def context(model: object = MOE) -> Context:
    assert model is MOE or model is DENSE
    return parent_context(spec(), MOE if model is MOE else DENSE)


def arith(left: Expr, op: Literal["+", "-", "*", "/", "%"], right: Expr) -> Arith:
    return Arith(span(), op, left, right, NUMBER)


def code(why: pytest.ExceptionInfo[Stop]) -> str:
    return why.value.diagnostic.code.id


# ---- numbers and tests -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "op", "right", "result"),
    [
        (1, "+", 2, Fraction(3)),
        (1, "-", 2, Fraction(-1)),
        (3, "*", Fraction(1, 3), Fraction(1)),
        (1, "/", 3, Fraction(1, 3)),
        (128, "%", 8, Fraction(0)),
        (7, "%", Fraction(5, 2), Fraction(2)),
    ],
)
def test_arithmetic_is_exact(
    left: int,
    op: Literal["+", "-", "*", "/", "%"],
    right: int | Fraction,
    result: Fraction,
) -> None:
    assert number(arith(num(left), op, num(right)), context()) == result


@pytest.mark.parametrize("op", ["/", "%"])
def test_division_by_zero_is_a_finding(op: Literal["/", "%"]) -> None:
    with pytest.raises(Stop) as why:
        number(arith(num(1), op, arith(num(2), "-", num(2))), context())
    assert code(why) == "E0308"


@pytest.mark.parametrize(
    ("test", "result"),
    [
        (compare(num(1), "<", num(2), "<", num(3)), True),
        (compare(num(1), "<", num(2), ">", num(2)), False),
        (compare(num(2), "<=", num(2), ">=", num(2)), True),
        (compare(num(1), "==", num(1), "!=", num(1)), False),
        (Logic(span(), "and", (compare(num(1), "<", num(2)), compare(num(2), "<", num(1)))), False),
        (Logic(span(), "or", (compare(num(2), "<", num(1)), compare(num(1), "<", num(2)))), True),
        (Logic(span(), "not", (compare(num(2), "<", num(1)),)), True),
        (If(span(), compare(num(1), "<", num(2)), FULL, FULL, NUMBER), True),
    ],
)
def test_chains_and_logic(test: Expr, result: bool) -> None:
    assert holds(test, replace(context(), layer=MOE.layers[1])) is result


def test_if_looks_at_one_branch_only() -> None:
    bad = arith(num(1), "/", num(0))
    choice = If(span(), compare(num(1), "<", num(2)), num(7), bad, NUMBER)
    assert number(choice, context()) == 7


def test_and_guards_what_follows_it() -> None:
    short = compare(fact("window"), "<=", num(128))
    guarded = layers(where=Logic(span(), "and", (is_test("attention", "window"), short)))
    assert layers_of(guarded, MOE.layers) == tuple(range(0, 36, 2))
    with pytest.raises(Stop) as why:
        layers_of(layers(where=short), MOE.layers)
    assert code(why) == "E0205"
    assert why.value.diagnostic.message == "layer 1 has no `window`"


@pytest.mark.parametrize(
    ("site", "word", "moe", "dense"),
    [
        ("attention", "full", 18, 30),
        ("attention", "window", 18, 0),
        ("attention", "noop", 0, 0),
        ("attention", "linear", 0, 0),
        ("ffn", "dense", 0, 30),
        ("ffn", "noop", 0, 0),
        ("ffn", "linear", 0, 0),
        ("experts", "moe", 36, 0),
        ("layer", "first", 1, 1),
        ("layer", "last", 1, 1),
    ],
)
def test_is(site: str, word: str, moe: int, dense: int) -> None:
    chosen = layers(where=is_test(site, word))
    assert len(layers_of(chosen, MOE.layers)) == moe
    assert len(layers_of(chosen, DENSE.layers)) == dense
    rest = layers(where=is_test(site, word, negated=True))
    assert len(layers_of(rest, MOE.layers)) == 36 - moe


# ---- facts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "moe", "dense"),
    [
        ("params", 116_829_156_672, 134_515_008),
        ("weights", 65_248_815_744, 269_030_016),
        ("layers", 36, 30),
        ("hidden", 2880, 576),
        ("vocab", 201_088, 49_152),
        ("context", 131_072, 8192),
        ("heads", 64, 9),
        ("kv_heads", 8, 3),
        ("head_dim", 64, 64),
        ("width", 2880, 1536),
        ("experts", 128, None),
        ("active", 4, None),
    ],
)
def test_model_facts(name: str, moe: int, dense: int | None) -> None:
    asked = Fact(span(), name, NUMBER)
    assert number(asked, context()) == moe
    if dense is not None:
        assert number(asked, context(DENSE)) == dense
        return
    with pytest.raises(Stop) as why:
        number(asked, context(DENSE))
    assert code(why) == "E0205"


def test_a_fact_that_differs_between_layers_is_no_fact() -> None:
    layers = (*MOE.layers[:35], replace(MOE.layers[35], mlp=replace_count(64)))
    uneven = replace(MOE, layers=layers)
    with pytest.raises(Stop) as why:
        number(Fact(span(), "experts", NUMBER), replace(context(), model=uneven))
    assert code(why) == "E0205"
    assert why.value.diagnostic.labels[0].text == "64 to 128"


def replace_count(count: int) -> object:
    mlp = MOE.layers[0].mlp
    assert mlp is not None
    return replace(mlp, count=count)


@pytest.mark.parametrize(
    ("name", "value"),
    [("index", 4), ("experts", 128), ("active", 4), ("width", 2880), ("kv_heads", 8)],
)
def test_layer_facts(name: str, value: int) -> None:
    assert number(fact(name), replace(context(), layer=MOE.layers[4])) == value


def test_a_block_that_is_not_there_counts_nothing() -> None:
    bare = replace(DENSE.layers[3], attention=None, mlp=None)
    at = replace(context(DENSE), layer=bare)
    assert [number(fact(n), at) for n in ("index", "width", "heads", "kv_heads")] == [3, 0, 0, 0]
    assert holds(is_test("ffn", "noop"), at)
    assert holds(is_test("attention", "noop"), at)


def test_machine_facts() -> None:
    fields = (("memory", Fraction(80 * 10**9)),)
    node = Machine(span(), "node", "h100", 8, fields)
    at = replace(context(), machines=(node,))
    assert number(MachineFact(span(), "node", "gpus", NUMBER), at) == 8
    assert number(MachineFact(span(), "node", "memory", BYTES), at) == 80 * 10**9
    with pytest.raises(Stop) as why:
        number(MachineFact(span(), "node", "watts", NUMBER), at)
    assert code(why) == "E0205"
    assert why.value.diagnostic.helps[0].text == "it has `gpus`, `memory`"


# ---- metrics and folds -----------------------------------------------------------------------


def metric(name: str, **fields: object) -> Metric:
    scenario, argument = fields.get("scenario"), fields.get("argument")
    assert scenario is None or isinstance(scenario, str)
    assert argument is None or isinstance(argument, int)
    amount = None if argument is None else Fraction(argument)
    return Metric(span(), name, BYTES, scenario, amount, parent=fields.get("parent", True) is True)


def test_parent_metrics() -> None:
    load = Scenario(span(), "solo", "one", prefill=65536, decode=65536, batch=8)
    at = replace(context(), scenarios=(load, replace(load, name="free", batch=None)))
    assert number(metric("params"), at) == 116_829_156_672
    assert number(metric("weights"), at) == 65_248_815_744
    kv = 2048 * 18 * (131_072 + 128)
    assert number(metric("kv", argument=131_072), at) == kv
    assert number(metric("memory", scenario="solo"), at) == 65_248_815_744 + 8 * kv


def test_times_need_a_machine_that_says_enough() -> None:
    load = Scenario(span(), "solo", "node", prefill=4096, decode=1024, batch=8)
    told = (("memory", Fraction(80 * 2**30)), ("bandwidth", Fraction(10**12)))
    plain = Machine(span(), "node", "x", 1, told)
    at = replace(context(), scenarios=(load,), machines=(plain,))
    with pytest.raises(Stop) as why:
        number(metric("tpot", scenario="solo"), at)
    assert code(why) == "E0205"
    assert why.value.diagnostic.message == "the machine `node` does not declare its `compute`"
    whole = replace(plain, fields=(*told, ("compute", Fraction(10**15))))
    at = replace(at, machines=(whole,))
    tpot, ttft, latency, rate = (
        number(metric(name, scenario="solo"), at)
        for name in ("tpot", "ttft", "latency", "throughput")
    )
    assert latency == ttft + 1023 * tpot
    assert rate == 8 * 1024 / latency
    # Eight sequences read some 40 % of 65 GB of weights for every token.
    assert Fraction(1, 100) < tpot < Fraction(65, 1000)
    with pytest.raises(Stop) as why:
        number(metric("cost", scenario="solo"), at)
    assert why.value.diagnostic.message == "the machine `node` does not declare its `price`"
    paid = replace(whole, fields=(*whole.fields, ("price", Fraction(5, 2))))
    price = number(metric("cost", scenario="solo"), replace(at, machines=(paid,)))
    assert price == Fraction(5, 2) / 3600 / rate * 10**6


def test_a_batch_that_fits_is_the_largest() -> None:
    load = Scenario(span(), "free", "node", prefill=4096, decode=1024, batch=None, engine="ideal")
    fields = (("bandwidth", Fraction(10**12)), ("compute", Fraction(10**15)))
    room = 10 * 2**30
    node = Machine(span(), "node", "x", 1, (*fields, ("memory", Fraction(65_248_815_744 + room))))
    at = replace(context(), scenarios=(load,), machines=(node,))
    each = 2048 * 18 * (5120 + 128)
    assert number(metric("memory", scenario="free"), at) == 65_248_815_744 + room // each * each
    small = replace(node, fields=(*fields, ("memory", Fraction(65_248_815_744 + each - 1))))
    with pytest.raises(Stop) as why:
        number(metric("memory", scenario="free"), replace(at, machines=(small,)))
    assert code(why) == "E0506"
    assert why.value.diagnostic.labels[1].text.startswith("1B more than ideal has")


def test_metrics_of_the_result_come_from_its_costs() -> None:
    at = context()
    assert at.parent is not None
    result = replace(at, result=at.parent[:1], scores={"damage": Fraction(3, 8)})
    assert number(metric("params", parent=False), result) == 2 * 201_088 * 2880 + 2880
    assert number(ScoreTotal(span(), "damage"), result) == Fraction(3, 8)


@pytest.mark.parametrize(
    ("kind", "body", "result"),
    [
        ("count", None, 18),
        ("count", compare(fact("index"), "<", num(10)), 5),
        ("sum", fact("experts"), 18 * 128),
        ("min", fact("index"), 1),
        ("max", fact("index"), 35),
    ],
)
def test_folds_over_numbers(
    kind: Literal["count", "sum", "min", "max"], body: Expr | None, result: int
) -> None:
    assert number(Fold(span(), kind, layers(where=FULL), body, NUMBER), context()) == result


def test_folds_over_tests() -> None:
    even = compare(arith(fact("index"), "%", num(2)), "==", num(0))
    every = Fold(span(), "every", layers(where=is_test("attention", "window")), even, NUMBER)
    assert holds(every, context())
    assert not holds(replace(every, selector=layers()), context())
    assert holds(replace(every, kind="some", selector=layers((1, 2))), context())
    assert not holds(replace(every, kind="some", selector=layers((1, 1))), context())


def test_the_least_of_no_layers_has_no_value() -> None:
    none = layers(where=is_test("attention", "noop"))
    with pytest.raises(Stop) as why:
        number(Fold(span(), "min", none, fact("index"), NUMBER), context())
    assert code(why) == "E0308"
    assert number(Fold(span(), "sum", none, fact("index"), NUMBER), context()) == 0
    assert number(Fold(span(), "count", none, None, NUMBER), context()) == 0


# ---- expect ----------------------------------------------------------------------------------


def expect(test: Expr, label: str | None = "size", message: str | None = None) -> Requirement:
    return Requirement(span(9), label, test, message)


def test_expectations_that_hold_are_silent() -> None:
    weights = Fact(span(), "weights", BYTES)
    gib = Fraction(2**30)
    fine = compare(num(gib * 60), "<=", weights, "<=", num(gib * 61))
    counted = Fold(span(), "count", layers(where=FULL), None, NUMBER)
    sink = Sink()
    expects(spec(expects=(expect(fine), expect(compare(counted, "==", num(18))))), MOE, sink)
    assert sink.found == []


def test_a_failed_expectation_gives_both_values() -> None:
    params = Fact(span(5), "params", PARAMS)
    limit = Number(span(6), Fraction(88_500_000_000), PARAMS, "params")
    sink = Sink()
    expects(spec(expects=(expect(compare(params, "<=", limit), message="too big"),)), MOE, sink)
    (found,) = sink.found
    assert found.code.id == "E0501"
    assert found.message == "`@size` does not hold for the model"
    assert found.values == ((span(5).text, "116.83B"), (span(6).text, "88.50B"))
    assert found.notes == ("too big",)


def test_values_that_look_alike_are_printed_in_full() -> None:
    params = Fact(span(5), "params", PARAMS)
    limit = Number(span(6), Fraction(116_829_156_671), PARAMS, "params")
    sink = Sink()
    expects(spec(expects=(expect(compare(params, "<=", limit)),)), MOE, sink)
    assert [shown for _, shown in sink.found[0].values] == ["116829156672", "116829156671"]


def test_a_literal_is_not_explained_by_itself() -> None:
    source = Source("x.surg", "parent.layers == 17")
    layers, limit = Span(source, 0, 13), Span(source, 17, 19)
    test = Compare(span(), Fact(layers, "layers", NUMBER), (("==", Number(limit, Fraction(17))),))
    sink = Sink()
    expects(spec(expects=(expect(test),)), MOE, sink)
    assert sink.found[0].values == (("parent.layers", "36"),)


def test_only_the_false_half_of_a_conjunction_is_shown() -> None:
    heads, hidden = (Fact(span(n), name, NUMBER) for n, name in ((5, "heads"), (6, "hidden")))
    true, false = compare(heads, "==", num(64)), compare(hidden, "==", num(64))
    sink = Sink()
    expects(spec(expects=(expect(Logic(span(), "and", (true, false))),)), MOE, sink)
    assert sink.found[0].values == ((span(6).text, "2880"), (span(1).text, "64"))


def test_a_failed_fold_names_its_layers() -> None:
    low = replace(compare(fact("index"), "<", num(30)), span=span(7))
    sink = Sink()
    expects(spec(expects=(expect(Fold(span(), "every", layers(), low, NUMBER)),)), MOE, sink)
    assert sink.found[0].values == ((span(7).text, "false in layers 30-35"),)


def test_an_expectation_without_a_value_is_reported() -> None:
    experts = Fact(span(5), "experts", NUMBER)
    sink = Sink()
    expects(spec(expects=(expect(compare(experts, ">", num(4))),)), DENSE, sink)
    assert [d.code.id for d in sink.found] == ["E0205"]
