"""Code points and the units of a client: every encoding, line ending and half of a pair."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types

from surgery.lsp.documents import Document, name_of, path_of, uri_of
from surgery.lsp.positions import Encoding, Places, units

TEXTS = st.text(st.sampled_from("ab \t\r\n\u00e9\u20ac\U0001f600\u2028\x0b\x85\ud83d"), max_size=30)
ENCODINGS: tuple[Encoding, ...] = ("utf-8", "utf-16", "utf-32")


def lines(text: str) -> list[str]:
    """The lines of the protocol, each with its ending, by another way than the product's."""
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text)


def length(text: str, encoding: Encoding) -> int:
    width = {"utf-8": 1, "utf-16": 2, "utf-32": 4}[encoding]
    codec = {"utf-8": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}[encoding]
    return len(text.encode(codec, "surrogatepass")) // width


@given(TEXTS, st.sampled_from(ENCODINGS))
def test_every_character_has_its_place(text: str, encoding: Encoding) -> None:
    places = Places(text, encoding)
    offset = 0
    for number, line in enumerate(lines(text)):
        for column in range(len(line.rstrip("\r\n")) + 1):
            expected = types.Position(number, length(line[:column], encoding))
            assert places.position(offset + column) == expected
            assert places.offset(expected) == offset + column
        offset += len(line)
    assert offset == len(text)


@given(TEXTS, st.sampled_from(ENCODINGS), st.integers(0, 9), st.integers(0, 99))
def test_any_position_means_a_place(text: str, encoding: Encoding, line: int, unit: int) -> None:
    places = Places(text, encoding)
    offset = places.offset(types.Position(line, unit))
    assert 0 <= offset <= len(text)
    found = places.position(offset)
    if line >= places.line_count:
        assert offset == len(text)
    else:
        assert found.line == line
        # Never behind the place asked for, and at the start of the character around it.
        assert found.character <= unit
        assert unit - found.character < 4 or text[offset : offset + 1] in ("", "\r", "\n")


@given(TEXTS)
def test_units_add_up(text: str) -> None:
    for encoding in ENCODINGS:
        assert units(text, encoding) == length(text, encoding)


def test_half_of_a_pair_is_its_start() -> None:
    text = "a\U0001f600b"
    assert [Places(text).offset(types.Position(0, n)) for n in range(6)] == [0, 1, 1, 2, 3, 3]
    assert [Places(text, "utf-8").offset(types.Position(0, n)) for n in range(7)] == [
        *(0, 1, 1, 1, 1, 2, 3)
    ]


def test_only_three_line_endings() -> None:
    places = Places("a\r\nb\rc\nd\u2028e\x0bf")
    assert places.line_count == 4
    assert places.position(3) == types.Position(1, 0)
    # Between CR and LF is still the end of the line.
    assert places.position(2) == types.Position(0, 1)


edits = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 4), st.integers(0, 9), TEXTS),
    max_size=4,
)


@given(TEXTS, edits, st.sampled_from(ENCODINGS))
def test_changes_apply_one_after_the_other(
    text: str, changes: list[tuple[int, int, int, int, str]], encoding: Encoding
) -> None:
    document = Document("file:///a.surg", 1, text, encoding)
    sent: list[types.TextDocumentContentChangeEvent] = []
    for a, b, c, d, new in changes:
        place = types.Range(types.Position(a, b), types.Position(c, d))
        start, end = sorted(Places(text, encoding).offset(p) for p in (place.start, place.end))
        text = text[:start] + new + text[end:]
        sent.append(types.TextDocumentContentChangePartial(place, new))
    assert document.changed(2, sent) == Document("file:///a.surg", 2, text, encoding)


@pytest.mark.parametrize("path", ["/a/b c/\u00e9.surg", "/a/x%20y.surg", "/a/#?.surg"])
def test_paths_become_uris_and_come_back(path: str) -> None:
    uri = uri_of(path)
    assert uri is not None
    assert uri.isascii()
    assert path_of(uri) == path
    assert name_of(uri) == path


def test_other_uris_have_no_path() -> None:
    assert path_of("untitled:Untitled-1") is None
    assert path_of("file://[") is None
    assert path_of("") is None
    assert name_of("untitled:Untitled-1") == "untitled:Untitled-1"
    assert uri_of("--set share") is None
    standard = uri_of("std/moe.surg")
    assert standard is not None
    assert name_of(standard) == "std/moe.surg"
