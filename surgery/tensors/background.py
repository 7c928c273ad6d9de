"""What is being written is hashed and synced by threads, which lag behind the writing.

In: ranges of files as they fill, files that are finished. Out: SHA-256 (hex) of the ranges, as
futures; all files on disk after `settle`. Raises `OSError` from both. Hashing takes as long as
copying or longer, so it must not hold up the writing: a thread per tensor follows it and reads from
the page cache again. Memory is one chunk per thread, whatever the size of the tensors.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Condition
from types import TracebackType
from typing import Self

CHUNK = 2**20
MAX_THREADS = 4
"""Of hashing; more than there are cores would only take turns."""


class Range:
    """`length` bytes of the file at `path` from `start`, as far as they are written."""

    def __init__(self, path: Path, start: int, length: int) -> None:
        self.path, self.start, self.length = path, start, length
        self._written = 0
        self._given_up = False
        self._changed = Condition()

    def wrote(self, count: int) -> None:
        """The next `count` bytes are in the file."""
        with self._changed:
            self._written += count
            self._changed.notify()

    def give_up(self) -> None:
        """The rest will not be written: wake up who waits for it."""
        with self._changed:
            self._given_up = True
            self._changed.notify()

    def beyond(self, done: int) -> int:
        """How many bytes there are beyond the first `done`; waits until there are some.

        Raises `OSError` where there will be none.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._written > done or self._given_up)
        if self._given_up:
            raise OSError(f"{self.path.name} was not finished")
        return self._written - done


class Background:
    """Threads that hash and sync; a context manager, which waits for them."""

    def __init__(self) -> None:
        self._hashing = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1))
        self._syncing = ThreadPoolExecutor(1)
        self._ranges: list[Range] = []
        self._syncs: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in self._ranges if error else ():
            each.give_up()
        self._hashing.shutdown(cancel_futures=True)
        # What waits to be synced holds a descriptor, which its job closes.
        self._syncing.shutdown()

    def sha256(self, there: Range) -> Future[str]:
        """Hash a range that is being written, or will be."""
        self._ranges.append(there)
        return self._hashing.submit(_sha256, there)

    def sync(self, descriptor: int) -> None:
        """Sync a file that is finished, which may be closed meanwhile."""
        self._syncs.append(self._syncing.submit(_sync, os.dup(descriptor)))

    def settle(self) -> None:
        """Wait until all files are synced; raises `OSError` if one of them could not be."""
        for each in self._syncs:
            each.result()
        self._syncs.clear()


def known(text: str) -> Future[str]:
    """A hash that needs no work."""
    made: Future[str] = Future()
    made.set_result(text)
    return made


def _sha256(there: Range) -> str:
    digest, done = hashlib.sha256(), 0
    descriptor = os.open(there.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Anonymous memory is page-aligned: misaligned reads are several times slower.
        with mmap.mmap(-1, CHUNK) as buffer, memoryview(buffer) as view:
            while done < there.length:
                count = min(CHUNK, there.beyond(done))
                got = os.preadv(descriptor, [view[:count]], there.start + done)
                if got == 0:
                    raise OSError(f"{there.path.name} has become shorter")
                digest.update(view[:got])
                done += got
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
