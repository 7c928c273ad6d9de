"""`local("dir")`: a checkpoint directory on this machine.

In: a declaration, the folder of its spec. Out: the directory as it is; nothing is copied.
Refuses what is not a directory (E0005), or has no `config.json` (E0001).
"""

from __future__ import annotations

import os
from pathlib import Path

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.grammar.near import nearest
from surgery.ir import ModelDecl
from surgery.sources.fetched import Fetched, relative_name
from surgery.untrusted import shown

CONFIG = "config.json"


def fetch(decl: ModelDecl, folder: Path) -> Fetched:
    """The directory `decl.location`, which may be relative to `folder`."""
    # Not `Path.is_dir`: that raises where a folder above may not be read.
    directory = folder / os.path.expanduser(decl.location)
    if not os.path.isdir(directory):
        raise Stop(_missing(decl.location, directory))
    if _lacks_config(directory):
        message = f"there is no `{CONFIG}` in `{shown(decl.location)}`"
        help = Help(f"name the directory of a model: `{CONFIG}` says what its layers are")
        raise Stop(Diagnostic(catalog.E0001, message, helps=(help,)))
    return Fetched(directory, f"local:{relative_name(folder, decl.location)}")


def _lacks_config(directory: Path) -> bool:
    """Whether there certainly is none; what only cannot be read is told by who reads it."""
    try:
        os.lstat(directory / CONFIG)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _similar(path: Path) -> str:
    """The directory beside a missing one whose name is closest to it, or nothing."""
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.is_dir()]
    except OSError:
        return ""
    return next((shown(name) for name in nearest(path.name, names)), "")


def _missing(location: str, path: Path) -> Diagnostic:
    location = shown(location)
    if not os.path.exists(path):
        message = f"there is no directory `{location}` here"
        near = _similar(path)
        help = Help(
            f"`{near}`, in the same place, has a similar name"
            if near
            else "paths are relative to the folder of the spec"
        )
    elif path.suffix == ".gguf":
        message = f"`{location}` is a GGUF file, not a directory"
        help = Help(f'use `gguf("{location}")`')
    else:
        message = f"`{location}` is a file, not a directory"
        help = Help("name the directory that holds `config.json`")
    return Diagnostic(catalog.E0005, message, helps=(help,))
