"""Measured serving points: the file in `data/`, as loads on machines.

In: `data/serving-points.csv` (its README says where it is from and how its columns are read), or
rows of other points with the same columns (`silicon.py`). Out: `Point`s: the work of every block,
the load, the parallelism, times measured in seconds. Machines are those of std/nvidia.surg, by
name. Refuses a point of a model or machine that it does not know (`KeyError`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files

from msgspec import Struct

from surgery.costing import memory
from surgery.costing.device import Device
from surgery.costing.parallel import Parallel
from surgery.costing.terms import Load, Work
from surgery.ir import Attention, Experts, Ffn, Layer


class Shape(Struct, frozen=True):
    """The geometry of a model of the file; `experts` is 0 for a dense one."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    vocab: int
    experts: int = 0
    active: int = 0
    windows: tuple[int | None, ...] = (None,)
    bits: tuple[float, float] | None = None
    """Bits per weight of attention and of the rest, where the file does not say them."""


SHAPES: Mapping[str, Shape] = {
    "openai/gpt-oss-120b": Shape(
        36, 2880, 64, 8, 64, 2880, 201088, 128, 4, (128, None), (16, 4.25)
    ),
    "meta-llama/Llama-3.1-70B": Shape(80, 8192, 64, 8, 128, 28672, 128256),
    "meta-llama/Llama-3.1-8B-Instruct": Shape(32, 4096, 32, 8, 128, 14336, 128256),
    "Qwen/Qwen3-235B-A22B-FP8": Shape(94, 4096, 64, 4, 128, 1536, 151936, 128, 8),
    "Qwen/Qwen3-32B": Shape(64, 5120, 64, 8, 128, 25600, 151936),
}
MACHINES: Mapping[str, str] = {
    "h100_sxm": "nvidia.h100_sxm",
    "h200_sxm": "nvidia.h200_sxm",
    "b200_sxm": "nvidia.b200",
}
_ALLOWANCE = 2e9
_BITS: Mapping[str, float] = {"bf16": 16, "fp8": 8, "fp8_block": 8, "nvfp4": 4.5}


class Point(Struct, frozen=True):
    """One measurement. Times in seconds; `throughput` in tokens out per second and GPU."""

    model: str
    machine: str
    version: str
    load: Load
    shared: Parallel
    works: tuple[Work, ...]
    head: tuple[int, int]
    ttft: float
    tpot: float

    @property
    def engine(self) -> str:
        """Who served it."""
        return self.load.engine

    @property
    def throughput(self) -> float:
        """Tokens out per second and GPU, of requests one after the other."""
        return throughput(self.load, self.shared, self.ttft, self.tpot)

    @property
    def name(self) -> str:
        """What tells it from others, for people."""
        load, shared = self.load, self.shared
        spread = f"tp{shared.tensor}" + (f" dp{shared.data}" if shared.data > 1 else "")
        spread += f" ep{shared.expert}" if shared.expert > 1 else ""
        return f"{load.prefill}/{load.decode} x{load.batch:.0f} {spread}"


def throughput(load: Load, shared: Parallel, ttft: float, tpot: float) -> float:
    """Tokens out per second and GPU of `load.batch` clients that ask again when answered."""
    return load.batch * load.decode / (ttft + tpot * (load.decode - 1)) / shared.gpus


@cache
def read() -> tuple[Point, ...]:
    """All points of the file, each measurement once."""
    path = files("surgery.costing").joinpath("data/serving-points.csv")
    return made(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def made(rows: Iterable[Mapping[str, str]]) -> tuple[Point, ...]:
    """Points of rows, each measurement once."""
    return tuple(dict.fromkeys(_point(row) for row in rows))


def room(point: Point, device: Device) -> float:
    """How many sequences the KV cache has room for at their mean length, on the whole machine.

    More clients than that wait. Engines take 90 % of the memory, and `_ALLOWANCE` for themselves.
    """
    shared = point.shared
    # Experts that copies of the model deal out among each other count once for all copies.
    weights = sum(work.weights / _holders(work, shared) for work in point.works)
    embeddings = 2 * point.head[1] / shared.tensor
    pool = 0.9 * device.memory - weights - embeddings - _ALLOWANCE
    tokens = int(point.load.prefill + point.load.decode // 2)
    layers = [
        Layer(n, work.block, None)
        for n, work in enumerate(point.works)
        if isinstance(work.block, Attention)
    ]
    each = memory.kv_per_sequence(layers, tokens, shared, memory.IDEAL)
    return max(1.0, pool / each) * shared.data


def _holders(work: Work, shared: Parallel) -> int:
    if isinstance(work.block, Experts):
        return shared.expert * shared.sharing_expert
    return shared.tensor


def _point(row: Mapping[str, str]) -> Point:
    shape = SHAPES[row["model"]]
    load = Load(
        int(row["input_tokens"]),
        int(row["output_tokens"]),
        float(row["concurrency"]),
        shape.hidden,
        row["engine"],
    )
    default = (_BITS[row["gemm_quant"]], _BITS[row["moe_quant"]])
    # Checkpoints of NVIDIA's ModelOpt bring scales for an FP8 cache along.
    modelopt = shape.bits is None and row["moe_quant"] in ("fp8", "nvfp4") and not shape.experts
    kv = "fp8_e4m3" if modelopt else "bf16"
    return Point(
        row["model"],
        MACHINES[row["gpu"]],
        row["engine_version"],
        load,
        _parallel(row, moe=shape.experts > 0),
        works(shape, shape.bits or default, kv),
        (shape.vocab * shape.hidden, 2 * shape.vocab * shape.hidden),
        float(row["ttft_ms"]) / 1000,
        float(row["tpot_ms"]) / 1000,
    )


def _parallel(row: Mapping[str, str], moe: bool) -> Parallel:
    """What a row says about GPUs; `data/README.md` has the reasons."""
    tensor, data = int(row["tp"]), int(row["attention_dp"] or 0)
    if not moe:
        return Parallel(tensor, data=data or 1)
    split, dealt = int(row["moe_tp"]), int(row["moe_ep"])
    if split == dealt > 1:
        return Parallel(dealt, expert=dealt) if tensor > 1 else Parallel(data=dealt, expert=dealt)
    data = data or split * dealt // tensor
    # Copies that share the experts of a layer by width deal out none of them whole; for the time
    # of a step that is the same as dealing them out: as many bytes on each GPU.
    return Parallel(tensor, data=data, expert=max(dealt, data))


def works(shape: Shape, bits: Sequence[float], kv: str) -> tuple[Work, ...]:
    """The blocks of a model whose attention and other weights have so many bits."""
    inner = shape.heads * shape.head_dim
    attention = shape.hidden * (2 * inner + 2 * shape.kv_heads * shape.head_dim)
    mlp = 3 * shape.hidden * shape.width * max(1, shape.experts)
    block = Experts(shape.experts, shape.active, shape.width) if shape.experts else Ffn(shape.width)
    found: list[Work] = []
    for layer in range(shape.layers):
        window = shape.windows[layer % len(shape.windows)]
        seen = Attention(shape.heads, shape.kv_heads, shape.head_dim, window, kv)
        found.append(Work(seen, attention, round(attention * bits[0] / 8)))
        found.append(Work(block, mlp, round(mlp * bits[1] / 8)))
    return tuple(found)
