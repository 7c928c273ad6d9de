"""Spec x Space: can the machines that serve share the layers of the model as they say?

In: a checked spec and its space. Out: findings (E0418) for layers of the parent, and for
alternatives, that a machine's parallelism does not divide: query heads by the GPUs that share a
layer; KV heads likewise, or copied where they are fewer, so that either number divides the other;
and more stages than layers. Only machines count that serve a scenario and say how they share a
model. Widths need not divide: engines pad them. Not here: experts that are dealt out whole (E0417),
unequal shares of experts that are shared by width (W0711), fields of a machine that contradict each
other (`costing/parallel.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.costing import parallel
from surgery.costing.parallel import Parallel
from surgery.diagnostics import Diagnostic, Help, Label
from surgery.ir import Attention, Block, Candidate, Machine, Space, Spec


def findings(spec: Spec, space: Space) -> Iterator[Diagnostic]:
    """What the machines that serve cannot share; one finding per machine and cause."""
    serving = {scenario.machine for scenario in spec.scenarios}
    for machine in spec.machines:
        # Where nothing is said, nobody has claimed that the GPUs share layers.
        if machine.name in serving and parallel.said(machine).keys() - {"expert_parallel"}:
            yield from _of_machine(space, machine)


def _of_machine(space: Space, machine: Machine) -> Iterator[Diagnostic]:
    shared, layers = parallel.of(machine), len(space.model.layers)
    if shared.pipeline > layers:
        yield _parent(machine, f"{shared.pipeline} stages cannot share {layers} layers", "")
    told: set[tuple[object, str]] = set()
    for candidate in space.candidates:
        problem = trouble(candidate.block, shared)
        alternative = candidate.alternative
        # The parent's own block may be on offer beside alternatives that have its heads.
        key = (alternative.span if alternative else None, problem)
        if problem and key not in told:
            told.add(key)
            yield _finding(machine, candidate, problem)


def trouble(block: Block | None, shared: Parallel) -> str:
    """Why a block cannot be shared so; nothing where it can."""
    match block:
        case Attention(heads=heads) if heads % shared.tensor:
            return f"{shared.tensor} GPUs cannot share {heads} query heads evenly"
        case Attention(kv_heads=heads) if heads % shared.tensor and shared.tensor % heads:
            return f"{shared.tensor} GPUs cannot share or copy {heads} KV heads evenly"
        case _:
            return ""


def _finding(machine: Machine, candidate: Candidate, problem: str) -> Diagnostic:
    if candidate.alternative is None:
        return _parent(machine, problem, f"layer {candidate.layer} of the model")
    label = Label(candidate.alternative.span, "cannot be served so", primary=True)
    also = Label(machine.span, _fields(machine))
    helps = (Help(f"offer a number that suits `tensor_parallel` of `{machine.name}`"),)
    message = f"{problem} on `{machine.name}`"
    return Diagnostic(catalog.E0418, message, (label, also), helps=helps)


def _parent(machine: Machine, problem: str, whose: str) -> Diagnostic:
    label = Label(machine.span, whose or _fields(machine), primary=True)
    helps = (Help("share the model among another number of GPUs"),)
    return Diagnostic(catalog.E0418, f"{problem} on `{machine.name}`", (label,), helps=helps)


def _fields(machine: Machine) -> str:
    shared = parallel.of(machine)
    parts = (("tensor", shared.tensor), ("pipeline", shared.pipeline), ("data", shared.data))
    said = ", ".join(f"{name} {number}" for name, number in parts if number > 1)
    return f"parallelism: {said}" if said else "one GPU has all of it"
