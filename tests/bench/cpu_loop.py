"""How well sums of timed blocks tell the time of whole children, on this machine.

    python tests/bench/cpu_loop.py [--rounds 15] [--children 10] [--seed 1] [--library DIR]

Times the blocks of the embedded mixture of experts (`surgery bench`), draws ten children by lot
from all that is on offer (experts, windows, KV heads, blocks left out), predicts the step of each
as plans do, cuts them from the weights and runs them whole, in turn with the parent. Printed are
predicted and measured times of a prompt and of a decoding step, the error of each, and the median.
The sums know none of these children: blocks were timed in others, of the first experts of a layer
and not of those that a ranking keeps.

Times are in turn with the parent's and in its unit, the parent's median step when blocks were
timed. What does not add up: what blocks leave in the processor's caches for the next one; masks,
one for each window that a child has, however many layers have it (on average counted to the rest);
which experts are hit, which depends on the layers before. As a control stands what one would say
from bytes alone: the parent's time, times the weights of the child by those of the parent.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from msgspec import Struct

from surgery import bench as benches
from surgery import pipeline
from surgery.benching import clock, keys, rounds, shapes, stack
from surgery.benching.shapes import Phase
from surgery.benching.stack import Stack
from surgery.console import Progress
from surgery.costing import serving
from surgery.diagnostics import Sink
from surgery.ir import Candidate, Cost, Space, Spec
from surgery.library import Library
from surgery.passes import bench, cost, rank, timing
from surgery.pipeline import Options
from surgery.scoring.model import Parent, make_layer
from surgery.tensors.ops import tensor_reader

SPECS = Path(__file__).parents[2] / "specs"
SPEC = """surg 1

import "std/moe.surg" as moe

model parent = local("{parent}")

machine core = device("core") {{ memory = 8GiB  bandwidth = 20GB / 1 s  compute = 80B / 1 s }}
machine here = {cores} * core
scenario chat on here {{ prefill = 192 tok  decode = 128 tok  batch = 8  engine = torch }}

dataset text = local("{parent}/text/calibration.jsonl") {{ take = 4  length = 128 tok  seed = 0 }}
score damage = swap_one(metric: kl(logits), on: text)

choose experts in layers {{
  keep
  retain 24 | 16 | 12 | 8 by moe.contribution(text)
}}
choose attention in layers {{
  keep
  window 64 tok when attention is full
  kv_heads 1 init mean
  noop
}}

require weights <= parent.weights
minimize damage
"""


class Row(Struct, frozen=True):
    """One child: seconds by phase, as predicted and as measured."""

    name: str
    weights: float
    predicted: tuple[float, float]
    measured: tuple[float, float]


def main() -> None:
    """Time, predict, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--children", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--library", type=Path, help="where measurements are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loop.surg"
        text = SPEC.format(parent=SPECS / "tinymoe", cores=options.cores)
        path.write_text(text, encoding="utf-8")
        library = options.library or Path(folder) / "library"
        run = Options(library, Path(folder) / "cache", progress=Progress())
        sink = Sink()
        found = benches.run(str(path), sink, run, options.rounds, ("here",))
        assert found is not None, [each.message for each in sink.found]
        print("\n".join(bench.text(found)), end="\n\n")
        spec, space = _spaces(str(path), run)
        with clock.cores(clock.here(), options.cores):
            rows = _loop(spec, space, run, options)
        _print(rows)


def _spaces(path: str, run: Options) -> tuple[Spec, Space]:
    sink = Sink()
    spec, space = pipeline.check(path, sink, run), pipeline.foresee(path, sink, run)
    assert spec is not None
    assert space is not None, [each.message for each in sink.found]
    ranked = rank.run(spec, space, Library(run.library), sink, run.progress)
    assert ranked is not None
    return spec, timing.run(spec, ranked, Library(run.library))


