"""Small files: the whole of the new one, or the old one and nothing beside it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from surgery import atomic


def _failing(*_arguments: object) -> None:
    raise OSError(errno.EIO, "input/output error")


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    atomic.write(path, b"one")
    atomic.write(path, b"")
    atomic.write(path, b"two\n")
    assert path.read_bytes() == b"two\n"
    (tmp_path / "other").write_text("")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["a", "other"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_keeps_what_was_there(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    atomic.write(path, b"one")
    monkeypatch.setattr(os, call, _failing)
    with pytest.raises(OSError, match="input/output"):
        atomic.write(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]


def test_the_data_are_on_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def spied(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*arguments: object) -> object:
            told.append(name)
            return real(*arguments)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, spied(name))
    atomic.write(tmp_path / "a", b"x")
    assert told == ["fsync", "replace"]


@pytest.mark.parametrize("where", ["file/a", "missing/a", "folder"])
def test_places_that_cannot_be_are_errors(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"Not a directory|No such file|Is a directory"):
        atomic.write(tmp_path / where, b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
