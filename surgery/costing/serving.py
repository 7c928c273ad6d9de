"""Scenarios of a spec on its machines: times and batches of models that are given as costs.

In: `ir.Cost`s (which know their blocks), the model's dimensions, a machine, a scenario. Out: exact
fractions of seconds that add over costs, so that they can be rows of a linear program; the largest
batch that fits. Refuses with `Missing` a machine that does not declare what a roofline needs. Not
here: formulas (`facts.py`), rows (`solving/lower.py`).

What is left out of a batch that fits, because it does not add over layers: the padding of vLLM's
page groups (W0802 tells of it). Routers and norms count as divided among GPUs, which is less than a
thousandth of the weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from math import inf
from typing import Literal, TypeAlias

from msgspec import Struct

from surgery.costing import device, factors, memory, parallel, terms
from surgery.costing.factors import Factors
from surgery.costing.memory import Body, Profile
from surgery.costing.parallel import Parallel
from surgery.costing.terms import Load, Stage, Terms, Work
from surgery.ir import (
    TIME_SOURCES,
    Attention,
    Cost,
    Experts,
    Layer,
    Lengths,
    Linear,
    Machine,
    Model,
    Scenario,
    TimePhase,
    Timing,
)

Time: TypeAlias = Literal["tpot", "ttft"]
_TICK = 10**15
"""Times are whole femtoseconds: the same sum in any order."""

NEEDED = ("memory", "bandwidth", "compute")


class Missing(Exception):
    """A machine does not declare `field`, which times need."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


class Setting(Struct, frozen=True):
    """A scenario on its machine, for models of one width and vocabulary, with a fixed batch.

    Costs may know their own times under the scenario's name, and how often their experts are chosen
    on the dataset `routing`.
    """

    stage: Stage
    head: tuple[int, int]
    scenario: str = ""
    clients: int | None = None
    routing: str | None = None


def setting(model: Model, machine: Machine, scenario: Scenario, batch: int) -> Setting:
    """The setting of a scenario with so many sequences."""
    here, shared = _device(machine), parallel.of(machine)
    lengths = scenario.answered
    load = Load(
        lengths.prefill,
        lengths.decode,
        float(batch),
        model.hidden,
        scenario.engine,
        chunk=profile(scenario).step or max(prefill for prefill, *_ in lengths.requests),
        zipf=float(scenario.skew),
        lengths=lengths if scenario.trace else None,
    )
    # Reading the head costs the same whether it is tied or not; it is stored in 16 bits.
    params = model.hidden * model.vocab
    stage = Stage(load, here, shared)
    return Setting(stage, (params, 2 * params), scenario.name, scenario.clients, scenario.routing)


def profile(scenario: Scenario) -> Profile:
    """How the scenario's engine spends memory."""
    return memory.PROFILES[scenario.engine]


def _device(machine: Machine) -> device.Device:
    fields = dict(machine.fields)
    for field in NEEDED:
        if field not in fields:
            raise Missing(field)
    return device.of(machine)


# ---- times -----------------------------------------------------------------------------------


def seconds(costs: Iterable[Cost], at: Setting, time: Time) -> Fraction:
    """Time per token, or to the first one, of what costs are given; additive."""
    return sum((_one(cost, at, time) for cost in costs), Fraction(0))


@lru_cache(maxsize=65536)
def _one(cost: Cost, at: Setting, time: Time) -> Fraction:
    value = _factors(at.stage.load.engine).seconds(terms_of(cost, at, time))
    value += sum(timing.seconds * times for timing, times in timed(cost, at, time))
    return Fraction(round(value * _TICK), _TICK)


def known(cost: Cost, at: Setting, phase: TimePhase) -> Timing | None:
    """The most trusted time of a cost that needs no model."""
    found = (
        each
        for each in cost.times
        if each.phase == phase
        and each.scenario == at.scenario
        and each.batch == at.stage.load.batch
    )
    return min(found, key=lambda each: TIME_SOURCES.index(each.source), default=None)


def timed(cost: Cost, at: Setting, time: Time) -> tuple[tuple[Timing, float], ...]:
    """The times of a cost that are known, and how often they count.

    A token is a decoding step and its share of the prompts of others; the first token is a prompt
    and a step.
    """
    prompts = at.stage.prompts if time == "tpot" else 1.0
    step, prompt = known(cost, at, "decode"), _prompt(cost, at, time)
    return (*(((step, 1.0),) if step else ()), *(((prompt, prompts),) if prompt else ()))


def _prompt(cost: Cost, at: Setting, time: Time) -> Timing | None:
    """A prompt; beside others what it adds, if that is known, or else all of it."""
    beside = known(cost, at, "mixed") if time == "tpot" else None
    return beside or known(cost, at, "prefill")


@lru_cache(maxsize=8)
def _factors(engine: str) -> Factors:
    return factors.factors(engine)


def terms_of(cost: Cost, at: Setting, time: Time) -> Terms:
    """What one cost, a block or what lies outside of layers, contributes beside known times."""
    step, prompt = known(cost, at, "decode"), _prompt(cost, at, time)
    if cost.block is None:
        # A block that is not there weighs nothing; what lies outside of layers always does.
        return terms.head(*at.head, at.stage) if cost.params and not step else {}
    shares = dict(cost.routing).get(at.routing, ()) if at.routing else ()
    works, stage = (Work(cost.block, cost.params, cost.weights, shares),), at.stage
    reading = terms.mixed if time == "tpot" else terms.prefill
    parts: list[Terms] = [] if step else [terms.decode(works, stage)]
    return terms.total([*parts, *([] if prompt else [reading(works, stage)])])


