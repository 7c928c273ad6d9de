"""Space -> Space: the scales of every candidate that stores K and V in FP8.

In: a space whose FP8 candidates have no `scales` yet, calibration text. Out: the same space with
`scales` and `artefact` filled in. What is missing from the library is measured, in one pass over
each dataset (needs torch then, and only then). Refuses text and weights that cannot be read, and
values that are not finite (E0702). Not here: what is counted (`scoring/calibration.py`).

A scale is reach / 448, rounded up to four digits: so much more than FP8 can tell apart, and few
enough that another machine, which adds up in another order, finds the same plan. With `max` no
value of the text is cut off: amax <= 448 * scale. A window sees the same K and V as full attention,
so both have one scale; pooled heads have scales of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Context, Decimal
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog, edits
from surgery.diagnostics import Diagnostic, Label, Sink
from surgery.edits.kv_cache import LARGEST
from surgery.ir import Attention, Candidate, Dataset, Model, Ranking, Scales, Space, Spec
from surgery.library import Json, Library
from surgery.progress import Progress
from surgery.scoring import data, identity
from surgery.units import float32

_ROUNDED_UP = Context(prec=4, rounding=ROUND_CEILING)


class Job(Struct, frozen=True):
    """One layer's cache, of so many KV heads, to scale by one method on one dataset."""

    layer: int
    kv_heads: int
    method: str
    dataset: str | None


class Reached(Struct, frozen=True):
    """What K and V are to be divided by 448 for a scale."""

    k: float
    v: float


def run(spec: Spec, space: Space, library: Library, sink: Sink, progress: Progress) -> Space | None:
    """Calibrate and fill in; `None` when an error was reported. Raises `Stop`."""
    wanted = _wanted(space)
    known = _calibrate(spec, space.model, library, _jobs(wanted), progress)
    if not _finite(known, wanted, sink):
        return None
    return _filled(space, {c.address: _scaled(space.model, c, known[_job(c)]) for c in wanted})


def deferred(space: Space) -> Space:
    """As `run`, where there are no weights: all but scales of 1 is left open, as rankings are."""
    model = space.model

    def settled(candidate: Candidate) -> Candidate:
        if _job(candidate).method == "unit":
            return _scaled(model, candidate, UNIT)
        return edits.unranked(model, candidate)

    return _filled(space, {c.address: settled(c) for c in _wanted(space)})


def recalled(spec: Spec, space: Space, library: Library) -> Mapping[str, Candidate]:
    """The candidates in FP8 that the library can scale, filled in, by address.

    Measures and reports nothing; raises `Stop` for text that cannot be read.
    """
    wanted = _wanted(space)
    jobs = _jobs(wanted)
    known = {job: UNIT for job in jobs if job.method == "unit"}
    for dataset in spec.datasets:
        asked = [job for job in jobs if job.dataset == dataset.name]
        if asked:
            known |= _recalled(library, _keys(dataset, spec, space.model, asked)[1])
    return {c.address: _scaled(space.model, c, known[_job(c)]) for c in wanted if _job(c) in known}


def scale(reach: float) -> float:
    """The float32 that maps `reach` (0 or more) into what E4M3 holds; 1 where all values are 0."""
    if not reach:
        return 1.0
    rounded = _ROUNDED_UP.divide(Decimal(reach), Decimal(LARGEST))
    while float32(float(rounded)) * LARGEST < reach:
        rounded = _ROUNDED_UP.next_plus(rounded)
    return float32(float(rounded))


UNIT = Reached(LARGEST, LARGEST)
"""What gives scales of 1."""


# ---- candidates ------------------------------------------------------------------------------


def _wanted(space: Space) -> list[Candidate]:
    return [c for c in space.candidates if edits.scaled(c) and c.scales is None]


def _job(candidate: Candidate) -> Job:
    by, block = _by(candidate), candidate.block
    if not isinstance(block, Attention):
        raise TypeError(f"{candidate.address} caches nothing")
    # Scales of 1 are the same on any text.
    dataset = None if by.criterion == "unit" else by.dataset
    return Job(candidate.layer, block.kv_heads, by.criterion, dataset)


def _jobs(wanted: Iterable[Candidate]) -> list[Job]:
    return sorted({_job(c) for c in wanted}, key=lambda j: (j.layer, j.kv_heads, j.method))


