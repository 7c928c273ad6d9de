"""W0205 decimal-gpu-memory: `80GB` of a GPU where the rest of the spec counts its memory in GiB.

80GB are 74.5GiB, so a bound that mixes the two is off by 7%. Looked at are the `memory` of machines
and the literals that are compared with `memory(...)` or `machine.memory`.
"""

from __future__ import annotations

from collections.abc import Iterator

from surgery import catalog
from surgery.diagnostics import Diagnostic, Edit, Fix, Help, Label, Safety
from surgery.grammar import ast
from surgery.rules.rule import Rule, Subject
from surgery.units import UNITS, format_bytes, magnitude

_BINARY = {"kB": "KiB", "MB": "MiB", "GB": "GiB", "TB": "TiB"}


def check(subject: Subject) -> Iterator[Diagnostic]:
    """Report the decimal sizes of memory if there are binary ones as well."""
    text = subject.tree.span.source.text
    # A look at the text is cheaper than one at the tree.
    if not any(unit in text for unit in _BINARY.values()):
        return
    sizes = tuple(_sizes(subject.tree))
    binary = next((size for size in sizes if size.unit in _BINARY.values()), None)
    if binary is None:
        return
    for size in sizes:
        if size.unit in _BINARY:
            yield _decimal(size, binary)


def _sizes(tree: ast.Spec) -> Iterator[ast.Quantity]:
    """Literals that are sizes of GPU memory, each once."""
    for item, nodes in tree.walked:
        if isinstance(item, ast.Machine):
            for field in item.fields:
                if field.name.text == "memory" and isinstance(field.value, ast.Quantity):
                    yield field.value
        elif isinstance(item, ast.Expect | ast.Require | ast.Fn):
            for node in nodes:
                if isinstance(node, ast.Compare) and any(map(_is_memory, ast.walk(node))):
                    parts = (part for part in ast.walk(node) if isinstance(part, ast.Quantity))
                    yield from (part for part in parts if part.unit)


def _is_memory(node: ast.Node) -> bool:
    match node:
        case ast.Call(func=ast.Name(text="memory")) | ast.Attr(name=ast.Ident(text="memory")):
            return True
        case _:
            return False


def _decimal(size: ast.Quantity, binary: ast.Quantity) -> Diagnostic:
    exact = size.value * magnitude(size.magnitude, size.unit) * UNITS[size.unit].scale
    labels = (
        Label(size.span, f"{format_bytes(exact)}", primary=True),
        Label(binary.span, f"this counts in {binary.unit}"),
    )
    unit = _BINARY[size.unit]
    fix = Fix((Edit(size.unit_span, unit),), Safety.UNSAFE)
    return Diagnostic(
        catalog.W0205,
        f"the memory `{size.span.text}` is decimal, and others of this spec are binary",
        labels,
        helps=(Help(f"if {unit} is meant, say so", fix),),
    )


RULE = Rule(catalog.W0205, check)
