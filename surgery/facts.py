"""What the names in a formula stand for: facts of models, machines and layers, and metrics.

In: a leaf of `expr.py` and a `Context`. Out: its exact value. Raises `Stop` where the user asks
for what is not there: the experts of a dense layer, the window of full attention, a width that
differs from layer to layer, a field that a machine does not declare (E0205), a metric that has no
cost model yet (E0011). A leaf that `check` should have ruled out is a `ValueError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from msgspec import Struct, field
from msgspec.structs import replace

from surgery import catalog, sizes
from surgery.costing import parallel, serving
from surgery.costing.serving import Setting
from surgery.diagnostics import Code, Diagnostic, Help, Label, Sink, Stop
from surgery.expr import Fact, Is, LayerFact, MachineFact, Metric, ScoreTotal
from surgery.ir import (
    Attention,
    Cost,
    Experts,
    Ffn,
    Layer,
    Linear,
    Machine,
    Model,
    Scenario,
    Spec,
)
from surgery.source import Span
from surgery.units import format_bytes


class Context(Struct, frozen=True):
    """What a formula is evaluated on.

    `layers` is what folds and selectors see: the parent's in `expect`, `when` and `choose ... in`,
    the result's in `require`. `layer` is the one at hand inside a predicate. `parent` and `result`
    hold the costs of the whole models, `scores` the totals of declared scores; what is `None` may
    not be asked for. With a `sink`, folds over no layer at all are reported (W0701).
    """

    layers: tuple[Layer, ...]
    model: Model | None = None
    machines: tuple[Machine, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    layer: Layer | None = None
    parent: tuple[Cost, ...] | None = None
    result: tuple[Cost, ...] | None = None
    scores: Mapping[str, Fraction] | None = None
    sink: Sink | None = None
    batches: Mapping[str, int] = field(default_factory=dict[str, int])
    """Sequences of scenarios with `batch = fit`, where somebody has fixed them."""
    served: Mapping[str, int] = field(default_factory=dict[str, int])
    """The batch of throughput, cost and lines, where that is to be another: bounds over several
    batches take what falls with the batch at the largest of them (`solving/optimism.py`)."""
    decided: frozenset[tuple[int, str, str, bool]] | None = None
    """What is decided at each site of the result: layer, site, text, whether that is an edit."""


def parent_context(spec: Spec, model: Model, sink: Sink | None = None) -> Context:
    """The context of everything that is about the unmodified model."""
    return Context(
        layers=model.layers,
        model=model,
        machines=spec.machines,
        scenarios=spec.scenarios,
        parent=sizes.parent_costs(model),
        sink=sink,
    )


def stop(code: Code, span: Span, message: str, here: str, help: str = "") -> Stop:
    """A `Stop` with one label and at most one help."""
    helps = (Help(help),) if help else ()
    return Stop(Diagnostic(code, message, (Label(span, here, primary=True),), helps=helps))


# ---- models ----------------------------------------------------------------------------------

_MODEL_FACTS: Mapping[str, Callable[[Model], int]] = {
    "params": lambda model: model.params,
    "weights": lambda model: model.weights,
    "layers": lambda model: len(model.layers),
    "hidden": lambda model: model.hidden,
    "vocab": lambda model: model.vocab,
    "context": lambda model: model.context,
    "heads": lambda model: model.heads,
    "kv_heads": lambda model: model.kv_heads,
    "head_dim": lambda model: model.head_dim,
}


def model_fact(fact: Fact, context: Context) -> Fraction:
    """A constant of the unmodified model: count, bytes or tokens."""
    model = context.model
    if model is None:
        raise ValueError(f"`{fact.name}` without a model")
    known = _MODEL_FACTS.get(fact.name)
    if known is not None:
        return Fraction(known(model))
    values = {
        value
        for layer in model.layers
        if (value := _mlp_fact(layer, fact.name)) is not None and layer.mlp is not None
    }
    if not values:
        message = f"the model `{model.name}` has no `{fact.name}`"
        raise stop(catalog.E0205, fact.span, message, "no layer has a mixture of experts")
    if len(values) > 1:
        message = f"`{fact.name}` differs between the layers of `{model.name}`"
        here = f"{min(values)} to {max(values)}"
        help = f"fold over the layers instead: `max(layers: {fact.name})`"
        raise stop(catalog.E0205, fact.span, message, here, help)
    return Fraction(values.pop())


def machine_fact(fact: MachineFact, context: Context) -> Fraction:
    """A field of a declared machine, in base units; `gpus` is how many devices it has."""
    machine = next((m for m in context.machines if m.name == fact.machine), None)
    if machine is None:
        raise ValueError(f"no machine {fact.machine!r}")
    if fact.name == "gpus":
        return Fraction(machine.gpus)
    fields = dict(machine.fields)
    if fact.name not in fields:
        message = f"the machine `{machine.name}` has no field `{fact.name}`"
        help = f"it has {', '.join(f'`{name}`' for name in sorted({*fields, 'gpus'}))}"
        raise stop(catalog.E0205, fact.span, message, "not declared", help)
    return fields[fact.name]


# ---- metrics ---------------------------------------------------------------------------------


def metric(wanted: Metric, context: Context) -> Fraction:
    """A cost of the result, or of the parent: parameters or bytes."""
    costs = context.parent if wanted.parent else context.result
    if costs is None:
        raise ValueError(f"`{wanted.name}` of a model that has no costs here")
    match wanted.name:
        case "params":
            return Fraction(sizes.params(costs))
        case "weights":
            return Fraction(sizes.weights(costs))
        case "kv":
            return _kv(wanted, costs)
        case "memory":
            return _memory(wanted, costs, context)
        case "throughput" | "requests":
            at = setting(wanted, costs, rates(context))
            return served(wanted, at) / serving.service(costs, at)
        case "resident":
            return _resident(wanted, costs, context)
        case _:
            return _timed(wanted, costs, context)


def _resident(wanted: Metric, costs: tuple[Cost, ...], context: Context) -> Fraction:
    """Bytes of weights and KV cache on one GPU, of all sequences that it serves."""
    scenario, machine = _scenario(wanted, context), _machine(wanted, context)
    sequences = Fraction(batch(wanted, costs, context), serving.copies(parallel.of(machine)))
    each = (serving.needs(cost, machine, scenario) for cost in costs)
    return sum((need.weights + sequences * need.sequence for need in each), Fraction(0))


def _timed(wanted: Metric, costs: tuple[Cost, ...], context: Context) -> Fraction:
    """A metric that is a sum of times: seconds, or what so much time of the machine takes."""
    falls = wanted.name in ("cost", "energy")
    at = setting(wanted, costs, rates(context) if falls else context)
    most = batch(wanted, costs, rates(context))
    match wanted.name:
        case "tpot":
            return serving.seconds(costs, at, "tpot")
        case "ttft":
            return serving.seconds(costs, at, "ttft") + serving.wait(costs, at, most)
        case "service":
            return serving.service(costs, at)
        case "latency":
            return serving.service(costs, at) + serving.wait(costs, at, most)
        case "cost":
            return _rated(wanted, costs, at, context, "price") / 3600 * 10**6
        case "energy":
            return _rated(wanted, costs, at, context, "power")
        case _:
            raise ValueError(f"no metric {wanted.name!r}")


def _rated(
    wanted: Metric, costs: tuple[Cost, ...], at: Setting, context: Context, field: str
) -> Fraction:
    """What all GPUs take in the time of one token, by what a field says one takes."""
    machine = _machine(wanted, context)
    rate = dict(machine.fields).get(field)
    if rate is None:
        raise _undeclared(wanted, machine, field)
    return serving.service(costs, at) / serving.tokens(at) * machine.gpus * rate


def served(wanted: Metric, at: Setting) -> Fraction:
    """What is served in the time of one request: tokens of all sequences, or requests."""
    return serving.tokens(at) if wanted.name == "throughput" else Fraction(at.stage.load.batch)


def rates(context: Context) -> Context:
    """The context as throughput and cost see it: at the batch that is served."""
    return replace(context, batches={**context.batches, **context.served})


def setting(wanted: Metric, costs: tuple[Cost, ...], context: Context) -> Setting:
    """Where and under which load a metric is asked for; `costs` are of the whole model.

    With `batch = fit` the batch is what somebody has fixed for children, or else the largest.
    """
    scenario, machine, model = _scenario(wanted, context), _machine(wanted, context), context.model
    if model is None:
        raise ValueError(f"`{wanted.name}` without a model")
    try:
        return serving.setting(model, machine, scenario, batch(wanted, costs, context))
    except serving.Missing as missing:
        raise _undeclared(wanted, machine, missing.field) from missing


def batch(wanted: Metric, costs: tuple[Cost, ...], context: Context) -> int:
    """How many sequences a scenario has; raises `Stop` (E0506) where not even one fits."""
    scenario, model = _scenario(wanted, context), context.model
    if scenario.batch is not None:
        return scenario.batch
    if not wanted.parent and scenario.name in context.batches:
        return context.batches[scenario.name]
    machine = _machine(wanted, context)
    if model is None:
        raise ValueError(f"`{wanted.name}` without a model")
    try:
        found = serving.largest(costs, model.layers, model, machine, scenario)
    except serving.Missing as missing:
        raise _undeclared(wanted, machine, missing.field) from missing
    if found == 0:
        raise _no_room(wanted, costs, model, context)
    return found


def require_batch(wanted: Metric, context: Context) -> None:
    """Raise `Stop` (E0011) where a child's batch depends on the choices and nobody has fixed it."""
    if wanted.scenario is None:
        return
    scenario = _scenario(wanted, context)
    if scenario.batch is None and scenario.name not in context.batches:
        message = f"`{wanted.name}({scenario.name})` is not known while `batch = fit`"
        help = f"give the scenario `{scenario.name}` a batch"
        raise stop(catalog.E0011, wanted.span, message, "the batch is not a number yet", help)


