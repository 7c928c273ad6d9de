"""How well the time model predicts points that it was not fitted to, and the fit that ships.

    python -m surgery.study            the table
    python -m surgery.study --write    and costing/data/fitted.json, residuals.csv
    python -m surgery.study --unseen h100_sxm    the factors that ship, on a machine of their own

In: the measured points. Out: a table of errors per model, engine and machine: fitted to one half of
the points and judged on the other (both ways, several times), and fitted to one machine and judged
on the other. An error is |predicted / measured - 1|. Everything is seeded; two runs print the same.
Points of a machine that nothing was fitted to come with the extra `aiconfigurator`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from surgery import machines
from surgery.costing import device, factors, fit, points, predict, silicon
from surgery.costing.device import Device
from surgery.costing.factors import Bands, Factor, Factors, Fitted
from surgery.costing.points import Point
from surgery.costing.terms import Stage, Terms
from surgery.ir import Machine
from surgery.source import Source, Span

DRAWS, HALVINGS, SEED = 100, 4, 0
OUTLIER = 0.3
_DATA = Path(__file__).parent / "costing" / "data"


class Row(Struct, frozen=True):
    """A point with its terms, and how many of its sequences there is memory for."""

    point: Point
    admitted: float
    token: Terms
    first: Terms

    @property
    def group(self) -> str:
        """What errors are told by."""
        point = self.point
        return f"{point.model.split('/')[1]:<24} {point.engine:<7} {point.machine}"


class Judged(Struct, frozen=True):
    """A point with its relative errors, and whether all of its kernels had been measured."""

    row: Row
    tpot: float
    throughput: float
    known: bool


def devices() -> dict[str, Device]:
    """The machines that points were measured on."""
    nowhere = Span(Source("", ""), 0, 0)
    known = {each.name: each.fields for each in machines.known()}
    return {
        name: device.of(Machine(nowhere, name, name, 1, known[name]))
        for name in points.MACHINES.values()
    }


def rows(some: Sequence[Point] | None = None) -> tuple[Row, ...]:
    """Points with their terms, all of the file unless told otherwise."""
    known = devices()
    made: list[Row] = []
    for point in points.read() if some is None else some:
        here = known[point.machine]
        batch = min(point.load.batch, points.room(point, here))
        stage = Stage(replace(point.load, batch=batch), here, point.shared)
        token = predict.per_token(point.works, point.head, stage)
        made.append(Row(point, batch, token, predict.first(point.works, point.head, stage)))
    return tuple(made)


def fit_to(some: Sequence[Row]) -> Factors:
    """Factors that explain times per token."""
    return Factors(fit.fit([row.token for row in some], [row.point.tpot for row in some]))


def judge(made: Factors, some: Sequence[Row]) -> Iterator[Judged]:
    """Errors of predictions."""
    for row in some:
        point = row.point
        tpot, ttft = made.seconds(row.token), made.seconds(row.first)
        load = replace(point.load, batch=row.admitted)
        rate = points.throughput(load, point.shared, ttft, tpot)
        strange = factors.unmeasured(row.token, made.values)
        yield Judged(row, tpot / point.tpot - 1, rate / point.throughput - 1, not strange)


def halves(all_rows: Sequence[Row]) -> list[Judged]:
    """Every point as often as there are halvings, each time by a fit that has not seen it."""
    random, found = np.random.default_rng(SEED), list[Judged]()
    for _ in range(HALVINGS):
        order: list[int] = random.permutation(len(all_rows)).tolist()
        half = len(order) // 2
        one, other = ([all_rows[i] for i in part] for part in (order[:half], order[half:]))
        found += judge(fit_to(one), other)
        found += judge(fit_to(other), one)
    return found


def across(all_rows: Sequence[Row], machine: str) -> list[Judged]:
    """Points of other machines by a fit to the points of one."""
    mine = [row for row in all_rows if row.point.machine == machine]
    others = [row for row in all_rows if row.point.machine != machine]
    return list(judge(fit_to(mine), others))


# ---- the table -------------------------------------------------------------------------------


def quantile(found: Sequence[Judged], part: float, of: Callable[[Judged], float]) -> float:
    """A quantile of absolute errors; NaN of none."""
    return float(np.quantile([abs(of(each)) for each in found], part)) if found else float("nan")


def table(title: str, found: Sequence[Judged]) -> Iterator[str]:
    """Errors by group, in per cent; a star where kernels had not been measured."""
    yield f"{title:<52}{'n':>5}   TPOT med   p90  bias   tok/s/GPU med   p90"
    for group in sorted({each.row.group for each in found}):
        some = [each for each in found if each.row.group == group]
        star = "" if all(each.known for each in some) else " *"
        yield _line(f"  {group}{star}", some)
    if not all(each.known for each in found):
        yield _line("  all whose kernels were measured", [each for each in found if each.known])
    yield _line("  all", found)


def _line(name: str, some: Sequence[Judged]) -> str:
    tpot = [quantile(some, part, lambda each: each.tpot) for part in (0.5, 0.9)]
    rate = [quantile(some, part, lambda each: each.throughput) for part in (0.5, 0.9)]
    bias = float(np.median([each.tpot for each in some])) if some else float("nan")
    distinct = len({id(each.row) for each in some})
    return (
        f"{name:<52}{distinct:>5}{100 * tpot[0]:>10.1f}{100 * tpot[1]:>7.1f}{100 * bias:>+6.1f}"
        f"{100 * rate[0]:>14.1f}{100 * rate[1]:>7.1f}"
    )


def outliers(found: Sequence[Judged]) -> Iterator[str]:
    """Points that are far off whenever they are predicted."""
    by_row: dict[int, list[Judged]] = {}
    for each in found:
        by_row.setdefault(id(each.row), []).append(each)
    far = [some for some in by_row.values() if min(abs(e.tpot) for e in some) > OUTLIER]
    yield f"outliers: {len(far)} points whose TPOT is off by more than {OUTLIER:.0%} in every fit"
    for some in sorted(far, key=lambda some: (some[0].row.group, some[0].row.point.name)):
        point = some[0].row.point
        error = float(np.median([each.tpot for each in some]))
        measured = f"{1000 * point.tpot:.1f} ms measured"
        yield f"  {some[0].row.group:<44} {point.name:<26} {measured:<20} {error:+.0%}"


def bands(halved: Sequence[Judged], crossed: Sequence[Judged]) -> Bands:
    """90th percentiles of the error of times per token."""
    seen = [each for each in crossed if each.known]
    strange = [each for each in crossed if not each.known]
    found = (quantile(some, 0.9, lambda each: each.tpot) for some in (halved, seen, strange))
    return Bands(*(round(value, 3) for value in found))


# ---- the files -------------------------------------------------------------------------------


def write(all_rows: Sequence[Row], errors: Bands) -> None:
    """`fitted.json` and `residuals.csv` of a fit to all points."""
    terms = [row.token for row in all_rows]
    seconds = [row.point.tpot for row in all_rows]
    made = fit.fit(terms, seconds)
    spread = fit.intervals(terms, seconds, [row.group for row in all_rows], DRAWS, SEED)
    known = {
        name: Factor(*(round(number, 4) for number in (value, *spread[name])))
        for name, value in sorted(made.items())
    }
    on = tuple(sorted({row.point.machine for row in all_rows}))
    text = msgspec.json.format(msgspec.json.encode(Fitted(known, errors, on)), indent=2)
    (_DATA / "fitted.json").write_bytes(text + b"\n")
    lines = ["model,machine,engine,version,point,tpot_ms,predicted_ms,error"]
    rounded = Factors({name: factor.value for name, factor in known.items()})
    for each in judge(rounded, all_rows):
        point = each.row.point
        lines.append(
            f"{point.model},{point.machine},{point.engine},{point.version},{point.name},"
            f"{1000 * point.tpot:.3f},{1000 * point.tpot * (1 + each.tpot):.3f},{each.tpot:+.4f}"
        )
    (_DATA / "residuals.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def unseen(system: str) -> Iterator[str]:
    """The factors that ship, on points of a machine that they were not fitted to."""
    known = {name: factor.value for name, factor in factors.fitted().factors.items()}
    found = list(judge(Factors(known), rows(silicon.read(system))))
    yield from table(f"fitted to all points, judged on {system}", found)
    yield ""
    yield from outliers(found)


def main() -> None:
    """Print the study, and write the files if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m surgery.study", description=__doc__)
    parser.add_argument("--write", action="store_true", help="the files that ship")
    parser.add_argument("--unseen", metavar="SYSTEM", help="judge on a system of the extra")
    options = parser.parse_args()
    if options.unseen:
        print("\n".join(unseen(options.unseen)))
        return
    all_rows = rows()
    halved, crossed = halves(all_rows), list[Judged]()
    blocks = [table("fitted to one half, judged on the other", halved)]
    for machine in sorted({row.point.machine for row in all_rows}):
        found = across(all_rows, machine)
        crossed += found
        blocks.append(table(f"fitted to {machine}, judged on the others", found))
    blocks.append(outliers(halved))
    print("\n\n".join("\n".join(block) for block in blocks))
    if options.write:
        write(all_rows, bands(halved, crossed))


if __name__ == "__main__":
    main()
