"""Space -> Measured: the damage of every candidate, one swap at a time.

In: a ranked space, the library, the text of every score in use. Out: `Measured`. Only candidates
that the library lacks are measured (needs torch then, and only then). Refuses text and weights
that cannot be read, windows that no score of the objective can see (E0705), results that are not
finite (E0702, all of them listed), and a measurement that finds damage where nothing changed
(E0704, tried on a real swap in every run that measures). Not here: the measurement itself
(`scoring/swap.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from surgery import catalog, edits
from surgery.diagnostics import Diagnostic, Help, Label, Sink
from surgery.ir import Candidate, Dataset, Measured, Model, Score, Space, Spec
from surgery.library import Json, Library, digest, entry_file
from surgery.progress import Progress
from surgery.scoring import data, identity
from surgery.scoring.blind import report_blind, scores_used, sees

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.scoring.model import Parent


class Damage(Struct, frozen=True):
    """Mean KL per token in nats, and its standard error over samples (`None` for one sample)."""

    mean: float
    error: float | None


class Task(Struct, frozen=True):
    """One score: its text, and the library key of every candidate that it can see."""

    score: Score
    dataset: Dataset
    text: data.Text
    keys: Mapping[str, Mapping[str, Json]]

    @property
    def tail(self) -> int:
        """How many tokens at the end of each sample count."""
        return min(self.score.tail or self.dataset.length, self.dataset.length)


def run(
    spec: Spec,
    space: Space,
    library: Library,
    sink: Sink,
    progress: Progress,
    given: Mapping[str, Mapping[str, Damage]] | None = None,
) -> Measured | None:
    """Look up, measure what is missing, look again; `None` when an error was reported.

    Scores in `given` (by name and address) are taken as they are and not looked up.
    """
    if not report_blind(spec, space, sink):
        return None
    given = given or {}
    changed = {c.address: c for c in space.candidates if c.changed}
    used = scores_used(spec)
    tasks = [task_of(spec, space, s, changed) for s in used if s.name not in given]
    known = {task.score.name: recalled(library, task) for task in tasks}
    wanted = sum(len(task.keys) for task in tasks)
    missing = wanted - sum(map(len, known.values()))
    if tasks or not given:
        progress("library", wanted - missing, wanted, "measurements present")
    identity.require_weights(space.model, missing, "measurements")
    if missing:
        _measure_all(space, library, tasks, known, _Steps(progress, sink))
    _report_damaged(library, tasks, sink)
    if sink.failed:
        return None
    return _measured(space, tasks, known, {s.name: given[s.name] for s in used if s.name in given})


def task_of(spec: Spec, space: Space, score: Score, changed: Mapping[str, Candidate]) -> Task:
    """What a score measures of the edited candidates; raises `Stop` for text it cannot read."""
    dataset = next(d for d in spec.datasets if d.name == score.dataset)
    text = data.read_text(dataset, spec.folder)
    samples = identity.data_key(dataset, text, space.model)
    tail = None if score.tail is None or score.tail >= dataset.length else score.tail
    keys = {
        address: identity.swap_key(space.model, samples, candidate, score.metric, tail)
        for address, candidate in changed.items()
        if sees(dataset, candidate)
    }
    return Task(score, dataset, text, keys)


# ---- Library ---------------------------------------------------------------------------------


def recalled(library: Library, task: Task) -> dict[str, Damage]:
    """The damages that the library has, by address."""
    found: dict[str, Damage] = {}
    for address, key in task.keys.items():
        value = library.get(key)
        if isinstance(value, Mapping):
            mean, error = value.get("mean"), value.get("error")
            if isinstance(mean, int | float):
                found[address] = Damage(mean, error if isinstance(error, int | float) else None)
    return found


def _measured(
    space: Space,
    tasks: list[Task],
    known: Mapping[str, Mapping[str, Damage]],
    given: Mapping[str, Mapping[str, Damage]],
) -> Measured:
    zero = Damage(0.0, 0.0)
    both = {**known, **given}
    names = sorted(both)
    full = {n: {c.address: both[n].get(c.address, zero) for c in space.candidates} for n in names}
    entries = sorted(
        [digest(key), known[task.score.name][address].mean]
        for task in tasks
        for address, key in task.keys.items()
    )
    return Measured(
        {name: {address: d.mean for address, d in full[name].items()} for name in names},
        digest([list(entry) for entry in entries]),
        {
            name: {a: d.error for a, d in full[name].items() if d.error is not None}
            for name in names
        },
    )


# ---- Measuring -------------------------------------------------------------------------------


class _Steps(Struct):
    """Counts swaps over all scores, and hears of what goes wrong."""

    progress: Progress
    sink: Sink
    done: int = 0
    total: int = 0

    def after(self, candidate: Candidate) -> None:
        self.done += 1
        self.progress("score", self.done, self.total, candidate.address)


def _measure_all(
    space: Space,
    library: Library,
    tasks: list[Task],
    known: dict[str, dict[str, Damage]],
    steps: _Steps,
) -> None:
    from surgery.scoring import swap
    from surgery.scoring.model import load_parent

    by_address = {c.address: c for c in space.candidates}
    missing = {
        task.score.name: [by_address[a] for a in task.keys if a not in known[task.score.name]]
        for task in tasks
    }
    work = sum(
        swap.operations(space.model, missing[t.score.name], t.dataset.take, t.dataset.length)
        for t in tasks
    )
    steps.total = sum(_swaps(space.model, task, missing[task.score.name]) for task in tasks)
    steps.progress("score", 0, steps.total, f"swaps, {work / 1e12:.3g} TFLOP")
    parent = load_parent(space.model)
    for task in tasks:
        candidates = missing[task.score.name]
        if not candidates:
            continue
        bad: list[tuple[Candidate, float]] = []
        for candidate, damage in _measure(parent, task, candidates, steps):
            if not math.isfinite(damage.mean):
                bad.append((candidate, damage.mean))
                continue
            known[task.score.name][candidate.address] = damage
            library.put(task.keys[candidate.address], {"mean": damage.mean, "error": damage.error})
        if bad:
            _report_not_finite(task.score, bad, steps.sink)
        if steps.sink.failed:
            return


def _measure(
    parent: Parent, task: Task, candidates: list[Candidate], steps: _Steps
) -> Iterator[tuple[Candidate, Damage]]:
    import torch

    from surgery.scoring import swap
    from surgery.scoring.arrays import numbers

    model = parent.model
    samples = data.draw(
        task.dataset, task.text, data.load_tokenizer(model), data.end_of_text(model)
    )
    # Not in layer order: late layers are cheaper, and a progress line that counts swaps would
    # promise too much time at first and too little at the end.
    order = sorted(candidates, key=lambda c: c.artefact)
    keep = _keep(model, order[0])
    after = steps.after
    for candidate, values in swap.sweep(parent, samples, task.tail, [keep, *order], after=after):
        if candidate is keep:
            if bool(torch.any(values != 0)):
                _report_keep(parent.model, keep, values, steps.sink)
                return
            continue
        yield candidate, _damage(numbers(values))


def _swaps(model: Model, task: Task, candidates: list[Candidate]) -> int:
    """Swaps that a score takes, the trial of an unchanged block included."""
    from surgery.scoring import swap

    dataset, layers = task.dataset, len({c.layer for c in candidates})
    parts = swap.groups(model, dataset.take, dataset.length, task.tail, layers)
    return (len(candidates) + 1) * len(parts) if candidates else 0


def _damage(samples: list[float]) -> Damage:
    count = len(samples)
    mean = math.fsum(samples) / count
    if not math.isfinite(mean):
        return Damage(mean, None)
    error = None
    if count > 1:
        error = math.sqrt(math.fsum((s - mean) ** 2 for s in samples) / (count - 1) / count)
    # KL is never negative; what rounding leaves below 0 is 0.
    return Damage(identity.rounded(max(mean, 0.0)), error and identity.rounded(error))


def _keep(model: Model, candidate: Candidate) -> Candidate:
    """The parent's own block as a candidate, at the site of another."""
    block = model.layers[candidate.layer].block(candidate.site)
    text = edits.keep_text(candidate.site, block)
    address = f"layer.{candidate.layer}.{candidate.site}.keep"
    return replace(
        candidate,
        address=address, text=text, block=block, alternative=None, kept=None, artefact="",
        facet=None, scales=None,
    )  # fmt: skip


