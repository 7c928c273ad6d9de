"""What a spec's parent tells about it: layers, candidates, measured damage.

In: analyses. Out: `Known` for each version, made off the main thread, and models by declaration,
so that a spec that does not check at the moment still has the layers of its parent. A model is
read again only when its files have changed. Refuses nothing: a parent that is not at hand leaves
`None`. Nothing is fetched, converted or measured for an editor.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from surgery import ir
from surgery.checking.values import Entity
from surgery.diagnostics import Diagnostic, Sink, Stop
from surgery.grammar import ast
from surgery.linting import run
from surgery.lsp.analysis import Analysis
from surgery.passes import resolve
from surgery.sources import Fetched, default_cache, known

LIBRARY = os.path.join(".surgery", "library")
"""Where measurements are kept, below the folder that surgery runs in."""

_Key: TypeAlias = tuple[str, tuple[tuple[str, int, int], ...]]


class Known(Struct, frozen=True):
    """What is known of one version with its parent; `findings` are all that there are."""

    analysis: Analysis
    model: ir.Model
    space: ir.Space | None
    measured: ir.Measured | None
    findings: tuple[Diagnostic, ...]


class Parents:
    """Models by directory, and what they told of the newest version of each document."""

    def __init__(self, roots: tuple[str, ...] = ()) -> None:
        self._roots = roots
        self._models: dict[_Key, ir.Model | None] = {}
        self._known: dict[str, Known] = {}

    def known(self, analysis: Analysis) -> Known | None:
        """What has been learnt of this version."""
        found = self._known.get(analysis.document.uri)
        return found if found is not None and found.analysis is analysis else None

    def keep(self, known: Known) -> None:
        """Remember; called on the main thread."""
        self._known[known.analysis.document.uri] = known

    def drop(self, uri: str) -> None:
        """A document was closed."""
        self._known.pop(uri, None)

    def model(self, analysis: Analysis) -> ir.Model | None:
        """The parent, where its files say what it is; they are read when they have changed."""
        decl = _declared(analysis)
        if decl is None:
            return None
        cache = default_cache()
        fetched = known(decl, Path(analysis.source.name).parent, cache)
        if fetched is None:
            return None
        key = (str(fetched.directory), _stamps(fetched.directory))
        if key not in self._models:
            self._models[key] = _read(fetched, cache, decl.name)
        return self._models[key]

    def learn(self, analysis: Analysis) -> Known | None:
        """Read the parent, expand the space, look up scores: on any thread."""
        # Questions to a spec with mistakes are for one thread.
        model = self.model(analysis) if analysis.spec is not None else None
        if model is None:
            return None
        sink = Sink(list(analysis.said))
        subject = run.surround(analysis.subject, model, sink, self._library(analysis))
        found = run.conclude(subject, sink.found, analysis.levels)
        return Known(analysis, model, subject.space, subject.measured, found)

    def _library(self, analysis: Analysis) -> Path | None:
        """The library of the spec: beside it or above it, else in a folder of the client."""
        above = Path(analysis.source.name).parents if os.path.isabs(analysis.source.name) else ()
        for folder in (*above, *map(Path, self._roots)):
            if (folder / LIBRARY).is_dir():
                return folder / LIBRARY
        return None


def _declared(analysis: Analysis) -> ir.ModelDecl | None:
    """The declaration of the model, even in a spec with mistakes."""
    if analysis.spec is not None:
        return analysis.spec.model
    item = next((i for i in analysis.tree.items if isinstance(i, ast.Model)), None)
    if item is None:
        return None
    value = analysis.ask.named(analysis.module, item.name.text, item.head)
    decl = value.decl if isinstance(value, Entity) else None
    return decl if isinstance(decl, ir.ModelDecl) else None


def _read(fetched: Fetched, cache: Path, name: str) -> ir.Model | None:
    try:
        return resolve.read_model(fetched, cache, name, hashing=False)
    except Stop:
        return None


def _stamps(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the files that make a model."""
    try:
        with os.scandir(folder) as entries:
            files = [e for e in entries if e.name.endswith((".json", ".safetensors"))]
            stats = [(e.name, e.stat()) for e in files]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))
