"""Spec x Model: do all lengths fit into the model's context, and all scenarios on their machine?

In: a checked spec, the parent, later its space. Out: findings (E0416) for samples, scenarios and
KV sizes that are longer than what the parent was made for: beyond it, positions mean nothing, and
neither would the numbers; for plans that distances are taken from, whose layers are not those of
the parent (E0424) or whose parent was another (W0720); and (E0506) for scenarios that no child has
room for. Windows have their own rule (E0408 in `edits/attention.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from surgery import affine, catalog, sizes
from surgery.diagnostics import Diagnostic, Help, Label, Sink
from surgery.expr import Distance, Expr, Metric
from surgery.ir import Cost, Machine, Model, Scenario, Space, Spec
from surgery.source import Span
from surgery.units import format_bytes, format_tokens


def run(spec: Spec, model: Model, sink: Sink) -> None:
    """Report every length beyond the context, and every plan of something else."""
    for part in _parts(spec):
        if isinstance(part, Distance):
            sink.extend(_foreign(part, model))
    for what, tokens, span in (*_lengths(spec), *_kv(spec)):
        if tokens > model.context:
            has = format_tokens(model.context)
            message = f"{what} of {format_tokens(tokens)} tok is longer than the model's context"
            label = Label(span, f"`{model.name}` sees {has} tok at most", primary=True)
            helps = (Help(f"use at most {has} tok"),)
            sink.report(Diagnostic(catalog.E0416, message, labels=(label,), helps=helps))


def _lengths(spec: Spec) -> Iterator[tuple[str, int, Span]]:
    for dataset in spec.datasets:
        yield f"a sample of `{dataset.name}`", dataset.length, dataset.span
    for scenario in spec.scenarios:
        tokens = scenario.longest
        yield f"a sequence of `{scenario.name}`", tokens, scenario.span


def _kv(spec: Spec) -> Iterator[tuple[str, int, Span]]:
    for part in _metrics(spec):
        if part.argument is not None:
            yield "a KV cache", int(part.argument), part.span


def _metrics(spec: Spec) -> Iterator[Metric]:
    return (part for part in _parts(spec) if isinstance(part, Metric))


def _parts(spec: Spec) -> Iterator[Expr]:
    formulas: list[Expr] = [each.expr for each in (*spec.expects, *spec.requirements)]
    for formula in (*formulas, spec.objective.expr):
        yield from affine.walk(formula)


def _foreign(distance: Distance, model: Model) -> Iterator[Diagnostic]:
    """E0424 for a plan of other sites, W0720 for one of other weights."""
    sites = {(layer.index, site.value) for layer in model.layers for site in layer.sites}
    decided = {(layer, site) for layer, site, *_ in distance.decided}
    label = Label(distance.span, f"`{model.name}` has {len(model.layers)} layers", primary=True)
    if decided != sites:
        layers = len({layer for layer, _ in decided})
        what = f"has {layers} layers" if layers != len(model.layers) else "decides on other blocks"
        message = f"`{distance.plan}` is no plan of this model: it {what}"
        helps = (Help("name a plan that was made of a model of this shape"),)
        yield Diagnostic(catalog.E0424, message, (label,), helps=helps)
    elif not model.digest.startswith(distance.parent):
        message = f"`{distance.plan}` was made of other weights than those of `{model.name}`"
        here = Label(distance.span, "compares what is decided, layer by layer", primary=True)
        notes = (f"its parent is {distance.parent[:8]}, this one {model.digest[:8]}",)
        yield Diagnostic(catalog.W0720, message, (here,), notes=notes)


# ---- machines --------------------------------------------------------------------------------


def machines(spec: Spec, space: Space) -> tuple[Diagnostic, ...]:
    """E0506 for scenarios that the spec asks about and that no child can serve.

    Counted are the weights and the KV cache of the batch (of one sequence for `batch = fit`) of
    the smallest child, against the memory of all GPUs: nothing that could be argued away.
    """
    asked = {part.scenario for part in _metrics(spec) if not part.parent}
    by_name = {machine.name: machine for machine in spec.machines}
    found: list[Diagnostic] = []
    for scenario in spec.scenarios:
        machine = by_name.get(scenario.machine)
        memory = dict(machine.fields).get("memory") if machine else None
        if machine is None or memory is None or scenario.name not in asked:
            continue
        needed = _least(space, scenario)
        if needed > machine.gpus * memory:
            found.append(_too_small(scenario, machine, needed))
    return tuple(found)


def _least(space: Space, scenario: Scenario) -> Fraction:
    batch = scenario.batch or 1

    def bytes_of(*costs: Cost) -> Fraction:
        return sizes.memory(costs, scenario, batch)

    blocks = (min(bytes_of(c.cost) for c in o.candidates) for o in space.options if o.candidates)
    return bytes_of(space.fixed) + sum(blocks)


def _too_small(scenario: Scenario, machine: Machine, needed: Fraction) -> Diagnostic:
    batch = scenario.batch or 1
    sequences = "one sequence" if batch == 1 else f"{batch} sequences"
    memory = dict(machine.fields)["memory"]
    gpus = "one GPU has" if machine.gpus == 1 else f"{machine.gpus} GPUs have"
    has = f"{gpus} {format_bytes(machine.gpus * memory)}"
    labels = (
        Label(scenario.span, f"takes {format_bytes(needed)} with {sequences}", primary=True),
        Label(machine.span, has),
    )
    message = f"`{scenario.name}` does not fit on `{machine.name}`, whatever is chosen"
    helps = (Help("give it more GPUs, fewer or shorter sequences, or offer smaller alternatives"),)
    return Diagnostic(catalog.E0506, message, labels, helps=helps)
