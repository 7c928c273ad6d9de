"""Where the times of a model come from, and how far to trust them.

In: costs, a setting, the name of a metric. Out: `Trust`: the part of the whole that each source
gives, the most trusted first, and the error band of the whole. Sources are `measured` (on a machine
of this kind), `imported` (a table), `aiconfigurator` (its tables of operations) and `modelled`. The
band is the mean of the sources' bands by their parts, as if all errors had one sign. Not here:
times.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isinf

from msgspec import Struct

from surgery.costing import factors, serving
from surgery.costing.serving import Setting, Time
from surgery.ir import TIME_SOURCES, Cost, Machine, TimeSource


class Trust(Struct, frozen=True):
    """`shares` are parts of the time by source; 9 in 10 such times are nearer than `band`.

    `strange` are kernels, or the engine, that no measured point of the model has.
    """

    shares: tuple[tuple[TimeSource, float], ...]
    band: float
    strange: tuple[str, ...]

    @property
    def least(self) -> TimeSource:
        """The least trusted source."""
        return self.shares[-1][0]

    @property
    def text(self) -> str:
        """`modelled +-17%`; of several sources the least, with its part: `modelled (38%) +-9%`."""
        if len(self.shares) > 1:
            return f"{self.least} ({_part(self.shares[-1][1])}){self._off}"
        return self.long

    @property
    def long(self) -> str:
        """The same with all sources: `modelled +-9% (measured 62%, modelled 38%)`."""
        if not self.band and self.least == "modelled":
            return "at the limits of the machine"
        what = f"{self.least}{self._off}"
        if len(self.shares) > 1:
            what += f" ({', '.join(f'{name} {_part(part)}' for name, part in self.shares)})"
        return f"{what}: no point has {' or '.join(self.strange)}" if self.strange else what

    @property
    def _off(self) -> str:
        return ", error unknown" if isinf(self.band) else f" +-{self.band:.0%}"


def _part(value: float) -> str:
    if value < 0.005:
        return "<1%"
    return f"{value:.0%}" if value <= 0.995 else ">99%"


def of(costs: Iterable[Cost], at: Setting, machine: Machine, metric: str) -> Trust:
    """The trust in a time of a whole model: `tpot`, `ttft`, or one that is made of both."""
    costs = tuple(costs)
    others = at.stage.load.decode - 1
    weights: tuple[tuple[Time, float], ...] = (
        (("tpot", 1.0),)
        if metric == "tpot"
        else (("ttft", 1.0), *((("tpot", float(others)),) if metric != "ttft" else ()))
    )
    seconds: dict[TimeSource, float] = dict.fromkeys(TIME_SOURCES, 0.0)
    doubts = 0.0
    for cost in costs:
        for time, weight in weights:
            for timing, times in serving.timed(cost, at, time):
                seconds[timing.source] += weight * times * timing.seconds
                doubts += weight * times * timing.seconds * timing.band
    made = factors.factors(at.stage.load.engine)
    for time, weight in weights:
        terms = (serving.terms_of(cost, at, time) for cost in costs)
        seconds["modelled"] += weight * sum(made.seconds(each) for each in terms)
    total = sum(seconds.values())
    shares: list[tuple[TimeSource, float]] = [
        (name, seconds[name] / total) for name in TIME_SOURCES if seconds[name] > 0
    ]
    band, strange = serving.band(costs, at, machine) if seconds["modelled"] else (0.0, ())
    doubts += inf if isinf(band) else seconds["modelled"] * band
    return Trust(tuple(shares) or (("modelled", 1.0),), doubts / total if total else 0.0, strange)
