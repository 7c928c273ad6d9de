"""What blocks and models weigh, exactly, from headers alone: parameters, bytes, KV bytes.

In: blocks and the tensors that store them (`ir.TensorSpec`, `ops.Output`). Out: `ir.Cost`s in
whole parameters and bytes, and sums over a model. Costs of different sites add, and with the
fixed cost they give a model's total to the byte. Reads no weights, runs nothing. Not here: what
candidates cost (`passes/cost.py`) and time, which needs a machine.

KV-cache bytes of one sequence of `n` tokens, per layer (paper B, section on the resource model;
a window clamps what is held): 2 * kv_heads * head_dim * bytes * min(n, window + sinks), the 2 for K
and V.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from surgery.ir import Attention, Block, Cost, Model, Scenario, Site, TensorSpec
from surgery.ops import Output

KV_BYTES: Mapping[str, int] = {"bf16": 2, "fp8_e4m3": 1}
"""Bytes of one cached number, by `Attention.kv_dtype`."""


def kv_per_token(block: Block | None) -> int:
    """KV bytes that one token adds to one layer: 2 * kv_heads * head_dim * bytes of a number."""
    if not isinstance(block, Attention):
        return 0
    return 2 * block.kv_heads * block.head_dim * KV_BYTES[block.kv_dtype]


def block_cost(block: Block | None, parts: Iterable[TensorSpec | Output]) -> Cost:
    """The cost of a block that is stored as `parts` (parent tensors or child outputs)."""
    stored = tuple(parts)
    return Cost(
        params=sum(part.numel for part in stored),
        weights=sum(part.nbytes for part in stored),
        kv_per_token=kv_per_token(block),
        kv_window=block.held if isinstance(block, Attention) else None,
        block=block,
    )


def fixed(model: Model) -> Cost:
    """What no choice changes: every tensor outside the sites (embeddings, final norm, head)."""
    return block_cost(None, (tensor for tensor in model.tensors if tensor.site is None))


def site_tensors(model: Model) -> dict[tuple[int, Site], tuple[TensorSpec, ...]]:
    """The tensors of every site of every layer, in canonical order; none for a site without."""
    grouped: dict[tuple[int, Site], list[TensorSpec]] = {
        (layer.index, site): [] for layer in model.layers for site in layer.sites
    }
    for tensor in model.tensors:
        if tensor.layer is not None and tensor.site is not None:
            grouped[tensor.layer, tensor.site].append(tensor)
    return {key: tuple(tensors) for key, tensors in grouped.items()}


def parent_costs(model: Model) -> tuple[Cost, ...]:
    """The unmodified model: its fixed cost, then every site of every layer in plan order."""
    grouped = site_tensors(model)
    blocks = tuple(
        block_cost(layer.block(site), grouped[layer.index, site])
        for layer in model.layers
        for site in layer.sites
    )
    return (fixed(model), *blocks)


def params(costs: Iterable[Cost]) -> int:
    """Parameters of a whole model, tied ones counted once."""
    return sum(cost.params for cost in costs)


def weights(costs: Iterable[Cost]) -> int:
    """Bytes of a whole model as stored."""
    return sum(cost.weights for cost in costs)


def kv(costs: Iterable[Cost], tokens: int) -> int:
    """KV bytes of one sequence of `tokens` tokens in a whole model."""
    return sum(cost.kv_bytes(tokens) for cost in costs)


def memory(costs: Iterable[Cost], scenario: Scenario, batch: int) -> Fraction:
    """Bytes that serving needs: weights once, and KV of `batch` sequences at their full length.

    Full length is prefill + decode, over the requests of a trace on average.
    Activations and the engine's own reserve are not in it.
    """
    costs = tuple(costs)
    lengths = scenario.answered.resident
    cached = (part * kv(costs, tokens) for tokens, part in lengths)
    return weights(costs) + batch * sum(cached, Fraction(0))
