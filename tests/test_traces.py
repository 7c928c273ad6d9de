"""Lengths of requests that differ, clients that wait, children that talk more."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from solving_fixtures import NOWHERE
from test_gpt_oss_120b import GOLDEN
from test_serving_rows import cheapest
from test_serving_time import BLOCKS, H100, HEAD

from surgery import evaluate, facts, sizes
from surgery.affine import walk
from surgery.costing import factors, predict, serving
from surgery.costing.parallel import Parallel
from surgery.costing.terms import Load, Stage
from surgery.diagnostics import Sink
from surgery.expr import Metric
from surgery.facts import Context
from surgery.grammar.parse import parse
from surgery.ir import Lengths, Measured, Space, Spec
from surgery.passes import batch_rows, batches, check, cost, expand, resolve
from surgery.source import Source
from surgery.sources import trace

SPEC = """surg 1

import "std/nvidia.surg" as nvidia

model parent = local("parent")

machine one = 1 * nvidia.h100_sxm

scenario chat on one { FIELDS }

dataset text = local("text.jsonl") { take = 4  length = 128K tok  seed = 0 }
score damage = swap_one(metric: kl(logits), on: text)

choose experts in layers[30..35] {
  keep
  retain 96 | 64 by rank_experts("random", text)
}

require WISH
minimize damage
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces") / "work"
    shutil.copytree(GOLDEN / "parent", folder / "parent")
    return folder


def checked(place: Path, fields: str, wish: str, sink: Sink) -> Spec | None:
    text = SPEC.replace("FIELDS", fields).replace("WISH", wish)
    return check.run(parse(Source(str(place / "spec.surg"), text), sink), sink, {})


def expanded(place: Path, fields: str, wish: str) -> tuple[Spec, Space]:
    sink = Sink()
    spec = checked(place, fields, wish, sink)
    model = resolve.run(spec, sink, place / "cache") if spec else None
    space = expand.run(spec, model, sink) if spec and model else None
    assert spec is not None
    assert space is not None, sink.found
    return spec, space


def parent(spec: Spec, space: Space, name: str) -> Fraction:
    """A metric of the parent, which is a child that keeps everything."""
    asked = next(
        part
        for requirement in spec.requirements
        for part in walk(requirement.expr)
        if isinstance(part, Metric)
    )
    context = evaluate.parent_context(spec, space.model)
    return facts.metric(replace(asked, name=name, parent=True), context)


# ---- traces ----------------------------------------------------------------------------------

SAME = "prefill = 4K tok  decode = 1K tok"


