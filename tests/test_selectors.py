"""Which layers a selector picks: ranges, predicates, set algebra."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from space_fixtures import compare, fact, gpt_oss, is_test, layers, num, picked, span

from surgery.diagnostics import Sink, Stop
from surgery.evaluate import Context, layers_of
from surgery.expr import Arith, Compare, LayerSet, Selector
from surgery.units import NUMBER

MOE = gpt_oss()
FULL = is_test("attention", "full")


def every(period: int, phase: int) -> Compare:
    """`index % period == phase`, as a test."""
    return compare(Arith(span(), "%", fact("index"), num(period), NUMBER), "==", num(phase))


def code(why: pytest.ExceptionInfo[Stop]) -> str:
    return why.value.diagnostic.code.id


@pytest.mark.parametrize(
    ("selector", "indices"),
    [
        (layers(), range(36)),
        (layers((0, 0), (2, 4)), [0, 2, 3, 4]),
        (layers((3, 5), (4, 6)), [3, 4, 5, 6]),
        (layers((-4, -1)), [32, 33, 34, 35]),
        (layers((34, -1)), [34, 35]),
        (layers(where=FULL), range(1, 36, 2)),
        (layers((0, 5), where=FULL), [1, 3, 5]),
        (layers(where=every(12, 3)), [3, 15, 27]),
        (layers(where=is_test("layer", "last")), [35]),
        (layers(where=is_test("layer", "first", negated=True)), range(1, 36)),
        (Selector(span(), picked(), (picked((0, 1)), picked((-2, -1)))), range(2, 34)),
        (Selector(span(), picked((0, 9)), (picked(where=FULL),)), [0, 2, 4, 6, 8]),
    ],
)
def test_selectors(selector: Selector, indices: list[int]) -> None:
    assert layers_of(selector, MOE.layers) == tuple(indices)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0, 36, "there is no layer 36"),
        (36, 40, "there is no layer 36"),
        (-37, -1, "there is no last(37)"),
    ],
)
def test_an_index_past_the_end(low: int, high: int, message: str) -> None:
    with pytest.raises(Stop) as why:
        layers_of(layers((low, high)), MOE.layers)
    assert code(why) == "E0402"
    assert why.value.diagnostic.message == message
    assert why.value.diagnostic.labels[0].text == "36 layers: 0..35"


def test_a_range_that_runs_backwards_once_resolved() -> None:
    with pytest.raises(Stop) as why:
        layers_of(layers((34, -4)), MOE.layers)
    assert code(why) == "E0307"
    assert why.value.diagnostic.message == "layers 34 to 32 run backwards"


def test_an_empty_selection_is_reported_where_somebody_listens() -> None:
    none = layers(where=is_test("attention", "noop"))
    assert layers_of(none, MOE.layers) == ()
    sink = Sink()
    assert layers_of(none, MOE.layers, Context(MOE.layers, sink=sink)) == ()
    assert [d.code.id for d in sink.found] == ["W0701"]
    assert not sink.failed


LIMITS = st.integers(-36, 35)


@st.composite
def layer_sets(draw: st.DrawFn) -> LayerSet:
    pairs = draw(st.lists(st.tuples(LIMITS, LIMITS), max_size=3))
    # Ranges that run forwards once negative numbers are counted from the end.
    picks = [tuple(sorted(pair, key=lambda n: n % 36)) for pair in pairs]
    where = draw(
        st.sampled_from(
            [
                None,
                FULL,
                is_test("attention", "window"),
                compare(fact("index"), ">", num(17)),
                every(5, 0),
            ]
        )
    )
    return picked(*((low, high) for low, high in picks), where=where)


@settings(max_examples=100, deadline=None)
@given(a=layer_sets(), b=layer_sets())
def test_set_algebra(a: LayerSet, b: LayerSet) -> None:
    def of(*sets: LayerSet) -> set[int]:
        return set(layers_of(Selector(span(), sets[0], sets[1:]), MOE.layers))

    assert of(a, a) == set()
    assert of(a, b) == of(a) - of(b)
    assert of(picked(), a) | of(a) == set(range(36))
    assert list(layers_of(Selector(span(), a), MOE.layers)) == sorted(of(a))
