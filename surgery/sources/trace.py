"""Requests that somebody has recorded -> their lengths.

In: the path of a CSV file with a header, or of JSON lines (`.jsonl`). Out: a `Trace`. Every line is
a request; which columns have the tokens in and out is told by their names, those of common logs and
benchmarks (`COLUMNS`); other columns are ignored. Refuses (`Unreadable`) a file that cannot be
read, has no such columns or no requests, and counts that are none. The file is read again only when
it has changed, because editors ask on every key.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import cast

from surgery.ir import Lengths, Trace
from surgery.untrusted import shown

COLUMNS = (
    ("prefill", "decode"),
    ("input_tokens", "output_tokens"),
    ("prompt_tokens", "completion_tokens"),
    ("input_length", "output_length"),
    ("ContextTokens", "GeneratedTokens"),
)
"""Names of tokens in and tokens out: ours, those of serving APIs and of published traces."""
MAX_BYTES = 2**28
MOST = 2**31
"""No request is as long as this."""


class Unreadable(Exception):
    """What is wrong with a trace: a message, which line of it, if one, and what to do."""

    def __init__(self, message: str, line: int | None = None, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.help = help


def read(path: Path) -> Trace:
    """The trace in a file. Raises `Unreadable`."""
    try:
        stat = path.stat()
    except OSError as error:
        raise Unreadable(_reason(error)) from error
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _read(path: Path, _changed: int, size: int) -> Trace:
    if size > MAX_BYTES:
        raise Unreadable(f"the file is larger than {MAX_BYTES} bytes")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Unreadable(_reason(error)) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"byte {error.start} is not UTF-8 text") from error
    rows = _json(text) if path.suffix.lower() == ".jsonl" else _csv(text)
    found = Counter(_request(number, row) for number, row in rows)
    if not found:
        raise Unreadable("the file has no requests", help="a request is a line below the header")
    requests = tuple((*request, times) for request, times in sorted(found.items()))
    return Trace(path.name, hashlib.sha256(data).hexdigest(), Lengths(requests))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _csv(text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            yield reader.line_num, {name.strip(): value for name, value in row.items() if name}
    except csv.Error as error:
        raise Unreadable(f"this is no CSV: {error}", reader.line_num) from error


def _json(text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row: object = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Unreadable("this line is no JSON", number) from error
        if not isinstance(row, dict):
            raise Unreadable("this line is no JSON object", number)
        yield number, cast("Mapping[str, object]", row)


def _request(line: int, row: Mapping[str, object]) -> tuple[int, int]:
    for names in COLUMNS:
        if row.keys() >= set(names):
            before, after = (_tokens(line, name, row[name]) for name in names)
            return before, after
    names = " or ".join(f"`{a}` and `{b}`" for a, b in COLUMNS)
    raise Unreadable(f"no columns {names}", line)


def _tokens(line: int, name: str, value: object) -> int:
    # Tables of numbers write whole ones as `10.0`, too.
    text = str(value).strip().removesuffix(".0") if isinstance(value, str | int | float) else "?"
    if not text.isascii() or not text.isdigit() or len(text) > len(str(MOST)):
        raise Unreadable(f"`{name}` is no number of tokens: `{shown(text)}`", line)
    if not 0 < int(text) < MOST:
        help = "leave out requests that failed" if int(text) == 0 else ""
        raise Unreadable(f"`{name}` is {int(text)}", line, help)
    return int(text)