def test_a_trace_of_equal_requests_is_no_trace(place: Path) -> None:
    (place / "same.csv").write_text("prefill,decode\n" + "4096,1024\n" * 3, encoding="utf-8")
    wish = "@t throughput(chat) >= 1 tok/s"
    for batch in ("batch = 16", "batch = fit"):
        plain = expanded(place, f"{SAME} {batch}", wish)
        traced = expanded(place, f'trace = "same.csv" {batch}', wish)
        for name in ("throughput", "latency", "ttft", "tpot", "memory", "resident", "requests"):
            assert parent(*plain, name) == parent(*traced, name), name


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.integers(1, 100_000), st.integers(1, 5000), st.integers(1, 5)),
        min_size=1,
        max_size=90,
        unique_by=lambda request: request[:2],
    ),
    window=st.none() | st.integers(1, 50_000),
    chunk=st.integers(1, 10_000),
)
def test_means_are_those_of_serving_everybody(
    requests: list[tuple[int, int, int]], window: int | None, chunk: int
) -> None:
    """Against every token of every request, one after the other."""
    lengths = Lengths(tuple(sorted(requests)))
    every = [(p, d) for p, d, n in requests for _ in range(n)]
    assert lengths.prefill == pytest.approx(sum(p for p, _ in every) / len(every))
    assert lengths.decode == pytest.approx(sum(d for _, d in every) / len(every))
    steps = sum(d for _, d in every)
    most = window or 10**9
    seen = sum(min(p + d / 2, most) * d for p, d in every) / steps
    assert lengths.held(window) == pytest.approx(seen)
    pieces = sum(-(-p // chunk) for p, _ in every) / len(every)
    assert lengths.chunks(chunk) == pytest.approx(pieces)
    # What a cache holds is rounded up, by no more than the groups are wide.
    assert sum(part for _, part in lengths.resident) == 1
    assert len(lengths.resident) <= 64
    held = sum(part * tokens for tokens, part in lengths.resident)
    exact = Fraction(sum((p + d) * d for p, d in every), steps)
    longest = max(p + d for p, d in every)
    assert exact <= held <= exact + Fraction(longest, 32)
    assert lengths.longest == longest


def test_a_load_of_one_length_is_the_load() -> None:
    plain = Load(4096, 1024, 32.0, 2880, "vllm")
    traced = replace(plain, lengths=Lengths.fixed(4096, 1024))
    made = factors.factors("vllm")
    one, other = (
        predict.times(BLOCKS, HEAD, Stage(load, H100, Parallel(2)), made)
        for load in (plain, traced)
    )
    assert (one.tpot, one.ttft) == pytest.approx((other.tpot, other.ttft))


def test_long_requests_cost_more_than_their_mean(place: Path) -> None:
    """The same means of tokens in and out; who answers at length fills the cache for long."""
    random = Random(0)
    rows = [f"{random.choice((1024, 15360))},{random.choice((128, 1920))}" for _ in range(4000)]
    (place / "wild.csv").write_text("\n".join(("prefill,decode", *rows)), encoding="utf-8")
    wish = "@t throughput(chat) >= 1 tok/s"
    mean = expanded(place, "prefill = 8K tok  decode = 1K tok  batch = 16", wish)
    wild = expanded(place, 'trace = "wild.csv"  batch = 16', wish)
    assert wild[0].scenarios[0].prefill == pytest.approx(8192, rel=0.03)
    assert parent(*wild, "memory") > parent(*mean, "memory")
    assert wild[0].scenarios[0].longest == 15360 + 1920
    assert parent(*wild, "tpot") == pytest.approx(float(parent(*mean, "tpot")), rel=0.1)


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,input_tokens,output_tokens\n0,7,9\n1,7,9\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\nx,7,9\r\ny,7,9\r\n",
        "decode,prefill\n 9, 7\n9,7\n",
        "prefill,decode\n7.0,9.0\n7,9.0\n",
    ],
)
def test_columns_go_by_their_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    assert trace.read(tmp_path / "a.csv").lengths.requests == ((7, 9, 2),)


def test_json_lines(tmp_path: Path) -> None:
    row = '{"timestamp": 1, "input_length": 7, "output_length": 9, "hash_ids": [1, 2]}'
    (tmp_path / "a.jsonl").write_text(f"{row}\n\n{row}\n", encoding="utf-8")
    assert trace.read(tmp_path / "a.jsonl").lengths.requests == ((7, 9, 2),)


BAD = {
    "": "the file has no requests",
    "a,b\n1,2\n": "no columns `prefill` and `decode`",
    "prefill,decode\n1,2\n3,x\n": "`decode` is no number of tokens: `x`",
    "prefill,decode\n1,0\n": "`decode` is 0",
    "prefill,decode\n1\n": "`decode` is no number of tokens: `?`",
    "prefill,decode\n1,2.5\n": "`decode` is no number of tokens: `2.5`",
    "prefill,decode\n1,nan\n": "`decode` is no number of tokens: `nan`",
    "prefill,decode\n-1,2\n": "`prefill` is no number of tokens: `-1`",
    "prefill,decode\n99999999999,2\n": "`prefill` is no number of tokens",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_trace(place: Path, text: str) -> None:
    (place / "bad.csv").write_text(text, encoding="utf-8")
    sink = Sink()
    fields = 'trace = "bad.csv"  batch = 4'
    assert checked(place, fields, "@t throughput(chat) >= 1 tok/s", sink) is None
    (found,) = sink.found
    assert found.code.id == "E0309"
    assert found.message.startswith(f"the trace `bad.csv` cannot be read: {BAD[text]}")
    assert found.primary is not None
    assert found.primary.span.text == '"bad.csv"'
    assert bool(found.helps) is (text in ("", "prefill,decode\n1,0\n"))


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ('trace = "none.csv"  batch = 4', "E0309", "no such file or directory"),
        (f'{SAME}  trace = "a.csv"  batch = 4', "E0202", "`prefill` and `trace` cannot both"),
        (f"{SAME}  batch = 4  clients = 8", "E0202", "`batch` and `clients` cannot both"),
        (f"{SAME}  batch = 4  verbosity = 0x", "E0309", "serves nothing"),
        (SAME, "E0207", "needs `batch`"),
        ("clients = 4", "E0207", "needs `prefill`"),
    ],
)
def test_what_a_scenario_cannot_say(place: Path, fields: str, code: str, text: str) -> None:
    sink = Sink()
    assert checked(place, fields, "@t throughput(chat) >= 1 tok/s", sink) is None
    assert code in {found.code.id for found in sink.found}
    assert any(text in found.message for found in sink.found)


