"""Spec x Space -> how long its blocks take on this machine, into the library.

In: a checked spec, its space, a library. Out: `Bench`: of every scenario that can be timed here,
seconds of each block that is on offer or the parent's, and how far sums of them are off for
children that were held out; of the others, why not. Blocks of one shape are timed together, in all
layers that are offered it; what the library has is not timed again. Blocks that come later are put
in the unit of the first, the parent's step. Refuses (E0708) a spec of which nothing can be timed
here. Not here: how (`benching/`), who uses it (`timing.py`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from surgery import catalog
from surgery.benching import figures, keys, shapes
from surgery.benching.keys import Place, Seconds
from surgery.benching.shapes import PHASES, Offer, Phase, Shape, Times
from surgery.diagnostics import Diagnostic, Help, Label, Stop
from surgery.ir import Attention, Block, Machine, Model, Scenario, Space, Spec
from surgery.library import Library
from surgery.passes import timing
from surgery.progress import Progress
from surgery.units import format_tokens
from surgery.untrusted import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from surgery.benching.clock import Clock
    from surgery.benching.stack import Stack

HELD_OUT, SEED = 4, 0
"""Children that sums are held against, and how they are drawn."""

_EAGER = 12
"""Bytes for each pair of tokens and head while attention is computed: scores, mask and values."""


class Line(Struct, frozen=True):
    """A block, or what is outside of layers, with its times by phase; `None`: not known."""

    what: str
    prefill: Seconds | None
    decode: Seconds | None


class Timed(Struct, frozen=True):
    """One scenario: its lines, how far sums are off by phase (9 in 10), how many were new."""

    scenario: str
    load: str
    lines: tuple[Line, ...]
    off: tuple[Seconds | None, Seconds | None]
    parent: tuple[Seconds | None, Seconds | None]
    new: int


class Bench(Struct, frozen=True):
    """What was timed on the device `name`, and (scenario, reason) of what was not."""

    name: str
    timed: tuple[Timed, ...]
    skipped: tuple[tuple[str, str], ...]


def run(
    spec: Spec,
    space: Space,
    library: Library,
    progress: Progress,
    rounds: int,
    machines: Sequence[str] = (),
) -> Bench:
    """Time what is missing. `machines` are those of the spec that the user says this one is.

    Raises `Stop`: E0201, E0708, E0806, and as reading weights and text does.
    """
    _require_machines(spec, machines)
    from surgery.benching import clock

    here = clock.here()
    found: list[Timed] = []
    skipped: list[tuple[str, str]] = []
    for scenario in spec.scenarios:
        machine = timing.machine_of(spec, scenario)
        why = _why_not(space, machine, scenario, here, machine.name in machines)
        place = keys.place(spec, space.model, machine, scenario)
        if why or place is None:
            skipped.append((scenario.name, why or "PyTorch is not installed as a package"))
            continue
        with clock.cores(here, machine.gpus):
            new = _measure(spec, space, place, scenario, here, library, progress, rounds)
        found.append(_told(space, place, scenario, library, new))
    if not found:
        raise Stop(_nothing(spec, skipped))
    return Bench(here.name, tuple(found), tuple(skipped))


# ---- what can be timed here ------------------------------------------------------------------


def _require_machines(spec: Spec, names: Sequence[str]) -> None:
    """Raise `Stop` (E0201) for a name that no machine of the spec has."""
    known = [machine.name for machine in spec.machines]
    for name in names:
        if name not in known:
            message = f"there is no machine `{shown(name)}`"
            listed = f"machines are {', '.join(known)}" if known else "the spec has none"
            helps = (Help(listed),)
            raise Stop(Diagnostic(catalog.E0201, message, subject="--machine", helps=helps))


def _why_not(space: Space, machine: Machine, scenario: Scenario, here: Clock, told: bool) -> str:
    """Why a scenario cannot be timed here; nothing where it can."""
    import os

    if scenario.engine != keys.ENGINE:
        return f"it is served by {scenario.engine}: only `engine = {keys.ENGINE}` is timed"
    if scenario.batch is None:
        return "its batch is not a number"
    if not keys.steady(scenario):
        return "its requests, or a child's, are not all as long"
    if not (told or here.is_a(machine.device)):
        return f"`{machine.name}` is of {machine.device}, and this is {here.name}"
    cores = here.device.type == "cpu"
    have = (os.cpu_count() or 1) if cores else 1
    if machine.gpus > have:
        what = "cores" if cores else "GPUs"
        return f"`{machine.name}` has {machine.gpus} {what}, and {have} can be timed here"
    tokens = context(scenario)
    heads = max((n.attends.heads for n in space.model.layers if n.attends), default=0)
    if _EAGER * heads * tokens**2 > here.free():
        return f"reading {format_tokens(tokens)} tok in one piece takes more memory than there is"
    return ""


def context(scenario: Scenario) -> int:
    """Tokens that a decoding step looks back at on average: half of the answer is there."""
    return scenario.prefill + scenario.decode // 2


def _nothing(spec: Spec, skipped: Sequence[tuple[str, str]]) -> Diagnostic:
    reasons = dict(skipped)
    labels = tuple(
        Label(scenario.span, reasons[scenario.name], primary=n == 0)
        for n, scenario in enumerate(s for s in spec.scenarios if s.name in reasons)
    )
    message = "the spec has no scenario that can be timed on this machine"
    helps = (Help(f"time on the machine that serves; PyTorch is `engine = {keys.ENGINE}`"),)
    if not labels:
        return Diagnostic(catalog.E0708, message, subject=spec.source.name, helps=helps)
    return Diagnostic(catalog.E0708, message, labels, helps=helps)


# ---- measuring -------------------------------------------------------------------------------


def blocks_of(space: Space) -> tuple[Block, ...]:
    """Every block of the parent and of its candidates, once."""
    costs = (*timing.parent_of(space), *(c.cost for c in space.candidates))
    return tuple(dict.fromkeys(keys.same(cost.block) for cost in costs if cost.block is not None))


def offers(space: Space, depth: int, wanted: frozenset[Block]) -> tuple[Offer, ...]:
    """What the first `depth` layers can have: the parent's own, and of their candidates `wanted`.

    Where not all layers are there, each is offered what any of them is.
    """
    layers = space.model.layers
    found: list[tuple[list[Block | None], list[Block | None]]] = [
        ([_same(layer.attention)], [_same(layer.mlp)]) for layer in layers
    ]
    for candidate in space.candidates:
        block = _same(candidate.block)
        if block is None or block in wanted:
            attention = candidate.site == layers[candidate.layer].sites[0]
            found[candidate.layer][0 if attention else 1].append(block)
    if depth < len(layers):
        every = tuple([b for offer in found for b in offer[site]] for site in (0, 1))
        found = [([*own[0][:1], *every[0]], [*own[1][:1], *every[1]]) for own in found[:depth]]
    return tuple(
        cast("Offer", (tuple(dict.fromkeys(one)), tuple(dict.fromkeys(two)))) for one, two in found
    )


def _same(block: Block | None) -> Block | None:
    return None if block is None else keys.same(block)


def _measure(
    spec: Spec,
    space: Space,
    place: Place,
    scenario: Scenario,
    here: Clock,
    library: Library,
    progress: Progress,
    rounds: int,
) -> int:
    """Time what the library lacks; how many blocks that was."""
    wanted = (*blocks_of(space), keys.FIXED)
    missing = [what for what in wanted if any(place.get(library, p, what) is None for p in PHASES)]
    if not missing:
        return 0
    from surgery.benching import rounds as runs

    new = frozenset(what for what in missing if not isinstance(what, str))
    stack = _loaded(space, here, new)
    depth = len(stack.own)
    timed = shapes.mixed(offers(space, depth, new))
    held = shapes.drawn(offers(space, depth, frozenset(blocks_of(space))), HELD_OUT, SEED)
    made = runs.Children(*(runs.make(stack, children) for children in (timed, held)))
    given = runs.prompts(stack, prompts(spec, space.model, scenario), scenario.prefill)
    for number, phase in enumerate(PHASES):

        def told(done: int, before: int = number * rounds) -> None:
            total = rounds * len(PHASES)
            progress("bench", before + done, total, f"rounds of `{scenario.name}`")

        times = runs.run(stack, made, given, phase, rounds, told)
        _keep(place, phase, (timed, held), times, library)
    return len(missing)


def _loaded(space: Space, here: Clock, new: frozenset[Block]) -> Stack:
    """The parent, or what fits of it."""
    from surgery.benching import stack as stacks

    deepest = offers(space, len(space.model.layers), new)
    copies = max(len(each) for offer in deepest for each in offer) + HELD_OUT
    return stacks.load(space.model, here, copies)


def _keep(
    place: Place,
    phase: Phase,
    children: tuple[Sequence[Sequence[Shape]], Sequence[Sequence[Shape]]],
    times: Times,
    library: Library,
) -> None:
    """Put what rounds tell into the library: in seconds of the first time that it was timed."""
    timed, held = children
    made = figures.of(timed, times)
    known = place.get(library, phase, keys.REFERENCE)
    parent = known.seconds if known else made.parent
    place.put(library, phase, keys.REFERENCE, Seconds(parent, 0.0))
    parts: dict[Block, Seconds] = {}
    for block, part in made.blocks.items():
        old = place.get(library, phase, block)
        parts[block] = old or Seconds(part.seconds * parent, part.spread)
        if old is None:
            place.put(library, phase, block, parts[block])
    rest = place.get(library, phase, keys.FIXED)
    if rest is None:
        rest = Seconds(made.rest.seconds * parent, made.rest.spread)
        place.put(library, phase, keys.FIXED, rest)
    everything = _Known(place, phase, library, parts)
    off = figures.errors(held, times, everything, rest.seconds, parent)
    error = Seconds(statistics.fmean(off), figures.quantile(off, 0.9))
    place.put(library, phase, keys.WHOLE, error)


class _Known(dict[Block, Seconds]):
    """Blocks of these rounds, and of earlier ones."""

    def __init__(
        self, place: Place, phase: Phase, library: Library, parts: dict[Block, Seconds]
    ) -> None:
        super().__init__(parts)
        self._where = place, phase, library

    def __missing__(self, block: Block) -> Seconds:
        place, phase, library = self._where
        found = place.get(library, phase, block)
        assert found is not None
        return found


# ---- prompts ---------------------------------------------------------------------------------


def prompts(spec: Spec, model: Model, scenario: Scenario) -> NDArray[np.int64]:
    """Tokens int64 [batch, context + 1], of the text that a score uses, or random ones."""
    import numpy as np

    from surgery.scoring import data

    assert scenario.batch is not None
    count, length = scenario.batch, context(scenario) + 1
    dataset = keys.dataset_of(spec, model)
    if dataset is None:
        return np.random.default_rng(SEED).integers(0, model.vocab, (count, length))
    encode, end = data.load_tokenizer(model), data.end_of_text(model)
    stream: list[int] = []
    for document in data.read_text(dataset, spec.folder).documents:
        stream += [*encode(document), *([] if end is None else [end])]
        if len(stream) >= count * length:
            break
    # Text that is too short for all of it comes round again, for every prompt from elsewhere.
    starts = (n * max(1, len(stream) // count) for n in range(count))
    rows = [[stream[(start + i) % len(stream)] for i in range(length)] for start in starts]
    return np.asarray(rows, dtype=np.int64)


# ---- telling ---------------------------------------------------------------------------------


def _told(space: Space, place: Place, scenario: Scenario, library: Library, new: int) -> Timed:
    def both(what: Block | str) -> tuple[Seconds | None, Seconds | None]:
        prefill, decode = (place.get(library, phase, what) for phase in PHASES)
        return prefill, decode

    named = [(_text(block), block) for block in blocks_of(space)]
    lines = (Line(name, *both(what)) for name, what in (*named, ("outside of layers", keys.FIXED)))
    load = (
        f"{scenario.batch} sequences of {format_tokens(scenario.prefill)} + "
        f"{format_tokens(scenario.decode)} tok on `{scenario.machine}`"
    )
    parent = both(keys.REFERENCE)
    return Timed(scenario.name, load, tuple(lines), both(keys.WHOLE), parent, new)


def _text(block: Block) -> str:
    kind = type(block).__name__.lower()
    if isinstance(block, Attention):
        window = "full" if block.window is None else f"window {format_tokens(block.window)}"
        sinks = f" + {block.sinks}" if block.sinks else ""
        return f"attention {block.heads}/{block.kv_heads} heads, {window}{sinks}"
    fields = {name: getattr(block, name) for name in block.__struct_fields__}
    return " ".join((kind, *(f"{name} {value}" for name, value in fields.items())))


def text(found: Bench) -> Iterator[str]:
    """For a terminal."""
    yield f"timed on {found.name}"
    for each in found.timed:
        yield f"\n{each.scenario}: {each.load}"
        yield f"  {'':<44}{'prefill':>20}{'decode':>20}"
        for line in each.lines:
            yield f"  {line.what:<44}{_cell(line.prefill):>20}{_cell(line.decode):>20}"
        parent = (_cell(seconds, spread=False) for seconds in each.parent)
        yield f"  {'the parent, whole':<44}{''.join(f'{cell:>20}' for cell in parent)}"
        off = (f"{each.spread:.1%}" if each else "-" for each in each.off)
        title = f"sums are off by, {HELD_OUT} held-out children"
        yield f"  {title:<44}{''.join(f'{cell:>20}' for cell in off)}"
        known = len(each.lines) - each.new
        yield f"  {each.new} timed now, {known} known before"
    for name, why in found.skipped:
        yield f"\n{name}: not timed: {why}"


def _cell(found: Seconds | None, spread: bool = True) -> str:
    if found is None:
        return "-"
    more = f" +-{found.spread:.1%}" if spread else ""
    return f"{1e3 * found.seconds:.4g} ms{more}"
