"""Space -> Space: which channels and experts survive or are merged, for every edit that selects.

In: a space whose selecting candidates have no `kept` yet, calibration text. Out: the same space
with `kept` and `artefact` filled in. What is missing from the library is measured, in one pass
over each dataset (needs torch then, and only then). Refuses criteria that cannot rank a site
(E0201), text and weights that cannot be read, and statistics that are not finite (E0702). Not
here: the statistics (`scoring/activations.py`).

The kept set of size n is the n best by score, so kept sets are nested across sizes. What no
calibration token reached ranks last whatever its score; ties go to the lower index.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog, edits
from surgery.checking import tables
from surgery.diagnostics import Diagnostic, Help, Label, Sink
from surgery.edits import Selection
from surgery.ir import Candidate, Dataset, Experts, Ffn, Model, Ranking, Site, Space, Spec
from surgery.library import Json, Library
from surgery.progress import Progress
from surgery.scoring import clusters, data, identity

CRITERIA: Mapping[str, frozenset[str]] = {
    "channel_contribution": frozenset({"channels"}),
    **dict.fromkeys(tables.CRITERIA["rank_experts"], frozenset({"experts"})),
    **dict.fromkeys(tables.CRITERIA["cluster_experts"], frozenset({"groups"})),
    "random": frozenset({"channels", "experts", "groups"}),
}
"""Every criterion, and what it can rank. `scoring/activations.py` defines those that
measure; `random` is a control, the same for every run with one seed, and needs no text."""


class Job(Struct, frozen=True):
    """One parent block to rank under one criterion on one dataset (`None`: needs no text).

    `things` are what is ranked of it: its experts, its channels (expert by expert where it has
    experts), or how its experts come in groups.
    """

    layer: int
    site: Site
    things: str
    criterion: str
    dataset: str | None


class Scores(Struct, frozen=True):
    """One score per channel or expert, the higher the more it matters, and tokens seen.

    For groups: the distance of every two experts, and the tokens of each.
    """

    scores: tuple[float, ...]
    counts: tuple[float, ...]


def run(spec: Spec, space: Space, library: Library, sink: Sink, progress: Progress) -> Space | None:
    """Rank and fill in; `None` when an error was reported. Raises `Stop`."""
    wanted = [c for c in space.candidates if c.kept is None and edits.selects(c.edit)]
    if not _legal(wanted, sink):
        return None
    jobs = sorted({_job(c) for c in wanted}, key=lambda j: (j.layer, j.site, j.things, j.criterion))
    known = _rank(spec, space.model, library, jobs, progress)
    if not _finite(known, wanted, sink):
        return None
    model = space.model
    return _filled(space, {c.address: _filled_in(model, c, known[_job(c)]) for c in wanted})


def deferred(spec: Spec, space: Space, sink: Sink) -> Space | None:
    """As `run`, where there are no weights: only lots are drawn, all else is left unranked.

    A candidate that is not ranked has a size and an artefact hash that says so, and no kept list:
    it can be planned, and not be made.
    """
    wanted = [c for c in space.candidates if c.kept is None and edits.selects(c.edit)]
    if not _legal(wanted, sink):
        return None
    model = space.model

    def settled(candidate: Candidate) -> Candidate:
        job = _job(candidate)
        if job.criterion != "random":
            return edits.unranked(model, candidate)
        return _filled_in(model, candidate, _random(model, job, spec))

    return _filled(space, {c.address: settled(c) for c in wanted})


def _filled(space: Space, filled: Mapping[str, Candidate]) -> Space:
    options = tuple(
        replace(o, candidates=tuple(filled.get(c.address, c) for c in o.candidates))
        for o in space.options
    )
    return replace(space, options=options)


def recalled(spec: Spec, space: Space, library: Library) -> Mapping[str, Candidate]:
    """The candidates that select and that the library can rank, filled in, by address.

    Measures and reports nothing; raises `Stop` for text that cannot be read.
    """
    model = space.model
    wanted = [c for c in space.candidates if c.kept is None and edits.selects(c.edit)]
    jobs = sorted({_job(c) for c in wanted}, key=lambda j: (j.layer, j.site, j.things, j.criterion))
    known = {job: _random(model, job, spec) for job in jobs if job.criterion == "random"}
    for dataset in spec.datasets:
        asked = [job for job in jobs if job.dataset == dataset.name and job not in known]
        if asked:
            known |= _recalled(library, _keys(dataset, spec, model, asked)[1])
    return {c.address: _filled_in(model, c, known[_job(c)]) for c in wanted if _job(c) in known}


def counted(
    spec: Spec, model: Model, library: Library, dataset: str, progress: Progress
) -> Mapping[int, tuple[float, ...]]:
    """How many tokens of a dataset the parent sends to each of its experts, by layer.

    Every ranking of experts on that text has counted them; where the library has none, `frequency`
    is measured. Raises `Stop` as rankings do.
    """
    layers = [layer.index for layer in model.layers if isinstance(layer.mlp, Experts)]
    jobs = {
        (layer, criterion): Job(layer, Site.EXPERTS, "experts", criterion, dataset)
        for layer in layers
        for criterion in tables.CRITERIA["rank_experts"]
    }
    text = next(each for each in spec.datasets if each.name == dataset)
    known = _recalled(library, _keys(text, spec, model, list(jobs.values()))[1])
    found = {job.layer: scores.counts for job, scores in known.items()}
    missing = [jobs[layer, "frequency"] for layer in layers if layer not in found]
    made = _rank(spec, model, library, missing, progress)
    return found | {job.layer: scores.counts for job, scores in made.items()}


def kept(scores: Scores, size: int, groups: int = 1, grain: int = 1) -> tuple[int, ...]:
    """The `size` best of each of `groups` equal groups, ascending.

    What is packed `grain` together stays or goes together, by its sum.
    """
    values = [sum(scores.scores[n : n + grain]) for n in range(0, len(scores.scores), grain)]
    counts = scores.counts[::grain]
    whole = len(values) // groups
    found: list[int] = []
    for start in range(0, groups * whole, whole):
        mine = range(start, start + whole)
        order = sorted(mine, key=lambda i: (counts[i] == 0, -values[i], i))
        found += sorted(order[: size // grain])
    return tuple(n * grain + i for n in found for i in range(grain))


def _filled_in(model: Model, candidate: Candidate, scores: Scores) -> Candidate:
    """The candidate with what it keeps by `scores`."""
    block = model.layers[candidate.layer].block(candidate.site)
    if block is None or candidate.alternative is None:
        raise ValueError(f"{candidate.address} keeps some of nothing")
    size, groups = edits.argument(candidate.alternative), _selection(candidate).groups(block)
    if _selection(candidate).things == "groups":
        found = clusters.merging(scores.scores, scores.counts, size)
        return edits.merged(model, candidate, found)
    edit = edits.known(candidate.site, candidate.edit)
    listed = kept(scores, size, groups, edits.grain(model, candidate.layer, edit))
    return edits.ranked(model, candidate, listed)


def _job(candidate: Candidate) -> Job:
    by = _by(candidate)
    things = _selection(candidate).things
    return Job(candidate.layer, candidate.site, things, by.criterion, by.dataset)


def _selection(candidate: Candidate) -> Selection:
    found = edits.known(candidate.site, candidate.edit).selects
    if found is None:
        raise ValueError(f"{candidate.address} selects nothing")
    return found


def _by(candidate: Candidate) -> Ranking:
    alternative = candidate.alternative
    if alternative is None or alternative.by is None:
        raise ValueError(f"{candidate.address} has no ranking")  # E0303 in `checking/edits.py`
    return alternative.by


# ---- Legality --------------------------------------------------------------------------------


def _legal(candidates: Iterable[Candidate], sink: Sink) -> bool:
    legal = True
    for candidate in candidates:
        by, things = _by(candidate), _selection(candidate).things
        if things not in CRITERIA.get(by.criterion, frozenset()):
            names = " | ".join(sorted(n for n, those in CRITERIA.items() if things in those))
            message = f"there is no criterion `{by.criterion}` that ranks {things}"
            _report(sink, catalog.E0201, by, message, f"{things} are ranked by {names}")
            legal = False
        elif by.dataset is None and by.criterion != "random":
            message = f"`{by.criterion}` measures on text and names no dataset"
            _report(sink, catalog.E0303, by, message, f"write `{by.criterion}(DATASET)`")
            legal = False
    return legal


def _report(sink: Sink, code: catalog.Code, by: Ranking, message: str, help: str) -> None:
    label = Label(by.span, "this ranking", primary=True)
    sink.report(Diagnostic(code, message, labels=(label,), helps=(Help(help),)))


def _finite(known: Mapping[Job, Scores], wanted: list[Candidate], sink: Sink) -> bool:
    bad = [c for c in wanted if not all(map(math.isfinite, known[_job(c)].scores))]
    if bad:
        by = _by(bad[0])
        listed = ", ".join(sorted({f"layer.{c.layer}.{c.site}" for c in bad}))
        message = f"`{by.criterion}` is not finite for {listed}"
        label = Label(by.span, "this ranking", primary=True)
        sink.report(Diagnostic(catalog.E0702, message, labels=(label,)))
    return not bad


# ---- Measuring -------------------------------------------------------------------------------


def _rank(
    spec: Spec, model: Model, library: Library, jobs: list[Job], progress: Progress
) -> dict[Job, Scores]:
    known = {job: _random(model, job, spec) for job in jobs if job.criterion == "random"}
    measured = [job for job in jobs if job.criterion != "random"]
    if not measured:
        return known
    datasets = {dataset.name: dataset for dataset in spec.datasets}
    for name in sorted({cast("str", job.dataset) for job in measured}):
        dataset = datasets[name]
        text, keys = _keys(dataset, spec, model, [job for job in measured if job.dataset == name])
        known |= _recalled(library, keys)
        missing = {job: key for job, key in keys.items() if job not in known}
        identity.require_weights(model, len(missing), "rankings")
        if missing:
            made = _measure(model, dataset, text, list(missing), progress)
            for job, scores in made.items():
                known[job] = scores
                if all(map(math.isfinite, scores.scores)):
                    library.put(missing[job], _stored(scores))
    return known


def _keys(
    dataset: Dataset, spec: Spec, model: Model, jobs: list[Job]
) -> tuple[data.Text, dict[Job, Mapping[str, Json]]]:
    """The text of a dataset, and the library key of every job on it."""
    text = data.read_text(dataset, spec.folder)
    samples = identity.data_key(dataset, text, model)
    return text, {
        job: identity.ranking_key(model, samples, job.layer, job.site, job.criterion)
        for job in jobs
    }


def _recalled(library: Library, keys: Mapping[Job, Mapping[str, Json]]) -> dict[Job, Scores]:
    found: dict[Job, Scores] = {}
    for job, key in keys.items():
        value = library.get(key)
        if isinstance(value, Mapping):
            scores, counts = value.get("scores"), value.get("counts")
            found[job] = Scores(
                tuple(cast("list[float]", scores)), tuple(cast("list[float]", counts))
            )
    return found


def _stored(scores: Scores) -> Json:
    return {"scores": list(scores.scores), "counts": list(scores.counts)}


def _random(model: Model, job: Job, spec: Spec) -> Scores:
    seed = next((d.seed for d in spec.datasets if d.name == job.dataset), 0)
    match model.layers[job.layer].block(job.site):
        case Ffn(width=count):
            pass
        case Experts(count=count, width=width):
            if job.things == "groups":
                return _random_distances(f"random/{seed}/{job.layer}", count)
            count *= width if job.things == "channels" else 1
        case other:
            raise ValueError(f"{other!r} has nothing to draw lots for")
    names = (f"random/{seed}/{job.layer}/{i}" for i in range(count))
    return Scores(tuple(map(_lot, names)), (1.0,) * count)


def _lot(name: str) -> float:
    # Not a library's generator: these numbers are the same on every platform and in any version.
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48


def _random_distances(name: str, count: int) -> Scores:
    """Experts at random places on a line: groups by lot, all of whose experts count alike."""
    places = [_lot(f"{name}/{e}") for e in range(count)]
    return Scores(tuple(abs(a - b) for a in places for b in places), (1.0,) * count)


def _measure(
    model: Model, dataset: Dataset, text: data.Text, jobs: list[Job], progress: Progress
) -> dict[Job, Scores]:
    import torch

    from surgery.scoring import activations
    from surgery.scoring.arrays import from_numpy
    from surgery.scoring.model import load_parent
    from surgery.scoring.swap import batch_size

    samples = data.draw(dataset, text, data.load_tokenizer(model), data.end_of_text(model))
    step = batch_size(samples.length)
    starts = range(0, len(samples.tokens), step)
    detail = f"{len({(j.layer, j.site) for j in jobs})} blocks on {samples.tokens.size} tok"

    def batches() -> Iterable[torch.Tensor]:
        for done, start in enumerate(starts):
            progress("rank", done, len(starts), detail)
            yield from_numpy(samples.tokens[start : start + step])
        progress("rank", len(starts), len(starts), detail)

    watched = sorted({(job.layer, job.site, job.things) for job in jobs})
    total = int(samples.tokens.size)
    found = activations.collect(load_parent(model), batches(), watched, total)
    return {job: _scores(found[job.layer, job.site, job.things], job.criterion) for job in jobs}


def _scores(statistics: object, criterion: str) -> Scores:
    from surgery.scoring.activations import Statistics
    from surgery.scoring.arrays import numbers

    found = cast("Statistics", statistics)
    return Scores(
        tuple(map(identity.rounded, found.scores(criterion))), tuple(numbers(found.count))
    )
