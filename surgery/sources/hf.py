"""`hf("org/name") { revision = "..." }`: a model on the Hugging Face Hub, or in its local cache.

In: a declaration. Out: the snapshot directory of the Hub's own cache, with only the files needed:
configs, tokenizer, licence, safetensors. A revision that is a full commit is taken from the cache
without asking the Hub. Nothing is executed and pickles are never fetched. Refuses, as `Stop`:
what is neither reachable nor cached (E0005), and another commit than the pinned one (E0412).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from surgery import catalog
from surgery.diagnostics import Diagnostic, Stop
from surgery.ir import ModelDecl
from surgery.sources.fetched import Fetched, unfetchable
from surgery.tensors.headers import INDEX, SINGLE, read_index
from surgery.untrusted import shown

_COMMIT = re.compile(r"[0-9a-f]{40}")
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
        raise Stop(Diagnostic(catalog.E0412, message, notes=notes))
    return Fetched(directory, f"hf:{decl.location}@{commit[:12]}")


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