def _loop(spec: Spec, space: Space, run: Options, options: argparse.Namespace) -> list[Row]:
    lots = random.Random(options.seed)
    children = [
        tuple(lots.choice(option.candidates) for option in space.options)
        for _ in range(options.children)
    ]
    made = stack.load(space.model, clock.here(), options.children)
    chosen = [_kept(space), *children]
    wholes = [_modules(made, child) for child in chosen]
    (scenario,) = spec.scenarios
    given = rounds.prompts(made, bench.prompts(spec, space.model, scenario), scenario.prefill)
    place = keys.place(spec, space.model, timing.machine_of(spec, scenario), scenario)
    assert place is not None
    measured: list[list[float]] = [[] for _ in chosen]
    for phase in shapes.PHASES:
        times = rounds.run(made, rounds.Children([], wholes), given, phase, options.rounds)
        unit = place.get(Library(run.library), phase, keys.REFERENCE)
        assert unit is not None
        for each, whole in zip(measured, times.wholes, strict=True):
            each.append(unit.seconds * statistics.median(whole))
    all_of_it = float(space.model.weights)
    return [
        Row(
            _name(child, space),
            sum(c.weights for c in cost.chosen_costs(space, child)) / all_of_it,
            _predicted(spec, space, child),
            (here[0], here[1]),
        )
        for child, here in zip(chosen, measured, strict=True)
    ]


def _kept(space: Space) -> tuple[Candidate, ...]:
    """The parent as a choice."""
    kept = [option.keep for option in space.options]
    return tuple(each for each in kept if each is not None)


def _modules(made: Stack, child: Sequence[Candidate]) -> list[torch.nn.Module]:
    """Layers from the bits that would be emitted, the parent's where nothing changes."""
    parent = Parent(made.model, made.module, tensor_reader(made.model))
    layers = list(cast("Any", made.module.model.layers))
    for index in range(len(layers)):
        changed = tuple(c for c in child if c.layer == index and c.changed)
        if changed:
            layers[index] = make_layer(parent, changed)[1].eval()
    return layers


def _predicted(spec: Spec, space: Space, child: Sequence[Candidate]) -> tuple[float, float]:
    """What a plan would say: the sum of what its costs know."""
    (scenario,) = spec.scenarios
    assert scenario.batch is not None
    machine = timing.machine_of(spec, scenario)
    at = serving.setting(space.model, machine, scenario, scenario.batch)

    def step(costs: Sequence[Cost], phase: Phase) -> float:
        known = [serving.known(each, at, phase) for each in costs if each.params]
        assert all(each is not None and each.source == "measured" for each in known)
        return sum(each.seconds for each in known if each is not None)

    costs = cost.chosen_costs(space, child)
    return step(costs, "prefill"), step(costs, "decode")


def _name(child: Sequence[Candidate], space: Space) -> str:
    if not any(c.changed for c in child):
        return "the parent"
    experts = sum(getattr(c.block, "count", 0) for c in child)
    texts = [c.text for c in child]
    gone, heads = texts.count("noop"), sum("kv_heads" in text for text in texts)
    wide = sum(c.text == "full" for c in child)
    return f"{experts} experts, {wide} full, {heads} of one KV head, {gone} no attention"


def _print(rows: Sequence[Row]) -> None:
    print(f"{'times in ms':<58}{'weights':>8}{'prompt':>22}{'':>8}{'step':>16}")
    print(f"{'':<66}{'predicted  measured':>22}{'error':>8}{'predicted  measured':>22}{'error':>8}")
    off: list[tuple[float, float]] = []
    by_bytes: list[tuple[float, float]] = []
    parent = rows[0].measured
    for row in rows:
        errors = [p / m - 1 for p, m in zip(row.predicted, row.measured, strict=True)]
        cells = (
            f"{1e3 * p:>12.2f}{1e3 * m:>10.2f}{error:>+8.1%}"
            for p, m, error in zip(row.predicted, row.measured, errors, strict=True)
        )
        print(f"{row.name:<58}{row.weights:>8.0%}{''.join(cells)}")
        if row is not rows[0]:
            off.append((abs(errors[0]), abs(errors[1])))
            by_bytes.append(
                cast(
                    "tuple[float, float]",
                    tuple(abs(row.weights * parent[n] / row.measured[n] - 1) for n in (0, 1)),
                )
            )
    for title, each in (("sums of blocks", off), ("from bytes alone", by_bytes)):
        medians = [statistics.median(pair[n] for pair in each) for n in (0, 1)]
        worst = [max(pair[n] for pair in each) for n in (0, 1)]
        print(
            f"median error of {len(each)} children, {title:<18} prompt {medians[0]:.1%} "
            f"(worst {worst[0]:.1%}), step {medians[1]:.1%} (worst {worst[1]:.1%})"
        )


if __name__ == "__main__":
    main()
