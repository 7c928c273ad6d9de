"""Writing a child checkpoint's weights: streamed, hashed in passing, in constant memory.

In: a directory that belongs to the caller alone, the parent, the child's `Output`s. Out: shards
(and an index when there are several), byte for byte as `tensors.layout.layout` says, and the
SHA-256 of every tensor. Memory does not grow with the model: chunks of 1 MiB are read and written
by one thread and hashed by another. Refuses, as `Stop`: too little space, before the first byte
and during writing (E0803), and every other failure of the output (E0806); then no file of it is
left. Not here: making the directory appear whole (`passes/emit_place.py` renames it),
other files.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from pathlib import Path

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.ir import Model
from surgery.ops import Output
from surgery.tensors.headers import DTYPE_BYTES, INDEX
from surgery.tensors.layout import METADATA, ShardLayout, layout
from surgery.tensors.stream import CHUNK, Parents, aligned, result_shape, stream
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
        with Parents(model) as parents, ThreadPoolExecutor(1) as pool:
            for output in outputs:
                _check(output, parents)
            for shard in plan.shards:
                path = directory / shard.name
                for tensor in _write_shard(path, shard, parents, pool, progress=progress):
                    written[tensor.name] = tensor
                made.append(path)
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
    spec, _ = parents.locate(output.op)
    shape = result_shape(output.op, spec.shape)
    nbytes = prod(shape) * DTYPE_BYTES[spec.dtype]
    if (output.shape, output.dtype, output.nbytes) != (shape, spec.dtype, nbytes):
        raise ValueError(f"{output.name} is not what {output.op} makes: {shape}, {nbytes} bytes")


def _check_space(directory: Path, needed: int) -> None:
    try:
        stat = os.statvfs(directory)
    except OSError as error:
        raise _cannot_write(directory, error) from error
    free = stat.f_bavail * stat.f_frsize
    if free < needed:
        message = f"the checkpoint takes {format_bytes(needed)}, and only {format_bytes(free)} are free"
        raise _no_space(directory, message)


def _write_shard(
    path: Path,
    shard: ShardLayout,
    parents: Parents,
    pool: ThreadPoolExecutor,
    *,
    progress: Callable[[int], None] | None,
) -> list[WrittenTensor]:
    written: list[WrittenTensor] = []
    with _created(path) as descriptor:
        _write_all(descriptor, memoryview(shard.header), path)
        pipe = _HashingPipe(descriptor, path, pool)
        for output in shard.outputs:
            spec, file = parents.locate(output.op)
            stream(output.op, spec, file, parents, pipe)
            written.append(WrittenTensor(output.name, shard.name, pipe.finish()))
            if progress is not None:
                progress(output.nbytes)
    return written


def _write_file(path: Path, data: bytes) -> None:
    with _created(path) as descriptor:
        _write_all(descriptor, memoryview(data), path)


class _HashingPipe:
    """Two buffers in turn: while one is hashed in `pool` (one thread), the other is filled."""

    def __init__(self, descriptor: int, path: Path, pool: ThreadPoolExecutor) -> None:
        self._descriptor, self._path, self._pool = descriptor, path, pool
        self._buffers = (aligned(CHUNK), aligned(CHUNK))
        self._hashing: list[Future[None] | None] = [None, None]
        self._digest = hashlib.sha256()
        self._current = self._fill = 0

    def room(self) -> memoryview:
        """What is left of the current buffer, or the next one."""
        if self._fill == CHUNK:
            self._flush()
        busy = self._hashing[self._current]
        if busy is not None:
            busy.result()
            self._hashing[self._current] = None
        return self._buffers[self._current][self._fill :]

    def filled(self, count: int) -> None:
        """Take over the next `count` bytes."""
        self._fill += count

    def finish(self) -> str:
        """Write what is left; the SHA-256 (hex) of everything since the last `finish`."""
        self._flush()
        for busy in self._hashing:
            if busy is not None:
                busy.result()
        digest, self._digest = self._digest.hexdigest(), hashlib.sha256()
        self._hashing = [None, None]
        return digest

    def _flush(self) -> None:
        if self._fill:
            chunk = self._buffers[self._current][: self._fill]
            self._hashing[self._current] = self._pool.submit(self._digest.update, chunk)
            _write_all(self._descriptor, chunk, self._path)
            self._current, self._fill = 1 - self._current, 0


@contextlib.contextmanager
def _created(path: Path) -> Generator[int]:
    """A new file, open for writing: whole and synced at the end, or gone. Raises `Stop`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield descriptor
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise _cannot_write(path, error) from error
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
