"""Where output goes: folders that appear whole or not at all.

In: the folders that the user named, the parent's directory. Out: `staged`, a fresh folder beside
each that takes its place when everything is written. Refuses, as `Stop`: a place that is a file,
a link, or a folder with anything in it that surgery did not write (E0802); one that overlaps the
parent (E0807) or another output (E0806); a full disk (E0803) and every other failure to write
(E0806). After a failure all places are as they were. Not here: what is written
(`passes/emit.py`).

A folder is ours if its manifest lists all that is in it, as it is: a small file by size and
SHA-256, weights by size. It is moved aside, replaced by the new one and only then removed. A
staged folder is locked as long as its process lives, so that what a killed run left behind is
recognised, and removed or put back, by the next run to the same place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Generator
from pathlib import Path
from stat import S_ISREG
from typing import cast

from msgspec.structs import replace

from surgery import catalog
from surgery.diagnostics import Code, Diagnostic, Help, Stop
from surgery.untrusted import shown

MANIFEST = "provenance.json"
MANIFEST_FORMAT = "surgery-provenance"
MAX_MANIFEST = 256 * 2**20
_SHOW = 3
"""How many foreign files a message names."""


def check(out: Path, parent: Path) -> None:
    """Raise `Stop` unless `out` may be written or replaced; `parent` is the model's directory."""
    place = Path(os.path.realpath(out.parent)) / out.name
    source = Path(os.path.realpath(parent))
    if place == source or source in place.parents or _same(place, source):
        relation = "is" if place == source or _same(place, source) else "lies inside"
        help = "write to a folder outside the model"
        raise _refused(catalog.E0807, f"the output `{out}` {relation} the parent model", out, help)
    if place in source.parents:
        help = "write to a folder that does not hold the model"
        raise _refused(catalog.E0807, f"the parent model lies inside the output `{out}`", out, help)
    if not os.path.lexists(place):
        _check_writable(out)
        return
    if place.is_symlink() or not place.is_dir():
        kind = "a symbolic link" if place.is_symlink() else "no folder"
        raise _refused(catalog.E0802, f"`{out}` exists and is {kind}", out, "choose another place")
    foreign = strangers(place)
    if foreign:
        names = ", ".join(f"`{shown(name)}`" for name in foreign[:_SHOW])
        more = f" and {len(foreign) - _SHOW} more" if len(foreign) > _SHOW else ""
        what = "files that surgery did not write like this"
        message = f"`{out}` exists and holds {what}: {names}{more}"
        raise _refused(catalog.E0802, message, out, "choose another folder, or move these away")


def _check_writable(out: Path) -> None:
    """Raise `Stop` (E0806) if the nearest folder above `out` takes no new names."""
    above = next((folder for folder in out.parents if os.path.lexists(folder)), Path("."))
    with reported(out):
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(above))
        if not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "permission denied", str(above))


def check_apart(outs: tuple[Path, ...]) -> None:
    """Raise `Stop` (E0806) where one of several outputs is, or lies inside, another."""
    places = [Path(os.path.realpath(out.parent)) / out.name for out in outs]
    for (out, place), (other, outer) in itertools.permutations(zip(outs, places, strict=True), 2):
        if place == outer or outer in place.parents:
            relation = "is" if place == outer else "lies inside"
            message = f"the output `{out}` {relation} the output `{other}`"
            raise _refused(catalog.E0806, message, out, "give every output a folder of its own")


@contextlib.contextmanager
def staged(outs: tuple[Path, ...], parent: Path) -> Generator[tuple[Path, ...]]:
    """A new folder to write into for each of `outs`, in their order.

    On leaving they become `outs`; on an exception, in the body or while the first of several are
    put in place, nothing is left of any. Raises `Stop` as `check` does, and for every `OSError`.
    """
    check_apart(outs)
    with contextlib.ExitStack() as stages:
        folders = tuple(stages.enter_context(_staged(out, parent)) for out in outs)
        yield folders
        with contextlib.ExitStack() as commits:
            for folder, out in zip(folders, outs, strict=True):
                commits.enter_context(_committed(folder, out, parent))