def service(costs: Iterable[Cost], at: Setting) -> Fraction:
    """Seconds of one request once it is served: its first token and the others."""
    costs = tuple(costs)
    others = Fraction(at.stage.load.decode) - 1
    return seconds(costs, at, "ttft") + others * seconds(costs, at, "tpot")


def wait(costs: Iterable[Cost], at: Setting, batch: int) -> Fraction:
    """Seconds that a request waits for its turn where `batch` clients are served at once.

    Where so many clients ask again when answered that some wait, each spends as much time in line
    for one second of service as there are clients waiting for one that is served (Little's law).
    `batch` is that of `at`, but in bounds over several: service grows with it, lines get shorter.
    """
    if at.clients is None or at.clients <= batch:
        return Fraction(0)
    return service(costs, at) * Fraction(at.clients - batch, batch)


def tokens(at: Setting) -> Fraction:
    """Tokens out of all sequences in the time of one request."""
    return Fraction(at.stage.load.batch) * Fraction(at.stage.load.decode)


def split(costs: Iterable[Cost], at: Setting, time: Time) -> dict[str, float]:
    """Seconds by term."""
    made = terms.total(terms_of(cost, at, time) for cost in costs)
    return _factors(at.stage.load.engine).split(made)


def band(costs: Iterable[Cost], at: Setting, machine: Machine) -> tuple[float, tuple[str, ...]]:
    """The relative error that 9 in 10 predictions stay below, and kernels nobody measured."""
    fitted = factors.fitted()
    engine = at.stage.load.engine
    if engine == "ideal":
        return 0.0, ()
    if f"layer.{engine}" not in fitted.factors:
        return inf, (engine,)
    made = terms.total(terms_of(cost, at, "tpot") for cost in costs)
    strange = factors.unmeasured(made, fitted.factors)
    if strange:
        return fitted.bands.kernel, strange
    seen = any(name.rpartition(".")[2] == machine.device for name in fitted.machines)
    return (fitted.bands.measured if seen else fitted.bands.machine), ()


# ---- batches ---------------------------------------------------------------------------------


class Needs(Struct, frozen=True):
    """Bytes on one GPU: of weights, of the KV cache of one sequence; additive."""

    weights: Fraction
    sequence: Fraction


def needs(cost: Cost, machine: Machine, scenario: Scenario) -> Needs:
    """What a block, or what lies outside of layers, takes on one GPU."""
    shared = parallel.of(machine)
    block, stages = cost.block, shared.pipeline
    if isinstance(block, Experts):
        held = Fraction(cost.weights, shared.expert * shared.sharing_expert * stages)
    elif isinstance(block, Attention):
        # Projections of K and V are copied where KV heads are fewer than GPUs.
        copies = max(Fraction(1), Fraction(shared.tensor, block.kv_heads))
        rows = 2 * block.heads + 2 * block.kv_heads
        part = Fraction(2 * block.heads, rows) + Fraction(2 * block.kv_heads, rows) * copies
        held = cost.weights * part / shared.tensor / stages
    elif isinstance(block, Linear):
        held = Fraction(cost.weights, stages)
    else:
        outside = block is None
        held = Fraction(cost.weights, shared.tensor * (1 if outside else stages))
    if not isinstance(block, Attention):
        return Needs(held, Fraction(0))
    return Needs(held, _cached(block, scenario.answered, shared, profile(scenario)))


@lru_cache(maxsize=4096)
def _cached(block: Attention, lengths: Lengths, shared: Parallel, rule: Profile) -> Fraction:
    """Bytes of the KV cache of one sequence in a layer, over lengths on average."""
    made = [Layer(0, block, None)]
    found = Fraction(0)
    for tokens, part in lengths.resident:
        found += part * Fraction(memory.kv_per_sequence(made, tokens, shared, rule))
    return found


def room(layers: Iterable[Layer], model: Model, machine: Machine, scenario: Scenario) -> Fraction:
    """Bytes of one GPU that weights and KV cache may take."""
    layers, rule, shared = tuple(layers), profile(scenario), parallel.of(machine)
    body = Body(model.hidden, model.vocab)
    work = memory.workspace(layers, body, shared, rule) if rule.step else 0
    return Fraction(_device(machine).memory) * Fraction(rule.utilization) - work


def largest(
    costs: Iterable[Cost],
    layers: Iterable[Layer],
    model: Model,
    machine: Machine,
    scenario: Scenario,
) -> int:
    """The largest batch of the whole machine that fits, 0 if not even one sequence does."""
    each = [needs(cost, machine, scenario) for cost in costs]
    weights = sum((need.weights for need in each), Fraction(0))
    sequence = sum((need.sequence for need in each), Fraction(0))
    space = room(layers, model, machine, scenario)
    found = sequences(weights, sequence, space, scenario) * copies(parallel.of(machine))
    return found if scenario.clients is None else min(found, scenario.clients)


def sequences(weights: Fraction, sequence: Fraction, room: Fraction, scenario: Scenario) -> int:
    """How many sequences of one copy of a model fit in `room` bytes beside its weights."""
    most, left = profile(scenario).sequences, room - weights
    if left < sequence or left <= 0:
        return 0
    found = int(left // sequence) if sequence else most or 1
    return found if most is None else min(found, most)


def copies(shared: Parallel) -> int:
    """Copies of the model, each with a cache of its own."""
    return shared.data
