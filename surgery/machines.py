"""The machines that come with surgery: what one GPU of each has.

In: the files of `std/`. Out: `Known` machines as records, as a table, as JSON. Refuses nothing.
Not here: the machines of a spec, and where figures come from (a comment beside each, in the files).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

from msgspec import Struct

from surgery.checking.define import define
from surgery.checking.exprs import elaborate
from surgery.checking.modules import load
from surgery.checking.names import resolve
from surgery.checking.scope import Check
from surgery.checking.values import Entity
from surgery.diagnostics import Sink
from surgery.grammar import ast
from surgery.grammar.parse import parse
from surgery.ir import Machine
from surgery.source import Source
from surgery.units import significant

STANDARD = Path(__file__).parent / "std"
_COLUMNS = (
    ("memory", "memory", 2**30, "GiB"),
    ("bandwidth", "bandwidth", 10**9, "GB/s"),
    ("bf16", "compute", 10**12, "T/s"),
    ("fp8", "compute_fp8", 10**12, "T/s"),
    ("fp4", "compute_fp4", 10**12, "T/s"),
    ("link", "interconnect", 10**9, "GB/s"),
)


class Known(Struct, frozen=True):
    """A machine of a standard file, under the name that a spec which imports it writes."""

    name: str
    doc: str
    fields: tuple[tuple[str, Fraction], ...]


def known() -> tuple[Known, ...]:
    """All machines of `std/`, by file and in the order that they stand there."""
    return tuple(found for path in sorted(STANDARD.glob("*.surg")) for found in _of_file(path))


def _of_file(path: Path) -> Iterator[Known]:
    sink = Sink()
    text = f'surg 1\nimport "std/{path.name}" as {path.stem}\n'
    main = load(parse(Source("machines", text), sink), sink)
    check = Check(sink, {}, main, elaborate, define)
    for module in main.imports.values():
        for name, item in module.items.items():
            if not isinstance(item, ast.Machine):
                continue
            value = resolve(check, module, name, item.head)
            if isinstance(value, Entity) and isinstance(value.decl, Machine):
                yield Known(f"{path.stem}.{name}", item.doc or "", value.decl.fields)


def text(found: Iterable[Known]) -> str:
    """A table: memory in GiB, rates in decimal units, a dash for what a machine does not have."""
    heads: tuple[str, ...] = ("", *(f"{head} {unit}" for head, _, _, unit in _COLUMNS), "")
    rows: list[tuple[str, ...]] = [heads]
    for each in found:
        fields = dict(each.fields)
        cells = (_cell(fields.get(field), scale) for _, field, scale, _ in _COLUMNS)
        rows.append((each.name, *cells, " ".join(each.doc.split())))
    widths = [max(len(row[n]) for row in rows) for n in range(len(heads) - 1)]
    return "\n".join(
        "  ".join(
            (
                f"  {row[0]:<{widths[0]}}",
                *(f"{c:>{w}}" for c, w in zip(row[1:-1], widths[1:], strict=True)),
                row[-1],
            )
        ).rstrip()
        for row in rows
    )


def _cell(value: Fraction | None, scale: int) -> str:
    return "-" if value is None else significant(value / scale, 5)


def to_json(found: Iterable[Known]) -> str:
    """The same in base units: bytes, bytes per second, operations per second."""
    rows = [
        {"name": each.name, **{name: float(value) for name, value in each.fields}} for each in found
    ]
    return json.dumps({"machines": rows}, indent=2)