# ---- Findings --------------------------------------------------------------------------------


def _report_not_finite(score: Score, bad: list[tuple[Candidate, float]], sink: Sink) -> None:
    first = bad[0][0].alternative
    labels = (Label(score.span, f"`{score.name}` is measured here"),)
    if first is not None:
        labels = (Label(first.span, "for this alternative", primary=True), *labels)
    count = f"{len(bad)} candidates" if len(bad) > 1 else f"`{bad[0][0].address}`"
    listed = sorted(f"{candidate.address}: {value}" for candidate, value in bad)
    message = f"the score `{score.name}` is not finite for {count}"
    sink.report(Diagnostic(catalog.E0702, message, labels=labels, notes=tuple(listed)))


def _report_damaged(library: Library, tasks: list[Task], sink: Sink) -> None:
    """W0717, once, with the measurements that had to be repeated."""
    names = {
        str(entry_file(key)): f"`{task.score.name}` of `{address}`"
        for task in tasks
        for address, key in task.keys.items()
    }
    if not library.damaged:
        return
    count = len(library.damaged)
    entries = "an entry" if count == 1 else f"{count} entries"
    was = "was" if count == 1 else "were"
    message = f"{entries} of the library did not verify and {was} measured again"
    notes = sorted(f"{names.get(file, 'a ranking')} {why}" for file, why in library.damaged)
    sink.report(Diagnostic(catalog.W0717, message, subject=str(library.root), notes=tuple(notes)))


def _report_keep(model: Model, keep: Candidate, values: Tensor, sink: Sink) -> None:
    if not bool(values.isfinite().all()):
        message = f"`{model.name}` itself predicts values that are not finite on this text"
        helps = (Help("look for weights that are infinite, or too large for their dtype"),)
        subject = str(model.directory)
        sink.report(Diagnostic(catalog.E0702, message, subject=subject, helps=helps))
        return
    found = float(values.abs().max())
    message = f"putting `{keep.address}` back in its own place does damage of {found:.3g} nats"
    note = "the same block must give the same bits; no score of this run can be trusted"
    helps = (Help("run it again; if it comes back, report it with the model and the machine"),)
    found = Diagnostic(catalog.E0704, message, subject=model.name, notes=(note,), helps=helps)
    sink.report(found)
