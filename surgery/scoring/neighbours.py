"""What every child one block away from a child measures, kept in the library.

In: a space, a choice in it, text. Out: by address, the mean KL(parent || child that has this
candidate in place of its own) per token in nats, for all candidates that the child has not. Only
what the library lacks is measured. Raises `Stop` for unreadable text (E0001, E0706), missing
weights (E0701) and results that are not finite (E0702). Not here: the measurement (`around.py`),
nor what to do with it (`passes/refine.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from surgery import catalog
from surgery.diagnostics import Diagnostic, Stop
from surgery.ir import Candidate, Dataset, Model, Space, Spec
from surgery.library import Json, Library
from surgery.progress import Progress, silent
from surgery.scoring import data, identity
from surgery.scoring.data import Samples

_Keys = Mapping[str, Mapping[str, Json]]


def neighbours(
    spec: Spec,
    space: Space,
    chosen: tuple[Candidate, ...],
    dataset: Dataset,
    tail: int | None,
    library: Library,
    progress: Progress = silent,
) -> dict[str, float]:
    """The damage of every neighbour on the last `tail` tokens of each sample of a dataset."""
    model, own = space.model, {c.address for c in chosen}
    others = {c.address: c for c in space.candidates if c.address not in own}
    text = data.read_text(dataset, spec.folder)
    last = min(tail or dataset.length, dataset.length)
    drawn = identity.data_key(dataset, text, model)
    keys: _Keys = {
        address: identity.child_key(model, drawn, _with(chosen, other), last)
        for address, other in others.items()
    }
    found = _recalled(library, keys)
    missing = [other for address, other in others.items() if address not in found]
    if missing:
        identity.require_weights(model, len(missing), "measurements")
        samples = data.draw(dataset, text, data.load_tokenizer(model), data.end_of_text(model))
        for candidate, mean in _measured(model, samples, last, chosen, missing, progress):
            library.put(keys[candidate.address], {"mean": mean})
            found[candidate.address] = mean
    return found


def _with(chosen: tuple[Candidate, ...], other: Candidate) -> tuple[Candidate, ...]:
    """The child with another candidate at one site."""
    site = (other.layer, other.site)
    return tuple(other if (c.layer, c.site) == site else c for c in chosen)


def _recalled(library: Library, keys: _Keys) -> dict[str, float]:
    found: dict[str, float] = {}
    for address, key in keys.items():
        value = library.get(key)
        if isinstance(value, Mapping) and isinstance(mean := value.get("mean"), int | float):
            found[address] = mean
    return found


def _measured(
    model: Model,
    samples: Samples,
    tail: int,
    chosen: Sequence[Candidate],
    missing: Sequence[Candidate],
    progress: Progress,
) -> Iterator[tuple[Candidate, float]]:
    from surgery.scoring import around
    from surgery.scoring.arrays import numbers
    from surgery.scoring.model import load_parent

    done = 0

    def after(candidate: Candidate) -> None:
        nonlocal done
        done += 1
        progress("refine", done, len(missing), candidate.address)

    progress("refine", 0, len(missing), "children one block away")
    parent = load_parent(model)
    for candidate, values in around.sweep(parent, samples, tail, chosen, missing, after=after):
        each = numbers(values)
        mean = math.fsum(each) / len(each)
        if not math.isfinite(mean):
            message = f"the child with `{candidate.address}` predicts values that are not finite"
            raise Stop(Diagnostic(catalog.E0702, message, subject=str(model.directory)))
        # KL is never negative; what rounding leaves below 0 is 0.
        yield candidate, identity.rounded(max(mean, 0.0))
