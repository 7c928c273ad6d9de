"""What has been written is hashed and synced in threads, while the next tensor is written.

In: ranges of finished parts of files, finished files. Out: SHA-256 (hex) of the ranges, as
futures; all files on disk after `settle`. Raises `OSError` from there. Hashing takes longer than
copying, so it must not hold up the writing: it reads what was written from the page cache again,
one tensor per thread. Memory is one chunk per thread, whatever the size of the tensors.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

CHUNK = 2**20
MAX_THREADS = 4
"""Of hashing; more than there are cores would only take turns."""


class Background:
    """Threads that hash and sync; a context manager, which waits for them."""

    def __init__(self) -> None:
        self._hashing = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1))
        self._syncing = ThreadPoolExecutor(1)
        self._syncs: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hashing.shutdown(cancel_futures=True)
        # What waits to be synced holds a descriptor, which its job closes.
        self._syncing.shutdown()

    def sha256(self, path: Path, start: int, length: int) -> Future[str]:
        """Hash `length` bytes of the file at `path` from `start`; they must be there by now."""
        return self._hashing.submit(_sha256, path, start, length)

    def sync(self, descriptor: int) -> None:
        """Sync a file that is finished, which may be closed and renamed meanwhile."""
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


def _sha256(path: Path, start: int, length: int) -> str:
    digest, end = hashlib.sha256(), start + length
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Anonymous memory is page-aligned: misaligned reads are several times slower.
        with mmap.mmap(-1, CHUNK) as buffer, memoryview(buffer) as view:
            while start < end:
                got = os.preadv(descriptor, [view[: min(CHUNK, end - start)]], start)
                if got == 0:
                    raise OSError(f"{path.name} ends {end - start} bytes early")
                digest.update(view[:got])
                start += got
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
