"""The solver beside plain HiGHS, cvxpy over HiGHS, and PuLP over CBC, on one set of instances.

    python tests/bench/solver.py [--limit 60] [--gap 1e-3] [--gap 1e-4] [--sizes 36x100x3,...]
                                 [--solvers surgery,highspy,cvxpy,cbc] [--sweep 50]

Instances are multiple-choice knapsacks like those of a block library: layers of a grid of
attention and FFN alternatives whose parameters and cache bytes are the same in every layer,
latencies with 1% of noise, damages that grow with what is removed, by an amount that differs from
layer to layer, with an interaction and 3% of noise. So cost and damage are correlated, which is
what makes such knapsacks hard. Every answer is checked in whole numbers, every objective is added
up again, and no solver's bound may exceed another's answer.

`surgery` is `solving/knapsack`, asked for the gap and no more; `default` is what `surgery plan`
asks for: 0, unless that takes long. PuLP is in the extra `bench`, and left out where that is not
installed. Seconds are CPU seconds, of children too, so that a busy machine changes little; every
solver has one thread, building the model is part of it, and limits are by the clock.

With `--noise 0.01`, every weight varies from layer to layer, parameters and cache bytes too, as
they would where each block was measured: then totals are not those of a grid.

With `--sweep N`: N budgets of one 36x100 instance with warm multipliers, beside N cold runs of
HiGHS. With `--pool`: three choices of 80 layers of 16 alternatives with two rows, that differ
pairwise in 20 layers.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from math import inf
from statistics import median
from typing import Any, cast

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from surgery.solving.knapsack import search
from surgery.solving.knapsack.instance import Floats, Instance
from surgery.solving.knapsack.search import Policy

SIZES = ((36, 12, 3), (36, 100, 3), (48, 400, 3), (100, 1000, 3), (1000, 100, 3), (36, 100, 8))
SEEDS = 3
GRIDS = {12: (3, 4), 16: (2, 8), 100: (10, 10), 400: (20, 20), 1000: (25, 40)}
SHARES = (0.65, 0.7, 0.6, 0.61, 0.62, 0.63, 0.64, 0.65)
"""Of the parent's parameters, cache bytes, and latency in one or more scenarios."""


class Raw(Struct, frozen=True):
    """Costs (n,), whole weights (m, n), rooms (m,), starts of the layers (layers + 1,)."""

    cost: Floats
    weight: Floats
    room: Floats
    start: NDArray[np.int64]


