"""How a checkpoint will lie on disk, known to the byte before the first one is written.

In: the child's `Output`s. Out: `Layout`: shards with finished headers, and the index. Tensors keep
the order given; inside a shard wider dtypes come first, so that every tensor is aligned to its
own element. The same outputs give the same bytes. Not here: writing (`write.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from surgery.ops import Output
from surgery.tensors.headers import DTYPE_BYTES, INDEX, SINGLE

METADATA: Mapping[str, str] = MappingProxyType({"format": "pt"})
"""What Transformers wants to see in a header."""


class ShardLayout(Struct, frozen=True):
    """One file: its name, its first bytes, then its tensors back to back."""

    name: str
    header: bytes
    outputs: tuple[Output, ...]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + sum(output.nbytes for output in self.outputs)


class Layout(Struct, frozen=True):
    """All files of a checkpoint's weights; a single shard has no index."""

    shards: tuple[ShardLayout, ...]
    index: bytes | None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(shard.size for shard in self.shards) + len(self.index or b"")

    @property
    def files(self) -> tuple[str, ...]:
        """Every file name, in order of writing."""
        return (*(shard.name for shard in self.shards), *((INDEX,) if self.index else ()))


def layout(
    outputs: Sequence[Output],
    shard_bytes: int | None = None,
    metadata: Mapping[str, str] = METADATA,
) -> Layout:
    """Distribute `outputs` over shards of at most `shard_bytes` of tensors each.

    A larger tensor gets a shard of its own; `None` is one shard. Raises `ValueError` on equal
    names.
    """
    if len({output.name for output in outputs}) != len(outputs):
        raise ValueError("two outputs have the same name")
    groups: list[list[Output]] = [[]]
    held = 0
    for output in outputs:
        if groups[-1] and shard_bytes is not None and held + output.nbytes > shard_bytes:
            groups.append([])
            held = 0
        groups[-1].append(output)
        held += output.nbytes
    if len(groups) == 1:
        return Layout((_shard(SINGLE, groups[0], metadata),), None)
    count = len(groups)
    names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    pairs = zip(names, groups, strict=True)
    shards = tuple(_shard(name, group, metadata) for name, group in pairs)
    return Layout(shards, _index(shards))


def _shard(name: str, group: list[Output], metadata: Mapping[str, str]) -> ShardLayout:
    ordered = sorted(group, key=lambda output: -DTYPE_BYTES[output.dtype])
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    at = 0
    for output in ordered:
        end = at + output.nbytes
        info = {"dtype": output.dtype, "shape": output.shape, "data_offsets": (at, end)}
        header[output.name] = info
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return ShardLayout(name, len(text).to_bytes(8, "little") + text, tuple(ordered))


def _index(shards: tuple[ShardLayout, ...]) -> bytes:
    total = sum(output.nbytes for shard in shards for output in shard.outputs)
    located = {output.name: shard.name for shard in shards for output in shard.outputs}
    index = {"metadata": {"total_size": total}, "weight_map": located}
    return (json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
