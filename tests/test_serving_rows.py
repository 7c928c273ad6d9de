"""Times in specs: rows that say what formulas say, batches that fit, what plans tell of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice, product
from pathlib import Path

import pytest
from msgspec.structs import replace
from test_gpt_oss_120b import GOLDEN

from surgery import evaluate, lockfile
from surgery.cli import main
from surgery.costing import serving
from surgery.diagnostics import Sink
from surgery.edits import child_layers
from surgery.expr import Arith
from surgery.grammar.parse import parse, read_source
from surgery.ir import Candidate, Measured, Space, Spec
from surgery.passes import (
    batches,
    breakdown,
    check,
    constrain,
    cost,
    estimates,
    expand,
    explain,
    relax,
    resolve,
    solve,
)
from surgery.units import NUMBER

SPEC = """surg 1

import "std/nvidia.surg" as nvidia

model parent = local("parent")

machine node = 8 * nvidia.h100_sxm { tensor_parallel = 4  price = 2.5 }
machine one  = 1 * nvidia.h100_sxm MEMORY

scenario long on one { prefill = 8K tok  decode = 8K tok  batch = fit }
scenario chat on node { prefill = 4K tok  decode = 1K tok  batch = 64 }

dataset text = local("text.jsonl") { take = 4  length = 128K tok  seed = 0 }
score damage = swap_one(metric: kl(logits), on: text)

choose experts in layers[30..35] {
  keep
  retain 96 | 64 by rank_experts("random", text)
}

choose attention in layers[0..5] where attention is full {
  keep
  window 8K tok
}

WISHES

