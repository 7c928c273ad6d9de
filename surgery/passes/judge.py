"""The chosen child -> what it has really lost.

In: a planned child, all in memory, before anything is written. Out: `Judgement`: the measured KL
on the text of each score (the plan states the additive prediction), and on the `judge` dataset of
`emit checkpoint` (text that neither scores nor rankings saw) KL and perplexities, also of a
uniform child of the same size. Nothing is judged twice: the library keeps results. Not here:
tasks and benchmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

from surgery import sizes
from surgery.diagnostics import Sink
from surgery.ir import Candidate, Space, Spec
from surgery.library import Library
from surgery.passes import baseline, cost
from surgery.passes.baseline import Progress
from surgery.scoring.assembled import Assembled, assembled
from surgery.scoring.blind import scores_used


@dataclass(frozen=True, slots=True)
class Checked:
    """One score, and what the assembled child measures on its text."""

    score: str
    dataset: str
    measured: Assembled


@dataclass(frozen=True, slots=True)
class Uniform:
    """The uniform child of the same size: its site and value as text, size, and result."""

    text: str
    params: int
    result: Assembled


@dataclass(frozen=True, slots=True)
class Judgement:
    """All measurements of one child; the last three are `None` without a `judge` dataset."""

    scores: tuple[Checked, ...]
    dataset: str | None
    heldout: Assembled | None
    uniform: Uniform | None


def run(
    spec: Spec,
    space: Space,
    chosen: tuple[Candidate, ...],
    library: Library,
    sink: Sink,
    progress: Progress,
) -> Judgement:
    """Measure what the library does not have yet. Raises `Stop` as `assembled` does."""
    datasets = {dataset.name: dataset for dataset in spec.datasets}
    checked = tuple(
        Checked(
            score.name,
            score.dataset,
            assembled(spec, space, chosen, datasets[score.dataset], library, progress, score.tail),
        )
        for score in scores_used(spec)
    )
    name = next((emit.judge for emit in spec.emits if emit.judge), None)
    if name is None:
        return Judgement(checked, None, None, None)
    heldout = assembled(spec, space, chosen, datasets[name], library, progress)
    rival = baseline.run(spec, space, chosen, library, sink, progress)
    if rival is None:
        return Judgement(checked, name, heldout, None)
    result = assembled(spec, space, rival, datasets[name], library, progress)
    text = ", ".join(sorted({f"{c.site.value} {c.text}" for c in rival if c.changed}))
    size = sizes.params(cost.chosen_costs(space, rival))
    return Judgement(checked, name, heldout, Uniform(text, size, result))