def _no_room(wanted: Metric, costs: tuple[Cost, ...], model: Model, context: Context) -> Stop:
    scenario, machine = _scenario(wanted, context), _machine(wanted, context)
    each = [serving.needs(cost, machine, scenario) for cost in costs]
    needed = sum((need.weights + need.sequence for need in each), Fraction(0))
    has = serving.room(model.layers, model, machine, scenario)
    whose = "the parent" if wanted.parent else "the child"
    message = f"{whose} does not fit on `{machine.name}`, not even with one sequence"
    missing = format_bytes(needed - has)
    labels = (
        Label(wanted.span, f"{format_bytes(needed)} on one GPU", primary=True),
        Label(machine.span, f"{missing} more than {scenario.engine} has there for them"),
    )
    helps = (Help("share it among more GPUs, or compare with a number"),)
    return Stop(Diagnostic(catalog.E0506, message, labels, helps=helps))


def _undeclared(wanted: Metric, machine: Machine, field: str) -> Stop:
    message = f"the machine `{machine.name}` does not declare its `{field}`"
    help = f"declare `{field}` where the machine is made, or import one of `surgery machines`"
    return stop(catalog.E0205, wanted.span, message, "needs it", help)


def _scenario(wanted: Metric, context: Context) -> Scenario:
    found = next((s for s in context.scenarios if s.name == wanted.scenario), None)
    if found is None:
        raise ValueError(f"no scenario {wanted.scenario!r}")
    # A child may be more talkative than the parent, which is not.
    return replace(found, verbosity=Fraction(1)) if wanted.parent else found


