"""W0711: numbers of experts that the GPUs of a machine cannot share evenly.

In: the spec, and the parent where it is known. Out: one finding per `choose experts` and machine
that serves a scenario, with a fix that requires even numbers of the result. Silent where that is
required already, and where the parent itself does not divide: then the engine copes.
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.expr import Arith, Compare, Expr, Fold, LayerFact, MachineFact, Number
from surgery.grammar import ast
from surgery.ir import Alternative, Choice, Experts, Machine, Model, Site, Spec
from surgery.rules.places import free
from surgery.rules.rule import Rule, Subject
from surgery.source import Span


def check(subject: Subject) -> Iterator[Diagnostic]:
    """One finding per choice of experts and machine."""
    spec = subject.spec
    if spec is None:
        return
    serving = {scenario.machine for scenario in subject.asked}
    promised = _promised(subject, spec)
    for machine in spec.machines:
        field, sharing = _sharing(machine)
        if machine.name not in serving or sharing < 2:
            continue
        if any(number % sharing == 0 for number in promised):
            continue
        if subject.model is not None and _uneven(subject.model, sharing):
            continue
        for choice in spec.choices:
            if choice.site is Site.EXPERTS and (odd := _odd(choice, sharing)):
                yield _finding(subject, machine, (field, sharing), odd)


def _sharing(machine: Machine) -> tuple[str, int]:
    """How many GPUs share every layer, and the field that says so."""
    if "expert_parallel" in dict(machine.fields):
        return "expert_parallel", 1  # They hold whole experts, and uneven numbers are an error.
    parallel = dict(machine.fields).get("tensor_parallel")
    if parallel is not None:
        return "tensor_parallel", int(parallel)
    return "gpus", machine.gpus


def _uneven(model: Model, sharing: int) -> bool:
    counts = {layer.mlp.count for layer in model.layers if isinstance(layer.mlp, Experts)}
    return any(count % sharing for count in counts)


def _odd(choice: Choice, sharing: int) -> list[Alternative]:
    return [
        each
        for each in sorted(choice.alternatives, key=lambda each: each.span.start)
        if each.edit in ("retain", "merge") and each.value is not None and each.value % sharing
    ]


def _promised(subject: Subject, spec: Spec) -> list[int]:
    """Numbers that divide the experts of every layer, because a requirement says so."""
    parts = (part for _, inside in subject.required for part in inside)
    folds = (part for part in parts if isinstance(part, Fold) and part.kind == "every")
    return [number for fold in folds if (number := _divisor(fold.body, spec)) > 0]


def _divisor(body: Expr | None, spec: Spec) -> int:
    """The number in `experts % number == 0`, or 0 where a condition says something else."""
    match body:
        case Compare(
            first=Arith(op="%", left=LayerFact(name="experts"), right=divisor),
            rest=(("==", Number(value=rest)),),
        ):
            return _number(divisor, spec) if rest == 0 else 0
        case _:
            return 0


def _number(divisor: Expr, spec: Spec) -> int:
    match divisor:
        case Number(value=value) if value.denominator == 1:
            return int(value)
        case MachineFact(machine=name, name=field):
            machine = next((each for each in spec.machines if each.name == name), None)
            if machine is None or field == "gpus":
                return machine.gpus if machine else 0
            return int(dict(machine.fields).get(field, 0))
        case _:
            return 0


# ---- words -----------------------------------------------------------------------------------


def _finding(
    subject: Subject, machine: Machine, sharing: tuple[str, int], odd: list[Alternative]
) -> Diagnostic:
    _, gpus = sharing
    counts = [str(int(each.value or 0)) for each in odd]
    listed = " and ".join(filter(None, (", ".join(counts[:-1]), counts[-1])))
    verb = "does" if len(odd) == 1 else "do"
    labels = [
        Label(each.span, _rest(int(each.value or 0), gpus), primary=number == 0)
        for number, each in enumerate(odd)
    ]
    labels.append(Label(machine.span, f"{gpus} GPUs share every layer here"))
    return Diagnostic(
        catalog.W0711,
        f"{listed} experts {verb} not divide evenly among {gpus} GPUs of `{machine.name}`",
        tuple(labels),
        helps=(_help(subject.tree, machine, sharing),),
    )


def _rest(count: int, gpus: int) -> str:
    return f"{count} = {count // gpus} * {gpus} + {count % gpus}"


def _help(tree: ast.Spec, machine: Machine, sharing: tuple[str, int]) -> Help:
    field, gpus = sharing
    here = {item.name.text for item in tree.items if isinstance(item, ast.Machine)}
    divisor = f"{machine.name}.{field}" if machine.name in here else str(gpus)
    requires = [item for item in tree.items if isinstance(item, ast.Require)]
    label = free("shards", {each.label.text for each in requires if each.label}, "-")
    text = f"require @{label} every(layers: experts % {divisor} == 0)"
    return Help("require even numbers of every layer", Fix((_placed(tree, text),), Safety.UNSAFE))


def _placed(tree: ast.Spec, statement: str) -> Edit:
    """After the last `require`, or else after the last statement, on a line of its own."""
    requires = [item for item in tree.items if isinstance(item, ast.Require)]
    last = max((requires or tree.items), key=lambda item: item.span.end)
    source = last.span.source
    end = source.text.find("\n", last.span.end)
    end = len(source.text) if end < 0 else end
    blank = "\n" if requires else "\n\n"
    return Edit(Span(source, end, end), f"{blank}{statement}")


RULE = Rule(catalog.W0711, check)
