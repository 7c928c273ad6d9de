"""Tables that others measured -> what they give of a space: scores, costs, kept lists.

In: the files of `--table`, the spec, its space. Out: `Given`: the space with the costs and kept
lists of the tables in place of ours, and the damages that need no measuring. A row has an
`address` (that of a candidate, or `fixed`) and a `metric`: a score of the spec (nats), a cost
(`params`; `weights` and `kv_per_token` in bytes), a time (`prefill@NAME`, the reading of one
prompt of the scenario NAME, `decode@NAME`, one token for all of its sequences, both in seconds),
`kept` (`0-5,9`: what an edit that selects keeps), or `k_scale` and `v_scale` of an FP8 cache.

Refuses what no row can mean (E0707: unknown addresses and metrics, numbers that are none, two
values for one), values that are not finite (E0702), damage of the parent's own block (E0704), and
a score that is given for some candidates but not for all that it can see (E0701): what others
measured and what we would measure do not compare. Not here: reading files (`table_file.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import inf, isfinite
from pathlib import Path
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from surgery import catalog, edits, lockfile
from surgery.diagnostics import Code, Diagnostic, Help, Sink, Stop
from surgery.grammar.near import nearest
from surgery.ir import Candidate, Scales, Space, Spec, Timing, merging_of
from surgery.passes import table_file, timing
from surgery.passes.score import Damage
from surgery.passes.table_file import Row
from surgery.scoring.blind import scores_used, sees
from surgery.units import float32
from surgery.untrusted import shown

COSTS = ("params", "weights", "kv_per_token")
"""Costs that a table may give: whole numbers in the units of `ir.Cost`."""
KEPT = "kept"
SCALES = ("k_scale", "v_scale")
FIXED = timing.FIXED
PHASES: tuple[Literal["prefill", "decode"], ...] = ("prefill", "decode")
NINE_IN_TEN = 1.645
"""Standard errors that 9 in 10 of what is normally distributed stay within."""
_LEAST_SCALE = Fraction(1, 10**30)
"""Far below any scale, and not below what a float32 can hold."""
_SHOW = 5
_LONGEST = 64
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?")
_ENDLESS = re.compile(r"(?i)[+-]?(nan|inf|infinity)")
_TIME = re.compile(r"(prefill|decode)@(\w+)")
_LAYER = re.compile(r"layer\.0*(\d+)\.")

Scores = Mapping[str, Mapping[str, Damage]]
"""Damage by score and address."""


class Given(Struct, frozen=True):
    """What tables give. `files` are (name, SHA-256) of the tables, for the plan."""

    space: Space
    scores: Scores
    files: tuple[tuple[str, str], ...]


def run(spec: Spec, space: Space, paths: Sequence[Path], sink: Sink) -> Given | None:
    """Read and apply; `None` when an error was reported. Raises `Stop` for unreadable files."""
    tables = [table_file.read(path) for path in paths]
    _check_names([table.name for table in tables])
    reading = _Reading(spec, space, {c.address: c for c in space.candidates})
    for table in tables:
        for row in table.rows:
            reading.read(row)
    reading.pair_scales()
    sink.extend(reading.findings())
    if not sink.failed:
        sink.extend(_incomplete(spec, space, reading.scores, ", ".join(t.name for t in tables)))
    if sink.failed:
        return None
    files = tuple(sorted((table.name, table.digest) for table in tables))
    return Given(_applied(space, reading), reading.scores, files)


def _check_names(names: Sequence[str]) -> None:
    """A plan tells tables apart by their names."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        helps = (Help("rename one of them: a plan tells its tables apart by name"),)
        message = f"two tables are called `{twice}`"
        raise Stop(Diagnostic(catalog.E0707, message, subject=twice, helps=helps))


def with_operations(spec: Spec, given: Given) -> Given:
    """The same, and times of the operations that NVIDIA measured."""
    space, files = timing.looked_up(spec, given.space)
    return replace(given, space=space, files=(*given.files, *files))


# ---- rows ------------------------------------------------------------------------------------


