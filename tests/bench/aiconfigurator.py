"""How far tables of operations are off: `python tests/bench/aiconfigurator.py`.

Needs `pip install 'surgery[aiconfigurator]'`. Printed are

* errors of times per token of the measured points in `surgery/costing/data`, where the blocks are
  looked up in the tables and the rest (head, start of a step) is modelled. Counted are points of
  which at most a tenth is modelled that the tables could have told. The last line is the band that
  plans state (`costing/aiconfigurator.py`);
* errors of the interpolations, on points of the tables that are left out and predicted from their
  neighbours: sides of matrices, tokens, windows that are taken for full attention of their length.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
from msgspec.structs import replace

from surgery import study
from surgery.costing import aiconfigurator, factors, terms
from surgery.costing.aiconfigurator import Point, Tables
from surgery.costing.terms import Stage, Work

ENGINES = ("vllm", "sglang")
"""Engines that a spec can name; of the points those of TensorRT-LLM are left out."""
MODELLED = 0.1
HELD_OUT = 200


def main() -> None:
    """Print both tables."""
    if not aiconfigurator.installed():
        sys.exit("aiconfigurator-core is not installed")
    errors: dict[str, list[tuple[float, float]]] = {}
    made = factors.factors("vllm")
    for row in study.rows():
        point = row.point
        known = aiconfigurator.tables(point.machine.rpartition(".")[2], point.engine)
        if point.engine in ENGINES and known is not None:
            stage = _stage(row)
            value, modelled = _token(point.works, point.head, stage, known, made)
            errors.setdefault(row.group, []).append((value / point.tpot - 1, modelled / value))
    _served(errors)
    print()
    known = aiconfigurator.tables("h200_sxm", "vllm")
    assert known is not None
    for name, found in _left_out(known):
        print(_line(name, len(found), found))


def _stage(row: study.Row) -> Stage:
    here = study.devices()[row.point.machine]
    return Stage(replace(row.point.load, batch=row.admitted), here, row.point.shared)


def _token(
    works: Sequence[Work],
    head: tuple[int, int],
    stage: Stage,
    known: Tables,
    made: factors.Factors,
) -> tuple[float, float]:
    """Seconds per token, and how many of them are of blocks that are not in the tables."""
    total, modelled = made.seconds(terms.head(*head, stage)), 0.0
    for work, times in Counter(works).items():
        step = aiconfigurator.seconds(work, stage, "decode", known)
        prompt = aiconfigurator.seconds(work, stage, "mixed", known)
        if step is None:
            step = made.seconds(terms.decode((work,), stage))
            modelled += times * step
        if prompt is None:
            beside = made.seconds(terms.mixed((work,), stage))
            modelled += times * beside
        else:
            beside = prompt * stage.prompts
        total += times * (step + beside)
    return total, modelled


def _served(errors: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    title = "times per token of served models"
    print(f"{title:<48}{'points':>7}{'looked up':>10} median   p90  bias")
    every: list[float] = []
    for group, found in sorted(errors.items()):
        some = [error for error, modelled in found if modelled <= MODELLED]
        every += some
        print(_line(group, len(found), some))
    print(_line("all", sum(map(len, errors.values())), every))


def _line(name: str, count: int, some: Sequence[float]) -> str:
    if not some:
        return f"  {name:<46}{count:>7}{0:>10}"
    size = np.abs(some)
    return (
        f"  {name:<46}{count:>7}{len(some):>10}{100 * float(np.median(size)):>7.1f}%"
        f"{100 * float(np.quantile(size, 0.9)):>5.1f}%{100 * statistics.median(some):>+6.1f}"
    )


# ---- interpolation ---------------------------------------------------------------------------


def _left_out(known: Tables) -> Iterator[tuple[str, list[float]]]:
    products = aiconfigurator.grid_of_gemms(known).points
    yield "a side of a matrix left out", list(_predicted(products, 1))
    yield "tokens of a matrix left out", list(_predicted(products, 0))
    full = aiconfigurator.steps(known, ("bfloat16", 64, 8, 64), 0).points
    yield "tokens of attention left out", list(_predicted(full, 1))
    for window, dim in ((128, 64), (128, 128), (1024, 256), (8192, 128)):
        title = f"a window of {window} (heads of {dim}) taken for full attention"
        yield title, list(_windows(known, window, dim))


def _windows(known: Tables, window: int, dim: int) -> Iterator[float]:
    for heads, groups in product((4, 5, 8, 10, 16, 20, 32, 40, 64), (1, 2, 4, 8)):
        shape = ("bfloat16", heads, groups, dim)
        full = aiconfigurator.steps(known, shape, 0).points
        for (batch, held), value in aiconfigurator.steps(known, shape, window).points.items():
            if held > window and (batch, float(window)) in full:
                yield full[batch, float(window)] / value - 1


def _predicted(points: Mapping[Point, float], axis: int) -> Iterator[float]:
    """Errors at places that are taken away, between their neighbours on one axis."""
    lots = np.random.default_rng(0)
    places = sorted({place[axis] for place in points})[1:-1]
    targets = [place for place in sorted(points) if place[axis] in places]
    lines: dict[Point, dict[Point, float]] = {}
    for place, value in points.items():
        lines.setdefault((*place[:axis], *place[axis + 1 :]), {})[place] = value
    order = [int(n) for n in lots.permutation(len(targets))[:HELD_OUT]]
    for where in (targets[n] for n in order):
        others = lines[(*where[:axis], *where[axis + 1 :])]
        line = {place: value for place, value in others.items() if place != where}
        found = aiconfigurator.between(aiconfigurator.grid(line), where)
        if found is not None:
            yield found / points[where] - 1


if __name__ == "__main__":
    main()