@contextlib.contextmanager
def _staged(out: Path, parent: Path) -> Generator[Path]:
    """A new folder beside `out`, removed on an exception."""
    check(out, parent)
    made = _missing_parents(out)
    temporary: Path | None = None
    try:
        with reported(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            with _alone(out.parent):
                _reap(out)
                temporary, lock = _fresh(out)
            try:
                yield temporary
            finally:
                os.close(lock)
    except BaseException as ended:
        # Whatever ended it, Ctrl-C included: a part must not look like a whole.
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(ended, Stop) and temporary is not None:
            ended.diagnostic = _about(ended.diagnostic, temporary, out)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def write_file(path: Path, data: bytes) -> None:
    """A new file of mode 0644 less the umask, synced; raises `OSError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o644)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def sync(directory: Path) -> None:
    """Make the names in a directory survive a crash; raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- whose folder it is ----------------------------------------------------------------------


def strangers(directory: Path) -> tuple[str, ...]:
    """What is in `directory` and not, or not as it is, in its manifest, sorted.

    Everything if there is no manifest. Symbolic links are strangers wherever they are: surgery
    makes none.
    """
    ours = _listed(directory / MANIFEST)
    if ours is None:
        return tuple(sorted(os.listdir(directory)))
    found: list[str] = []
    for folder, folders, files in os.walk(directory):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        for path in (here / name for name in (*files, *links)):
            relative = path.relative_to(directory).as_posix()
            if relative != MANIFEST and not _as_listed(path, ours.get(relative)):
                found.append(relative)
    return tuple(sorted(found))


def _as_listed(path: Path, entry: object) -> bool:
    """Whether a file is what its entry in the manifest says: its size, its hash if it has one."""
    if not isinstance(entry, dict):
        return False
    told = cast("dict[str, object]", entry)
    try:
        stat = path.lstat()
        if not S_ISREG(stat.st_mode) or stat.st_size != told.get("bytes"):
            return False
        return "sha256" not in told or told["sha256"] == _sha256(path)
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listed(manifest: Path) -> dict[str, object] | None:
    """The files that a manifest lists, with what it says of them; `None` if it is not ours."""
    try:
        if manifest.is_symlink() or manifest.stat().st_size > MAX_MANIFEST:
            return None
        root: object = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(root, dict):
        return None
    fields = cast("dict[str, object]", root)
    files = fields.get("files")
    if fields.get("format") != MANIFEST_FORMAT or not isinstance(files, dict):
        return None
    return cast("dict[str, object]", files)


def _same(a: Path, b: Path) -> bool:
    """Whether two names are one folder, as on file systems that ignore case."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


# ---- temporary folders -----------------------------------------------------------------------


def _missing_parents(out: Path) -> tuple[Path, ...]:
    """Folders above `out` that do not exist yet, innermost first."""
    return tuple(folder for folder in out.parents if not os.path.lexists(folder))


def _prefix(out: Path) -> str:
    return f".{out.name}.surgery-"


def _free(out: Path, kind: str) -> Path:
    number = 0
    while True:
        path = out.parent / f"{_prefix(out)}{kind}-{os.getpid()}-{number}"
        if not os.path.lexists(path):
            return path
        number += 1


def _fresh(out: Path) -> tuple[Path, int]:
    """A new folder and the descriptor that locks it."""
    path = _free(out, "new")
    path.mkdir(mode=0o755)
    return path, _locked(path)


def _locked(path: Path) -> int:
    """A descriptor of a folder under an exclusive lock; raises `BlockingIOError` if it has one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        # A file system without locks: what a killed run leaves there is never reaped.
        pass
    return descriptor


@contextlib.contextmanager
def _alone(directory: Path) -> Generator[None]:
    """Keep other runs from taking the same short steps in `directory`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _reap(out: Path) -> None:
    """Clear away what dead runs left beside `out`; put back a folder that one had moved aside."""
    for path in sorted(out.parent.iterdir()):
        if not path.name.startswith(_prefix(out)) or path.is_symlink() or not path.is_dir():
            continue
        try:
            lock = _locked(path)
        except OSError:
            continue
        aside = path.name.startswith(f"{_prefix(out)}old-")
        if aside and not os.path.lexists(out):
            path.rename(out)
        else:
            shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def _committed(temporary: Path, out: Path, parent: Path) -> Generator[None]:
    """Put a staged folder in its place; on an exception in the body, everything goes back."""
    with contextlib.ExitStack() as aside:
        with reported(out), _alone(out.parent):
            check(out, parent)
            sync(temporary)
            old = _moved_aside(out, aside)
            try:
                temporary.rename(out)
            except BaseException:
                _put_back(old, out)
                raise
        try:
            yield
        except BaseException:
            with _alone(out.parent):
                out.rename(temporary)
                _put_back(old, out)
            raise
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
    # Everything is in place. Should this fail, a power cut could still undo the renaming.
    with contextlib.suppress(OSError):
        sync(out.parent)


def _moved_aside(out: Path, until: contextlib.ExitStack) -> Path | None:
    """Rename the folder `out`, if there is one; locked until then, so that nobody reaps it."""
    if not os.path.lexists(out):
        return None
    old = _free(out, "old")
    # Who holds its lock has just put it there and is about to leave.
    with contextlib.suppress(BlockingIOError):
        until.callback(os.close, _locked(out))
    out.rename(old)
    return old


def _put_back(old: Path | None, out: Path) -> None:
    if old is not None:
        old.rename(out)


# ---- findings --------------------------------------------------------------------------------


def _refused(code: Code, message: str, out: Path, help: str) -> Stop:
    return Stop(Diagnostic(code, message, subject=str(out), helps=(Help(help),)))


def _about(found: Diagnostic, temporary: Path, out: Path) -> Diagnostic:
    """A finding about a file of the staged folder, as one about the place that was asked for."""
    subject = found.subject
    if subject is None or not Path(subject).is_relative_to(temporary):
        return found
    return replace(found, subject=str(out / Path(subject).relative_to(temporary)))


@contextlib.contextmanager
def reported(out: Path) -> Generator[None]:
    """Turn an `OSError` into the finding it is."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            help = "free some space, or write to another disk"
            message = f"the disk filled up while `{out}` was written"
            raise _refused(catalog.E0803, message, out, help) from error
        message = f"cannot write the output `{out}`: {reason}"
        raise _refused(catalog.E0806, message, out, "choose a place that can be written") from error
