"""Times of blocks from the operations that NVIDIA measured: `aiconfigurator-core`, if it is there.

In: a block with its bits per weight, a `Stage`, a system and an engine. Out: seconds of a decoding
step, or of reading one prompt, as the sum of the block's operations (projections, attention,
experts, all-reduce); `None` where the package has not measured what that takes, and then nobody
else's time is put in its place. Read are the tables of operations that come with the package
(Parquet, milliseconds), the newest of an engine, and none of its own models.

Between measured points times are interpolated, never beyond them: in tokens, lengths and the sides
of matrices by logarithms (each point's neighbours on both sides must be there; points that are left
out come out within 3 %, nine in ten within 12 %); in the number of experts by the expected number
of distinct ones, because what grows with it is the weights that a step reads, while its operations
stay the same. A window of `WIDE` tokens or more that was not measured takes, in a decoding step,
what full attention takes of as many tokens, since it reads the same keys (a window of 8192 takes
6 % more; one of 128, 12 to 31 % more, so that nothing is said of narrow ones). `mixed` is what a
prompt adds to a step that it rides along with. Norms and what lies between kernels are not in the
tables.
`python tests/bench/aiconfigurator.py` prints all of these errors.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import import_module, metadata, util
from itertools import product
from math import ceil, exp, log, prod
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, cast

from msgspec import Struct

from surgery.costing import routing
from surgery.costing.device import format_of
from surgery.costing.terms import Stage, Work
from surgery.ir import Attention, Block, Experts, Ffn, Linear

PACKAGE, VERSION = "aiconfigurator-core", "0.12.0"
SYSTEMS: Mapping[str, str] = {
    "a100_sxm": "a100_sxm",
    "h100_sxm": "h100_sxm",
    "h200_sxm": "h200_sxm",
    "b200": "b200_sxm",
    "l40s": "l40s",
    "rtx_pro_6000": "rtx_pro_6000_server",
}
"""Systems of the package by devices of `std/nvidia.surg`."""

BAND = 0.216
"""Relative error that 9 in 10 times per token of served models stay below."""
_FAR = 4
WIDE = 1024
"""Tokens of the narrowest window that full attention may stand for."""
_DISTRIBUTIONS = ("power_law_1.2", "power_law_1.01", "balanced")
"""How unequal experts are, the likeliest first."""
_WEIGHTS: Mapping[str, str] = {"bf16": "bfloat16", "w4": "w4a16_mxfp4", "fp4": "w4a16_mxfp4"}
"""What tables call the weights of experts, by `device.format_of`. FP8 is not among them: there are
kernels for two kinds of scales, a factor of up to five apart, and bits per weight do not tell."""
_FOUR_BITS, _EIGHT_BITS = 6.0, 12.0
_KV: Mapping[str, str] = {"bf16": "bfloat16", "fp8_e4m3": "fp8"}

Phase: TypeAlias = Literal["prefill", "decode", "mixed"]
Shape: TypeAlias = tuple[str, int, int, int]
"""Cache, query heads, KV heads, head_dim."""
Point: TypeAlias = tuple[float, ...]


class Tables(Struct, frozen=True):
    """The tables of one system and engine; `root` is the folder of all systems' data."""

    root: Path
    system: str
    engine: str

    def file(self, family: str, name: str) -> Path | None:
        """The newest table of a family of operations."""
        folder = self.root / self.system / family / self.engine
        found = [path for path in folder.glob(f"*/{name}_perf.parquet")]
        return max(found, key=lambda path: _version(path.parent.name), default=None)

    @property
    def used(self) -> tuple[Path, ...]:
        """Every table that a time may come from."""
        found = (self.file(family, name) for family, name in _FILES)
        return tuple(path for path in found if path is not None)

    @property
    def digest(self) -> str:
        """SHA-256 of those tables."""
        total = hashlib.sha256()
        for path in self.used:
            total.update(hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()


_FILES = (
    ("attention", "context_attention"),
    ("attention", "generation_attention"),
    ("comm", "custom_allreduce"),
    ("gemm", "gemm"),
    ("moe", "moe"),
)


def installed() -> bool:
    """Whether the version that this module knows is there, and what reads its tables."""
    try:
        return metadata.version(PACKAGE) == VERSION and util.find_spec("pyarrow") is not None
    except metadata.PackageNotFoundError:
        return False


def tables(device: str, engine: str) -> Tables | None:
    """The tables of a device and an engine, `None` where there are none."""
    system = SYSTEMS.get(device)
    package = util.find_spec("aiconfigurator_core") if system and installed() else None
    if system is None or package is None or package.origin is None:
        return None
    found = Tables(Path(package.origin).parent / "systems" / "data", system, engine)
    return found if found.used else None


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", name))


# ---- blocks ----------------------------------------------------------------------------------


def seconds(work: Work, stage: Stage, phase: Phase, known: Tables) -> float | None:
    """What a block takes; `None` where an operation of it was not measured."""
    load, block = stage.load, work.block
    if block is None or (work.bits <= _FOUR_BITS and not isinstance(block, Experts)):
        return None
    made = _Block(known, work, stage)
    if phase == "decode":
        rows, looks = made.rows(stage.sequences), _looks_back(known, block, stage)
    else:
        width = load.prefill / load.chunks
        beside = stage.sequences if phase == "mixed" else 0.0
        alone = made.rows(beside) if beside else 0.0
        both = made.rows(width + beside)
        rows = None if both is None or alone is None else load.chunks * max(0.0, both - alone)
        looks = _looks_in(known, block, stage)
    return None if rows is None or looks is None else (rows + looks) / 1000


class _Block(Struct, frozen=True):
    """A block whose operations on rows of tokens are looked up."""

    known: Tables
    work: Work
    stage: Stage

    def rows(self, tokens: float) -> float | None:
        """Milliseconds of everything that each token goes through by itself."""
        total = 0.0
        for part in self._operations(tokens):
            if part is None:
                return None
            total += part
        return total

    def _operations(self, tokens: float) -> Iterator[float | None]:
        hidden, tensor = self.stage.load.hidden, self.stage.shared.tensor
        match self.work.block:
            case Attention() as block:
                heads, groups = block.heads / tensor, ceil(block.kv_heads / tensor)
                yield self._gemm(tokens, (heads + 2 * groups) * block.head_dim, hidden)
                yield self._gemm(tokens, hidden, heads * block.head_dim)
            case Ffn(width=width):
                yield self._gemm(tokens, 2 * width / tensor, hidden)
                yield self._gemm(tokens, hidden, width / tensor)
            case Linear():
                yield self._gemm(tokens, hidden, hidden)
                return
            case Experts() as block:
                router = grid_of_gemms(self.known, "bfloat16")
                yield between(router, (tokens, block.count, hidden))
                yield self._experts(tokens, block)
            case None:
                return
        if tensor > 1:
            yield between(_reductions(self.known, tensor), (tokens * hidden,))

    def _gemm(self, tokens: float, wide: float, deep: float) -> float | None:
        kind = "bfloat16" if self.work.bits > _EIGHT_BITS else "fp8"
        return between(grid_of_gemms(self.known, kind), (tokens, wide, deep))

    def _experts(self, tokens: float, block: Experts) -> float | None:
        load, shared = self.stage.load, self.stage.shared
        kind = _WEIGHTS.get(format_of(self.work.bits, self.stage.device))
        if kind is None or (shared.expert > 1 and shared.data > 1):
            return None
        split = (shared.sharing_expert, shared.expert)
        grids = _mixtures(self.known, kind, (load.hidden, block.width, block.active), split)
        below = [size for size in sorted(grids) if size <= block.count][-1:]
        above = [size for size in sorted(grids) if size >= block.count][:1]
        if not below or not above:
            return None
        low, high = (between(grids[size], (tokens,)) for size in (*below, *above))
        if low is None or high is None or below == above:
            return low if high is not None else None
        few, some, many = (
            routing.distinct(size, block.active, tokens, load.zipf)
            for size in (*below, block.count, *above)
        )
        return low + (high - low) * ((some - few) / (many - few) if many > few else 0.5)


def _looks_back(known: Tables, block: Block, stage: Stage) -> float | None:
    """Milliseconds of attention in a decoding step."""
    if not isinstance(block, Attention):
        return 0.0
    shape = _shape(block, stage)
    if shape is None:
        return None
    held = stage.load.prefill + stage.load.decode / 2
    if block.window is not None and held > block.window:
        near = steps(known, shape, block.window)
        # What came before a window does not matter, however much of it there is.
        for seen in (held, min(held, _FAR * block.window)):
            measured = between(near, (stage.sequences, seen))
            if measured is not None:
                return measured
        if block.window < WIDE:
            return None
        held = float(block.window)
    return between(steps(known, shape, 0), (stage.sequences, held))


def _looks_in(known: Tables, block: Block, stage: Stage) -> float | None:
    """Milliseconds of attention within one prompt."""
    if not isinstance(block, Attention):
        return 0.0
    shape, length = _shape(block, stage), stage.load.prefill
    # A window that all of a prompt fits into hides nothing.
    window = 0 if block.window is None or block.window >= length else block.window
    return None if shape is None else between(_prompts(known, shape, window), (float(length),))


def _shape(block: Attention, stage: Stage) -> Shape | None:
    """What one GPU has of a block, as tables call it."""
    tensor = stage.shared.tensor
    if block.heads % tensor or block.sinks:
        return None
    groups = ceil(block.kv_heads / tensor)
    return (_KV[block.kv_dtype], block.heads // tensor, groups, block.head_dim)


# ---- tables ----------------------------------------------------------------------------------


class Grid(Struct, frozen=True):
    """Milliseconds by place; `axes` are the places on each axis, ascending."""

    points: Mapping[Point, float]
    axes: tuple[tuple[float, ...], ...]


def grid(points: Mapping[Point, float]) -> Grid:
    """A grid of points, not all of whose corners need be there."""
    axes = zip(*points, strict=True) if points else ()
    return Grid(points, tuple(tuple(sorted(set(axis))) for axis in axes))


def between(known: Grid, where: Point) -> float | None:
    """Between the neighbours on every axis, by logarithms; `None` where one is not there."""
    if not known.points:
        return None
    sides: list[tuple[tuple[float, float], ...]] = []
    for axis, value in zip(known.axes, where, strict=True):
        place = bisect_left(axis, value)
        if place == len(axis) or (place == 0 and axis[0] > value):
            return None
        high = axis[place]
        low = high if high == value else axis[place - 1]
        part = log(value / low) / log(high / low) if high > low else 0.0
        sides.append(((low, 1 - part), (high, part)) if part else ((low, 1.0),))
    total = 0.0
    for corner in product(*sides):
        found = known.points.get(tuple(place for place, _ in corner))
        if found is None:
            return None
        total += prod(part for _, part in corner) * log(found)
    return exp(total)


@lru_cache(maxsize=256)
def grid_of_gemms(known: Tables, weights: str = "bfloat16") -> Grid:
    """Milliseconds of products by rows, width and depth."""
    rows = _rows(known, "gemm", "gemm", ("m", "n", "k"), (("gemm_dtype", "=", weights),))
    return _gridded(rows, ("m", "n", "k"))


@lru_cache(maxsize=256)
def steps(known: Tables, shape: Shape, window: int) -> Grid:
    """Milliseconds of attention in a decoding step by sequences and tokens that are held."""
    axes = ("batch_size", "step")
    rows = _rows(known, "attention", "generation_attention", axes, _named(shape, window))
    # A step comes after so many others.
    places = _places(rows, axes)
    return grid({(batch, step + 1): value for (batch, step), value in places.items()})


@lru_cache(maxsize=256)
def _prompts(known: Tables, shape: Shape, window: int) -> Grid:
    where = (*_named(shape, window), ("batch_size", "=", 1))
    return _gridded(_rows(known, "attention", "context_attention", ("isl",), where), ("isl",))


def _named(shape: Shape, window: int) -> tuple[tuple[str, str, object], ...]:
    names = ("kv_cache_dtype", "num_heads", "num_key_value_heads", "head_dim", "window_size")
    return tuple((name, "=", value) for name, value in zip(names, (*shape, window), strict=True))


@lru_cache(maxsize=256)
def _mixtures(
    known: Tables, weights: str, shape: tuple[int, int, int], split: tuple[int, int]
) -> Mapping[int, Grid]:
    """Times by tokens, by number of experts."""
    hidden, width, active = shape
    where = (
        ("moe_dtype", "=", weights),
        ("hidden_size", "=", hidden),
        ("inter_size", "=", width),
        ("topk", "=", active),
        ("moe_tp_size", "=", split[0]),
        ("moe_ep_size", "=", split[1]),
    )
    axes = ("num_experts", "num_tokens", "distribution")
    rows = _rows(known, "moe", "moe", axes, where)
    have = {str(row["distribution"]) for row in rows}
    chosen = next((name for name in _DISTRIBUTIONS if name in have), None)
    found: dict[int, dict[Point, float]] = {}
    for row in rows:
        if row["distribution"] == chosen:
            places = found.setdefault(int(cast("int", row["num_experts"])), {})
            _least(places, (float(cast("int", row["num_tokens"])),), row)
    return {count: grid(places) for count, places in found.items()}


@lru_cache(maxsize=64)
def _reductions(known: Tables, gpus: int) -> Grid:
    where = (("num_gpus", "=", gpus), ("allreduce_dtype", "=", "bfloat16"))
    axes = ("message_size",)
    return _gridded(_rows(known, "comm", "custom_allreduce", axes, where), axes)


def _gridded(rows: Sequence[Mapping[str, object]], axes: Sequence[str]) -> Grid:
    return grid(_places(rows, axes))


def _places(rows: Sequence[Mapping[str, object]], axes: Sequence[str]) -> Mapping[Point, float]:
    """Milliseconds by place; of several kernels an engine takes the fastest."""
    found: dict[Point, float] = {}
    for row in rows:
        _least(found, tuple(float(cast("int", row[axis])) for axis in axes), row)
    return found


def _least(places: dict[Point, float], place: Point, row: Mapping[str, object]) -> None:
    value = float(cast("float", row["latency"]))
    if value > 0:
        places[place] = min(value, places.get(place, value))


class _Frame(Protocol):
    def to_pylist(self) -> list[dict[str, object]]: ...


class _Parquet(Protocol):
    def read_table(
        self, source: str, *, columns: list[str], filters: list[tuple[str, str, object]] | None
    ) -> _Frame: ...


def _rows(
    known: Tables,
    family: str,
    name: str,
    axes: Sequence[str],
    where: Sequence[tuple[str, str, object]],
) -> list[dict[str, object]]:
    path = known.file(family, name)
    if path is None:
        return []
    library = cast("_Parquet", import_module("pyarrow.parquet"))
    columns = [*axes, "latency"]
    return library.read_table(str(path), columns=columns, filters=list(where)).to_pylist()
