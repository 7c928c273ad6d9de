"""The chosen child -> what it has really lost.

In: a planned child, all in memory, before anything is written. Out: `Judgement`: the measured KL
on the text of each score (the plan states the additive prediction), and on the `judge` dataset of
`emit checkpoint` KL and perplexities, also of a uniform child of the same size. Warns (W0718) when
that text is not held out. Nothing is judged twice: the library keeps results. Not here: tasks and
benchmarks.
"""

from __future__ import annotations

from msgspec import Struct

from surgery import catalog, sizes
from surgery.diagnostics import Diagnostic, Help, Label, Sink
from surgery.ir import Candidate, Dataset, Emit, Space, Spec
from surgery.library import Library
from surgery.passes import baseline, cost
from surgery.progress import Progress
from surgery.scoring.assembled import Assembled, assembled
from surgery.scoring.blind import scores_used
from surgery.scoring.data import read_text


class Checked(Struct, frozen=True):
    """One score, and what the assembled child measures on its text."""

    score: str
    dataset: str
    measured: Assembled


class Uniform(Struct, frozen=True):
    """The uniform child of the same size: its site and value as text, size, and result."""

    text: str
    params: int
    result: Assembled


class Judgement(Struct, frozen=True):
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
    emit = next((emit for emit in spec.emits if emit.judge), None)
    if emit is None:
        return Judgement(checked, None, None, None)
    judge = datasets[str(emit.judge)]
    _warn_seen(spec, emit, judge, sink)
    heldout = assembled(spec, space, chosen, judge, library, progress)
    rival = baseline.run(spec, space, chosen, library, sink, progress)
    if rival is None:
        return Judgement(checked, judge.name, heldout, None)
    result = assembled(spec, space, rival, judge, library, progress)
    text = ", ".join(sorted({f"{c.site.value} {c.text}" for c in rival if c.changed}))
    size = sizes.params(cost.chosen_costs(space, rival))
    return Judgement(checked, judge.name, heldout, Uniform(text, size, result))


def _warn_seen(spec: Spec, emit: Emit, judge: Dataset, sink: Sink) -> None:
    """Say so when the text of `judge` is not held out (W0718)."""
    used = {score.dataset for score in scores_used(spec)}
    offers = (*spec.choices, *spec.facets)
    used |= {a.by.dataset for o in offers for a in o.alternatives if a.by and a.by.dataset}
    texts = {d.name: set(read_text(d, spec.folder).documents) for d in spec.datasets}
    for name in sorted(used):
        shared = len(texts[judge.name] & texts[name])
        if shared:
            message = f"`{judge.name}` judges the child on text that `{name}` measured with"
            documents = f"{shared} documents are" if shared > 1 else "a document is"
            other = next(dataset for dataset in spec.datasets if dataset.name == name)
            labels = (
                Label(emit.span, f"{documents} in both", primary=True),
                Label(judge.span, "this judges"),
                Label(other.span, "this was measured with"),
            )
            helps = (Help("judge on text that nothing else in the spec uses"),)
            sink.report(Diagnostic(catalog.W0718, message, labels, helps=helps))