class _Reading(Struct):
    """What the rows have said so far; and what is wrong with them, by kind of mistake."""

    spec: Spec
    space: Space
    candidates: Mapping[str, Candidate]
    scores: dict[str, dict[str, Damage]] = field(default_factory=dict[str, dict[str, Damage]])
    costs: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    ranked: dict[str, Candidate] = field(default_factory=dict[str, Candidate])
    times: dict[str, list[Timing]] = field(default_factory=dict[str, list[Timing]])
    scales: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    seen: dict[tuple[str, str], Row] = field(default_factory=dict[tuple[str, str], Row])
    first: dict[str, Diagnostic] = field(default_factory=dict[str, Diagnostic])
    places: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def read(self, row: Row) -> None:
        """Take in one row, or note what is wrong with it."""
        address = _LAYER.sub(lambda found: f"layer.{found[1]}.", row.address, count=1)
        earlier = self.seen.setdefault((address, row.metric), row)
        if earlier is not row:
            message = f"`{shown(row.metric)}` of `{shown(address)}` is given twice"
            self.refuse(row, message, f"first given at {earlier.place}")
        elif address != FIXED and address not in self.candidates:
            self.refuse(row, *self.unknown_address(address))
        elif row.metric in COSTS:
            self.cost(row, address)
        elif row.metric == KEPT:
            self.kept(row, address)
        elif row.metric in SCALES:
            self.scale(row, address)
        elif found := _TIME.fullmatch(row.metric):
            self.time(row, address, *found.groups())
        elif row.metric in {score.name for score in self.spec.scores}:
            self.score(row, address)
        else:
            self.refuse(row, *self.unknown_metric(row.metric))

    def score(self, row: Row, address: str) -> None:
        candidate = self.candidates.get(address)
        mean = self.number(row, row.value)
        error = self.number(row, row.error) if row.error else None
        if mean is None or (row.error and error is None):
            return
        if candidate is None:
            message = f"`{row.metric}` is given of `{FIXED}`, which no choice changes"
            self.refuse(row, message, "only costs have a fixed part")
        elif mean < 0 or (error or 0) < 0:
            self.refuse(row, f"`{row.metric}` of `{address}` is below 0", "no damage is")
        elif mean and not candidate.changed:
            message = f"the table says that `{address}` does damage of {row.value} nats"
            here = "the parent's own block: 0, or no row at all"
            note = "changing nothing must do nothing; no score beside it can be trusted"
            self.refuse(row, message, here, note, code=catalog.E0704)
        else:
            damage = Damage(float(mean), None if error is None else float(error))
            self.scores.setdefault(row.metric, {})[address] = damage

    def cost(self, row: Row, address: str) -> None:
        value = self.number(row, row.value)
        if value is None:
            return
        if value < 0 or value.denominator != 1:
            message = f"`{row.metric}` of `{address}` is {row.value}"
            self.refuse(row, message, "a whole number, 0 or more, is expected")
        else:
            self.costs.setdefault(address, {})[row.metric] = int(value)

    def time(self, row: Row, address: str, phase: str, name: str) -> None:
        scenario = next((s for s in self.spec.scenarios if s.name == name), None)
        if scenario is None:
            message = f"`{shown(row.metric)}` is about a scenario that the spec does not have"
            names = ", ".join(f"`{each.name}`" for each in self.spec.scenarios) or "none"
            self.refuse(row, message, f"no scenario `{name}`", f"there are {names}")
            return
        if scenario.batch is None:
            message = f"`{row.metric}` is about a batch that is not a number"
            note = "times of one batch say nothing of the others"
            has = "batch = fit" if scenario.clients is None else "clients"
            self.refuse(row, message, f"`{name}` has `{has}`", note)
            return
        value = self.number(row, row.value)
        error = self.number(row, row.error) if row.error else None
        if value is None or (row.error and error is None):
            return
        if value < 0 or (error or 0) < 0:
            self.refuse(row, f"`{row.metric}` of `{address}` is below 0", "no time is")
            return
        known = float(error) * NINE_IN_TEN / float(value) if error is not None and value else inf
        band = known if value else 0.0
        reading: Literal["prefill", "decode"] = "prefill" if phase == "prefill" else "decode"
        made = Timing(name, scenario.batch, reading, float(value), "imported", band)
        self.times.setdefault(address, []).append(made)

    def kept(self, row: Row, address: str) -> None:
        candidate = self.candidates.get(address)
        if candidate is None or not edits.selects(candidate.edit):
            self.refuse(row, f"`{address}` does not select, so it has no kept list", "given here")
            return
        if edits.known(candidate.site, candidate.edit).merge is not None:
            self.merged(row, address, candidate)
            return
        numbers = lockfile.numbers(row.value)
        if numbers is None:
            message = f"the kept list of `{address}` cannot be read"
            self.refuse(row, message, "ascending numbers, runs joined: `0-5,9`")
        else:
            try:
                self.ranked[address] = edits.ranked(self.space.model, candidate, numbers)
            except ValueError as error:
                self.refuse(row, f"the kept list of `{address}` does not fit", str(error))

    def merged(self, row: Row, address: str, candidate: Candidate) -> None:
        groups = merging_of(row.value)
        if groups is None:
            message = f"the groups of `{address}` cannot be read"
            self.refuse(row, message, "every expert once, with its weight: `0*7+5*2,1*3`")
            return
        try:
            self.ranked[address] = edits.merged(self.space.model, candidate, groups)
        except ValueError as error:
            self.refuse(row, f"the groups of `{address}` do not fit", str(error))

    def scale(self, row: Row, address: str) -> None:
        candidate, value = self.candidates.get(address), self.number(row, row.value)
        if candidate is None or not edits.scaled(candidate):
            self.refuse(row, f"`{address}` is not cached in FP8, so it has no scales", "given here")
        elif value is not None and not _LEAST_SCALE <= value <= 1 / _LEAST_SCALE:
            message = f"`{row.metric}` of `{address}` is {row.value}"
            self.refuse(row, message, "a number above 0 is expected")
        elif value is not None:
            self.scales.setdefault(address, {})[row.metric] = float32(float(value))

    def pair_scales(self) -> None:
        """Fill scales in, or note what lacks the other of the two."""
        for address, found in self.scales.items():
            if len(found) < len(SCALES):
                (only,) = found
                (other,) = {*SCALES} - {only}
                row = self.seen[address, only]
                self.refuse(row, f"`{address}` is given a `{only}` and no `{other}`", "given alone")
                continue
            scales = Scales(*(found[name] for name in SCALES))
            candidate = self.ranked.get(address, self.candidates[address])
            self.ranked[address] = edits.calibrated(self.space.model, candidate, scales)

    def number(self, row: Row, text: str) -> Fraction | None:
        """The exact value of a number; `None` after noting that it is none, or not finite."""
        number = _NUMBER.fullmatch(text) and len(text) <= _LONGEST
        if number and isfinite(float(text)):
            return Fraction(text)
        if number or _ENDLESS.fullmatch(text):
            message = f"`{row.metric}` of `{row.address}` is not finite"
            self.refuse(row, message, f"`{text}`", code=catalog.E0702)
        else:
            here = "digits with a decimal point are expected"
            self.refuse(row, f"`{shown(text)}` is no number", here)
        return None

    # ---- findings ----

    def refuse(
        self, row: Row, message: str, here: str, *notes: str, code: Code = catalog.E0707
    ) -> None:
        """Note a mistake; equal ones (`here` tells) become one finding."""
        kind = f"{code.id} {here.partition(' at ')[0]}"
        self.first.setdefault(kind, row.finding(code, message, here, *notes))
        self.places.setdefault(kind, []).append(row.place)

    def findings(self) -> Iterator[Diagnostic]:
        """One finding per kind of mistake, with the places of the others."""
        for kind, found in self.first.items():
            others = self.places[kind][1:]
            more = f" and {len(others) - _SHOW} more" if len(others) > _SHOW else ""
            notes = (f"the same at {', '.join(others[:_SHOW])}{more}",) if others else ()
            yield replace(found, notes=(*found.notes, *notes))

    def unknown_address(self, address: str) -> tuple[str, str, str]:
        """Message, label and note for an address that no candidate has."""
        site, _, _ = address.partition("(")[0].rpartition(".")
        offered = [a for a in self.candidates if a.startswith(f"{site}.")]
        note = "an address is written `layer.19.experts.64`, as plans and libraries write it"
        if offered and site:
            texts = ", ".join(f"`{a.removeprefix(f'{site}.')}`" for a in offered)
            note = f"`{site}` is offered {texts}"
        return f"the spec has no candidate `{shown(address)}`", "no candidate", note

    def unknown_metric(self, metric: str) -> tuple[str, str, str]:
        """Message, label and note for a metric that is neither score nor cost."""
        times = [f"{phase}@{each.name}" for each in self.spec.scenarios for phase in PHASES]
        names = [*(score.name for score in self.spec.scores), *COSTS, KEPT, *SCALES, *times]
        near = nearest(metric, names)
        note = f"the name nearest to it is `{near[0]}`" if near else ""
        listed = ", ".join(f"`{name}`" for name in names)
        message = f"`{shown(metric)}` is neither a score of the spec nor a cost"
        return message, "no metric of this spec", note or f"there are {listed}"


