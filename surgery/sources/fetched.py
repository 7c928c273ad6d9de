"""What a source gives back, and what sources share: the cache, atomic folders, refusals.

In: nothing. Out: `Fetched`, `default_cache`, `build_once`. Not here: any particular source.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop

REPIN = "if the model that is here is the one that you mean, pin it instead"
"""What to do about content that differs from its pin (E0412)."""


class Fetched(Struct, frozen=True):
    """A model on this machine.

    `source` is how artefacts name it (`local:tinymoe`, `hf:org/name@0123456789ab`): no absolute
    path, nothing that differs between machines.
    """

    directory: Path
    source: str


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/surgery`, or `~/.cache/surgery`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "surgery"


def unfetchable(message: str, *notes: str, help: str) -> Stop:
    """E0005, ready to raise."""
    return Stop(Diagnostic(catalog.E0005, message, notes=notes, helps=(Help(help),)))


def relative_name(folder: Path, location: str) -> str:
    """How artefacts name a path: as written when it stays below `folder`, else its last part.

    `folder` is the spec's, which relative locations start at.
    """
    path = Path(os.path.expanduser(location))
    if path.is_absolute() or ".." in path.parts:
        # `folder` may be relative itself; where surgery runs must not show.
        return os.path.basename(os.path.abspath(folder / path))
    return path.as_posix()


@contextmanager
def build_once(folder: Path) -> Generator[Path | None]:
    """Build `folder` whole or not at all, once among all processes.

    Yields a scratch directory to fill, which becomes `folder` when the block ends well, or `None`
    when `folder` is there already. The kernel frees the lock of a process that dies; what it left
    behind is removed by the next. Raises `OSError`.
    """
    # Loaded here, because whoever only looks at what is there builds nothing.
    import shutil
    import tempfile

    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f".{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            yield None
            return
        prefix = f".{folder.name}.tmp-"
        for orphan in sorted(folder.parent.glob(f"{prefix}*")):
            shutil.rmtree(orphan)
        scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        try:
            yield scratch
            os.chmod(scratch, 0o755 & ~_umask())
            os.rename(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