def cpu() -> float:
    """CPU seconds of this process and of the children that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Ran(Struct, frozen=True):
    """Seconds, the answer (one item per layer) and its bound; no answer is `None`."""

    seconds: float
    chosen: NDArray[np.int64] | None
    bound: float


def instance(layers: int, alternatives: int, rows: int, seed: int, noise: float = 0.0) -> Raw:
    """One instance; the first alternative of a layer is the parent's block, without damage.

    `noise` is that of all weights, relative, besides that of latencies.
    """
    rng = np.random.default_rng(seed)
    first, second = GRIDS[alternatives]
    shares = np.meshgrid(np.linspace(1, 0, first), np.linspace(1, 0, second), indexing="ij")
    attention, ffn = (share.ravel() for share in shares)
    params = np.rint(attention * 42_000_000 + ffn * 176_000_000)
    cache = 4 * np.rint(attention * 2 * 1024**2)
    costs: list[Floats] = []
    weights: list[Floats] = []
    for _ in range(layers):
        own = [params, cache]
        for row in range(rows - 2):
            mix = 0.25 + 0.5 * row / max(rows - 2, 1)
            time_ = mix * attention * 400_000 + (1 - mix) * ffn * 700_000 + 20_000
            own.append(np.rint(time_ * (1 + 0.01 * rng.standard_normal(alternatives))))
        weights.append(np.array(own))
        harm_a, harm_f = rng.lognormal(-2, 0.7), rng.lognormal(-1.5, 0.7)
        power_a, power_f = rng.uniform(1.2, 2.5, 2)
        harm = harm_a * (1 - attention) ** power_a + harm_f * (1 - ffn) ** power_f
        harm += 0.3 * np.sqrt(harm_a * harm_f) * (1 - attention) * (1 - ffn)
        harm *= 1 + 0.03 * rng.standard_normal(alternatives)
        harm[0] = 0
        costs.append(np.maximum(harm, 0))
    start = np.arange(layers + 1) * alternatives
    weight = np.concatenate(weights, axis=1)
    if noise:
        varied = np.random.default_rng((seed, 1)).standard_normal(weight.shape)
        weight = np.rint(weight * np.maximum(1 + noise * varied, 0.0))
    room = np.floor(weight[:, start[:-1]].sum(axis=1) * np.array(SHARES[:rows]))
    return Raw(np.concatenate(costs), weight, room, start)


# ---- solvers ---------------------------------------------------------------------------------


def by_surgery(raw: Raw, gap: float, limit: float, effort: int = 0) -> Ran:
    began = cpu()
    made = Instance.of(raw.cost, raw.weight, raw.room, raw.start)
    policy = Policy(gap=gap, effort=effort, deadline=time.monotonic() + limit)
    answer = search.solve(made, policy)
    return Ran(cpu() - began, answer.chosen, answer.bound)


def by_default(raw: Raw, gap: float, limit: float) -> Ran:
    return by_surgery(raw, gap, limit, Policy().effort)


def by_highspy(raw: Raw, gap: float, limit: float) -> Ran:
    import highspy  # noqa: TID251 - what we are compared with

    count, layers, rows = len(raw.cost), len(raw.start) - 1, len(raw.room)
    began = cpu()
    highs = highspy.Highs()
    options: dict[str, bool | int | float | str] = {
        "output_flag": False,
        "threads": 1,
        "mip_rel_gap": gap,
        "mip_abs_gap": 0.0,
        "time_limit": limit,
    }
    for name, value in options.items():
        highs.setOptionValue(name, value)
    every = np.arange(count, dtype=np.int32)
    highs.passModel(
        count,
        layers + rows,
        count * (rows + 1),
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        raw.cost,
        np.zeros(count),
        np.ones(count),
        np.concatenate([np.ones(layers), np.full(rows, -inf)]),
        np.ones(layers + rows),
        np.concatenate([raw.start, count * np.arange(2, rows + 2)]).astype(np.int32),
        np.tile(every, rows + 1),
        np.concatenate([np.ones(count), (raw.weight / raw.room[:, None]).ravel()]),
        np.ones(count, dtype=np.int32),
    )
    highs.run()
    x = np.array(highs.getSolution().col_value)
    bound = highs.getInfo().mip_dual_bound
    return Ran(cpu() - began, chosen_of(raw, x), bound)


def by_cvxpy(raw: Raw, gap: float, limit: float) -> Ran:
    import cvxpy  # noqa: TID251 - what we are compared with
    from scipy import sparse  # pyright: ignore[reportMissingTypeStubs] - it has none

    cp = cast("Any", cvxpy)
    count, layers = len(raw.cost), len(raw.start) - 1
    began = cpu()
    x = cp.Variable(count, boolean=True)
    home = np.repeat(np.arange(layers), np.diff(raw.start))
    sites = sparse.csr_array((np.ones(count), (home, np.arange(count))))
    rows = [sites @ x == 1, (raw.weight / raw.room[:, None]) @ x <= 1]
    problem = cp.Problem(cp.Minimize(raw.cost @ x), rows)
    options = {"threads": 1, "mip_rel_gap": gap, "mip_abs_gap": 0.0, "time_limit": limit}
    try:
        problem.solve(solver="HIGHS", **options)
    except cvxpy.SolverError:  # it ran out of time without a point
        return Ran(cpu() - began, None, -inf)
    seconds = cpu() - began
    # cvxpy tells no bound; a claim to be optimal is one of the gap.
    bound = problem.value * (1 - gap) if problem.status == "optimal" else -inf
    return Ran(seconds, None if x.value is None else chosen_of(raw, x.value), bound)


def by_cbc(raw: Raw, gap: float, limit: float) -> Ran:
    import pulp  # pyright: ignore[reportMissingTypeStubs, reportMissingImports] - bench only

    lib = cast("Any", pulp)
    began = cpu()
    problem = lib.LpProblem("knapsack", lib.LpMinimize)
    x = [lib.LpVariable(f"x{j}", cat="Binary") for j in range(len(raw.cost))]
    problem += lib.lpSum(c * v for c, v in zip(raw.cost.tolist(), x, strict=True))
    for a, b in zip(raw.start[:-1].tolist(), raw.start[1:].tolist(), strict=True):
        problem += lib.lpSum(x[a:b]) == 1
    for weight, room in zip(raw.weight, raw.room, strict=True):
        shares = (weight / room).tolist()
        problem += lib.lpSum(w * v for w, v in zip(shares, x, strict=True) if w) <= 1
    problem.solve(lib.PULP_CBC_CMD(msg=False, gapRel=gap, timeLimit=limit, threads=1))
    seconds = cpu() - began
    values = np.array([v.value() or 0.0 for v in x])
    # PuLP says "Optimal" for what CBC found in time, too, and tells no bound.
    proved = problem.sol_status == lib.LpSolutionOptimal and seconds < limit
    chosen = chosen_of(raw, values) if values.any() else None
    value = raw.cost[chosen].sum() if chosen is not None else 0.0
    return Ran(seconds, chosen, value * (1 - gap) if proved else -inf)


SOLVERS: dict[str, Callable[[Raw, float, float], Ran]] = {
    "surgery": by_surgery,
    "default": by_default,
    "highspy": by_highspy,
    "cvxpy": by_cvxpy,
    "cbc": by_cbc,
}


def chosen_of(raw: Raw, x: Floats) -> NDArray[np.int64]:
    """The largest item of each layer."""
    layers = np.split(x, raw.start[1:-1])
    return np.array([int(np.argmax(layer)) for layer in layers]) + raw.start[:-1]


# ---- checks and tables -----------------------------------------------------------------------


def value(raw: Raw, ran: Ran) -> float:
    """The objective of an answer that fits in whole numbers, infinite otherwise."""
    if ran.chosen is None:
        return inf
    whole = raw.weight.astype(np.int64)[:, ran.chosen].sum(axis=1)
    return float(raw.cost[ran.chosen].sum()) if (whole <= raw.room).all() else inf


def told(raw: Raw, ran: Ran) -> str:
    found = value(raw, ran)
    if found == inf:
        return f"{ran.seconds:9.3f} s {'none':>8}"
    gap = max(found - ran.bound, 0) / found
    return (
        f"{ran.seconds:9.3f} s {gap:8.1e}" if gap < 1 else f"{ran.seconds:9.3f} s {'no bound':>8}"
    )


def proved(raw: Raw, ran: Ran, gap: float) -> bool:
    found = value(raw, ran)
    return found < inf and found - ran.bound <= gap * found * (1 + 1e-6)


def compare(gap: float, arguments: argparse.Namespace) -> None:
    names = [name for name in arguments.solvers.split(",") if installed(name)]
    noise = f", noise {arguments.noise:g}" if arguments.noise else ""
    print(f"relative gap {gap:g}, limit {arguments.limit:g} s{noise}")
    print(f"{'size':>12} seed " + "".join(f"{name:>21}" for name in names))
    factors: list[float] = []
    slow: list[float] = []
    unproved: list[str] = []
    for layers, alternatives, rows in sizes(arguments.sizes):
        for seed in range(SEEDS):
            raw = instance(layers, alternatives, rows, seed, arguments.noise)
            ran = {name: SOLVERS[name](raw, gap, arguments.limit) for name in names}
            size = f"{layers}x{alternatives}x{rows}"
            texts = "".join(f" {told(raw, each)}" for each in ran.values())
            print(f"{size:>12} {seed:4} {texts}", flush=True)
            check(raw, ran)
            if not proved(raw, ran["surgery"], gap):
                unproved.append(f"{size}/{seed}")
            if "highspy" in ran:
                factor = ran["highspy"].seconds / ran["surgery"].seconds
                factors.append(factor)
                if ran["highspy"].seconds > 1:
                    slow.append(factor)
    print(f"not proved by surgery: {', '.join(unproved) or 'none'}")
    if factors:
        hard = f"{median(slow):.1f}x on {len(slow)} instances" if slow else "none"
        print(f"faster than highspy where that takes over a second, median: {hard}")
        print(f"least factor on any: {min(factors):.2f}x\n")


def check(raw: Raw, ran: dict[str, Ran]) -> None:
    """No bound may exceed an answer."""
    best = min(value(raw, each) for each in ran.values())
    for name, each in ran.items():
        if each.bound > best * (1 + 1e-6):
            raise SystemExit(f"{name} claims {each.bound}, and {best} exists")


def sweep(points: int, limit: float) -> None:
    """The parameters of a 36x100 instance from 50% to 90% of the parent's."""
    for seed in range(SEEDS if points else 0):
        raw = instance(36, 100, 3, seed)
        whole = raw.room / np.array(SHARES[:3])
        warm: Floats | None = None
        seconds, cold, unproved = 0.0, 0.0, 0
        for share in np.linspace(0.5, 0.9, points):
            room = raw.room.copy()
            room[0] = np.floor(whole[0] * share)
            point = Raw(raw.cost, raw.weight, room, raw.start)
            began = cpu()
            made = Instance.of(point.cost, point.weight, point.room, point.start)
            answer = search.solve(made, Policy(gap=1e-3, effort=0), warm)
            warm = answer.bundle.steps[0].prices[None]
            seconds += cpu() - began
            unproved += not proved(point, Ran(0.0, answer.chosen, answer.bound), 1e-3)
            if limit:
                cold += by_highspy(point, 1e-3, limit).seconds
        beside = f", highspy cold {cold:.2f} s: {cold / seconds:.1f}x" if limit else ""
        print(f"sweep seed {seed}: {points} points in {seconds:.2f} s, unproved {unproved}{beside}")


