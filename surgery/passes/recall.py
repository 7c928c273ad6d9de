"""Space -> what the library knows about it already: rankings and damages, nothing measured.

In: a spec, its space, a library. Out: `Measured`, in which an address without a score is missing
from the library (unchanged blocks are 0, and so is what no sample can see). Scores whose text
cannot be read are left out. Reports nothing, loads neither torch nor numpy: this is for looking
(`lint`, an editor), and `passes/rank.py` and `passes/score.py` are for planning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from surgery import edits
from surgery.diagnostics import Stop
from surgery.ir import Candidate, Measured, Score, Space, Spec
from surgery.library import Library
from surgery.scoring.blind import scores_used

if TYPE_CHECKING:
    from surgery.passes.score import Damage


def run(spec: Spec, space: Space, library: Library) -> Measured | None:
    """The scores in the library; `None` when the parent's content has not been hashed yet."""
    if not space.model.digest:
        return None
    from surgery.passes import calibrate, rank

    found = dict[str, Candidate]()
    for recalled in (rank.recalled, calibrate.recalled):
        try:
            found |= recalled(spec, space, library)
        except Stop:
            continue
    every = (found.get(c.address, c) for c in space.candidates)
    known = {c.address: c for c in every if not edits.missing(c)}
    damage: dict[str, Mapping[str, float]] = {}
    errors: dict[str, Mapping[str, float]] = {}
    for each in scores_used(spec):
        found = _damages(spec, space, each, known, library)
        damage[each.name] = {address: d.mean for address, d in found.items()}
        errors[each.name] = {a: d.error for a, d in found.items() if d.error is not None}
    return Measured(damage, "", errors)


def _damages(
    spec: Spec, space: Space, wanted: Score, known: Mapping[str, Candidate], library: Library
) -> Mapping[str, Damage]:
    from surgery.passes import score

    zero = score.Damage(0.0, 0.0)
    changed = {address: c for address, c in known.items() if c.changed}
    try:
        task = score.task_of(spec, space, wanted, changed)
    except Stop:
        return {}
    unseen = {address: zero for address in known if address not in task.keys}
    return unseen | score.recalled(library, task)