# ---- the space -------------------------------------------------------------------------------


def _applied(space: Space, reading: _Reading) -> Space:
    """The space with what the rows give in place of what is computed, or beside it."""

    def given(candidate: Candidate) -> Candidate:
        costs = reading.costs.get(candidate.address, {})
        ranked = reading.ranked.get(candidate.address, candidate)
        return replace(ranked, cost=replace(candidate.cost, **costs))

    options = tuple(
        replace(option, candidates=tuple(map(given, option.candidates))) for option in space.options
    )
    fixed = replace(space.fixed, **reading.costs.get(FIXED, {}))
    times = {address: tuple(found) for address, found in reading.times.items()}
    return timing.imported(replace(space, options=options, fixed=fixed), times)


def _incomplete(spec: Spec, space: Space, scores: Scores, names: str) -> Iterator[Diagnostic]:
    """E0701 for each score that misses candidates; what it cannot see does no damage."""
    datasets = {dataset.name: dataset for dataset in spec.datasets}
    for score in scores_used(spec):
        given = scores.get(score.name)
        if given is None:
            continue
        dataset = datasets[score.dataset]
        wanted = [c.address for c in space.candidates if c.changed and sees(dataset, c)]
        missing = [address for address in wanted if address not in given]
        if missing:
            more = [f"and {len(missing) - _SHOW} more"] if len(missing) > _SHOW else []
            message = f"`{score.name}` is given for {len(wanted) - len(missing)} of {len(wanted)} "
            yield Diagnostic(
                catalog.E0701,
                message + "candidates, and missing for the rest",
                subject=names,
                notes=(*(f"missing: `{address}`" for address in missing[:_SHOW]), *more),
                helps=(Help("give it for all, or for none and have it measured here"),),
            )