def test_another_trace_is_another_spec(place: Path) -> None:
    def hashed(text: str) -> str:
        (place / "changing.csv").write_text(text, encoding="utf-8")
        spec = checked(place, 'trace = "changing.csv"  batch = 4', "@t params <= 1B params", Sink())
        assert spec is not None
        return spec.digest

    first = hashed("prefill,decode\n1,2\n")
    assert hashed("prefill,decode\n1,22\n") != first
    assert hashed("prefill,decode\n1,2\n") == first


# ---- clients ---------------------------------------------------------------------------------


def test_clients_that_fit_do_not_wait(place: Path) -> None:
    wish = "@t throughput(chat) >= 1 tok/s"
    few = expanded(place, f"{SAME}  clients = 4", wish)
    same = expanded(place, f"{SAME}  batch = 4", wish)
    for name in ("throughput", "requests", "latency", "ttft", "tpot"):
        assert parent(*few, name) == parent(*same, name)


def test_clients_that_do_not_fit_wait(place: Path) -> None:
    """Little's law: as many clients as requests a second times the seconds that each takes."""
    wish = "@t throughput(chat) >= 1 tok/s"
    fields = "prefill = 32K tok  decode = 1K tok"
    fit = expanded(place, f"{fields}  batch = fit", wish)
    many = expanded(place, f"{fields}  clients = 200", wish)
    assert parent(*many, "throughput") == parent(*fit, "throughput")
    assert parent(*many, "tpot") == parent(*fit, "tpot")
    assert parent(*many, "ttft") > 2 * parent(*fit, "ttft")
    assert parent(*many, "latency") * parent(*many, "requests") == 200
    waited = parent(*many, "latency") - parent(*fit, "latency")
    assert parent(*many, "ttft") - parent(*fit, "ttft") == waited


def test_a_plan_for_clients_agrees_with_every_batch(place: Path) -> None:
    """First tokens come sooner where more fit at once, which smaller children make room for."""
    fields = "prefill = 32K tok  decode = 1K tok  clients = 24"
    spec, space = expanded(place, fields, "@t ttft(chat) <= 85% * parent.ttft(chat)")
    worth = {"96": 0.01, "64": 0.03}
    damage = {
        c.address: worth.get(c.text, 0.0) * (1 + c.layer / 50) if c.changed else 0.0
        for c in space.candidates
    }
    answer = batches.run(spec, space, Measured({"damage": damage}, "0" * 64), Sink())
    assert answer is not None
    assert answer.solution.status == "optimal"
    found: list[float] = []
    context = evaluate.parent_context(spec, space.model)
    (machine,), (scenario,) = spec.machines, spec.scenarios
    for halved, cut in ((a, b) for a in range(7) for b in range(7 - a)):
        chosen = cheapest(space, halved, cut, 0)
        costs = cost.chosen_costs(space, chosen)
        most = serving.largest(costs, space.model.layers, space.model, machine, scenario)
        assert most <= 24
        children = (
            replace(context, result=costs, batches={"chat": batch}) for batch in range(1, most + 1)
        )
        if any(evaluate.holds(spec.requirements[0].expr, child) for child in children):
            found.append(sum(damage[c.address] for c in chosen))
    assert float(answer.solution.objective) == pytest.approx(min(found))
    assert min(found) > 0


