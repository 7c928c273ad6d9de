"""gpt-oss-puzzle-88B against its parent, from the fitted time model, beside what was published.

    python tests/bench/released_88b.py

Prints the ratio of tokens per second of the released child (18 layers with 64 experts, 8 windows of
8,192 tokens, FP8 KV cache) to those of gpt-oss-120b on H100: 64K/64K and 4K/4K on eight of them
(published: 1.63 and 1.22), and long context on one (published: up to 2.82). Nothing is tuned to
these figures: the factors come from points of other machines, the rest from `config.json` values.
What is not published is assumed, listed, and varied one assumption at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from space_fixtures import FULL, HALVED, gpt_oss

from surgery import machines, paging, sizes
from surgery.costing import device, factors, memory, predict
from surgery.costing.memory import VLLM, Body, Room
from surgery.costing.parallel import Parallel
from surgery.costing.shares import Shares, shares
from surgery.costing.terms import Load, Stage, Work
from surgery.ir import Attention, Experts, Layer, Machine
from surgery.source import Source, Span

K = 1024
SCENARIOS = {
    "64K/64K on 8 x H100": (8, 64 * K, 64 * K, 1.63),
    "4K/4K on 8 x H100": (8, 4 * K, 4 * K, 1.22),
    "64K/64K on 1 x H100": (1, 64 * K, 64 * K, 2.82),
}


class Assumed(Struct, frozen=True):
    """What is not published, and what is taken instead.

    `tensor` 0 is the best of 1, 2, 4, 8 for each model on its own, the other GPUs being copies.
    `held` is the part of its answer that a sequence has in the cache when another is admitted:
    1/2 on average, where engines admit what there is room for now. `cap` is of each copy. `group`
    layers share KV pages: the fork of vLLM that the child was released for takes 10, vLLM 0.32
    takes 8 (`None`), 1 is without any padding.
    """

    parent_kv: str = "fp8_e4m3"
    child_kv: str = "fp8_e4m3"
    tensor: int = 0
    cap: int | None = 256
    held: float = 0.5
    utilization: float = 0.95
    reserve: float = 0.0
    step: int = 8192
    zipf: float = 0.7
    group: int | None = 10


class Served(Struct, frozen=True):
    """A model on a machine: how it is shared, how many sequences, tokens out per second."""

    tensor: int
    batch: int
    throughput: float


class Pair(Struct, frozen=True):
    """Both models."""

    parent: Served
    child: Served

    @property
    def ratio(self) -> float:
        """How many times the tokens of the parent; infinite where that does not fit."""
        return self.child.throughput / self.parent.throughput if self.parent.batch else float("inf")


class Model(Struct, frozen=True):
    """Layers with their weights."""

    layers: tuple[Layer, ...]
    parts: tuple[Shares, ...]
    works: tuple[Work, ...]
    fixed: Shares
    head: tuple[int, int]


def model(child: bool, kv: str) -> Model:
    """The parent, or the released child, with its KV cache in `kv`."""
    parent = gpt_oss()
    grouped = sizes.site_tensors(parent)
    layers: list[Layer] = []
    parts: list[Shares] = []
    works: list[Work] = []
    for layer in parent.layers:
        attention, mlp = layer.attention, layer.mlp
        assert isinstance(attention, Attention)
        assert isinstance(mlp, Experts)
        cut = child and layer.index in HALVED
        wide = child and layer.index % 2 == 1 and layer.index not in FULL
        attention = replace(attention, kv_dtype=kv, window=8 * K if wide else attention.window)
        experts = replace(mlp, count=64 if cut else mlp.count)
        layers.append(Layer(layer.index, attention, experts))
        both = [grouped[layer.index, site] for site in layer.sites]
        split = [shares(parent, tensors) for tensors in both]
        kept = _halved(split[1], parent.hidden) if cut else split[1]
        parts.append(split[0] + kept)
        params = [sum(tensor.numel for tensor in tensors) for tensors in both]
        works.append(Work(attention, params[0], split[0].total))
        works.append(Work(experts, params[1] // (2 if cut else 1), kept.total))
    fixed = shares(parent, (t for t in parent.tensors if t.site is None))
    head = next(t for t in parent.tensors if t.name == "lm_head.weight")
    return Model(tuple(layers), tuple(parts), tuple(works), fixed, (head.numel, head.nbytes))


def _halved(parts: Shares, hidden: int) -> Shares:
    router = 64 * 2 * (hidden + 1)
    return replace(
        parts, whole=parts.whole - router, experts=parts.experts // 2, rows=parts.rows // 2
    )


def serve(made: Model, gpus: int, lengths: tuple[int, int], assumed: Assumed) -> Served:
    """The best that a model does on a machine, as far as the assumptions leave it a choice."""
    tensors = [assumed.tensor] if assumed.tensor else [t for t in (1, 2, 4, 8) if t <= gpus]
    found = [_serve(made, gpus, min(t, gpus), lengths, assumed) for t in tensors]
    return max(found, key=lambda each: each.throughput)


def _serve(
    made: Model, gpus: int, tensor: int, lengths: tuple[int, int], assumed: Assumed
) -> Served:
    prefill, decode = lengths
    shared = Parallel(tensor, data=gpus // tensor)
    profile = replace(VLLM, step=assumed.step, utilization=assumed.utilization)
    blocks = zip(made.layers, made.parts, strict=True)
    weights = memory.weights(made.fixed, blocks, shared, profile, 2880)
    space = memory.workspace(made.layers, Body(2880, 201088), shared, profile)
    room = Room(int(H100.memory) - int(assumed.reserve), weights, space, assumed.utilization)
    tokens = prefill + int(decode * assumed.held)
    # The parent has as many layers of either kind, which pads nothing.
    group = assumed.group if len(paging.kinds(made.layers)) > 2 else None
    each = memory.kv_per_sequence(made.layers, tokens, shared, profile, group)
    batch = room.batch(each, assumed.cap)
    if not batch:
        return Served(tensor, 0, 0.0)
    load = Load(
        prefill, decode, batch * shared.data, 2880, "vllm", chunk=assumed.step, zipf=assumed.zipf
    )
    stage = Stage(load, H100, shared)
    taken = predict.times(made.works, made.head, stage, factors.factors("vllm"))
    return Served(tensor, batch * shared.data, taken.throughput)


def _h100() -> device.Device:
    nowhere = Span(Source("", ""), 0, 0)
    fields = next(each.fields for each in machines.known() if each.name == "nvidia.h100_sxm")
    return device.of(Machine(nowhere, "h100", "h100", 1, fields))


H100 = _h100()


def both(scenario: str, assumed: Assumed) -> Pair:
    """Parent and child in one of the scenarios."""
    gpus, prefill, decode, _ = SCENARIOS[scenario]
    models = (model(False, assumed.parent_kv), model(True, assumed.child_kv))
    return Pair(*(serve(each, gpus, (prefill, decode), assumed) for each in models))


VARIED = {
    "as assumed": Assumed(),
    "parent with a BF16 KV cache": Assumed(parent_kv="bf16"),
    "both with a BF16 KV cache": Assumed(parent_kv="bf16", child_kv="bf16"),
    "both on tensor_parallel = 8": Assumed(tensor=8),
    "both on tensor_parallel = 1": Assumed(tensor=1),
    "no limit of sequences": Assumed(cap=None),
    "at most 1024 sequences": Assumed(cap=1024),
    "at most 64 sequences": Assumed(cap=64),
    "at most 8 sequences": Assumed(cap=8),
    "room for whole sequences": Assumed(held=1.0),
    "utilization 90 %": Assumed(utilization=0.90),
    "1.5 GB less for the cache": Assumed(reserve=1.5e9),
    "1.5 GB more for the cache": Assumed(reserve=-1.5e9),
    "16384 tokens a step": Assumed(step=16384),
    "2048 tokens a step": Assumed(step=2048),
    "KV pages of 8 layers, as in vLLM 0.32": Assumed(group=None),
    "KV pages of one layer, no padding": Assumed(group=1),
    "experts equally frequent": Assumed(zipf=0.0),
    "experts very unequal": Assumed(zipf=1.1),
}


def table() -> Iterator[str]:
    """One line per variation, one column per scenario."""
    yield f"{'child / parent, tokens per second':<38}" + "".join(f"{n:>26}" for n in SCENARIOS)
    yield f"{'published':<38}" + "".join(f"{s[3]:>26.2f}" for s in SCENARIOS.values())
    for name, assumed in VARIED.items():
        cells = [f"{each.ratio:.2f} {_how(each)}" for each in (both(s, assumed) for s in SCENARIOS)]
        yield f"{name:<38}" + "".join(f"{cell:>26}" for cell in cells)


def _how(each: Pair) -> str:
    sides = (f"{one.batch}@tp{one.tensor}" for one in (each.parent, each.child))
    return f"({' '.join(sides)})"


def main() -> None:
    """Print assumptions, ratios, and what they depend on."""
    print("assumed: " + ", ".join(f"{k} = {v}" for k, v in _fields(Assumed()).items()))
    print("in brackets: sequences of the parent and of the child, and GPUs that share a layer\n")
    print("\n".join(table()))


def _fields(assumed: Assumed) -> dict[str, object]:
    return {name: getattr(assumed, name) for name in assumed.__struct_fields__}


if __name__ == "__main__":
    main()
