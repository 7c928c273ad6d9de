"""A small file that is there whole or not at all.

In: a path and its bytes. Out: the file, or an `OSError` and the folder as it was. Not here:
folders (`passes/emit_place.py`, `sources/fetched.py`) and what an error means to the user.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write or replace `path`: temporary file beside it, fsync, rename.

    No reader sees half of it, and of several writers the last one wins. Without a `mode`, it is
    0666 less the umask. The folder must exist. Raises `OSError`, and then leaves nothing behind.
    """
    # Not `tempfile`: its files are private to their owner (mode 0600), and these are shared.
    name = path.parent / f".tmp-{os.getpid()}-{os.urandom(8).hex()}"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if mode is not None:
            os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        # Ctrl-C included.
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
