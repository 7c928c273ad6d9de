"""Space -> the space with the times that need no model: measured, of tables, of operations.

In: a spec, its space, a library. Out: the space, every cost of it with the times that are known for
the scenarios of the spec, and the costs of the unmodified model with theirs. Measures nothing and
loads no torch. Not here: reading tables (`tables.py`), measuring (`bench.py`), what operations add
up to (`costing/aiconfigurator.py`), which of several times counts (`costing/serving.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from msgspec.structs import replace

from surgery import sizes
from surgery.benching import keys
from surgery.benching.keys import Place
from surgery.costing import aiconfigurator, serving
from surgery.costing.terms import Work
from surgery.ir import Cost, Machine, Scenario, Space, Spec, TimePhase, Timing
from surgery.library import Library

FIXED = "fixed"
"""The address of what no choice changes."""

PHASES: tuple[TimePhase, ...] = ("prefill", "decode", "mixed")

Finder = Callable[[Cost], tuple[Timing, ...]]


def run(spec: Spec, space: Space, library: Library) -> Space:
    """The space with measured times. Raises `Stop` for text that cannot be read."""
    found = [
        each for scenario in spec.scenarios for each in _measured(spec, space, scenario, library)
    ]
    known: dict[str, list[Timing]] = {}
    for block, timing in found:
        known.setdefault(block, []).append(timing)
    if not known:
        return space

    def of(cost: Cost) -> tuple[Timing, ...]:
        return tuple(known.get(_name(cost), ()))

    return added(space, of)


def added(space: Space, find: Finder) -> Space:
    """The space with more times for every cost, those of the parent too."""

    def more(cost: Cost) -> Cost:
        times = find(cost)
        return replace(cost, times=(*cost.times, *times)) if times else cost

    options = tuple(
        replace(o, candidates=tuple(replace(c, cost=more(c.cost)) for c in o.candidates))
        for o in space.options
    )
    parent = tuple(more(cost) for cost in parent_of(space))
    return replace(space, options=options, fixed=more(space.fixed), parent=parent)


def looked_up(spec: Spec, space: Space) -> tuple[Space, tuple[tuple[str, str], ...]]:
    """The space with times of operations that NVIDIA measured, and (name, SHA-256) of the tables.

    Nothing where the package has nothing, nothing of traces, and nothing of `batch = fit`: bounds
    over batches (`batches.py`) take times that grow with the batch, which points of different
    sources do not.
    """
    found: dict[str, list[Timing]] = {}
    digests: dict[str, str] = {}
    for scenario in spec.scenarios:
        machine = machine_of(spec, scenario)
        known = aiconfigurator.tables(machine.device, scenario.engine)
        declared = {*serving.NEEDED} <= {*dict(machine.fields)}
        if known is None or scenario.batch is None or not keys.steady(scenario) or not declared:
            continue
        at = serving.setting(space.model, machine, scenario, scenario.batch)
        for cost in _distinct(space):
            found.setdefault(repr(cost), []).extend(_operations(cost, at, scenario.batch, known))
        digests[f"{aiconfigurator.PACKAGE}-{known.system}-{known.engine}"] = known.digest
    if not any(found.values()):
        return space, ()
    return added(space, lambda cost: tuple(found.get(repr(bare(cost)), ()))), tuple(
        sorted(digests.items())
    )


def bare(cost: Cost) -> Cost:
    """A cost without its times."""
    return replace(cost, times=()) if cost.times else cost


def _distinct(space: Space) -> tuple[Cost, ...]:
    costs = (*parent_of(space), *(c.cost for c in space.candidates))
    return tuple(dict.fromkeys(bare(cost) for cost in costs if cost.block is not None))


def _operations(
    cost: Cost, at: serving.Setting, batch: int, known: aiconfigurator.Tables
) -> Iterator[Timing]:
    work = Work(cost.block, cost.params, cost.weights)
    for phase in PHASES:
        value = aiconfigurator.seconds(work, at.stage, phase, known)
        if value is not None:
            band = aiconfigurator.BAND
            yield Timing(at.scenario, batch, phase, value, "aiconfigurator", band)


def imported(space: Space, times: Mapping[str, tuple[Timing, ...]]) -> Space:
    """The space with times by address; those of the parent's own blocks are the parent's too."""
    if not times:
        return space

    def more(cost: Cost, address: str) -> Cost:
        return replace(cost, times=(*cost.times, *times.get(address, ())))

    options = tuple(
        replace(o, candidates=tuple(replace(c, cost=more(c.cost, c.address)) for c in o.candidates))
        for o in space.options
    )
    own = {(o.layer, o.site): o.keep.address for o in space.options if o.keep}
    sites = ((layer.index, site) for layer in space.model.layers for site in layer.sites)
    places = [FIXED, *(own.get(place, "") for place in sites)]
    parent = (more(cost, place) for cost, place in zip(parent_of(space), places, strict=True))
    fixed = more(space.fixed, FIXED)
    return replace(space, options=options, fixed=fixed, parent=tuple(parent))


def parent_of(space: Space) -> tuple[Cost, ...]:
    """The costs of the unmodified model, with the times that are known of them."""
    return space.parent or sizes.parent_costs(space.model)


# ---- the library -----------------------------------------------------------------------------


def _name(cost: Cost) -> str:
    """What costs that take as long have in common; "" of a block that is not there."""
    if cost.block is None:
        return keys.FIXED if cost.params else ""
    return repr(keys.same(cost.block))


def _measured(
    spec: Spec, space: Space, scenario: Scenario, library: Library
) -> Iterator[tuple[str, Timing]]:
    machine = machine_of(spec, scenario)
    place = keys.place(spec, space.model, machine, scenario)
    if place is None:
        return
    costs = {_name(c): c for c in (*parent_of(space), *(c.cost for c in space.candidates))}
    off = {phase: _off(place, phase, library) for phase in ("prefill", "decode")}
    for name, cost in costs.items():
        for phase, error in off.items():
            seconds = place.get(library, phase, cost.block or keys.FIXED) if name else None
            if seconds is not None and scenario.batch is not None:
                yield (
                    name,
                    Timing(
                        scenario.name,
                        scenario.batch,
                        "prefill" if phase == "prefill" else "decode",
                        seconds.seconds,
                        "measured",
                        max(seconds.spread, error),
                    ),
                )


def _off(place: Place, phase: str, library: Library) -> float:
    found = place.get(library, phase, keys.WHOLE)
    return found.spread if found else 0.0


def machine_of(spec: Spec, scenario: Scenario) -> Machine:
    """The machine that a scenario is on."""
    return next(machine for machine in spec.machines if machine.name == scenario.machine)
