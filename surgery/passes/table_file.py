"""A table that others measured, as rows: CSV always, Parquet where pyarrow is installed.

In: a path. Out: a `Table`: rows of text with their places, and the SHA-256 of the file. The first
line names the columns `address`, `metric` and `value`, in any order, and perhaps `error`. Refuses,
as `Stop`: a file that cannot be read (E0001), that is not UTF-8 (E0002), that is empty, has other
columns or is no table (E0707, at the line). Not here: what the rows mean (`passes/tables.py`).
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Code, Diagnostic, Help, Label, Stop
from surgery.source import Source, Span
from surgery.untrusted import shown

REQUIRED = ("address", "metric", "value")
OPTIONAL = ("error",)
"""The standard error of a score or a time, in its unit."""
MAX_BYTES = 2**28


class Row(Struct, frozen=True):
    """One line: its text by column, and where it stands.

    `line` counts from 1: of the file in CSV, of the rows in Parquet, whose `source` is `None`.
    """

    file: str
    source: Source | None
    line: int
    address: str
    metric: str
    value: str
    error: str = ""

    @property
    def place(self) -> str:
        """`scores.csv:12`, or `scores.parquet, row 12`."""
        return f"{self.file}:{self.line}" if self.source else f"{self.file}, row {self.line}"

    def finding(
        self, code: Code, message: str, here: str, *notes: str, help: str = ""
    ) -> Diagnostic:
        """A finding about this row; `here` is what its label says."""
        helps = (Help(help),) if help else ()
        if self.source is None:
            return Diagnostic(code, message, subject=self.place, notes=(here, *notes), helps=helps)
        label = Label(_line_span(self.source, self.line), here, primary=True)
        return Diagnostic(code, message, (label,), notes=notes, helps=helps)


class Table(Struct, frozen=True):
    """A file by its name (no folders), its SHA-256 in hex, its rows."""

    name: str
    digest: str
    rows: tuple[Row, ...]


def read(path: Path) -> Table:
    """The table at `path`, Parquet by its suffix, else CSV. Raises `Stop`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _stop(path, f"cannot read the table: {reason}", catalog.E0001) from error
    if len(data) > MAX_BYTES:
        raise _stop(path, f"the table is larger than {MAX_BYTES} bytes")
    rows = _parquet(path, data) if path.suffix.lower() == ".parquet" else _csv(path, data)
    return Table(shown(path.name).strip(), hashlib.sha256(data).hexdigest(), tuple(rows))


def _stop(path: Path, message: str, code: Code = catalog.E0707, help: str = "") -> Stop:
    helps = (Help(help),) if help else ()
    return Stop(Diagnostic(code, message, subject=str(path), helps=helps))


def _line_span(source: Source, line: int) -> Span:
    lines = source.text.split("\n")
    start = sum(len(each) + 1 for each in lines[: line - 1])
    return Span(source, start, start + len(lines[line - 1]))


def _columns(header: Sequence[str]) -> str:
    """What is wrong with a header, or ""."""
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        return f"the table has no column `{missing[0]}`"
    extra = [name for name in header if name not in (*REQUIRED, *OPTIONAL)]
    if extra:
        return f"the table has a column `{shown(extra[0])}`, which means nothing here"
    twice = [name for name in header if header.count(name) > 1]
    return f"the table has two columns `{twice[0]}`" if twice else ""


_HEADER = "begin with the line `address,metric,value`, or `address,metric,value,error`"


# ---- CSV -------------------------------------------------------------------------------------


def _csv(path: Path, data: bytes) -> Iterator[Row]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"byte {error.start} of the table is not UTF-8 text"
        raise _stop(path, message, catalog.E0002) from error
    # Spreadsheets write any of these; a `Source` knows one.
    source = Source(str(path), text.replace("\r\n", "\n").replace("\r", "\n"))
    header: list[str] | None = None
    for line, fields in _records(source):
        if header is None:
            header = fields
            if wrong := _columns(header):
                raise _refused(source, line, wrong, "the header", _HEADER)
        elif len(fields) != len(header):
            message = f"a line of the table has {len(fields)} fields"
            here = f"the header names {len(header)}"
            raise _refused(source, line, message, here, 'quote what contains a comma: `"0-5,9"`')
        else:
            yield Row(str(path), source, line, **dict(zip(header, fields, strict=True)))
    if header is None:
        raise _stop(path, "the table is empty", help=_HEADER)


def _records(source: Source) -> Iterator[tuple[int, list[str]]]:
    """The fields of every line that is not blank, and its number."""
    reader = csv.reader(io.StringIO(source.text), strict=True)
    try:
        for fields in reader:
            if any(fields):
                yield reader.line_num, [field.strip() for field in fields]
    except csv.Error as error:
        line = min(max(reader.line_num, 1), max(source.line_count, 1))
        raise _refused(source, line, f"the table is no CSV: {error}", "here") from error


def _refused(source: Source, line: int, message: str, here: str, help: str = "") -> Stop:
    label = Label(_line_span(source, line), here, primary=True)
    helps = (Help(help),) if help else ()
    return Stop(Diagnostic(catalog.E0707, message, (label,), helps=helps))


# ---- Parquet ---------------------------------------------------------------------------------


class _Column(Protocol):
    def to_pylist(self) -> list[object]: ...


class _Frame(Protocol):
    column_names: list[str]

    def column(self, name: str) -> _Column: ...


class _Parquet(Protocol):
    def read_table(self, source: object) -> _Frame: ...


def _parquet(path: Path, data: bytes) -> Iterator[Row]:
    try:
        library = cast("_Parquet", import_module("pyarrow.parquet"))
    except ImportError as error:
        help = "install it (`pip install pyarrow`), or save the table as CSV"
        raise _stop(path, "reading Parquet takes pyarrow", catalog.E0001, help) from error
    try:
        frame = library.read_table(io.BytesIO(data))
        names = [str(name) for name in frame.column_names]
        if wrong := _columns(names):
            raise _stop(path, wrong, help=f"it needs {', '.join(REQUIRED)}, and may have error")
        columns = [[_text(value) for value in frame.column(name).to_pylist()] for name in names]
    except (OSError, ValueError, NotImplementedError) as error:
        # What pyarrow raises is one of these.
        reason = shown(str(error).partition("\n")[0])
        raise _stop(path, f"the table is no Parquet file: {reason}") from error
    for number, fields in enumerate(zip(*columns, strict=True), 1):
        yield Row(str(path), None, number, **dict(zip(names, fields, strict=True)))


def _text(value: object) -> str:
    """A cell as CSV would write it: floats with all of their digits."""
    return "" if value is None else repr(value) if isinstance(value, float) else str(value).strip()