def _machine(wanted: Metric, context: Context) -> Machine:
    name = _scenario(wanted, context).machine
    found = next((machine for machine in context.machines if machine.name == name), None)
    if found is None:
        raise ValueError(f"no machine {name!r}")
    return found


def _kv(wanted: Metric, costs: tuple[Cost, ...]) -> Fraction:
    tokens = wanted.argument
    if tokens is None:
        raise ValueError("`kv` without a length")
    if tokens.denominator != 1 or tokens < 0:
        message = "`kv` needs a whole number of tokens"
        raise stop(catalog.E0303, wanted.span, message, f"{float(tokens)} tok")
    return Fraction(sizes.kv(costs, int(tokens)))


def _memory(wanted: Metric, costs: tuple[Cost, ...], context: Context) -> Fraction:
    return sizes.memory(costs, _scenario(wanted, context), batch(wanted, costs, context))


def score_total(wanted: ScoreTotal, context: Context) -> Fraction:
    """A declared score of the result: its sum over the chosen alternatives, in nats per token."""
    if context.scores is None or wanted.score not in context.scores:
        raise ValueError(f"the score {wanted.score!r} has no value here")
    return context.scores[wanted.score]


# ---- layers ----------------------------------------------------------------------------------


def _mlp_fact(layer: Layer, name: str) -> int | None:
    match layer.mlp, name:
        case ((None | Linear()), ("experts" | "active" | "width")):
            return 0
        case ((Ffn(width=value) | Experts(width=value)), "width"):
            return value
        case Experts(count=value), "experts":
            return value
        case Experts(active=value), "active":
            return value
        case Ffn(), ("experts" | "active"):
            return None
        case _:
            raise ValueError(f"no layer fact {name!r}")


