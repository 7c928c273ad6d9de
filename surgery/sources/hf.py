"""`hf("org/name") { revision = "..." }`: a model on the Hugging Face Hub, or in its local cache.

In: a declaration. Out: the snapshot directory of the Hub's own cache, with only the files needed:
configs, tokenizer, licence, safetensors. A revision that is a full commit is taken from the cache
without asking the Hub. Nothing is executed and pickles are never fetched. Refuses, as `Stop`:
what is neither reachable nor cached (E0005), and another commit than the pinned one (E0412).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.ir import ModelDecl
from surgery.sources.fetched import REPIN, Fetched, unfetchable
from surgery.tensors.headers import INDEX, SINGLE, read_index
from surgery.untrusted import shown

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_SMALL = (
    "config.json", INDEX, "generation_config.json", "tokenizer*.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "chat_template*",
    "LICENSE*", "NOTICE*", "USAGE_POLICY*",
)  # fmt: skip
_PATIENCE = 20
"""Seconds to wait for the Hub's first answer."""
_LOCAL = 'download it elsewhere and use `local("dir")`'


def fetch(decl: ModelDecl) -> Fetched:
    """The snapshot of `decl.location` at `decl.revision`."""
    directory = _snapshot(decl)
    commit = directory.name
    if _pinned(decl) and decl.revision != commit:
        message = f"`{decl.location}` is at another commit than the spec pins"
        notes = (f"pinned: {decl.revision}", f"here:   {shown(commit)}")
        raise Stop(Diagnostic(catalog.E0412, message, notes=notes, helps=(Help(REPIN),)))
    return Fetched(directory, f"hf:{decl.location}@{commit[:12]}")


def known(decl: ModelDecl) -> Fetched | None:
    """The snapshot that the Hub's cache holds, found without its library or a connection."""
    commit = decl.revision if _pinned(decl) else _commit_of(decl)
    if commit is None or not _COMMIT.fullmatch(commit):
        return None
    directory = _repository(decl) / "snapshots" / commit
    complete = os.path.isdir(directory) and _complete(directory, weights=False)
    return Fetched(directory, f"hf:{decl.location}@{commit[:12]}") if complete else None


def _repository(decl: ModelDecl) -> Path:
    """Where the Hub's library keeps a repository; it documents these variables and names."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("HF_HOME") or os.path.join(home, "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expanduser(cache)) / f"models--{decl.location.replace('/', '--')}"


def _commit_of(decl: ModelDecl) -> str | None:
    """The commit that a branch or tag (`main` by default) stood at when it was last fetched."""
    name = decl.revision or "main"
    if not _REFERENCE.fullmatch(name) or ".." in name:
        return None
    try:
        return (_repository(decl) / "refs" / name).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _pinned(decl: ModelDecl) -> bool:
    return bool(decl.revision and _COMMIT.fullmatch(decl.revision))


def _snapshot(decl: ModelDecl) -> Path:
    """The snapshot's directory: a pinned one from the cache, else from the Hub, else cached."""
    if _pinned(decl):
        cached = _try(decl, _SMALL, cached=True)
        if isinstance(cached, Path) and _complete(cached, weights=True):
            return cached
    found = _try(decl, _SMALL, cached=False)
    if isinstance(found, Path):
        index = read_index(found)
        shards = sorted(set(index.values())) if index is not None else [SINGLE]
        found = _try(decl, [*_SMALL, *shards], cached=False)
    # Without a connection the Hub's library returns what it has, which may be a part.
    cached = _try(decl, _SMALL, cached=True)
    for candidate in (found, cached):
        if isinstance(candidate, Path) and _complete(candidate, weights=False):
            return candidate
    reasons = [found] if isinstance(found, str) else []
    if isinstance(cached, Path):
        reasons.append("the cached snapshot is incomplete")
    revision = f" at `{shown(decl.revision)}`" if decl.revision else ""
    message = f"cannot fetch `{shown(decl.location)}`{revision} from the Hugging Face Hub"
    raise unfetchable(message, "tried: the local cache, then the Hub", *reasons, help=_LOCAL)


def _complete(directory: Path, *, weights: bool) -> bool:
    """Whether config and the shards of the index are there; `weights` also asks for weights."""
    index = read_index(directory)
    shards = set(index.values()) if index is not None else {SINGLE} if weights else set[str]()
    return all((directory / name).is_file() for name in ("config.json", *shards))


def _try(decl: ModelDecl, patterns: Sequence[str], *, cached: bool) -> Path | str:
    """The directory, or in a few words why there is none."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        return "huggingface_hub is not installed"
    # Connection errors derive from the HTTP library's own class, which has changed its name
    # between versions of huggingface_hub; the rest are OSErrors.
    failures = (OSError, HFValidationError, cast("type[Exception]", HfHubHTTPError.__bases__[0]))
    library = cast("Any", huggingface_hub)
    try:
        if not cached:
            # Fails at once without a connection; a snapshot of a commit would retry for long.
            library.HfApi().model_info(decl.location, revision=decl.revision, timeout=_PATIENCE)
        path: str = library.snapshot_download(
            decl.location,
            revision=decl.revision,
            allow_patterns=list(patterns),
            ignore_patterns=["*/*"],
            local_files_only=cached,
        )
    except failures as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return shown(f"{type(error).__name__}: {lines[0] if lines else 'no details'}")
    return Path(path)
