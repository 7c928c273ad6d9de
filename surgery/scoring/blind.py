"""Which scores can see which edits: a window is invisible to samples that fit into it.

In: a space and the scores in use. Out: the pairs (score, candidate) whose damage is 0 by
construction and need no measuring, and findings: E0705 where no score of the objective sees an
alternative (the solver would think it free), W0715 where some score does not. Not here: any
measuring; this is arithmetic on lengths.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from surgery import catalog
from surgery.affine import walk
from surgery.diagnostics import Diagnostic, Help, Label, Sink
from surgery.edits.attention import WINDOWS
from surgery.expr import Expr, ScoreTotal
from surgery.ir import Alternative, Attention, Candidate, Dataset, Score, Space, Spec
from surgery.units import format_tokens


def scores_in(expr: Expr) -> frozenset[str]:
    """The names of the scores that an expression adds up."""
    return frozenset(part.score for part in walk(expr) if isinstance(part, ScoreTotal))


def scores_used(spec: Spec) -> tuple[Score, ...]:
    """The declared scores that the objective or a requirement needs, by name."""
    exprs = (spec.objective.expr, *(requirement.expr for requirement in spec.requirements))
    wanted = frozenset[str]().union(*map(scores_in, exprs))
    return tuple(score for score in spec.scores if score.name in wanted)


def sees(dataset: Dataset, candidate: Candidate) -> bool:
    """Whether samples of this dataset can tell the candidate from its parent.

    A window is told from full attention by what it forgets; K and V in FP8 are told from any.
    """
    return candidate.facet is not None or _reaches(dataset, candidate)


def _reaches(dataset: Dataset, candidate: Candidate) -> bool:
    """Whether samples of this dataset are longer than the window, if that is the edit."""
    block = candidate.block
    if candidate.edit not in WINDOWS or not isinstance(block, Attention):
        return True
    return block.held is None or dataset.length > block.held


def report_blind(spec: Spec, space: Space, sink: Sink) -> bool:
    """Report alternatives that scores cannot see, once each; whether no error was found."""
    found = findings(spec, space)
    sink.extend(found)
    return not any(d.code is catalog.E0705 for d in found)


def findings(spec: Spec, space: Space) -> tuple[Diagnostic, ...]:
    """E0705 and W0715 for alternatives that scores cannot see, once each."""
    datasets = {dataset.name: dataset for dataset in spec.datasets}
    used = scores_used(spec)
    goal = scores_in(spec.objective.expr)
    found: list[Diagnostic] = []
    for candidate in _alternatives(space).values():
        # Not `sees`: in FP8 a window does damage on any text, and is free beside full attention.
        blind = [s for s in used if not _reaches(datasets[s.dataset], candidate)]
        sighted = [s for s in used if s.name in goal and s not in blind]
        lost = [s for s in blind if s.name in goal]
        if lost and not sighted:
            found.append(_nobody_sees(candidate, lost[0], datasets[lost[0].dataset]))
            continue
        found.extend(_cannot_see(candidate, s, datasets, sighted) for s in blind)
    return tuple(found)


def _alternatives(space: Space) -> Mapping[Alternative, Candidate]:
    """One candidate of every alternative: whether a window is seen does not depend on layers."""
    found: dict[Alternative, Candidate] = {}
    for candidate in space.candidates:
        if candidate.alternative is not None and candidate.edit != "keep":
            found.setdefault(candidate.alternative, candidate)
    return found


def _nobody_sees(candidate: Candidate, score: Score, dataset: Dataset) -> Diagnostic:
    window = _window(candidate)
    return Diagnostic(
        catalog.E0705,
        f"no score in the objective can see a window of {window} tok",
        labels=_labels(candidate, score, dataset),
        helps=(Help(f"score on samples longer than {window} tok"),),
    )


def _cannot_see(
    candidate: Candidate, score: Score, datasets: Mapping[str, Dataset], sighted: list[Score]
) -> Diagnostic:
    notes = [
        f"`{s.name}` sees it ({format_tokens(datasets[s.dataset].length)} tok) and is part of the "
        "objective, so this is a warning, not E0705"
        for s in sighted[:1]
    ]
    return Diagnostic(
        catalog.W0715,
        f"the score `{score.name}` cannot see a window of {_window(candidate)} tok",
        labels=_labels(candidate, score, datasets[score.dataset]),
        notes=tuple(notes),
        helps=(Help(f"use samples longer than {_window(candidate)} tok for `{score.name}`"),),
    )


def _labels(candidate: Candidate, score: Score, dataset: Dataset) -> tuple[Label, ...]:
    length = format_tokens(dataset.length)
    ends = Label(dataset.span, f"these samples end at {length} tok")
    if candidate.alternative is None:
        return (replace(ends, primary=True),)
    here = f"forgets nothing within {length} tok, so `{score.name}` is 0 here"
    return (Label(candidate.alternative.span, here, primary=True), ends)


def _window(candidate: Candidate) -> str:
    block = candidate.block
    if not isinstance(block, Attention) or block.held is None:
        raise ValueError(f"{candidate.address} has no window")
    return format_tokens(block.held)
