"""Writing a child checkpoint's weights: streamed, hashed in passing, in constant memory.

In: a directory that belongs to the caller alone, the parent, the child's `Output`s. Out: shards
(and an index when there are several), byte for byte as `tensors.layout.layout` says, and the
SHA-256 of every tensor: that of the parent's where all of it was copied and its shard has not
changed since it was hashed, else taken of what was written. Memory does not grow with the model:
chunks of 256 KiB are read and written by one thread, and hashed and synced by others, which lag
behind. Refuses, as `Stop`: too little space, before the first byte
and during writing (E0803), and every other failure of the output (E0806); then no file of it is
left. Not here: making the directory appear whole (`passes/emit_place.py` renames it),
other files.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from math import prod
from mmap import PAGESIZE as PAGE
from pathlib import Path
from typing import Self

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.ir import Model
from surgery.ops import Output
from surgery.tensors.background import Background, Range, known
from surgery.tensors.headers import DTYPE_BYTES, INDEX
from surgery.tensors.layout import METADATA, ShardLayout, layout
from surgery.tensors.stream import CHUNK, Parents, aligned, result, send
from surgery.units import format_bytes


class WrittenTensor(Struct, frozen=True):
    """A tensor on disk: its name, the shard that holds it, the SHA-256 (hex) of its bytes."""

    name: str
    shard: str
    sha256: str


def write_checkpoint(
    directory: Path,
    model: Model,
    outputs: Sequence[Output],
    shard_bytes: int | None = None,
    metadata: Mapping[str, str] = METADATA,
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[WrittenTensor, ...]:
    """Write `outputs` into the existing `directory`, in order; see `layout` for the files.

    `progress` is told the bytes of each finished tensor. Files are 0644 less the umask, and
    fsynced with their directory. Raises `Stop` (E0001, E0004 about the parent; E0803, E0806),
    `ValueError` where an output is not what its operation makes.
    """
    plan = layout(outputs, shard_bytes, metadata)
    _check_space(directory, plan.size)
    written: dict[str, WrittenTensor] = {}
    made: list[Path] = []
    try:
        with Parents(model) as parents, Background() as background:
            for output in outputs:
                _check(output, parents)
            hashes: dict[str, tuple[str, Future[str]]] = {}
            for shard in plan.shards:
                path = directory / shard.name
                hashes |= _write_shard(path, shard, parents, background, progress=progress)
                made.append(path)
            written = {name: _written(name, *hashes[name], directory) for name in hashes}
            _settle(background, directory)
        if plan.index is not None:
            _write_file(directory / INDEX, plan.index)
            made.append(directory / INDEX)
        _sync_directory(directory)
    except BaseException:
        # Whatever ended it, Ctrl-C included: some shards must not look like a checkpoint.
        for path in made:
            _remove(path)
        raise
    return tuple(written[output.name] for output in outputs)


def _check(output: Output, parents: Parents) -> None:
    shape, dtype = result(output.op, parents)
    nbytes = prod(shape) * DTYPE_BYTES[dtype]
    if (output.shape, output.dtype, output.nbytes) != (shape, dtype, nbytes):
        raise ValueError(f"{output.name} is not what {output.op} makes: {shape}, {nbytes} bytes")


def _check_space(directory: Path, needed: int) -> None:
    try:
        stat = os.statvfs(directory)
    except OSError as error:
        raise _cannot_write(directory, error) from error
    free = stat.f_bavail * stat.f_frsize
    if free < needed:
        message = (
            f"the checkpoint takes {format_bytes(needed)}, and only {format_bytes(free)} are free"
        )
        raise _no_space(directory, message)


def _write_shard(
    path: Path,
    shard: ShardLayout,
    parents: Parents,
    background: Background,
    *,
    progress: Callable[[int], None] | None,
) -> dict[str, tuple[str, Future[str]]]:
    """Write one file; its name and the hash to come of every tensor."""
    hashes: dict[str, tuple[str, Future[str]]] = {}
    with _created(path) as descriptor:
        _write_all(descriptor, memoryview(shard.header), path)
        at = len(shard.header)
        pipe = _FilePipe(descriptor, path, at)
        for output in shard.outputs:
            there, sha256 = Range(path, at, output.nbytes), parents.known(output.op)
            made = known(sha256) if sha256 else background.sha256(there)
            hashes[output.name] = (shard.name, made)
            send(output.op, parents, pipe.into(there))
            pipe.flush()
            at += output.nbytes
            if progress is not None:
                progress(output.nbytes)
        background.sync(descriptor)
    return hashes


def _written(name: str, shard: str, sha256: Future[str], directory: Path) -> WrittenTensor:
    try:
        return WrittenTensor(name, shard, sha256.result())
    except OSError as error:
        raise _cannot_write(directory / shard, error) from error


def _settle(background: Background, directory: Path) -> None:
    try:
        background.settle()
    except OSError as error:
        raise _cannot_write(directory, error) from error


def _write_file(path: Path, data: bytes) -> None:
    with _created(path) as descriptor:
        _write_all(descriptor, memoryview(data), path)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise _cannot_write(path, error) from error


class _FilePipe:
    """Collects small pieces into writes of whole chunks, and tells who follows them.

    Writes start at a page of the file wherever they can: the system copies to misaligned memory,
    which is what a page of the file is then, in twice the time.
    """

    def __init__(self, descriptor: int, path: Path, at: int) -> None:
        self._descriptor, self._path, self._at = descriptor, path, at
        self._buffer = aligned(CHUNK)
        self._fill = 0
        self._there = Range(path, 0, 0)

    def into(self, there: Range) -> Self:
        """What comes now belongs to the tensor whose bytes lie `there`."""
        self._there = there
        return self

    def room(self) -> memoryview:
        """What is left of the buffer, all of it when it was full; up to a page's end at first."""
        if self._fill == self._size():
            self.flush()
        return self._buffer[self._fill : self._size()]

    def _size(self) -> int:
        return -self._at % PAGE or CHUNK

    def filled(self, count: int) -> None:
        """Take over the next `count` bytes."""
        self._fill += count

    def flush(self) -> None:
        """Write what is left."""
        _write_all(self._descriptor, self._buffer[: self._fill], self._path)
        self._there.wrote(self._fill)
        self._at += self._fill
        self._fill = 0


@contextlib.contextmanager
def _created(path: Path) -> Generator[int]:
    """A new file, open for writing: whole at the end, or gone. Raises `Stop`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield descriptor
    except BaseException:
        _remove(path)
        raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _write_all(descriptor: int, data: memoryview, path: Path) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError as error:
            raise _cannot_write(path, error) from error


def _sync_directory(directory: Path) -> None:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _cannot_write(directory, error) from error


def _cannot_write(path: Path, error: OSError) -> Stop:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_space(path, f"the disk filled up while `{path.name}` was written")
    message = f"cannot write `{path.name}`: {reason}"
    return Stop(Diagnostic(catalog.E0806, message, subject=str(path)))


def _no_space(path: Path, message: str) -> Stop:
    help = Help("free some space, or write to another disk")
    return Stop(Diagnostic(catalog.E0803, message, subject=str(path), helps=(help,)))
