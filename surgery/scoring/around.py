"""Replace one block of a child, measure, put it back: damage where the search has arrived.

In: a loaded parent, samples, a child (one candidate per site), candidates. Out: per candidate the
mean KL(parent || child with this block instead) of each sample, float64 [samples]. It is the
measurement of `swap.py` from another starting point: those damages add up to that of a child only
as far as edits do not interact, these are exact for every child one block away. Not here: which
candidates need measuring (`passes/refine.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from surgery.ir import Candidate
from surgery.scoring import swap
from surgery.scoring.data import Samples
from surgery.scoring.model import Parent, make_layer, swapped
from surgery.scoring.swap import Batch


def sweep(
    parent: Parent,
    samples: Samples,
    tail: int,
    child: Sequence[Candidate],
    candidates: Sequence[Candidate],
    *,
    memory: int = swap.MEMORY,
    after: Callable[[Candidate], None] = lambda _candidate: None,
) -> Iterator[tuple[Candidate, Tensor]]:
    """Every candidate with the damages of the child that has it, as they are finished.

    `after` hears of every swap, one per candidate and group of samples.
    """
    layers = frozenset(candidate.layer for candidate in candidates)
    parts = swap.groups(
        parent.model, len(samples.tokens), samples.length, tail, len(layers) + 1, memory=memory
    )
    base = dict(made for made in _edited(parent, child))
    found: dict[str, list[Tensor]] = {candidate.address: [] for candidate in candidates}
    for part in parts:
        batches = _entering(parent, swap.prepare(parent, samples, part, tail, _START), base, layers)
        for candidate in candidates:
            with swapped(parent, base):
                values = swap.damage(parent, batches, *_beside(child, candidate))
            found[candidate.address].append(values)
            after(candidate)
            if len(found[candidate.address]) == len(parts):
                yield candidate, torch.cat(found[candidate.address])


_START = frozenset({0})
"""What enters layer 0 is what enters the model: a child runs from there."""


def _edited(parent: Parent, child: Sequence[Candidate]) -> Iterator[tuple[int, nn.Module]]:
    """The layers in which the child differs from its parent."""
    for layer in sorted({c.layer for c in child if c.changed}):
        yield make_layer(parent, tuple(c for c in child if c.layer == layer and c.changed))


def _beside(child: Sequence[Candidate], candidate: Candidate) -> tuple[Candidate, ...]:
    """All of the candidate's layer: what the child has at its other sites, and the candidate."""
    others = (c for c in child if c.layer == candidate.layer and c.site is not candidate.site)
    return (*others, candidate)


def _entering(
    parent: Parent,
    batches: Sequence[Batch],
    base: Mapping[int, nn.Module],
    layers: frozenset[int],
) -> list[Batch]:
    """The batches with what enters the layers of the child, in place of the parent's."""
    made: list[Batch] = []
    with torch.inference_mode(), swapped(parent, base):
        for batch in batches:
            hidden, entering = batch.entering[0], dict[int, Tensor]()
            for index in range(len(parent.model.layers)):
                if index in layers:
                    entering[index] = hidden
                hidden = parent.module.run(hidden, batch.state, index, index + 1)
            made.append(replace(batch, entering=entering))
    return made
