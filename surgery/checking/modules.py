"""The files of a spec: the one that is checked and those that it imports.

In: an `ast.Spec` and its imports. Out: `Module`s, each with the names that it defines. Refuses
files outside of the folder of the spec (E0001), circles (E0203) and names defined twice (E0202).
`"std/..."` is found in the package, every other path relative to the file that imports it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Code, Diagnostic, Edit, Fix, Help, Label, Safety, Sink
from surgery.grammar import ast
from surgery.grammar.near import nearest
from surgery.grammar.parse import parse
from surgery.source import Source, Span

MAX_DEPTH = 16
"""Longest chain of imports."""

MAX_ERRORS = 50
"""Errors after which no more are told."""

_STANDARD = Path(__file__).parent.parent / "std"

Named: TypeAlias = (
    ast.Import
    | ast.Model
    | ast.Input
    | ast.Let
    | ast.Fn
    | ast.Machine
    | ast.Scenario
    | ast.Dataset
    | ast.Score
)


class Module(Struct, frozen=True, eq=False):
    """One file: what it defines, and how the outside calls it.

    `name` is `""` for the spec itself, `nvidia` for `std/nvidia.surg`, `parts.gpus` for
    `parts/gpus.surg`. `folder` is where its relative paths start, from the folder of the spec.
    `lost` are the names of statements that did not parse: using one is no second mistake.
    `broken` are the keywords of all statements that did not parse.
    """

    name: str
    source: Source
    tree: ast.Spec
    folder: PurePosixPath
    items: Mapping[str, Named]
    imports: Mapping[str, Module]
    lost: frozenset[str]
    broken: tuple[str, ...] = ()

    @property
    def standard(self) -> bool:
        """Whether the file comes with the package."""
        return self.source.name.startswith("std/")

    def qualified(self, name: str) -> str:
        """A name of this file as plans write it."""
        return f"{self.name}.{name}" if self.name else name


def load(tree: ast.Spec, sink: Sink, texts: Mapping[str, str] | None = None) -> Module:
    """The module of a spec, with everything that it imports.

    `texts` are files by path that an editor has open: what it shows counts, not what is on disk.
    """
    path = Path(tree.span.source.name)
    loader = _Loader(sink, path.parent, texts or {})
    return loader.module(tree, "", PurePosixPath(), (_Step(path.name, None),))


def definitions(tree: ast.Spec) -> Iterable[Named]:
    """The statements that define a name, in the order of the file."""
    return (item for item in tree.items if isinstance(item, Named))


class _Step(Struct, frozen=True):
    """One file of a chain of imports, and where it was asked for (the spec itself nowhere)."""

    path: str
    at: Span | None


class _Loader:
    """Reads every file once."""

    def __init__(self, sink: Sink, root: Path, texts: Mapping[str, str]) -> None:
        self.sink = sink
        self.root = root
        self.texts = texts
        self.errors = 0
        self.done: dict[str, Module] = {}

    def module(
        self, tree: ast.Spec, name: str, folder: PurePosixPath, chain: tuple[_Step, ...]
    ) -> Module:
        """A file that has been parsed, after everything that it imports."""
        items = self._items(tree)
        imports: dict[str, Module] = {}
        for item in items.values():
            if isinstance(item, ast.Import) and (found := self._import(item, folder, chain)):
                imports[item.name.text] = found
        lost = frozenset(each.name for each in tree.unread if each.name) - items.keys()
        broken = tuple(each.keyword for each in tree.unread)
        return Module(name, tree.span.source, tree, folder, items, imports, lost, broken)

    def _items(self, tree: ast.Spec) -> dict[str, Named]:
        items: dict[str, Named] = {}
        for item in definitions(tree):
            first = items.setdefault(item.name.text, item)
            if first is not item:
                message = f"`{item.name.text}` is defined twice"
                also = Label(first.head, "first defined here")
                self._error(catalog.E0202, message, item.name.span, "defined again", also)
        return items

    def _error(
        self,
        code: Code,
        message: str,
        at: Span,
        label: str,
        *also: Label,
        note: str = "",
        helps: tuple[Help, ...] = (),
    ) -> None:
        self.errors += 1
        if self.errors > MAX_ERRORS:
            return
        labels, notes = (Label(at, label, primary=True), *also), (note,) if note else ()
        self.sink.report(Diagnostic(code, message, labels, notes=notes, helps=helps))

    def _import(
        self, item: ast.Import, folder: PurePosixPath, chain: tuple[_Step, ...]
    ) -> Module | None:
        text, at = item.path.value, item.path.span
        if text.startswith("std/"):
            return self._standard(text, at)
        path = _normal(folder / text)
        if path is None:
            message = f"`{text}` is outside of the folder of the spec"
            self._error(catalog.E0001, message, at, "leads out of the folder")
            return None
        if self._circular(str(path), at, chain):
            return None
        if str(path) not in self.done:
            tree = self._read(path, at)
            if tree is None:
                return None
            name = ".".join(path.with_suffix("").parts)
            below = (*chain, _Step(str(path), at))
            self.done[str(path)] = self.module(tree, name, path.parent, below)
        return self.done[str(path)]

    def _standard(self, text: str, at: Span) -> Module | None:
        if text not in self.done:
            module = _standard(text.removeprefix("std/"))
            if module is None:
                listed = ", ".join(f"`std/{name}`" for name in _shipped())
                message = f"there is no standard file `{text}`"
                note, helps = f"the standard files are {listed}", _instead(at, text[4:], _shipped())
                self._error(catalog.E0001, message, at, "not shipped", note=note, helps=helps)
                return None
            self.done[text] = module
        return self.done[text]

    def _circular(self, key: str, at: Span, chain: tuple[_Step, ...]) -> bool:
        paths = [step.path for step in chain]
        if key in paths:
            circle = chain[paths.index(key) :]
            route = " -> ".join(f"`{path}`" for path in (*(step.path for step in circle), key))
            also = (Label(step.at, "imported here") for step in circle[1:] if step.at)
            message = f"these files import each other in a circle: {route}"
            self._error(catalog.E0203, message, at, "closes the circle", *also)
            return True
        if len(chain) > MAX_DEPTH:
            message = f"imports are nested more than {MAX_DEPTH} deep"
            self._error(catalog.E0203, message, at, "one import too many")
            return True
        return False

    def _read(self, path: PurePosixPath, at: Span) -> ast.Spec | None:
        name = str(self.root / path)
        if name in self.texts:
            return parse(Source(name, self.texts[name]), self.sink)
        try:
            text = Path(name).read_bytes().decode("utf-8")
        except OSError as error:
            reason = error.strerror or "not readable"
            message = f"cannot read `{name}`: {reason.lower()}"
            helps = _instead(at, path.name, _beside(Path(name)))
            self._error(catalog.E0001, message, at, "asked for here", helps=helps)
        except UnicodeDecodeError as error:
            message = f"`{name}` is not UTF-8 text: wrong byte at offset {error.start}"
            self._error(catalog.E0002, message, at, "asked for here")
        else:
            return parse(Source(name, text), self.sink)
        return None


def _beside(path: Path) -> tuple[str, ...]:
    """The names of the specs in the folder of a missing one."""
    try:
        return tuple(sorted(each.name for each in path.parent.iterdir() if each.suffix == ".surg"))
    except OSError:
        return ()


def _instead(at: Span, wanted: str, names: Iterable[str]) -> tuple[Help, ...]:
    """Offers files with similar names in the place of the one that an import asks for."""
    by_stem = {name.removesuffix(".surg"): name for name in names}
    near = [by_stem[stem] for stem in nearest(wanted.removesuffix(".surg"), by_stem)]
    before = at.text[1:-1].removesuffix(wanted)
    return tuple(
        Help(f"use `{name}`", Fix((Edit(at, f'"{before}{name}"'),), Safety.UNSAFE)) for name in near
    )


def _normal(path: PurePosixPath) -> PurePosixPath | None:
    """A path without `..`, or `None` when it leads out of the folder or is absolute."""
    parts: list[str] = []
    for part in path.parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return None if path.is_absolute() or not parts else PurePosixPath(*parts)


def _shipped() -> tuple[str, ...]:
    names = (path.name for path in _STANDARD.iterdir())
    return tuple(sorted(name for name in names if name.endswith(".surg")))


def standard_names() -> tuple[str, ...]:
    """What the standard files are usually imported as: their names without the ending."""
    return tuple(name.removesuffix(".surg") for name in _shipped())


@functools.cache
def _standard(name: str) -> Module | None:
    """A file of `surgery/std`, parsed once per process; such files import nothing."""
    if name not in _shipped():
        return None
    text = (_STANDARD / name).read_text(encoding="utf-8")
    sink = Sink()
    tree = parse(Source(f"std/{name}", text), sink)
    if sink.failed:
        raise AssertionError(f"std/{name} does not parse: {sink.found[0].message}")
    items = {item.name.text: item for item in definitions(tree)}
    stem = name.removesuffix(".surg")
    return Module(stem, tree.span.source, tree, PurePosixPath("std"), items, {}, frozenset())