def _by(candidate: Candidate) -> Ranking:
    if candidate.facet is None or candidate.facet.by is None:
        raise ValueError(f"{candidate.address} has no scales")  # E0303 in `checking/edits.py`
    return candidate.facet.by


def _scaled(model: Model, candidate: Candidate, reached: Reached) -> Candidate:
    return edits.calibrated(model, candidate, Scales(scale(reached.k), scale(reached.v)))


def _filled(space: Space, filled: Mapping[str, Candidate]) -> Space:
    options = tuple(
        replace(o, candidates=tuple(filled.get(c.address, c) for c in o.candidates))
        for o in space.options
    )
    return replace(space, options=options)


def _finite(known: Mapping[Job, Reached], wanted: list[Candidate], sink: Sink) -> bool:
    bad = [c for c in wanted if not _is_finite(known[_job(c)])]
    if bad:
        listed = ", ".join(sorted({f"layer.{c.layer}.{c.site}" for c in bad}))
        message = f"keys or values are not finite in {listed}, so they have no scale"
        label = Label(_by(bad[0]).span, "these scales", primary=True)
        sink.report(Diagnostic(catalog.E0702, message, labels=(label,)))
    return not bad


def _is_finite(reached: Reached) -> bool:
    return math.isfinite(reached.k) and math.isfinite(reached.v)


# ---- measuring -------------------------------------------------------------------------------


def _calibrate(
    spec: Spec, model: Model, library: Library, jobs: list[Job], progress: Progress
) -> dict[Job, Reached]:
    known = {job: UNIT for job in jobs if job.method == "unit"}
    for dataset in spec.datasets:
        asked = [job for job in jobs if job.dataset == dataset.name]
        if not asked:
            continue
        text, keys = _keys(dataset, spec, model, asked)
        known |= _recalled(library, keys)
        missing = {job: key for job, key in keys.items() if job not in known}
        identity.require_weights(model, len(missing), "calibrations")
        if missing:
            for job, reached in _measure(model, dataset, text, list(missing), progress).items():
                known[job] = reached
                if _is_finite(reached):
                    library.put(missing[job], {"k": reached.k, "v": reached.v})
    return known


def _keys(
    dataset: Dataset, spec: Spec, model: Model, jobs: list[Job]
) -> tuple[data.Text, dict[Job, Mapping[str, Json]]]:
    """The text of a dataset, and the library key of every job on it."""
    text = data.read_text(dataset, spec.folder)
    samples = identity.data_key(dataset, text, model)
    return text, {
        job: identity.calibration_key(model, samples, job.layer, job.kv_heads, job.method)
        for job in jobs
    }


def _recalled(library: Library, keys: Mapping[Job, Mapping[str, Json]]) -> dict[Job, Reached]:
    found: dict[Job, Reached] = {}
    for job, key in keys.items():
        value = library.get(key)
        if isinstance(value, Mapping):
            found[job] = Reached(cast("float", value.get("k")), cast("float", value.get("v")))
    return found


def _measure(
    model: Model, dataset: Dataset, text: data.Text, jobs: list[Job], progress: Progress
) -> dict[Job, Reached]:
    import torch

    from surgery.scoring import calibration
    from surgery.scoring.arrays import from_numpy
    from surgery.scoring.model import load_parent
    from surgery.scoring.swap import batch_size

    samples = data.draw(dataset, text, data.load_tokenizer(model), data.end_of_text(model))
    step = batch_size(samples.length)
    starts = range(0, len(samples.tokens), step)
    watched = sorted({(job.layer, job.kv_heads) for job in jobs})
    detail = f"{len(watched)} KV caches on {samples.tokens.size} tok"

    def batches() -> Iterable[torch.Tensor]:
        for done, start in enumerate(starts):
            progress("calibrate", done, len(starts), detail)
            yield from_numpy(samples.tokens[start : start + step])
        progress("calibrate", len(starts), len(starts), detail)

    found = calibration.collect(load_parent(model), batches(), watched)
    made: dict[Job, Reached] = {}
    for job in jobs:
        reaches = found[job.layer, job.kv_heads]
        made[job] = Reached(reaches.k.of(job.method), reaches.v.of(job.method))
    return made