def _attention_fact(attention: Attention | None, name: str) -> int | None:
    match attention, name:
        case None, _:
            return 0
        case Attention(heads=value), "heads":
            return value
        case Attention(kv_heads=value), "kv_heads":
            return value
        case Attention(window=value), "window":
            return value
        case _:
            raise ValueError(f"no layer fact {name!r}")


def layer_fact(fact: LayerFact, context: Context) -> Fraction:
    """A property of the layer at hand. A block that is gone, or linear, counts 0 of everything.

    Raises `Stop` (E0205) for the window of full attention and the experts of a dense layer.
    """
    layer = context.layer
    if layer is None:
        raise ValueError(f"`{fact.name}` outside a predicate")
    if fact.name == "index":
        return Fraction(layer.index)
    if fact.name in ("heads", "kv_heads", "window"):
        value = _attention_fact(layer.attends, fact.name)
        here, test = "its attention is full", "attention is window"
    else:
        value = _mlp_fact(layer, fact.name)
        here, test = "its FFN is dense", "experts is moe"
    if value is None:
        message = f"layer {layer.index} has no `{fact.name}`"
        help = f"test `{test}` before it, with `and`"
        raise stop(catalog.E0205, fact.span, message, here, help)
    return Fraction(value)


_TESTS: Mapping[tuple[str, str], Callable[[Layer], bool]] = {
    ("attention", "full"): lambda n: n.attends is not None and n.attends.window is None,
    ("attention", "window"): lambda n: n.attends is not None and n.attends.window is not None,
    ("attention", "noop"): lambda n: n.attention is None,
    ("attention", "linear"): lambda n: isinstance(n.attention, Linear),
    ("ffn", "dense"): lambda n: isinstance(n.mlp, Ffn),
    ("ffn", "noop"): lambda n: n.mlp is None,
    ("ffn", "linear"): lambda n: isinstance(n.mlp, Linear),
    ("experts", "moe"): lambda n: isinstance(n.mlp, Experts),
    ("kv_cache", "bf16"): lambda n: n.attends is not None and n.attends.kv_dtype == "bf16",
    ("kv_cache", "fp8"): lambda n: n.attends is not None and n.attends.kv_dtype == "fp8_e4m3",
}


def is_test(test: Is, context: Context) -> bool:
    """`attention is full` and its kind, on the layer at hand, with `is not` applied."""
    layer = context.layer
    if layer is None:
        raise ValueError(f"`{test.site} is {test.word}` outside a predicate")
    match test.site, test.word:
        case "layer", "first":
            found = layer.index == context.layers[0].index
        case "layer", "last":
            found = layer.index == context.layers[-1].index
        case pair:
            found = _TESTS[pair](layer)
    return found is not test.negated