def pool(limit: float) -> None:
    """Three choices that differ pairwise in 20 of 80 layers, proved as `surgery plan` proves."""
    for seed in range(SEEDS):
        raw = instance(80, 16, 2, seed)
        made = Instance.of(raw.cost, raw.weight, raw.room, raw.start)
        for gap in (Policy().gap, 1e-3):
            left, texts, total = made, list[str](), 0.0
            for _ in range(3):
                began = cpu()
                answer = search.solve(left, Policy(gap=gap, deadline=time.monotonic() + limit))
                seconds, total = cpu() - began, total + cpu() - began
                texts.append(told(raw, Ran(seconds, answer.chosen, answer.bound)))
                if answer.chosen is None:
                    break
                same = np.zeros(len(raw.cost))
                same[answer.chosen] = 1
                left = left.with_row(same, 60.0)
            print(f"pool seed {seed}, gap {gap:g}: {total:7.3f} s; {'; '.join(texts)}", flush=True)


def installed(name: str) -> bool:
    if name != "cbc":
        return True
    from importlib.util import find_spec

    return find_spec("pulp") is not None


def sizes(text: str) -> list[tuple[int, int, int]]:
    if not text:
        return list(SIZES)
    return [cast("tuple[int, int, int]", tuple(map(int, s.split("x")))) for s in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each answer")
    parser.add_argument("--gap", type=float, action="append", help="relative; may be repeated")
    parser.add_argument("--sizes", default="", help="layers x alternatives x rows, comma-separated")
    parser.add_argument("--solvers", default=",".join(SOLVERS))
    parser.add_argument("--noise", type=float, default=0.0, help="of all weights, relative")
    parser.add_argument("--sweep", type=int, default=0, metavar="N")
    parser.add_argument("--pool", action="store_true")
    arguments = parser.parse_args()
    by_surgery(instance(36, 12, 3, 9), 1e-3, 1.0)  # imports are not part of the first answer
    if arguments.sweep or arguments.pool:
        sweep(arguments.sweep, arguments.limit)
        if arguments.pool:
            pool(arguments.limit)
        return
    for gap in arguments.gap or [1e-3, 1e-4]:
        compare(gap, arguments)


if __name__ == "__main__":
    main()
