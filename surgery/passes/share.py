"""Spec x Space: can the GPUs of every machine share the experts of every layer?

In: a checked spec and its space. Out: findings (E0417) about numbers of experts that a machine
cannot give out evenly, if it serves a scenario and says `expert_parallel`. An engine that does so
gives every GPU the same number of whole experts of a layer, and loses or refuses what is left over,
so what does not divide is no alternative there. Not here: every expert on several GPUs
(`tensor_parallel`), where uneven numbers are a matter of speed (W0711).
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Fix, Help, Label, Safety
from surgery.edits.rewriting import dropped, replaced
from surgery.ir import Alternative, Candidate, Experts, Machine, Site, Space, Spec
from surgery.units import format_layers


def run(spec: Spec, space: Space) -> tuple[Diagnostic, ...]:
    """E0417, one per machine and number of experts: an alternative's, or the parent's own."""
    serving = {scenario.machine for scenario in spec.scenarios}
    machines = [machine for machine in spec.machines if machine.name in serving]
    return tuple(found for machine in machines for found in _of_machine(spec, space, machine))


def _of_machine(spec: Spec, space: Space, machine: Machine) -> Iterator[Diagnostic]:
    gpus = int(dict(machine.fields).get("expert_parallel", 1))
    odd: dict[tuple[int, Alternative | None], list[int]] = {}
    for option in space.options:
        for candidate in option.candidates if option.site is Site.EXPERTS else ():
            count = _experts(candidate)
            if count % gpus:
                layers = odd.setdefault((count, _chosen(candidate)), [])
                layers += [] if option.layer in layers else [option.layer]
    legal = _legal(space, gpus)
    for (count, alternative), layers in odd.items():
        yield _finding(spec, machine, gpus, (count, layers), alternative, legal)


def _experts(candidate: Candidate) -> int:
    return candidate.block.count if isinstance(candidate.block, Experts) else 0


def _chosen(candidate: Candidate) -> Alternative | None:
    """The alternative that says the number; `None` where it is the parent's."""
    return candidate.alternative if candidate.edit == "retain" else None


def _legal(space: Space, gpus: int) -> tuple[int, ...]:
    """The numbers that `retain` can leave in every layer and the GPUs share, descending."""
    blocks = [n.mlp for n in space.model.layers if isinstance(n.mlp, Experts)]
    most = min((block.count for block in blocks), default=0)
    least = max((block.active for block in blocks), default=1)
    return tuple(n for n in range(most - 1, least - 1, -1) if n % gpus == 0)


def _finding(
    spec: Spec,
    machine: Machine,
    gpus: int,
    odd: tuple[int, list[int]],
    alternative: Alternative | None,
    legal: tuple[int, ...],
) -> Diagnostic:
    count, layers = odd
    whole = f"{count} = {count // gpus} * {gpus} + {count % gpus}"
    shared = f"{gpus} GPUs share the experts of a layer here"
    subject = f"{count} experts"
    if alternative is None:
        word = "layer" if len(layers) == 1 else "layers"
        labels = (
            Label(machine.span, shared, primary=True),
            Label(spec.model.span, f"{whole} in {word} {format_layers(layers)}"),
        )
        subject += " of the parent"
        ways = _listed(_divisors(count, machine.gpus))
        help = Help(f"set `expert_parallel` to {ways}, or leave no layer with {count} experts")
    else:
        labels = (Label(alternative.span, whole, primary=True), Label(machine.span, shared))
        help = _way_out(spec, alternative, count, legal)
    message = f"{subject} cannot be shared by {gpus} GPUs of `{machine.name}`, each whole ones"
    return Diagnostic(catalog.E0417, message, labels, helps=(help,))


def _way_out(spec: Spec, chosen: Alternative, count: int, legal: tuple[int, ...]) -> Help:
    """The nearest number that is not offered yet, or no such alternative."""
    choice = next(c for c in spec.choices if any(each is chosen for each in c.alternatives))
    offered = {each.value for each in choice.alternatives}
    near = sorted(legal, key=lambda n: (abs(n - count), -n))[:3]
    free = [n for n in near if n not in offered]
    edit = replaced(chosen, free[0]) if free else dropped(chosen, choice.alternatives)
    text = f"keep {_listed(sorted(near))} experts" if near else "share them among fewer GPUs"
    return Help(text, Fix((edit,), Safety.DISPLAY))


def _divisors(count: int, gpus: int) -> list[int]:
    """The numbers of GPUs of a machine that can share `count` experts."""
    return [n for n in range(1, gpus + 1) if count % n == 0 and gpus % n == 0]


def _listed(numbers: list[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last