def test_lines_are_bounded_over_batches(place: Path) -> None:
    """Not every batch is solved for: a bound takes service at the least, lines at the largest."""
    fields = "prefill = 32K tok  decode = 1K tok  clients = 24"
    spec, space = expanded(place, fields, "@t latency(chat) <= 1000 s")
    metrics = {
        part.name: part for part in walk(spec.requirements[0].expr) if isinstance(part, Metric)
    }
    for name in ("ttft", "latency"):
        asked = replace(metrics["latency"], name=name)
        least = replace(spec, objective=replace(spec.objective, expr=asked))
        question = batch_rows.question(least, space, Measured({}, "0" * 64), Sink())
        assert question is not None
        assert question.bounded
        context = evaluate.parent_context(spec, space.model)
        context = replace(context, result=sizes.parent_costs(space.model))

        def at(low: int, high: int, asked: Metric = asked, context: Context = context) -> Fraction:
            here = replace(context, batches={"chat": low}, served={"chat": high})
            return facts.metric(asked, here)

        exact = {batch: at(batch, batch) for batch in range(1, 31)}
        for low, high in ((1, 30), (1, 4), (5, 9), (20, 23), (23, 24), (25, 30)):
            assert at(low, high) <= min(exact[batch] for batch in range(low, high + 1))
        assert at(2, 2) == facts.metric(asked, replace(context, batches={"chat": 2}))


# ---- talking more ----------------------------------------------------------------------------


def test_a_child_that_talks_more_is_not_faster(place: Path) -> None:
    """Tokens a second hardly change; requests a second fall as answers grow."""
    wish = "@t requests(chat) >= 1 req/s"
    plain = expanded(place, f"{SAME}  batch = 16", wish)
    wordy = expanded(place, f"{SAME}  batch = 16  verbosity = 1.25x", wish)
    asked = Metric(NOWHERE, "tpot", plain[0].objective.expr.dimension, "chat")

    def child(spec: Spec, space: Space, name: str) -> Fraction:
        context = evaluate.parent_context(spec, space.model)
        kept = replace(context, result=sizes.parent_costs(space.model))
        return facts.metric(replace(asked, name=name), kept)

    assert parent(*wordy, "requests") == parent(*plain, "requests")
    assert child(*plain, "requests") == parent(*plain, "requests")
    assert child(*wordy, "throughput") == pytest.approx(float(child(*plain, "throughput")), rel=0.1)
    ratio = child(*wordy, "requests") / child(*plain, "requests")
    assert float(ratio) == pytest.approx(1 / 1.25, rel=0.1)
    assert child(*wordy, "requests") * 1280 == child(*wordy, "throughput")
    assert child(*wordy, "memory") > child(*plain, "memory")


def test_an_answer_has_a_token_at_least(place: Path) -> None:
    """Less would take less than no time after the first."""
    wish = "@t latency(chat) <= 1000 s"
    fields = "prefill = 1K tok  decode = 10 tok  batch = 256"
    brief = expanded(place, f"{fields}  verbosity = 0.001x", wish)
    assert brief[0].scenarios[0].answered.requests == ((1024, 1.0, 1),)
    context = evaluate.parent_context(brief[0], brief[1].model)
    context = replace(context, result=sizes.parent_costs(brief[1].model))
    asked = Metric(NOWHERE, "latency", brief[0].objective.expr.dimension, "chat")
    first = facts.metric(replace(asked, name="ttft"), context)
    assert facts.metric(asked, context) == first > 0


# ---- energy ----------------------------------------------------------------------------------


def test_energy_is_power_by_throughput(place: Path) -> None:
    spec, space = expanded(place, f"{SAME}  batch = 16", "@e energy(chat) <= 1.2 kW / 1 tok/s")
    assert parent(spec, space, "energy") * parent(spec, space, "throughput") == 700
    (requirement,) = spec.requirements
    context = evaluate.parent_context(spec, space.model)
    assert evaluate.holds(requirement.expr, replace(context, result=context.parent))


def test_energy_has_a_unit_of_its_own(place: Path) -> None:
    sink = Sink()
    assert checked(place, f"{SAME}  batch = 16", "@e energy(chat) <= 2 J/tok", sink) is not None
    assert checked(place, f"{SAME}  batch = 16", "@e energy(chat) <= 2 W", sink) is None
    (found,) = sink.found
    assert found.code.id == "E0301"
    assert found.message == "cannot compare an energy per token with a power"
