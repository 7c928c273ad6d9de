"""What no cost model may ever say: laws of batches, of experts and windows, and of units."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from solving_fixtures import NOWHERE
from test_gpt_oss_120b import GOLDEN
from test_serving_time import BLOCKS, H100, HEAD

from surgery import evaluate, facts, units
from surgery.affine import RATIOS
from surgery.checking.tables import METRICS
from surgery.costing import factors, terms
from surgery.costing.parallel import Parallel
from surgery.costing.terms import Load, Stage, Work
from surgery.diagnostics import Diagnostic, Severity, Sink
from surgery.expr import Metric
from surgery.grammar.parse import parse
from surgery.ir import Attention, Candidate, Experts, Scenario, Space, Spec
from surgery.passes import check, expand, resolve
from surgery.source import Source
from surgery.units import BYTES, Dimension

# ---- batches ---------------------------------------------------------------------------------

_LOADS = st.builds(
    Load,
    prefill=st.integers(1, 100_000),
    decode=st.integers(1, 20_000),
    batch=st.integers(1, 256).map(float),
    hidden=st.just(2880),
    engine=st.sampled_from(["vllm", "sglang", "trtllm", "ideal"]),
)
_SHARED = st.sampled_from([Parallel(), Parallel(8), Parallel(2, data=2, expert=4)])
_ROUTED = tuple(
    replace(work, shares=tuple(float(max(0, 100 - rank) ** 2) for rank in range(work.block.count)))
    for work in dict.fromkeys(BLOCKS)
    if isinstance(work.block, Experts)
)
_PARTS: tuple[tuple[Work, ...], ...] = (*((w,) for w in (*dict.fromkeys(BLOCKS), *_ROUTED)), ())
"""Every kind of block, experts some of which nobody chooses, and what lies outside of layers."""
assert _ROUTED
ALMOST = 1 + 1e-9
SMALL = Fraction(1, 5000)
RISING = RATIOS
"""Metrics of which more is better."""


@settings(max_examples=150, deadline=None)
@given(load=_LOADS, shared=_SHARED, more=st.integers(1, 256), part=st.sampled_from(_PARTS))
def test_larger_batches_are_slower_and_cheaper(
    load: Load, shared: Parallel, more: int, part: tuple[Work, ...]
) -> None:
    """What `solving/optimism.py` relies on, block by block: times never fall with the batch, and
    the time of the machine that a request takes never rises."""
    small, large = (
        Stage(replace(load, batch=size * shared.data), H100, shared)
        for size in (load.batch, load.batch + more)
    )
    (tpot, ttft), (slower, later) = _times(part, small), _times(part, large)
    assert tpot <= slower * ALMOST
    assert ttft <= later * ALMOST
    one, other = ttft + (load.decode - 1) * tpot, later + (load.decode - 1) * slower
    assert other / large.load.batch <= one / small.load.batch * ALMOST


def test_copies_without_work_make_nothing_faster() -> None:
    load = Load(4096, 1024, 1.0, 2880, "ideal")
    one, eight = (_times(BLOCKS, Stage(load, H100, Parallel(data=n))) for n in (1, 8))
    assert one == eight


def _times(part: tuple[Work, ...], stage: Stage) -> tuple[float, float]:
    """Per token, and to the first one: of a block alone, or of what lies outside of layers."""
    made = factors.factors(stage.load.engine)
    if not part:
        outside = made.seconds(terms.head(*HEAD, stage))
        return outside, outside
    decode = made.seconds(terms.decode(part, stage))
    mixed = made.seconds(terms.mixed(part, stage))
    return decode + mixed, made.seconds(terms.prefill(part, stage)) + decode


# ---- experts and windows ---------------------------------------------------------------------

SPEC = """surg 1

import "std/nvidia.surg" as nvidia

model parent = local("parent")

machine node = 8 * nvidia.h100_sxm { price = 2.5 }

scenario chat on node { prefill = 4K tok  decode = 1K tok  batch = 64 }

dataset text = local("text.jsonl") { take = 4  length = 128K tok  seed = 0 }
score damage = swap_one(metric: kl(logits), on: text)

choose experts in layers[0] {
  keep
  retain 120 | 112 | 96 | 80 | 64 | 48 | 32 | 16 by rank_experts("random", text)
}
choose attention in layers[1] {
  keep
  window 64K tok | 8K tok | 1K tok | 256 tok | 64 tok
}

