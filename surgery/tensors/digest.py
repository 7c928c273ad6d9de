"""What a checkpoint contains, as hashes.

In: a `Checkpoint`. Out: the SHA-256 of every tensor's bytes, and one digest of a whole model.
Every byte is hashed once: the hashes are kept in the cache under the shard's path with its size,
times and inode, and used again while these stay the same. So a change of content is noticed
unless it leaves all of them alone, which takes a fault of the disk. How a checkpoint is cut into
shards does not count.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import time
from collections.abc import Mapping
from pathlib import Path

from surgery import atomic
from surgery.tensors.headers import Checkpoint, Stored, open_shard, shard_path
from surgery.untrusted import as_object, malformed, shown, unreadable

_CHUNK = 2**20
# A file changed in the same tick of the clock as before would look unchanged.
_SETTLED_NS = 2 * 10**9


def tensor_digests(checkpoint: Checkpoint, cache: Path) -> dict[str, str]:
    """SHA-256 (hex) of every tensor's bytes, by name; raises `Stop` where a shard is unreadable."""
    digests: dict[str, str] = {}
    for shard in checkpoint.shards:
        tensors = [t for t in checkpoint.tensors.values() if t.file.shard == shard]
        digests |= _shard_digests(checkpoint.directory, shard, tensors, cache)
    return {name: digests[name] for name in sorted(digests)}


def known_digests(checkpoint: Checkpoint, cache: Path) -> dict[str, str] | None:
    """As `tensor_digests`, from the cache alone: `None` unless it has them all."""
    digests: dict[str, str] = {}
    for shard in checkpoint.shards:
        descriptor = open_shard(checkpoint.directory, shard)
        try:
            known = _recall(_entry(checkpoint.directory, shard, cache), stamp(descriptor))
        except OSError:
            return None
        finally:
            os.close(descriptor)
        tensors = {t.name for t in checkpoint.tensors.values() if t.file.shard == shard}
        if known is None or known.keys() != tensors:
            return None
        digests |= known
    return {name: digests[name] for name in sorted(digests)}


def model_digest(
    config: Mapping[str, object], tensors: Mapping[str, Stored], contents: Mapping[str, str]
) -> str:
    """SHA-256 (hex) over the canonical config, and name, dtype, shape and content of `tensors`."""
    lines = [json.dumps(dict(config), sort_keys=True, separators=(",", ":"))]
    for name in sorted(tensors):
        stored = tensors[name]
        lines.append(json.dumps([name, stored.dtype, list(stored.shape), contents[name]]))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _shard_digests(
    directory: Path, shard: str, tensors: list[Stored], cache: Path
) -> dict[str, str]:
    entry = _entry(directory, shard, cache)
    descriptor = open_shard(directory, shard)
    try:
        key = stamp(descriptor)
        known = _recall(entry, key)
        if known is not None and known.keys() == {tensor.name for tensor in tensors}:
            return known
        made = {tensor.name: _hash(descriptor, tensor) for tensor in tensors}
        if _settled(descriptor) and stamp(descriptor) == key:
            _remember(entry, key, made)
    except OSError as error:
        raise unreadable(directory / shard, error) from error
    finally:
        os.close(descriptor)
    return made


def sequential(descriptor: int) -> None:
    """Tell the system that a file will be read forwards: from a disk, that takes half the time."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)


def _entry(directory: Path, shard: str, cache: Path) -> Path:
    path = os.fsencode(shard_path(directory, shard))
    return cache / "digests" / f"{hashlib.sha256(path).hexdigest()}.json"


def stamps(checkpoint: Checkpoint) -> dict[str, str]:
    """The stamps of all shards that have settled, by name; take them before hashing.

    A shard that has its stamp still has the contents that were hashed.
    """
    found: dict[str, str] = {}
    for shard in checkpoint.shards:
        descriptor = open_shard(checkpoint.directory, shard)
        try:
            if _settled(descriptor):
                found[shard] = stamp(descriptor)
        finally:
            os.close(descriptor)
    return found


def _settled(descriptor: int) -> bool:
    return time.time_ns() - os.fstat(descriptor).st_ctime_ns > _SETTLED_NS


def stamp(descriptor: int) -> str:
    """Size, times and inode of an open file: a change of its content changes one of them."""
    stat = os.fstat(descriptor)
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"


def _hash(descriptor: int, stored: Stored) -> str:
    digest = hashlib.sha256()
    sequential(descriptor)
    at, end = stored.file.start, stored.file.end
    # Anonymous memory is page-aligned: misaligned reads are several times slower.
    with mmap.mmap(-1, _CHUNK) as buffer, memoryview(buffer) as view:
        while at < end:
            got = os.preadv(descriptor, [view[: min(_CHUNK, end - at)]], at)
            if got == 0:
                message = f"`{shown(stored.file.shard)}` ends inside `{shown(stored.name)}`"
                raise malformed(stored.file.shard, message)
            digest.update(view[:got])
            at += got
    return digest.hexdigest()


def _recall(entry: Path, key: str) -> dict[str, str] | None:
    try:
        root = as_object(json.loads(entry.read_bytes()))
    except (OSError, ValueError):
        return None
    if root is None or root.get("file") != key:
        return None
    digests = as_object(root.get("sha256")) or {}
    return {name: text for name, text in digests.items() if isinstance(text, str)}


def _remember(entry: Path, key: str, digests: dict[str, str]) -> None:
    """Keep digests for the next run; a cache that cannot be written costs time, no more."""
    text = json.dumps({"file": key, "sha256": digests}, sort_keys=True)
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(entry, text.encode("ascii"))
