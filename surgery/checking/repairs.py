"""Ways out: the changes of the text that several parts of the check suggest.

In: a place in a spec and what it wants. Out: `Help`s with fixes, none where nothing suggests
itself. Reports nothing, and looks only at what files define, never at what the names mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from surgery.checking.modules import Module
from surgery.diagnostics import Edit, Fix, Help, Safety
from surgery.grammar import ast
from surgery.grammar.near import nearest
from surgery.source import Source, Span

_DECLARING: Mapping[str, type[ast.Item]] = {
    "model": ast.Model,
    "machine": ast.Machine,
    "scenario": ast.Scenario,
    "dataset": ast.Dataset,
    "score": ast.Score,
}
_ONLY: Mapping[str, str] = {"outputs": "logits", "divergence": "kl(logits)"}
"""Types that have one value today."""

_EDITION = re.compile(r"^surg[ \t]+[0-9]+[^\n]*\n", re.MULTILINE)


def replacing(text: str, span: Span, new: str, safety: Safety = Safety.UNSAFE) -> Help:
    """A help whose fix replaces one span."""
    return Help(text, Fix((Edit(span, new),), safety))


def removing(text: str, span: Span) -> Help:
    """A help whose fix deletes a span and the blanks before it."""
    before = span.source.text[: span.start]
    return replacing(text, Span(span.source, len(before.rstrip(" \t")), span.end), "")


def similar(word: str, names: Iterable[str]) -> tuple[str, ...]:
    """The nearest of some names, or the only one that a word shortens or lengthens."""
    known = tuple(dict.fromkeys(names))
    near = nearest(word, known)
    if near:
        return near
    longer = [name for name in known if len(word) >= 3 and name.startswith(word)]
    found = longer or [name for name in known if word.startswith(f"{name}_")]
    return tuple(found) if len(found) == 1 else ()


def one_of(span: Span, names: Iterable[str]) -> tuple[Help, ...]:
    """Helps that put one of a few names into a place; shown only, unless there is just one."""
    known = tuple(names)
    safety = Safety.UNSAFE if len(known) == 1 else Safety.DISPLAY
    return tuple(replacing(f"use `{name}`", span, name, safety) for name in known)


# ---- declared things -------------------------------------------------------------------------


def declared(module: Module, type_name: str) -> tuple[str, ...]:
    """The names of the things of a type that a file declares, in order; none for other types."""
    kind = _DECLARING.get(type_name)
    if kind is None:
        return ()
    return tuple(sorted(name for name, item in module.items.items() if isinstance(item, kind)))


def only(module: Module, type_name: str) -> str | None:
    """What a place of a type can hold, where there is just one such thing."""
    names = declared(module, type_name)
    return names[0] if len(names) == 1 else _ONLY.get(type_name)


def of_type(span: Span, module: Module, type_name: str) -> tuple[Help, ...]:
    """Helps that put a declared thing of the wanted type into a place, if there are at most 3."""
    names = declared(module, type_name)
    safety = Safety.UNSAFE if len(names) == 1 else Safety.DISPLAY
    text = f"use the {type_name}"
    found = tuple(replacing(f"{text} `{name}`", span, name, safety) for name in names)
    return found if len(found) <= 3 else ()


# ---- imports ---------------------------------------------------------------------------------


def through_import(module: Module, span: Span, name: str) -> tuple[Help, ...]:
    """Helps that reach a name through the import that has it: `nvidia.h100_sxm`."""
    return tuple(
        replacing(f"use `{alias}.{name}`, from the import `{alias}`", span, f"{alias}.{name}")
        for alias, inner in sorted(module.imports.items())
        if name in inner.items and not isinstance(inner.items[name], ast.Import)
    )


def importing(module: Module, name: str) -> Help:
    """A help that imports a standard file under its usual name."""
    edit = import_edit(module.source, module.tree, name)
    return Help(f"import it: `{edit.text.strip()}`", Fix((edit,), Safety.UNSAFE))


def import_edit(source: Source, tree: ast.Spec, name: str) -> Edit:
    """Inserts `import "std/NAME.surg" as NAME` above the first import, or below the edition."""
    line = f'import "std/{name}.surg" as {name}\n'
    first = next((item for item in tree.items if isinstance(item, ast.Import)), None)
    if first is not None:
        return Edit(Span(source, first.span.start, first.span.start), line)
    edition = _EDITION.search(source.text)
    at = edition.end() if edition else 0
    return Edit(Span(source, at, at), f"\n{line}")