require latency(chat) <= 10 s
minimize damage
"""


class Expanded:
    """A spec with its space, which no failure should print."""

    def __init__(self, spec: Spec, space: Space) -> None:
        self.spec = spec
        self.space = space


@pytest.fixture(scope="module")
def expanded(tmp_path_factory: pytest.TempPathFactory) -> Expanded:
    place = tmp_path_factory.mktemp("laws") / "work"
    shutil.copytree(GOLDEN / "parent", place / "parent")
    sink = Sink()
    spec = check.run(parse(Source(str(place / "spec.surg"), SPEC), sink), sink, {})
    model = resolve.run(spec, sink, place / "cache") if spec else None
    space = expand.run(spec, model, sink) if spec and model else None
    assert spec is not None
    assert space is not None, sink.found
    return Expanded(spec, space)


@settings(max_examples=30, deadline=None)
@given(
    prefill=st.integers(1, 100_000),
    decode=st.integers(1, 20_000),
    batch=st.integers(1, 512),
    engine=st.sampled_from(["vllm", "sglang", "ideal"]),
)
def test_more_is_never_cheaper(
    expanded: Expanded, prefill: int, decode: int, batch: int, engine: str
) -> None:
    """More experts, and wider windows, in every cost that a requirement can bound."""
    spec, space = expanded.spec, expanded.space
    chat = spec.scenarios[0]
    load = Scenario(chat.span, chat.name, chat.machine, prefill, decode, batch, engine)
    context = replace(evaluate.parent_context(spec, space.model), scenarios=(load,))
    for option in space.options:
        if len(option.candidates) == 1:
            continue
        largest_first = sorted(option.candidates, key=_size, reverse=True)
        for metric in _asked():
            worth = [
                facts.metric(metric, replace(context, result=(each.cost,)))
                for each in largest_first
            ]
            # A layer's norms count as part of its experts, the more the fewer they are.
            pairs = pairwise(worth)
            assert all(small <= large * (1 + SMALL) for large, small in pairs), metric.name


def _size(candidate: Candidate) -> float:
    match candidate.block:
        case Experts(count=count):
            return count
        case Attention(window=window):
            return inf if window is None else window
        case _:
            raise AssertionError(candidate.address)


def _asked() -> Iterator[Metric]:
    """Every cost, of the result."""
    for name, rule in METRICS.items():
        if name not in RISING:
            scenario = "chat" if rule.takes == "scenario" else None
            length = Fraction(8192) if rule.takes == "tok" else None
            yield Metric(NOWHERE, name, rule.dimension, scenario, length)
    yield Metric(NOWHERE, "resident", BYTES, "chat")


# ---- units -----------------------------------------------------------------------------------

NUMBERS: Mapping[str, Dimension] = {
    "3": units.NUMBER,
    "3x": units.NUMBER,
    "30%": units.NUMBER,
    "3GiB": units.BYTES,
    "3GB": units.BYTES,
    "3K tok": units.TOK,
    "3B params": units.PARAMS,
    "3 layers": units.NUMBER,
    "3 ms": units.TIME,
    "3 tok/s": units.TOK_PER_S,
    "3 req/s": units.REQ_PER_S,
    "3 W": units.WATT,
    "3 J/tok": units.J_PER_TOK,
}


@pytest.mark.parametrize("name", METRICS)
def test_units_are_never_mixed_up(name: str) -> None:
    """A cost beside every unit, compared and added: E0301 if they differ, and only then."""
    rule = METRICS[name]
    cost = name + {"": "", "scenario": "(chat)", "tok": "(8K tok)"}[rule.takes]
    lines = {
        f"require {form.format(cost, number)}": dimension == rule.dimension
        for number, dimension in NUMBERS.items()
        for form in ("{0} <= {1}", "{1} >= {0}", "{0} + {1} >= {1}")
    }
    head = SPEC.split("require ", 1)[0]
    text = head + "\n".join((*lines, "minimize damage", ""))
    sink = Sink()
    check.run(parse(Source("spec.surg", text), sink), sink, {})
    errors = [found for found in sink.found if found.severity is Severity.ERROR]
    assert {found.code.id for found in errors} == {"E0301"}
    assert {_line(found) for found in errors} == {line for line, same in lines.items() if not same}


def _line(found: Diagnostic) -> str:
    assert found.primary is not None
    source, place = found.primary.span.source, found.primary.span.first
    return source.line(place.line)
