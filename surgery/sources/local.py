"""`local("dir")`: a checkpoint directory on this machine.

In: a declaration, the folder of its spec. Out: the directory as it is; nothing is copied.
Refuses what is not a directory (E0005).
"""

from __future__ import annotations

import os
from pathlib import Path

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.ir import ModelDecl
from surgery.sources.fetched import Fetched, relative_name
from surgery.untrusted import shown


def fetch(decl: ModelDecl, folder: Path) -> Fetched:
    """The directory `decl.location`, which may be relative to `folder`."""
    # Not `Path.is_dir`: that raises where a folder above may not be read.
    directory = folder / os.path.expanduser(decl.location)
    if not os.path.isdir(directory):
        raise Stop(_missing(decl.location, directory))
    return Fetched(directory, f"local:{relative_name(decl.location)}")


def _missing(location: str, path: Path) -> Diagnostic:
    location = shown(location)
    if not os.path.exists(path):
        message = f"there is no directory `{location}` here"
        help = Help("paths are relative to the folder of the spec")
    elif path.suffix == ".gguf":
        message = f"`{location}` is a GGUF file, not a directory"
        help = Help(f'use `gguf("{location}")`')
    else:
        message = f"`{location}` is a file, not a directory"
        help = Help("name the directory that holds `config.json`")
    return Diagnostic(catalog.E0005, message, helps=(help,))
