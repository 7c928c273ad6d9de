"""What a plan's times and bytes are made of: terms, factors, and which of them binds.

In: a plan, its spec and space. Out: `Breakdown`s, one per scenario of which a time is asked, as
text and as JSON: for a time per token and for the time to the first, every term at the limits of
the machine (`costing/terms.py`), the fitted factor, seconds, and the part of the whole; bytes of
weights and KV cache on one GPU, and what the engine has for them. For the whole model or one layer.
Refuses (E0801) a plan of another space.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import ceil

from msgspec import Struct
from msgspec.structs import asdict

from surgery.costing import factors, parallel, serving, trust
from surgery.costing.terms import total
from surgery.ir import Candidate, Cost, Plan, Scenario, Space, Spec
from surgery.passes import estimates, routing
from surgery.units import TIME, format_bytes, format_quantity, format_tokens


class Line(Struct, frozen=True):
    """One term: seconds at the limits, the factor, seconds, the part of the sum.

    Times that need no model are one term for each source and phase, as they are.
    """

    term: str
    limit: float
    factor: float
    seconds: float
    part: float


class Breakdown(Struct, frozen=True):
    """One scenario; `layer` is `None` for the whole model. Bytes are of one GPU.

    `wait` are seconds before a request is served, which `ttft` does not have: of the whole model.
    """

    scenario: str
    load: str
    layer: int | None
    tpot: tuple[Line, ...]
    ttft: tuple[Line, ...]
    weights: int
    kv: int
    room: int
    trust: str
    wait: float = 0.0


def run(plan: Plan, spec: Spec, space: Space, layer: int | None) -> tuple[Breakdown, ...]:
    """Every scenario of which a time is asked; raises `Stop` (E0801)."""
    from surgery import plan as plans

    chosen = routing.settled(space, plans.chosen(plan, space))
    return tuple(_of(plan, spec, space, chosen, s, layer) for s in estimates.timed(spec))


def _of(
    plan: Plan,
    spec: Spec,
    space: Space,
    chosen: tuple[Candidate, ...],
    scenario: Scenario,
    layer: int | None,
) -> Breakdown:
    machine = next(m for m in spec.machines if m.name == scenario.machine)
    whole = (space.fixed, *(c.cost for c in chosen))
    costs = whole if layer is None else tuple(c.cost for c in chosen if c.layer == layer)
    stated = dict(plan.metrics).get(f"batch@{scenario.name}", str(scenario.batch or 1))
    at = serving.setting(space.model, machine, scenario, int(stated))
    needs = [serving.needs(cost, machine, scenario) for cost in costs]
    sequences = int(stated) / serving.copies(parallel.of(machine))
    return Breakdown(
        scenario.name,
        f"{stated} sequences of {_lengths(scenario)}, {scenario.engine} on `{machine.name}`",
        layer,
        _lines(costs, at, "tpot"),
        _lines(costs, at, "ttft"),
        round(sum(need.weights for need in needs)),
        round(sequences * sum(need.sequence for need in needs)),
        round(serving.room(space.model.layers, space.model, machine, scenario)),
        trust.of(whole, at, machine, "latency").long,
        float(serving.wait(whole, at, int(stated))),
    )


def _lengths(scenario: Scenario) -> str:
    lengths = scenario.answered
    if scenario.trace is None:
        return f"{format_tokens(scenario.prefill)} + {format_tokens(ceil(lengths.decode))} tok"
    means = f"{lengths.prefill:.0f} + {lengths.decode:.0f} tok on average"
    return f"{means} ({lengths.count} requests of `{scenario.trace.name}`)"


def _lines(costs: tuple[Cost, ...], at: serving.Setting, time: serving.Time) -> tuple[Line, ...]:
    limits = total(serving.terms_of(cost, at, time) for cost in costs)
    made = factors.factors(at.stage.load.engine)
    seconds = made.split(limits)
    known: dict[str, float] = {}
    for cost in costs:
        for timing, times in serving.timed(cost, at, time):
            name = f"{timing.source} {timing.phase}"
            known[name] = known.get(name, 0.0) + times * timing.seconds
    whole = sum(seconds.values()) + sum(known.values()) or 1.0
    lines = [
        Line(name, limits[name], made.of(name), value, value / whole)
        for name, value in seconds.items()
    ]
    lines += [Line(name, value, 1.0, value, value / whole) for name, value in known.items()]
    return tuple(sorted(lines, key=lambda line: (-line.seconds, line.term)))


# ---- views -----------------------------------------------------------------------------------


def text(found: tuple[Breakdown, ...]) -> str:
    """For a terminal; the first term of a time is the one that binds."""
    if not found:
        return "  no time is asked of any scenario"
    return "\n\n".join("\n".join(_text(each)) for each in found)


def _text(each: Breakdown) -> Iterator[str]:
    where = "" if each.layer is None else f", layer {each.layer}"
    yield f"{each.scenario}{where}: {each.load} ({each.trust})"
    for name, lines in (("tpot", each.tpot), ("ttft", each.ttft)):
        yield f"  {name:<28}{'at the limit':>14}{'factor':>10}{'time':>12}{'part':>8}"
        for line in lines:
            if line.seconds > 0:
                yield (
                    f"    {line.term:<26}{_time(line.limit):>14}{line.factor:>10.2f}"
                    f"{_time(line.seconds):>12}{line.part:>8.1%}"
                )
        yield f"    {'sum':<26}{'':>14}{'':>10}{_time(sum(n.seconds for n in lines)):>12}"
    if each.wait:
        yield f"  before it: {_time(each.wait)} until a request has its turn"
    yield (
        f"  one GPU: weights {format_bytes(each.weights)}, KV cache {format_bytes(each.kv)}, "
        f"room for both {format_bytes(each.room)}"
    )


def _time(seconds: float) -> str:
    if seconds < 1e-4:
        return f"{1e6 * seconds:.2f} us"
    return format_quantity(seconds, TIME)


def to_json(found: tuple[Breakdown, ...]) -> str:
    """Seconds and bytes."""
    rows = [
        {
            **asdict(each),
            "tpot": [asdict(line) for line in each.tpot],
            "ttft": [asdict(line) for line in each.ttft],
        }
        for each in found
    ]
    return json.dumps({"costs": rows}, indent=2)
