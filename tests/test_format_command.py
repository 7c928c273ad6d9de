"""`surgery fmt`: which files it writes, what it says, how it exits."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from surgery.cli import main

BAD = "surg 1\nlet a=1\n"
GOOD = "surg 1\n\nlet a = 1\n"
BROKEN = "surg 1\nlet a =\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file that would change, and one below that would not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.surg").write_text(BAD, encoding="utf-8")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "good.surg").write_text(GOOD, encoding="utf-8")
    (tmp_path / "below" / "other.txt").write_text(BAD, encoding="utf-8")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.surg").write_text(BAD, encoding="utf-8")
    return tmp_path


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Put bytes on stdin."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))

    return put


def test_writes_what_changes_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = folder / "below" / "good.surg"
    before = good.stat()
    assert main(["fmt", "."]) == 0
    out, err = capsys.readouterr()
    assert out == "formatted bad.surg\n1 file formatted, 1 file already formatted\n"
    assert err == ""
    assert (folder / "bad.surg").read_text(encoding="utf-8") == GOOD
    assert (good.stat().st_ino, good.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (folder / "below" / "other.txt").read_text(encoding="utf-8") == BAD
    assert (folder / ".hidden" / "x.surg").read_text(encoding="utf-8") == BAD
    assert main(["fmt", "bad.surg", "./bad.surg", "below"]) == 0
    assert capsys.readouterr().out == "2 files already formatted\n"


def test_keeps_the_mode_and_follows_links(folder: Path) -> None:
    os.chmod(folder / "bad.surg", 0o640)
    (folder / "link.surg").symlink_to("bad.surg")
    assert main(["fmt", "link.surg"]) == 0
    assert (folder / "link.surg").is_symlink()
    assert stat.S_IMODE((folder / "bad.surg").stat().st_mode) == 0o640
    assert (folder / "bad.surg").read_text(encoding="utf-8") == GOOD


def test_check_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--check", "."]) == 1
    out = capsys.readouterr().out
    assert out == "would format bad.surg\n1 file would be formatted, 1 file already formatted\n"
    assert (folder / "bad.surg").read_text(encoding="utf-8") == BAD
    assert main(["fmt", "--check", "below"]) == 0


def test_diff_prints_what_would_change(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--diff", "."]) == 1
    out, err = capsys.readouterr()
    assert out == (
        "--- bad.surg\n+++ bad.surg\n@@ -1,2 +1,3 @@\n surg 1\n-let a=1\n+\n+let a = 1\n"
    )
    assert err == "1 file would be formatted, 1 file already formatted\n"
    assert (folder / "bad.surg").read_text(encoding="utf-8") == BAD
    assert main(["fmt", "--diff", "below"]) == 0


def test_a_file_that_does_not_parse_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.surg").write_text(BROKEN, encoding="utf-8")
    assert main(["fmt", "broken.surg", "bad.surg"]) == 1
    out, err = capsys.readouterr()
    assert out == "formatted bad.surg\n1 file formatted, 1 file skipped\n"
    assert "error[E01" in err
    assert "broken.surg:2" in err
    assert (folder / "broken.surg").read_text(encoding="utf-8") == BROKEN
    assert (folder / "bad.surg").read_text(encoding="utf-8") == GOOD


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [("absent.surg", None, "E0001"), ("latin.surg", b"surg 1\n# \xe9\n", "E0002")],
)
def test_a_file_that_cannot_be_read_is_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, data: bytes | None, code: str
) -> None:
    if data is not None:
        (folder / name).write_bytes(data)
    assert main(["fmt", "--check", name, "bad.surg"]) == 2
    out, err = capsys.readouterr()
    assert "would format bad.surg" in out
    assert f"error[{code}]" in err


def test_a_folder_without_specs_is_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir()
    assert main(["fmt", "empty"]) == 2
    assert "there is no `*.surg` file in `empty`" in capsys.readouterr().err


def test_a_read_only_file_is_not_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The mode would not do: whoever runs the tests may be allowed everything.
    def access(_path: object, mode: int) -> bool:
        return mode != os.W_OK

    monkeypatch.setattr(os, "access", access)
    assert main(["fmt", "bad.surg"]) == 2
    assert "cannot write `bad.surg`: it is read-only" in capsys.readouterr().err
    assert (folder / "bad.surg").read_text(encoding="utf-8") == BAD


def test_stdin_goes_to_stdout(
    stdin: Callable[[bytes], None], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    stdin("\ufeffsurg 1\r\n# ünïcode\r\nlet a=1".encode())
    assert main(["fmt", "-"]) == 0
    assert capfdbinary.readouterr().out == "surg 1\n\n# ünïcode\nlet a = 1\n".encode()
    stdin(BAD.encode())
    assert main(["fmt", "--check", "-"]) == 1
    assert capfdbinary.readouterr().out == b""
    stdin(BAD.encode())
    assert main(["fmt", "--diff", "-"]) == 1
    assert capfdbinary.readouterr().out.startswith(b"--- <stdin>\n")
    stdin(BROKEN.encode())
    assert main(["fmt", "-"]) == 1
    found = capfdbinary.readouterr()
    assert found.out == b""
    assert b"<stdin>:2" in found.err


def test_stdin_and_files_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "-", "x.surg"]) == 2
    assert main(["fmt"]) == 2
    assert "`-` cannot be given together with files" in capsys.readouterr().err
