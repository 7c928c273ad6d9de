"""Files, hostile texts, the catalogue and speed: what must hold for any text."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_texts import OSS, SPECS

from surgery import catalog
from surgery.diagnostics import Code, Severity, Sink
from surgery.grammar import ast, scan
from surgery.grammar.parse import parse, read_source
from surgery.source import Source


def read(text: str) -> tuple[ast.Spec, Sink]:
    sink = Sink()
    return parse(Source("t.surg", text), sink), sink


# ---- files -----------------------------------------------------------------------------------


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.surg"
    path.write_bytes("\ufeffsurg 1\r\nlet größe = 1\n".encode())
    sink = Sink()
    source = read_source(path, sink)
    assert source is not None
    assert source.name == str(path)
    assert source.text == "surg 1\r\nlet größe = 1\n"
    assert sink.found == []


@pytest.mark.parametrize("name", ["missing.surg", ".", "a\0b"])
def test_unreadable_files_are_reported(tmp_path: Path, name: str) -> None:
    sink = Sink()
    assert read_source(f"{tmp_path}/{name}", sink) is None
    assert [d.code for d in sink.found] == [catalog.E0001]
    assert sink.found[0].subject == f"{tmp_path}/{name}"


def test_other_encodings_are_reported_with_the_offset(tmp_path: Path) -> None:
    path = tmp_path / "latin.surg"
    path.write_bytes(b"surg 1\n# gr\xf6\xdfe\n")
    sink = Sink()
    assert read_source(path, sink) is None
    assert sink.found[0].code is catalog.E0002
    assert "byte 0xf6 at offset 11" in sink.found[0].message


def test_enormous_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.surg"
    path.write_bytes(b"#" * 1_000_001)
    sink = Sink()
    assert read_source(path, sink) is None
    assert [d.code for d in sink.found] == [catalog.E0110]
    assert read(" " * 1_000_001)[1].found[0].code is catalog.E0110


# ---- the catalogue ---------------------------------------------------------------------------


def test_codes_are_unique_and_say_their_severity() -> None:
    codes = [code for code in vars(catalog).values() if isinstance(code, Code)]
    assert len(codes) >= 97
    assert {code.id: code for code in codes} == dict(catalog.BY_ID)
    assert len(codes) == len(catalog.BY_ID)
    assert all(vars(catalog)[code.id] is code for code in codes)
    lints = [code.name for code in codes if code.severity is Severity.WARNING]
    errors = [code.name for code in codes if code.severity is Severity.ERROR]
    assert {code.name: code for code in codes} == dict(catalog.BY_NAME)
    assert len(set(lints + errors)) == len(lints) + len(errors)
    for code in codes:
        assert code.severity is {"E": Severity.ERROR, "W": Severity.WARNING}[code.id[0]]
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code.name)
        assert code.summary
        assert not code.summary.endswith(".")


# ---- hostile texts ---------------------------------------------------------------------------

PIECES = (
    *(*scan.RESERVED, "{", "}", "(", ")", "[", "]", '"', "'", "#", "##", "=", "==", "|", "||"),
    *(":", ",", "..", ".", "-", "->", "@a", "@", "64K tok", "45G", "1e9999", "%", "//", "\n", " "),
    *("\r", "\t", "\0", "\u202e", "\ufeff", "é", "\ud800", "\U0001f600", "x", "Foo", "5"),
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A spec with pieces deleted, repeated and put in anywhere."""
    text = draw(st.sampled_from(SPECS))
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        middle = draw(st.sampled_from((*PIECES, text[start:end] * 2)))
        text = text[:start] + middle + text[end:]
    return text


def check_any(text: str) -> None:
    begun = time.process_time()
    spec, sink = read(text)
    assert time.process_time() - begun < 1
    for each in sink.found:
        assert each.primary is not None
        assert 0 <= each.primary.span.start <= each.primary.span.end <= len(text)
        assert each.message[0] == "`" or not each.message[0].isupper()
    for node in ast.walk(spec):
        assert 0 <= node.span.start <= node.span.end <= len(text)


@settings(max_examples=150, deadline=None)
@given(mutated())
def test_mutated_specs_never_raise(text: str) -> None:
    check_any(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_jumbled_words_never_raise(pieces: list[str]) -> None:
    check_any(" ".join(pieces))
    check_any("surg 1\n" + "".join(pieces))


@pytest.mark.parametrize(
    "text",
    [
        "surg 1\nlet x = " + "(" * 5000,
        "surg 1\nlet x = " + "[" * 65 + "]" * 65,
        "surg 1\nlet x = " + "1 + " * 5000 + "1",
        "surg 1\nlet x = " + "not " * 5000 + "a",
        "surg 1\nlet x = " + "- " * 5000 + "1",
        "surg 1\nlet x = " + "if a then b else " * 2000 + "c",
        "surg 1\nlet x = a" + ".b" * 5000,
        "surg 1\nlet x = a" + "()" * 5000,
        "surg 1\nlet x = 1e99999999999",
        "surg 1\nlet x = " + "9" * 5000,
    ],
)
def test_deep_and_huge_texts_are_one_error(text: str) -> None:
    spec, sink = read(text)
    assert [d.code for d in sink.found] == [catalog.E0110]
    assert sum(1 for _ in ast.walk(spec)) < 100


def test_nesting_that_is_allowed_is_read() -> None:
    for text in ("(" * 64 + "a" + ")" * 64, "f(" * 63 + "a" + ")" * 63, "1" + " + 1" * 150):
        spec, sink = read(f"surg 1\nlet x = {text}")
        assert sink.found == []
        assert len(spec.items) == 1


def test_many_errors_stop_early() -> None:
    _, sink = read("surg 1\n" + "let model = 1\n" * 2000 + "let\n" * 2000)
    assert len(sink.found) == 50


# ---- speed -----------------------------------------------------------------------------------


def test_parsing_is_fast() -> None:
    read(OSS)
    best = min(_timed(OSS) for _ in range(5))
    # About 0.02 on a quiet core; the rest is room for a busy machine.
    assert best < 0.2


def _timed(text: str) -> float:
    begun = time.process_time()
    read(text)
    return time.process_time() - begun


def test_reading_a_spec_does_not_load_lark() -> None:
    code = (
        "import sys; from surgery.source import Source; from surgery.diagnostics import Sink\n"
        "from surgery.grammar.parse import parse\n"
        "print(len(parse(Source('a', 'surg 1\\nlet x = 1'), Sink()).items), 'lark' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "1 False\n"
