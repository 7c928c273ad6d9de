"""What a serving step has to do, in seconds at the limits of the machine, by kernel class.

In: blocks with what they weigh (`Work`), a `Load`, a `Device`, a `Parallel`. Out: `Terms`, seconds
by name, that add over layers and sites; times fitted factors (`factors.py`) they are the time of a
step. A term is one of

* `gemm.memory`, `gemm.compute`: dense projections, both sides of the roofline. They are added, not
  the greater taken: kernels overlap the two badly near the ridge, the sum is within the error of
  the points (median 5.9 % against 5.6 %), and it is linear and never falls on a slower machine;
* `moe.ENGINE.FORMAT.memory`, `.compute`, `.layer`, `.expert`: the same of experts, of which a step
  reads the expected distinct ones (`routing.py`); and microseconds for each layer, each expert;
* `kv.memory`: keys and values that attention reads, no more than a window of them;
* `attention.compute`: scores and values of prompts;
* `activation`: reading the residual once, for each token and layer;
* `link.bytes`, `link.calls`: what all-reduce (ring: 2 (g - 1) / g) and all-to-all move between
  GPUs; microseconds for each call;
* `layer.ENGINE`, `row`, `step`, `sequence.ENGINE`: launches, in microseconds for each layer, each
  sequence in a layer (times 0.01), each step (times 1000), each sequence.

Decoding runs in steps of one token per sequence. Prompts are read in chunks of `Load.chunk` tokens
that ride along with a step (continuous batching): `mixed` is what they add to the mean step, each
of `batch - 1` other sequences having its prompt read once in `decode` steps. Not here: which of it
is how efficient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil
from typing import TypeAlias

from msgspec import Struct

from surgery.costing import routing
from surgery.costing.device import Device, format_of
from surgery.costing.parallel import Parallel
from surgery.ir import Attention, Block, Experts, Ffn, Lengths, Linear
from surgery.sizes import KV_BYTES

Terms: TypeAlias = Mapping[str, float]
_MICRO = 1e-6


class Work(Struct, frozen=True):
    """A block and what it weighs: parameters and bytes of all of its tensors.

    `shares` say how often each expert is chosen, where that was measured.
    """

    block: Block | None
    params: int
    weights: int
    shares: tuple[float, ...] = ()

    @property
    def bits(self) -> float:
        """Bits per weight as stored, scales included."""
        return 8 * self.weights / self.params if self.params else 16.0


class Load(Struct, frozen=True):
    """A steady load on the whole machine: `batch` sequences at once, lengths in tokens.

    `prefill` and `decode` are means; where requests differ, `lengths` says how. `hidden` is the
    model's width, `zipf` says how unequal its experts are where that was not measured, `engine`
    names the kernels.
    """

    prefill: float
    decode: float
    batch: float
    hidden: int
    engine: str
    chunk: int = 8192
    zipf: float = 0.7
    lengths: Lengths | None = None

    @property
    def chunks(self) -> float:
        """In how many steps a prompt is read."""
        if self.lengths is not None:
            return self.lengths.chunks(self.chunk)
        return max(1, ceil(self.prefill / self.chunk))

    def held(self, window: int | None) -> float:
        """Tokens that a step of one sequence sees: on average half of the answer is there."""
        if self.lengths is not None:
            return self.lengths.held(window)
        return _least(self.prefill + self.decode / 2, window)

    def scored(self, window: int | None) -> float:
        """Pairs of tokens in a prompt: every token sees half of it on average, or a window."""
        if self.lengths is not None:
            return self.lengths.mean(lambda prefill: prefill * _least(prefill / 2, window))
        return self.prefill * _least(self.prefill / 2, window)


def _least(tokens: float, window: int | None) -> float:
    return tokens if window is None else min(tokens, window)


class Stage(Struct, frozen=True):
    """A load on a device that shares a model."""

    load: Load
    device: Device
    shared: Parallel

    @property
    def sequences(self) -> float:
        """Sequences of one step of one copy of the model; stages of a pipeline take turns."""
        # Where copies outnumber sequences, some are idle, and no step is for less than one.
        return max(1.0, self.load.batch / (self.shared.data * self.shared.pipeline))

    @property
    def prompts(self) -> float:
        """Prompts of others that are read in the time of one decoding step."""
        return max(0.0, self.sequences - 1) / max(1, self.load.decode)


class _Sum:
    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def add(self, name: str, value: float) -> None:
        if value:
            self.found[name] = self.found.get(name, 0.0) + value


def total(parts: Iterable[Terms]) -> Terms:
    """The terms of all parts together."""
    found = _Sum()
    for part in parts:
        for name, value in part.items():
            found.add(name, value)
    return found.found


def decode(works: Iterable[Work], stage: Stage) -> Terms:
    """One decoding step of the given blocks, without prompts."""
    found = _Sum()
    n = stage.sequences
    for work, times in Counter(works).items():
        _block(found, work, stage, n, times)
        _resident(found, work, stage, times)
    return found.found


def mixed(works: Iterable[Work], stage: Stage) -> Terms:
    """What the prompts of other sequences add to the mean decoding step of the given blocks."""
    found, load = _Sum(), stage.load
    n, read = stage.sequences, stage.prompts * load.prefill
    # Prompts that come more often than steps share a step, as many as a chunk holds.
    rate = max(min(1.0, stage.prompts * load.chunks), read / load.chunk)
    for work, times in Counter(works).items():
        if rate:
            _block(found, work, stage, n + read / rate, times * min(rate, 1.0))
            _block(found, work, stage, n, -times * min(rate, 1.0))
            # Where they take more steps than there are, there are steps of prompts alone.
            _block(found, work, stage, read / rate, times * max(0.0, rate - 1))
        _prompt(found, work, stage, times * stage.prompts)
    return found.found


def prefill(works: Iterable[Work], stage: Stage) -> Terms:
    """Reading one prompt on its own."""
    found, load = _Sum(), stage.load
    for work, times in Counter(works).items():
        _block(found, work, stage, load.prefill / load.chunks, times * load.chunks)
        _launches(found, work, stage, times * load.chunks)
        _prompt(found, work, stage, times)
    return found.found


def head(params: int, weights: int, stage: Stage) -> Terms:
    """What a step does outside of layers: the output head, its own start, every sequence."""
    found, engine = _Sum(), stage.load.engine
    work = Work(None, params, weights)
    _gemm(found, work, stage, stage.sequences, 1.0)
    found.add("step", 1000 * _MICRO)
    found.add(f"sequence.{engine}", _MICRO * stage.sequences)
    return found.found


# ---- blocks ----------------------------------------------------------------------------------


def _block(found: _Sum, work: Work, stage: Stage, tokens: float, times: float) -> None:
    """Weights, links and activations of a block that `tokens` tokens pass at once."""
    match work.block:
        case None:
            return
        case Experts():
            _experts(found, work, work.block, stage, tokens, times)
        case Attention() | Ffn():
            _gemm(found, work, stage, tokens, times)
        case Linear():
            # One matrix, which every GPU has whole: nothing to add up afterwards.
            _gemm(found, work, stage, tokens, times, ranks=1)
    hidden, shared, device = stage.load.hidden, stage.shared, stage.device
    # Half of it for each of the two blocks of a layer.
    found.add("activation", times * tokens * hidden / device.bandwidth)
    ranks = max(shared.tensor, shared.tensor * shared.data if shared.expert > 1 else 1)
    spread = isinstance(work.block, Experts) and shared.expert > 1
    ranks = ranks if spread else shared.tensor
    if ranks > 1 and device.link and not isinstance(work.block, Linear):
        moved = 2 * tokens * hidden * 2 * (ranks - 1) / ranks
        found.add("link.bytes", times * moved / device.link)


def _gemm(
    found: _Sum, work: Work, stage: Stage, tokens: float, times: float, ranks: int = 0
) -> None:
    device, parts = stage.device, ranks or stage.shared.tensor
    reading = work.weights / parts / device.bandwidth
    computing = 2 * tokens * work.params / parts / device.rate(work.bits)
    _roof(found, "gemm", reading, computing, times)


def _experts(
    found: _Sum, work: Work, block: Experts, stage: Stage, tokens: float, times: float
) -> None:
    shared, device, load = stage.shared, stage.device, stage.load
    # Copies that deal out experts among each other choose among them together.
    everyone = tokens * shared.data if shared.expert > 1 else tokens
    met = round(everyone, 3)
    if work.shares:
        read = routing.distinct_of(work.shares, block.active, met)
    else:
        read = routing.distinct(block.count, block.active, met, load.zipf)
    ranks = shared.expert * shared.sharing_expert
    reading = work.weights * read / block.count / ranks / device.bandwidth
    each = work.params / block.count
    computing = 2 * everyone * block.active * each / ranks / device.rate(work.bits)
    name = f"moe.{load.engine}.{format_of(work.bits, device)}"
    _roof(found, name, reading, computing, times)
    found.add(f"{name}.expert", times * _MICRO * read / shared.expert)


def _roof(found: _Sum, name: str, reading: float, computing: float, times: float) -> None:
    found.add(f"{name}.memory", times * reading)
    found.add(f"{name}.compute", times * computing)


def _resident(found: _Sum, work: Work, stage: Stage, times: float) -> None:
    """What a decoding step does in a block whatever rides along: its cache and its launches."""
    _launches(found, work, stage, times)
    block, load = work.block, stage.load
    if not isinstance(block, Attention):
        return
    held = load.held(None if block.window is None else block.held or 0)
    heads = max(1.0, block.kv_heads / stage.shared.tensor)
    each = 2 * heads * block.head_dim * KV_BYTES[block.kv_dtype]
    n = stage.sequences
    found.add("kv.memory", times * n * held * each / stage.device.bandwidth)
    found.add("row", times * n * _MICRO / 100)


def _launches(found: _Sum, work: Work, stage: Stage, times: float) -> None:
    block, load, shared = work.block, stage.load, stage.shared
    if block is None:
        return
    found.add(f"layer.{load.engine}", times * _MICRO / 2)
    if isinstance(block, Experts):
        name = f"moe.{load.engine}.{format_of(work.bits, stage.device)}.layer"
        found.add(name, times * _MICRO)
    if max(shared.tensor, shared.expert) > 1:
        found.add("link.calls", times * _MICRO)


def _prompt(found: _Sum, work: Work, stage: Stage, times: float) -> None:
    """Scores and values of one prompt."""
    block, load = work.block, stage.load
    if not isinstance(block, Attention):
        return
    pairs = load.scored(None if block.window is None else block.held or 0)
    operations = 4 * pairs * block.heads * block.head_dim / stage.shared.tensor
    found.add("attention.compute", times * operations / stage.device.bf16)
