"""What the library knows of a space -> a table that another machine can plan with.

In: a spec, its space, a library. Out: `Known`: rows of address, metric, value and standard error,
as `passes/tables.py` reads them, and how much of what a plan needs is there. Measures nothing;
what is missing is left out. Refuses places that cannot be written (E0806). Numbers are written
with all of their digits, so a plan made of the table decides what a plan made of the library does.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from msgspec import Struct

from surgery import atomic, catalog, edits, lockfile
from surgery.diagnostics import Diagnostic, Stop
from surgery.ir import Candidate, Measured, Space, Spec
from surgery.library import Library
from surgery.passes import calibrate, rank, recall, table_file, tables
from surgery.scoring.blind import scores_used
from surgery.units import format_scale


class Known(Struct, frozen=True):
    """`rows` of (address, metric, value, error); `counts` of (name, known, wanted)."""

    rows: tuple[tuple[str, str, str, str], ...]
    counts: tuple[tuple[str, int, int], ...]


def run(spec: Spec, space: Space, library: Library) -> Known:
    """Look everything up. Raises `Stop` for text that cannot be read."""
    selecting = [c for c in space.candidates if edits.selects(c.edit)]
    ranked = rank.recalled(spec, space, library)
    rows = [
        (c.address, tables.KEPT, _listed(ranked[c.address]), "")
        for c in selecting
        if c.address in ranked
    ]
    counts = [("rankings", len(ranked), len(selecting))] if selecting else []
    scaled = [c for c in space.candidates if edits.scaled(c)]
    calibrated = calibrate.recalled(spec, space, library)
    for address in (c.address for c in scaled if c.address in calibrated):
        scales = calibrated[address].scales
        values = (scales.k, scales.v) if scales else ()
        told = zip(tables.SCALES, values, strict=True)
        rows += [(address, metric, format_scale(value), "") for metric, value in told]
    counts += [("scales", len(calibrated), len(scaled))] if scaled else []
    measured = recall.run(spec, space, library) or Measured({}, "")
    changed = [c.address for c in space.candidates if c.changed]
    for score in scores_used(spec):
        damage = measured.damage.get(score.name, {})
        errors = measured.errors.get(score.name, {})
        known = [address for address in changed if address in damage]
        rows += [
            (address, score.name, repr(damage[address]), _error(errors.get(address)))
            for address in known
        ]
        counts.append((score.name, len(known), len(changed)))
    rows += _times(space)
    counts += _timed(spec, space)
    return Known(tuple(rows), tuple(counts))


def _times(space: Space) -> list[tuple[str, str, str, str]]:
    """What was measured here, for planning where it cannot be."""
    costs = [(tables.FIXED, space.fixed), *((c.address, c.cost) for c in space.candidates)]
    return [
        (
            address,
            f"{timing.phase}@{timing.scenario}",
            repr(timing.seconds),
            repr(timing.seconds * timing.band / tables.NINE_IN_TEN),
        )
        for address, cost in costs
        for timing in cost.times
        if timing.source == "measured"
    ]


def _timed(spec: Spec, space: Space) -> list[tuple[str, int, int]]:
    """Times of scenarios of which some are known."""
    costs = [space.fixed, *(c.cost for c in space.candidates)]
    wanted = len(tables.PHASES) * sum(cost.params > 0 for cost in costs)
    found = {
        s.name: sum(each.scenario == s.name for cost in costs for each in cost.times)
        for s in spec.scenarios
    }
    return [(f"times of {name}", count, wanted) for name, count in found.items() if count]


def _listed(candidate: Candidate) -> str:
    if candidate.merged is not None:
        return candidate.merged.text
    return lockfile.ranges(candidate.kept or ())


def _error(error: float | None) -> str:
    return "" if error is None else repr(error)


def text(known: Known) -> str:
    """The rows as CSV, with a header."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow((*table_file.REQUIRED, *table_file.OPTIONAL))
    writer.writerows(known.rows)
    return made.getvalue()


def write(known: Known, path: Path) -> None:
    """Write the table, whole or not at all. Raises `Stop` (E0806)."""
    try:
        atomic.write(path, text(known).encode())
    except OSError as error:
        reason = (error.strerror or "it cannot be written").lower()
        message = f"cannot write the table: {reason}"
        raise Stop(Diagnostic(catalog.E0806, message, subject=str(path))) from error
