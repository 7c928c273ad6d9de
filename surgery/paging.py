"""How serving engines page the KV cache of layers whose windows differ, and what that wastes.

In: the layers of a model. Out: `Kind`s, the layers of equal KV cache with the slots that they
take. The rule is that of vLLM's hybrid KV-cache manager (`_get_kv_cache_groups_uniform_page_size`
in vllm/v1/core/kv_cache_utils.py, 0.11 to 0.32): all groups have equally many layers, as many as
the rarest kind, or as the most frequent one where that has less than half as many again; every
kind is padded to a multiple of that. A model of one kind pads nothing. Not here: anything about a
plan (`passes/pages.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from surgery.ir import Attention, Layer
from surgery.sizes import kv_per_token


class Kind(Struct, frozen=True):
    """Layers with one kind of KV cache: one of them, how many there are, how many are paid for."""

    attention: Attention
    layers: int
    slots: int

    @property
    def wasted(self) -> int:
        """Layers that are paid for and not there."""
        return self.slots - self.layers

    def held(self, tokens: int) -> int:
        """KV bytes of one layer and one sequence of `tokens` tokens."""
        most = self.attention.held
        return kv_per_token(self.attention) * (tokens if most is None else min(tokens, most))


def group_size(counts: Sequence[int]) -> int:
    """How many layers a group has, from the number of layers of every kind."""
    least, most = min(counts), max(counts)
    return most if most < least * 1.5 else least


def kinds(layers: Iterable[Layer]) -> tuple[Kind, ...]:
    """The kinds of KV cache of a model: full attention first, then by falling window."""
    alike: dict[tuple[object, ...], Attention] = {}
    counts: Counter[tuple[object, ...]] = Counter()
    for attention in (layer.attends for layer in layers):
        if attention is not None:
            # Heads and dtype: a page then holds another number of tokens, which takes a group, too.
            key = (attention.kv_heads, attention.head_dim, attention.held, attention.kv_dtype)
            alike.setdefault(key, attention)
            counts[key] += 1
    return padded([(alike[key], count) for key, count in counts.items()])


def padded(counts: Iterable[tuple[Attention, int]]) -> tuple[Kind, ...]:
    """Kinds with their slots, from the number of layers that are like each attention block."""
    present = sorted(((a, n) for a, n in counts if n), key=lambda pair: _order(pair[0]))
    # Heads and dtypes alone make no groups: every layer then gets pages of its own size.
    if len({attention.held for attention, _ in present}) < 2:
        return tuple(Kind(attention, count, count) for attention, count in present)
    size = group_size([count for _, count in present])
    return tuple(Kind(attention, n, -(-n // size) * size) for attention, n in present)


def _order(attention: Attention) -> tuple[bool, int, int, str]:
    windowed, size = attention.window is not None, attention.held or 0
    return windowed, -size, -attention.kv_heads, attention.kv_dtype


def held_and_wasted(found: Iterable[Kind], tokens: int) -> tuple[int, int]:
    """KV bytes of one sequence of `tokens` tokens: what layers hold, and what padding adds."""
    found = tuple(found)
    held = sum(kind.layers * kind.held(tokens) for kind in found)
    return held, sum(kind.wasted * kind.held(tokens) for kind in found)
