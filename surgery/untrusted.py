"""Files that somebody else made: opening them, and reading their JSON.

In: a path, or bytes. Out: a descriptor of a regular file, bytes within a cap, a JSON value.
Refuses, as `Stop`: symbolic links, devices, pipes and directories where a file is meant; files
past the cap; JSON with duplicate keys, NaN or Infinity, unpaired surrogates, numbers of absurd
length or nesting that exhausts the stack. Not here: what the JSON means.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, cast

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop

MAX_DIGITS = 20
"""Longest integer accepted: 2^64 has 20 digits."""
MAX_SHOWN = 120
"""Longest foreign name that a message repeats."""


def shown(name: str) -> str:
    """`name` fit for a terminal: unprintable characters escaped, cut to 120 characters."""
    text = name[: MAX_SHOWN + 1]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def named(path: str) -> str:
    """A path as a person would write it here: relative if it lies in the current directory."""
    here = os.path.join(os.getcwd(), "")
    return path.removeprefix(here) if path.startswith(here) else path


def malformed(subject: str, message: str, *notes: str, help: str | None = None) -> Stop:
    """E0004 about the file `subject`, ready to raise."""
    helps = (Help(help),) if help else ()
    return Stop(
        Diagnostic(catalog.E0004, message, subject=named(subject), notes=notes, helps=helps)
    )


def unreadable(path: Path, error: OSError) -> Stop:
    """E0001 about `path`, ready to raise."""
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    message = f"cannot read `{shown(path.name)}`: {reason}"
    return Stop(Diagnostic(catalog.E0001, message, subject=named(str(path))))


def open_regular(path: Path, name: str | None = None) -> int:
    """A read-only descriptor of the regular file `path`, which must not be a symbolic link.

    `name` is what messages call it. Raises `Stop` (E0001, or E0004 where it is another kind of
    file). Never blocks on a pipe.
    """
    name = shown(name or path.name)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise malformed(str(path), f"`{name}` is not a regular file")
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise malformed(str(path), f"`{name}` is a symbolic link") from error
        raise unreadable(path, error) from error
    # Checked again on the open descriptor: the path may have changed in between.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise malformed(str(path), f"`{name}` is not a regular file")
    return descriptor


def read_capped(path: Path, limit: int) -> bytes:
    """The whole file `path`; raises `Stop` where it cannot be read or is over `limit` bytes."""
    descriptor = open_regular(path)
    with open(descriptor, "rb") as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise unreadable(path, error) from error
    if len(data) > limit:
        raise malformed(str(path), f"`{shown(path.name)}` is larger than {limit} bytes")
    return data


class _Refused(Exception):
    """What a hook found; turned into a `Stop` by `parse_json`."""


def parse_json(
    data: bytes, subject: str, what: str, *, max_objects: int = 1_000_000, unsigned: bool = False
) -> object:
    """The value of a strict UTF-8 JSON text.

    `what` begins messages ("the header of `x`"). `unsigned` also refuses any minus sign. Raises
    `Stop` (E0004).
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{what} is not UTF-8: byte {error.start} is invalid"
        raise malformed(subject, message) from error
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_objects(max_objects),
            parse_constant=_no_constant,
            parse_int=_integer(unsigned),
            parse_float=_finite,
        )
    except _Refused as error:
        raise malformed(subject, f"{what} {error}") from error
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        message = f"{what} is not JSON: {reason} at character {error.pos}"
        raise malformed(subject, message) from error
    except RecursionError as error:
        raise malformed(subject, f"{what} is nested too deeply") from error
    return value


def _no_constant(word: str) -> NoReturn:
    raise _Refused(f"contains {word}, which is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _Refused(f"contains the number {shown(digits)}, which is out of range")
    return number


def _integer(unsigned: bool) -> Callable[[str], int]:
    def parse(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise _Refused(f"contains a number of {len(digits)} digits")
        if unsigned and digits.startswith("-"):
            raise _Refused(f"contains the negative number {digits}")
        return int(digits)

    return parse


def _objects(limit: int) -> Callable[[list[tuple[str, object]]], dict[str, object]]:
    count = 0

    def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal count
        count += 1
        if count > limit:
            raise _Refused(f"holds more than {limit} objects")
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    raise _Refused(f"has the key `{shown(key)}` twice")
                seen.add(key)
        for key in made:
            # An escape such as \ud800 passes Python's parser but is no character.
            if not key.isascii() and not encodable(key):
                raise _Refused(f"has the key `{shown(key)}`, which is no Unicode text")
        return made

    return build


def encodable(text: str) -> bool:
    """Whether `text` is free of unpaired surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def as_object(value: object) -> dict[str, object] | None:
    """`value` when it is a JSON object."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[object] | None:
    """`value` when it is a JSON array."""
    return cast("list[object]", value) if isinstance(value, list) else None