minimize damage
"""
# Layers are worth more or less, but never the same, so that the optimum is one.
WORTH = {"96": Fraction(1, 100), "64": Fraction(3, 100), "window(8K)": Fraction(2, 100)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows") / "work"
    shutil.copytree(GOLDEN / "parent", folder / "parent")
    return folder


def expanded(place: Path, wishes: str, memory: str = "") -> tuple[Spec, Space, Measured]:
    path = place / "spec.surg"
    path.write_text(SPEC.replace("WISHES", wishes).replace("MEMORY", memory), encoding="utf-8")
    sink = Sink()
    source = read_source(str(path), sink)
    assert source is not None
    spec = check.run(parse(source, sink), sink, {})
    model = resolve.run(spec, sink, place / "cache") if spec else None
    space = expand.run(spec, model, sink) if spec and model else None
    assert spec is not None
    assert space is not None, sink.found
    damage = {
        c.address: float(WORTH.get(c.text, 0) * (1 + c.layer / 50)) if c.changed else 0.0
        for c in space.candidates
    }
    return spec, space, Measured({"damage": damage}, "0" * 64)


def parts(space: Space, pick: int) -> tuple[Candidate, ...]:
    """Some child: every site takes its candidate number `pick`, or the last one."""
    return tuple(o.candidates[min(pick, len(o.candidates) - 1)] for o in space.options)


METRICS = ("throughput", "latency", "ttft", "tpot", "cost")


@pytest.mark.parametrize("name", METRICS)
def test_a_row_says_what_the_formula_says(place: Path, name: str) -> None:
    spec, space, measured = expanded(
        place, f"require @r {name}(chat) <= 99.7% * parent.{name}(chat)"
    )
    problem = constrain.run(spec, space, measured, Sink())
    assert problem is not None
    index = {c.address: n for n, c in enumerate(problem.columns.candidates)}
    (clause,) = problem.clauses
    seen: set[bool] = set()
    for pick in range(3):
        chosen = [index[c.address] for c in parts(space, pick)]
        formula = spec.requirements[0].expr
        holds = evaluate.holds(formula, problem.result(chosen))
        assert clause.holds(problem.columns.active(chosen)) is holds
        seen.add(holds)
    # A smaller child has a higher throughput and lower times.
    assert seen == ({False} if name == "throughput" else {True, False})


def test_times_of_the_parent_are_those_of_keeping_everything(place: Path) -> None:
    spec, space, measured = expanded(place, "require @r tpot(chat) <= parent.tpot(chat)")
    problem = constrain.run(spec, space, measured, Sink())
    assert problem is not None
    index = {c.address: n for n, c in enumerate(problem.columns.candidates)}
    result = problem.result([index[c.address] for c in parts(space, 0)])
    for name in METRICS:
        asked = next(p for p in _metrics(spec) if not p.parent)
        child = replace(asked, name=name)
        assert evaluate.number(child, result) == evaluate.number(
            replace(child, parent=True), result
        )


def _metrics(spec: Spec) -> list[evaluate.Metric]:
    from surgery.affine import walk

    parts = (part for each in spec.requirements for part in walk(each.expr))
    return [part for part in parts if isinstance(part, evaluate.Metric)]


# ---- batches ---------------------------------------------------------------------------------


WISHES = (
    "require @long throughput(long) >= 1.15x * parent.throughput(long)",
    "require @long throughput(long) >= 1.05x * parent.throughput(long)\n"
    "require @calm tpot(long) <= 108% * parent.tpot(long)",
    "require @slow latency(long) >= 98% * parent.latency(long)\n"
    "require @long 1.1x * parent.throughput(long) <= throughput(long)",
    "require @range 1.05x * parent.throughput(long) <= throughput(long)"
    " and throughput(long) <= 1.06x * parent.throughput(long)",
    "require @room memory(long) <= 50GiB",
    "require @calm tpot(long) <= 80% * parent.tpot(long)",
)


@pytest.mark.parametrize("wish", WISHES)
def test_batches_that_fit_agree_with_brute_force(place: Path, wish: str) -> None:
    """Every child at every batch that it has room for, against the search over both."""
    spec, space, measured = expanded(place, wish, "{ memory = 77GiB }")
    sink = Sink()
    answer = batches.run(spec, space, measured, sink)
    best = _by_force(spec, space, measured)
    if best is None:
        assert answer is None
        assert [each.code.id for each in sink.found] == ["E0601"]
        return
    assert answer is not None
    assert answer.solution.objective == pytest.approx(best[0], rel=1e-6)
    assert answer.solution.status == "optimal"
    assert answer.batches["long"] >= best[1]


def _by_force(spec: Spec, space: Space, measured: Measured) -> tuple[Fraction, int] | None:
    """The least damage, and the largest batch for it."""
    scenario = next(s for s in spec.scenarios if s.name == "long")
    machine = next(m for m in spec.machines if m.name == "one")
    parent = evaluate.parent_context(spec, space.model)
    damages = {
        chosen: sum((Fraction(measured.damage["damage"][c.address]) for c in chosen), Fraction(0))
        for chosen in _children(space)
    }
    for chosen in sorted(damages, key=lambda chosen: damages[chosen]):
        costs = cost.chosen_costs(space, chosen)
        layers = child_layers(space.model, chosen)
        most = serving.largest(costs, layers, space.model, machine, scenario)
        for batch in range(most, 0, -1):
            child = replace(parent, layers=layers, result=costs, batches={"long": batch})
            if all(evaluate.holds(each.expr, child) for each in spec.requirements):
                return damages[chosen], batch
    return None


def _children(space: Space) -> Iterator[tuple[Candidate, ...]]:
    """Damage and cost depend on how many of each kind there are and on which layers: the cheapest
    ones of each kind, as damage grows with the layer."""
    for counts in product(range(7), range(7), range(4)):
        if counts[0] + counts[1] <= 6:
            yield cheapest(space, *counts)


def test_the_largest_batch_by_hand(place: Path) -> None:
    """What fits beside the weights, sequence by sequence."""
    spec, space, _ = expanded(place, WISHES[0], "{ memory = 77GiB }")
    scenario = next(s for s in spec.scenarios if s.name == "long")
    machine = next(m for m in spec.machines if m.name == "one")
    room = serving.room(space.model.layers, space.model, machine, scenario)
    for chosen in islice(_children(space), 0, None, 9):
        costs = cost.chosen_costs(space, chosen)
        layers = child_layers(space.model, chosen)
        most = serving.largest(costs, layers, space.model, machine, scenario)
        each = [serving.needs(c, machine, scenario) for c in costs]
        weights = sum((n.weights for n in each), Fraction(0))
        held = sum((n.sequence for n in each), Fraction(0))
        assert most == max((n for n in range(200) if weights + n * held <= room and n), default=0)


def cheapest(space: Space, halved: int, cut: int, windows: int) -> tuple[Candidate, ...]:
    """64 experts in the first layers offered, 96 in the next, windows in the first."""
    wanted: dict[str, int] = {"64": halved, "96": cut, "window(8K)": windows}
    found: list[Candidate] = []
    for option in space.options:
        texts = {c.text: c for c in option.candidates if c.changed}
        pick = next((t for t in wanted if t in texts and wanted[t] > 0), None)
        if pick is not None:
            wanted[pick] -= 1
        keep = option.keep
        assert keep is not None
        found.append(texts[pick] if pick else keep)
    return tuple(found)


def test_an_objective_that_cannot_be_bounded_is_not_tried_for_ever(place: Path) -> None:
    """More sequences are better for one part of it and worse for the other: none is proved."""
    spec, space, measured = expanded(place, "require @room memory(long) <= 500TiB")
    scenarios = tuple(replace(s, engine="ideal", decode=1, prefill=1) for s in spec.scenarios)
    memory = next(p for p in _metrics(spec))
    gain = Arith(memory.span, "-", spec.objective.expr, replace(memory, dimension=NUMBER), NUMBER)
    spec = replace(spec, scenarios=scenarios, objective=replace(spec.objective, expr=gain))
    sink = Sink()
    assert batches.run(spec, space, measured, sink) is None
    (found,) = sink.found
    assert found.code.id == "E0603"
    assert found.message.startswith("the objective cannot be bounded over batches")


def test_a_scenario_that_has_no_room_for_one_sequence(place: Path) -> None:
    wish = "require @long throughput(long) >= 100 tok/s"
    spec, space, measured = expanded(place, wish, "{ memory = 60GiB }")
    sink = Sink()
    assert batches.run(spec, space, measured, sink) is None
    (found,) = sink.found
    assert found.code.id == "E0506"
    assert found.message == "`long` does not fit on `one`, whatever is chosen"
    assert found.notes[0].endswith("GiB are missing")


def test_a_throughput_that_gives_does_so_at_the_batch_that_suits_it(place: Path) -> None:
    """With up to 24 sequences every batch is looked at; the written limit has a plan."""
    calm = "require @calm damage <= 0.1"
    wish = f"require @long throughput(long) >= 1.5x * parent.throughput(long)\n{calm}"
    spec, space, measured = expanded(place, wish)
    assert batches.run(spec, space, measured, Sink()) is None
    found: dict[int, relax.Relaxed] = {}
    for at, problem in batches.stated(spec, space, measured, Sink()):
        least = relax.least(problem, ["@long"], solve.Solver(problem.columns), Sink())
        if least is not None:
            found[at["long"]] = least
    assert set(found) == set(range(1, max(found) + 1))
    best = min(found.values(), key=lambda each: each.by)
    (clause,) = best.clauses
    solver = solve.Solver(best.problem.columns)
    answer = solve.answer(best.problem, solver, Sink(), solve.Proof())
    assert answer is not None
    column = {c.address: n for n, c in enumerate(space.candidates)}
    active = best.problem.columns.active(column[c.address] for c in answer.chosen)
    value = clause.value.at(active)
    assert value is not None
    reached = explain.asked(clause, value)
    eased = expanded(place, f"require @long throughput(long) >= {reached}\n{calm}")
    assert batches.run(*eased, Sink()) is not None
    slightly = float(value) * 1.001
    eased = expanded(place, f"require @long throughput(long) >= {slightly:.3f} tok/s\n{calm}")
    assert batches.run(*eased, Sink()) is None


# ---- plans -----------------------------------------------------------------------------------


def test_a_plan_says_where_its_times_come_from(place: Path) -> None:
    wish = "require @fast tpot(chat) <= 99% * parent.tpot(chat)"
    spec, space, measured = expanded(place, wish)
    answer = batches.run(spec, space, measured, Sink())
    assert answer is not None
    said = dict(estimates.child(answer.problem, answer.solution.chosen))
    assert list(said) == [
        *("batch@chat", "throughput@chat", "latency@chat", "ttft@chat", "tpot@chat", "cost@chat"),
    ]
    assert said["batch@chat"] == "64"
    assert said["tpot@chat"].endswith(" ms, modelled +-22%")
    before = dict(estimates.parent(spec, space))
    assert before.keys() == said.keys()
    ideal = replace(spec, scenarios=tuple(replace(s, engine="ideal") for s in spec.scenarios))
    told = dict(estimates.parent(ideal, space))
    assert told["tpot@chat"].endswith(", at the limits of the machine")
    strange = replace(spec, scenarios=tuple(replace(s, engine="sglang") for s in spec.scenarios))
    assert "no point has moe.sglang.w4" in dict(estimates.parent(strange, space))["tpot@chat"]


def test_costs_add_up_to_what_the_plan_says(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wish = "require @fast tpot(chat) <= 99% * parent.tpot(chat)"
    spec, space, measured = expanded(place, wish)
    answer = batches.run(spec, space, measured, Sink())
    assert answer is not None
    plan = solve.record(answer.problem, answer.solution)
    plan = replace(
        plan, metrics=(*plan.metrics, *estimates.child(answer.problem, answer.solution.chosen))
    )
    (found,) = breakdown.run(plan, spec, space, None)
    tpot = Fraction(dict(plan.metrics)["tpot@chat"].split(" ms")[0]) / 1000
    assert sum(line.seconds for line in found.tpot) == pytest.approx(float(tpot), rel=1e-3)
    assert sum(line.part for line in found.tpot) == pytest.approx(1)
    for line in found.tpot:
        assert line.seconds == pytest.approx(line.limit * line.factor)
    assert [line.seconds for line in found.tpot] == sorted(
        (line.seconds for line in found.tpot), reverse=True
    )
    # Layers and what lies outside of them are the whole.
    layers = [breakdown.run(plan, spec, space, n)[0] for n in range(36)]
    parts = {line.term: sum(_of(each, line.term) for each in layers) for line in found.tpot}
    outside = {"sequence.vllm", "step", "gemm.memory", "gemm.compute"}
    for line in found.tpot:
        if line.term not in outside:
            assert parts[line.term] == pytest.approx(line.seconds), line.term
    assert sum(each.kv for each in layers) == pytest.approx(found.kv, abs=36)
    (place / "a.plan").write_text(lockfile.text(plan), encoding="utf-8")
    arguments = ["show", str(place / "a.plan"), "--costs", str(place / "spec.surg")]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert told.startswith("chat: 64 sequences of 4K + 1K tok, vllm on `node` (modelled +-22%)")
    assert main([*arguments, "--layer", "19", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["costs"]
    assert row["layer"] == 19
    assert main(["show", str(place / "a.plan"), "--layer", "1"]) == 2


def _of(found: breakdown.Breakdown, term: str) -> float:
    return sum(line.seconds for line in found.tpot if line.term == term)
