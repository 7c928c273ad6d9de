"""HiGHS behind the few calls that are needed of it: a model as arrays, and a small master.

In: arrays. Out: points and bounds in floating point. Not here: what they mean, and any belief in
them (`knapsack/core.py` verifies). One thread and a fixed seed: the same model has the same answer.
"""

from __future__ import annotations

from math import inf

import highspy  # noqa: TID251 - this module drives the solver
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SEED = 0
TOLERANCE = 1e-9
"""Absolute, on rows and objectives of O(1)."""


def version() -> str:
    """HiGHS's, for plans."""
    return highspy.Highs().version()


class Model(Struct, frozen=True):
    """minimise `cost @ x` with `row_lower <= A @ x <= row_upper`, x in {0, 1} and `<= upper`.

    `A` is sparse by rows (`start`, `index`, `value`). float64 throughout, indices int32.
    """

    cost: Floats
    upper: Floats
    row_lower: Floats
    row_upper: Floats
    start: NDArray[np.int32]
    index: NDArray[np.int32]
    value: Floats


class Reply(Struct, frozen=True):
    """What HiGHS says: a point if it has one, its lower bound, whether time ran out."""

    x: Floats | None
    bound: float
    stopped: bool


def solve(
    model: Model, start: NDArray[np.int64] | None, gap: float, seconds: float, *, presolve: bool
) -> Reply | None:
    """HiGHS's answer within the relative `gap`, `None` where it says infeasible.

    `start` are columns that are 1 in a point to begin with.
    """
    highs = _load(model, gap, seconds, presolve)
    if start is not None:
        point = np.zeros(len(model.cost))
        point[start] = 1.0
        highs.setSolution(len(point), np.arange(len(point), dtype=np.int32), point)
    highs.run()
    status, info = highs.getModelStatus(), highs.getInfo()
    statuses = highspy.HighsModelStatus
    if status in (statuses.kInfeasible, statuses.kUnboundedOrInfeasible):
        return None
    stopped = status == statuses.kTimeLimit
    if not stopped and status != statuses.kOptimal:
        raise RuntimeError(f"HiGHS ended with {highs.modelStatusToString(status)}")
    feasible = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    x = np.array(highs.getSolution().col_value) if feasible else None
    return Reply(x, info.mip_dual_bound, stopped)


def _load(model: Model, gap: float, seconds: float, presolve: bool) -> highspy.Highs:
    highs = highspy.Highs()
    options: dict[str, bool | int | float | str] = {
        "output_flag": False,
        "presolve": "on" if presolve else "off",
        "threads": 1,
        "random_seed": SEED,
        "mip_rel_gap": gap,
        "mip_abs_gap": 0.0,
        "mip_feasibility_tolerance": TOLERANCE,
        "primal_feasibility_tolerance": TOLERANCE,
        "dual_feasibility_tolerance": TOLERANCE,
        "time_limit": seconds,
    }
    for name, value in options.items():
        highs.setOptionValue(name, value)
    status = highs.passModel(
        len(model.cost),
        len(model.row_lower),
        len(model.value),
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        model.cost,
        np.zeros(len(model.cost)),
        model.upper,
        model.row_lower,
        model.row_upper,
        model.start,
        model.index,
        model.value,
        np.ones(len(model.cost), dtype=np.int32),
    )
    if status == highspy.HighsStatus.kError:
        raise RuntimeError("HiGHS refused the model")
    return highs


class Master(Struct):
    """Where a concave function may be greatest: max t under cuts, in a box of `rows` columns.

    The function is that of multipliers (rows,) >= 0; every cut is its value and slope at a point.
    """

    rows: int
    box: float
    _highs: highspy.Highs = None  # pyright: ignore[reportAssignmentType] - made below

    def __post_init__(self) -> None:
        highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        highs.setOptionValue("threads", 1)
        highs.setOptionValue("presolve", "off")
        for _ in range(self.rows):
            highs.addVar(0.0, self.box)
        highs.addVar(-inf, inf)
        highs.changeColCost(self.rows, -1.0)
        self._highs = highs

    def cut(self, value: float, slope: Floats, at: Floats) -> None:
        """The function is at most `value + slope @ (p - at)`."""
        index = np.arange(self.rows + 1, dtype=np.int32)
        room = value - float(slope @ at)
        self._highs.addRow(-inf, room, self.rows + 1, index, np.append(-slope, 1.0))

    def widen(self, factor: float) -> None:
        """Let the multipliers grow further."""
        self.box *= factor
        for column in range(self.rows):
            self._highs.changeColBounds(column, 0.0, self.box)

    def solve(self) -> tuple[float, Floats, Floats]:
        """The greatest value under the cuts so far, where, and the share of each cut in it."""
        self._highs.run()
        solution = self._highs.getSolution()
        values, shares = np.array(solution.col_value), np.abs(solution.row_dual)
        return float(values[-1]), np.maximum(values[:-1], 0.0), shares / (shares.sum() or 1.0)
