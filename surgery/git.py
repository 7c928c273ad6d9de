"""Plans and specs in git: what `git diff` calls a hunk of them, and what it leaves out.

In: a git work tree. Out: two lines of its `.gitattributes` and three settings of its own config, or
none of them again. Everything works without: the driver shortens hashes, leaves out which slices
are kept, and names the layer or the statement above a hunk. Plans are never merged line by line:
two merged plans are no plan, they are to be solved again. Raises `NoWorkTree` where there is none.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from surgery import atomic
from surgery.ir import Plan
from surgery.lockfile import text

ATTRIBUTES = ("*.plan diff=surgery-plan merge=binary", "*.surg diff=surg")
SETTINGS = (
    ("diff.surgery-plan.textconv", "surgery show --for-diff"),
    ("diff.surgery-plan.xfuncname", "^(layer [0-9]+|require @[a-z0-9-]+).*$"),
    (
        "diff.surg.xfuncname",
        "^((model|machine|scenario|dataset|score|apply|choose|expect|require|recover|emit) .*)$",
    ),
)
_FILE = ".gitattributes"
_HASH = re.compile(r"(?<=sha256:)([0-9a-f]{8})[0-9a-f]+")


class NoWorkTree(Exception):
    """There is no git here, or no work tree of it."""


def install(folder: Path) -> tuple[str, ...]:
    """Set up the work tree around a folder; what was added, nothing if all was there."""
    root = _root(folder)
    added = _rewrite(
        root / _FILE, lambda lines: [*lines, *(a for a in ATTRIBUTES if a not in lines)]
    )
    for name, value in SETTINGS:
        if _git(root, "config", "--local", "--default", "", "--get", name) != value:
            _git(root, "config", "--local", name, value)
            added.append(name)
    return tuple(added)


def uninstall(folder: Path) -> tuple[str, ...]:
    """Take out what `install` adds; what was taken out."""
    root = _root(folder)
    removed = _rewrite(root / _FILE, lambda lines: [x for x in lines if x not in ATTRIBUTES])
    for name, value in SETTINGS:
        # Another value is somebody's own.
        if _git(root, "config", "--local", "--default", "", "--get", name) == value:
            _git(root, "config", "--local", "--unset", name)
            removed.append(name)
    for section in ("diff.surgery-plan", "diff.surg"):
        _drop_if_empty(root, section)
    return tuple(removed)


def for_diff(plan: Plan) -> str:
    """The text of a plan for reading differences: short hashes, no lists of slices or scales."""
    lines = text(plan).splitlines()
    told = [line for line in lines if not line.startswith(("kept ", "scales "))]
    return _HASH.sub(r"\1", "\n".join(told)).rstrip() + "\n"


# ---- files and settings ----------------------------------------------------------------------


def _rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> list[str]:
    """Change the lines of a file that may not be there; the lines that came or went."""
    before = path.read_text("utf-8").splitlines() if path.exists() else []
    after = change(before)
    if after and after != before:
        atomic.write(path, ("\n".join(after) + "\n").encode())
    elif before and not after:
        path.unlink()
    return [line for line in (*before, *after) if (line in before) is not (line in after)]


def _root(folder: Path) -> Path:
    return Path(_git(folder, "rev-parse", "--show-toplevel"))


def _drop_if_empty(root: Path, section: str) -> None:
    """git leaves the head of a section behind its last setting."""
    if not _git(root, "config", "--local", "--list").count(f"{section}."):
        _try(root, "config", "--local", "--remove-section", section)


def _git(folder: Path, *arguments: str) -> str:
    done = _try(folder, *arguments)
    if done.returncode:
        raise NoWorkTree(done.stderr.strip().removeprefix("fatal: "))
    return done.stdout.strip()


def _try(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ("git", *arguments), cwd=folder, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise NoWorkTree(f"git cannot be run: {(error.strerror or 'no reason').lower()}") from error
