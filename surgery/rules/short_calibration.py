"""W0712 short-calibration: samples that end before what they are meant to judge begins.

Two cases. A window is offered, and the longest samples of any score are shorter than a scenario:
what a window forgets in between, nobody measures. Or the child is judged on samples that fit into
one of its windows. (A score that cannot see a window has a lint of its own, W0715.)
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import affine, catalog
from surgery.diagnostics import Diagnostic, Help, Label
from surgery.edits.attention import WINDOWS
from surgery.expr import ScoreTotal
from surgery.ir import Alternative, Dataset, Spec
from surgery.rules.rule import Rule, Subject
from surgery.units import format_tokens


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report what is too short, if a window is offered at all."""
    if subject.spec is None:
        return
    windows = [
        alternative
        for choice in subject.spec.choices
        for alternative in choice.alternatives
        if alternative.edit in WINDOWS and alternative.value is not None
    ]
    if windows:
        yield from _scenarios(subject.spec, windows[0])
        yield from _judges(subject.spec, windows)


def _scenarios(spec: Spec, window: Alternative) -> Iterator[Diagnostic]:
    used = {
        part.score
        for root in (spec.objective.expr, *(each.expr for each in spec.requirements))
        for part in affine.walk(root)
        if isinstance(part, ScoreTotal)
    }
    names = {score.dataset for score in spec.scores if score.name in used}
    longest = max((d for d in spec.datasets if d.name in names), key=_length, default=None)
    load = max(spec.scenarios, key=lambda each: each.longest, default=None)
    if longest is None or load is None or longest.length >= load.longest:
        return
    tokens = format_tokens(load.longest)
    labels = (
        Label(longest.span, f"samples of {format_tokens(longest.length)} tok", primary=True),
        Label(load.span, f"sequences of {tokens} tok"),
        Label(window.span, "what this forgets shows late in a sequence"),
    )
    yield Diagnostic(
        catalog.W0712,
        f"no score looks as far as the scenario `{load.name}`, which has {tokens} tok",
        labels,
        helps=(Help(f"add a score on samples of {tokens} tok, or lengthen these"),),
    )


def _judges(spec: Spec, windows: list[Alternative]) -> Iterator[Diagnostic]:
    datasets = {dataset.name: dataset for dataset in spec.datasets}
    for emit in spec.emits:
        dataset = datasets.get(emit.judge or "")
        unseen = [each for each in windows if dataset and (each.value or 0) >= dataset.length]
        if dataset is None or not unseen:
            continue
        window = max(unseen, key=lambda each: each.value or 0)
        tokens = format_tokens(window.value or 0)
        labels = (
            Label(dataset.span, f"samples of {format_tokens(dataset.length)} tok", primary=True),
            Label(window.span, "forgets nothing within these samples"),
            Label(emit.span, "the child is judged on them"),
        )
        yield Diagnostic(
            catalog.W0712,
            f"the judge `{dataset.name}` cannot see a window of {tokens} tok",
            labels,
            helps=(Help(f"judge on samples longer than {tokens} tok"),),
        )


def _length(dataset: Dataset) -> int:
    return dataset.length


RULE = Rule(catalog.W0712, check)
