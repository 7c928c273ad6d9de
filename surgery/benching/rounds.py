"""Children run in turn with the parent: times of their blocks as parts of the parent's step.

In: a `Stack`, children as shapes of layers, prompts. Out: `Times` of one phase: for each child and
round, the time of every block and of the rest, divided by that of the parent's whole step just
before and just after. Processors and GPUs change speed over minutes, both by the same factor, so
that ratios stay what they are. Blocks are timed where they run, between their neighbours and with
what those leave in the caches of the processor; the step as a whole runs as in generation.

Phases: `prefill` reads one prompt, `decode` adds one token to every sequence. A block is its norm,
itself and the sum with the residual; everything else is the rest: embeddings, positions, masks, the
last norm, the head, and what Python does between layers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from msgspec import Struct
from torch import Tensor, nn

from surgery.benching import stack as stacks
from surgery.benching.clock import Clock
from surgery.benching.shapes import Phase, Shape, Split, Times
from surgery.benching.stack import Held, Slots, Stack
from surgery.scoring.arrays import from_numpy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WARM = 2
"""Steps of every child before the first that counts."""


class Children(Struct, frozen=True):
    """Layers of the children whose blocks are `timed`, and of those that run `whole`."""

    timed: Sequence[Sequence[nn.Module]]
    whole: Sequence[Sequence[nn.Module]]


def make(stack: Stack, children: Sequence[Sequence[Shape]]) -> list[list[nn.Module]]:
    """The layers of children."""
    return [[stacks.make(stack, n, shape) for n, shape in enumerate(child)] for child in children]


class Prompts(Struct, frozen=True):
    """What steps run on: prompts [1, prefill], last tokens [batch, 1], and what was before them."""

    first: Tensor
    last: Tensor
    held: tuple[Held | None, ...]


def prompts(stack: Stack, tokens: NDArray[np.int64], prefill: int) -> Prompts:
    """Of int64 tokens [batch, context + 1]: all but the last are in the cache when decoding."""
    rows = from_numpy(tokens).to(stack.clock.device)
    with torch.inference_mode():
        held = stacks.read(stack, rows[:, :-1])
    return Prompts(rows[:1, :prefill], rows[:, -1:], held)


def run(
    stack: Stack,
    children: Children,
    given: Prompts,
    phase: Phase,
    rounds: int,
    told: Callable[[int], None] = lambda _: None,
) -> Times:
    """All children in turn with the parent, so many times; `told` hears of every round."""
    with torch.inference_mode():
        return _run(stack, children, given, phase, rounds, told)


def _run(
    stack: Stack,
    children: Children,
    given: Prompts,
    phase: Phase,
    rounds: int,
    told: Callable[[int], None],
) -> Times:
    own = tuple(stack.module.model.layers)
    parent = _Step(stack, own, given, phase)
    timed, whole = ([_Step(stack, n, given, phase) for n in some] for some in _both(children))
    for step in (parent, *timed, *whole):
        for _ in range(WARM):
            step.seconds()
    seconds: list[float] = []
    splits: list[list[Split]] = [[] for _ in timed]
    wholes: list[list[float]] = [[] for _ in whole]

    def unit() -> float:
        """The parent's step around now."""
        seconds.append(parent.seconds())
        return statistics.fmean(seconds[-2:])

    for number in range(rounds):
        unit()
        for step, found in zip(timed, splits, strict=True):
            split = step.split()
            found.append(_divided(split, unit()))
        for step, each in zip(whole, wholes, strict=True):
            value = step.seconds()
            each.append(value / unit())
        told(number + 1)
    return Times(tuple(seconds), tuple(map(tuple, splits)), tuple(map(tuple, wholes)))


def _both(children: Children) -> tuple[Sequence[Sequence[nn.Module]], ...]:
    return children.timed, children.whole


def _divided(split: Split, unit: float) -> Split:
    blocks = tuple((one / unit, other / unit) for one, other in split.blocks)
    return Split(blocks, split.rest / unit)


# ---- one step --------------------------------------------------------------------------------


class _Step:
    """One step of a model with these layers, as often as one likes."""

    def __init__(
        self, stack: Stack, layers: Sequence[nn.Module], given: Prompts, phase: Phase
    ) -> None:
        self.stack, self.layers, self.given, self.phase = stack, layers, given, phase
        attends = any(cast("Any", layer).attends for layer in layers)
        decoding = phase == "decode" and attends
        self.slots = Slots(layers, given.held) if decoding else None

    def seconds(self) -> float:
        """The time of the step."""
        with _within(self.stack, self.layers):
            start, stop = self._go()
        self.stack.clock.settle()
        return self.stack.clock.seconds(start, stop)

    def split(self) -> Split:
        """The same, with its parts."""
        clock = self.stack.clock
        with _within(self.stack, self.layers), _marked(self.layers, clock) as marks:
            start, stop = self._go()
        clock.settle()
        blocks = tuple(_parts(clock, each) for each in marks)
        rest = clock.seconds(start, stop) - sum(map(sum, blocks))
        return Split(blocks, rest)

    def _go(self) -> tuple[object, object]:
        module, clock = cast("Any", self.stack.module), self.stack.clock
        # A fresh cache is filled while a prompt is read, as when serving.
        cache = self.slots.again() if self.slots else stacks.DynamicCache()
        tokens = self.given.last if self.phase == "decode" else self.given.first
        clock.settle()
        start = clock.stamp()
        hidden = module.model.embed_tokens(tokens)
        state = module.model.begin(hidden, cache=cache, use_cache=True)
        hidden = module.model.run(hidden, state, 0, len(self.layers))
        module.logits(hidden[:, -1:])
        return start, clock.stamp()


@contextmanager
def _within(stack: Stack, layers: Sequence[nn.Module]) -> Generator[None]:
    decoder = stack.module.model
    own = decoder.layers
    decoder.layers = nn.ModuleList(layers)
    try:
        yield
    finally:
        decoder.layers = own


class _Marks:
    """Moments of one layer: its attention begins, its FFN begins, it ends."""

    def __init__(self) -> None:
        self.attention: object = None
        self.mlp: object = None
        self.end: object = None


@contextmanager
def _marked(layers: Sequence[nn.Module], clock: Clock) -> Generator[tuple[_Marks, ...]]:
    """Mark moments of layers while they run."""
    marks = tuple(_Marks() for _ in layers)
    hooks: list[Any] = []

    def mark(one: _Marks, name: str) -> Callable[..., None]:
        return lambda *_: setattr(one, name, clock.stamp())

    for layer, one in zip(layers, marks, strict=True):
        # A block that is not there has no norm either.
        for norm, name in (("input_layernorm", "attention"), ("post_attention_layernorm", "mlp")):
            found = getattr(layer, norm, None)
            if isinstance(found, nn.Module):
                hooks.append(found.register_forward_pre_hook(mark(one, name)))
        hooks.append(layer.register_forward_hook(mark(one, "end")))
    try:
        yield marks
    finally:
        for hook in hooks:
            hook.remove()


def _parts(clock: Clock, one: _Marks) -> tuple[float, float]:
    middle = one.end if one.mlp is None else one.mlp
    attention = 0.0 if one.attention is None else clock.seconds(one.attention, middle)
    return attention, 0.0 if one.mlp is None else clock.seconds(one.mlp, one.end)
