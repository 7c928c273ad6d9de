"""Samples: exact lengths, real text, one outcome for one seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pytest
from measuring_fixtures import dataset
from msgspec.structs import replace
from space_fixtures import smollm, span

from surgery import catalog
from surgery.diagnostics import Code, Stop
from surgery.ir import Dataset, Model
from surgery.scoring import data

EOS = 7


def encode(text: str) -> list[int]:
    return [ord(char) for char in text]


def _write(path: Path, documents: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": d}) + "\n" for d in documents), encoding="utf-8")


def _draw(documents: list[str], separator: int | None = EOS, **changes: int) -> list[str]:
    wanted = dataset(**changes)
    drawn = data.draw(wanted, data.Text(tuple(documents), ""), encode, separator)
    assert drawn.tokens.dtype == np.int64
    assert drawn.tokens.shape == (wanted.take, wanted.length)
    return ["".join(map(chr, row)) for row in drawn.tokens.tolist()]


def _letters(count: int, start: int = 1000) -> str:
    """A document in which every place has a character of its own."""
    return "".join(chr(start + i) for i in range(count))


# ---- Sampling --------------------------------------------------------------------------------


def test_long_documents_give_one_window_each() -> None:
    documents = [_letters(100, 1000 * n) for n in range(1, 9)]
    rows = _draw(documents, take=8, length=10)
    owners = [next(n for n, d in enumerate(documents) if row in d) for row in rows]
    assert sorted(owners) == list(range(8))
    starts = {documents[owner].index(row) for owner, row in zip(owners, rows, strict=True)}
    assert len(starts) > 4, "windows lie in random places"


def test_seeds_decide_order_and_places() -> None:
    documents = [_letters(100, 1000 * n) for n in range(1, 9)]
    draws = {seed: _draw(documents, take=5, length=10, seed=seed) for seed in range(4)}
    assert draws[0] == _draw(documents, take=5, length=10, seed=0)
    assert len({tuple(rows) for rows in draws.values()}) == 4
    assert draws[0][:3] == _draw(documents, take=3, length=10, seed=0)


def test_samples_are_the_same_everywhere() -> None:
    # Committed, not computed: these may differ only if SAMPLING is raised.
    documents = [_letters(50, 100 * n) for n in range(1, 6)] + ["ab", "cde", "fghi"]
    rows = _draw(documents, take=6, length=8, seed=42)
    assert [ord(row[0]) for row in rows] == FIRST
    assert data.SAMPLING == 2


FIRST = [416, 516, 140, 334, 233, 102]


def test_short_documents_are_packed_between_separators() -> None:
    documents = ["abc", "defgh", "ij", "klmn", "opq"]
    rows = _draw(documents, take=2, length=10)
    stream = "".join(rows)
    pieces = stream.split(chr(EOS))
    assert len(pieces) >= 4
    assert set(pieces[:-1]) <= set(documents)
    assert any(d.startswith(pieces[-1]) for d in documents)
    assert "\x07" not in "".join(_draw(documents, None, take=1, length=17))


def test_a_single_long_document_gives_windows_that_do_not_overlap() -> None:
    rows = _draw([_letters(105)], take=10, length=10)
    assert len({char for row in rows for char in row}) == 100
    assert all(row in _letters(105) for row in rows)


def test_no_document_is_read_twice_before_every_one_was_read_once() -> None:
    documents = [_letters(40, 1000), _letters(25, 2000), _letters(10, 3000)]
    rows = _draw(documents, take=7, length=10)
    assert len(set("".join(rows))) == 70
    assert sorted(ord(row[0]) // 1000 for row in rows[:3]) == [1, 2, 3]


def test_only_documents_that_are_needed_are_tokenised() -> None:
    seen: list[str] = []

    def counting(text: str) -> list[int]:
        seen.append(text)
        return encode(text)

    documents = tuple(_letters(30, 1000 * n) for n in range(1, 50))
    data.draw(dataset(take=3, length=10), data.Text(documents, ""), counting, EOS)
    assert len(seen) == 3


def test_too_little_text_is_an_error_with_numbers() -> None:
    with pytest.raises(Stop) as stopped:
        _draw([_letters(25), "abc", "def"], take=9, length=10)
    found = stopped.value.diagnostic
    assert found.code is catalog.E0706
    assert "2 of 9 samples of 10 tok" in found.message
    assert found.primary is not None
    assert found.primary.span == span(10)
    assert [help.text for help in found.helps] == ["take 2 samples, shorten them, or add text"]
    with pytest.raises(Stop) as stopped:
        _draw(["abc"], take=1, length=5)
    found = stopped.value.diagnostic
    assert [help.text for help in found.helps] == ["shorten `length`, or add text"]


# ---- Files -----------------------------------------------------------------------------------


def _code(work: Callable[[], object]) -> tuple[Code, str]:
    with pytest.raises(Stop) as stopped:
        work()
    found = stopped.value.diagnostic
    assert found.primary is not None
    assert found.primary.span == span(10)
    return found.code, found.message


def test_both_kinds_of_file_are_read(tmp_path: Path) -> None:
    _write(tmp_path / "text.jsonl", ["one", "zwei\n", ""])
    assert data.read_text(dataset(), tmp_path).documents == ("one", "zwei\n", "")
    (tmp_path / "a.txt").write_bytes("\ufeffline\r\nline".encode())
    assert data.read_text(dataset(location="a.txt"), tmp_path).documents == ("line\r\nline",)


def test_digests_are_about_what_documents_say(tmp_path: Path) -> None:
    def digest(content: str, name: str = "text.jsonl") -> str:
        (tmp_path / name).write_text(content, encoding="utf-8")
        return data.read_text(dataset(location=name), tmp_path).digest

    plain = digest('{"text": "a"}\n{"text": "b"}\n')
    assert digest('\n{"id": 1, "text": "a"}\n\n{"text": "b"}') == plain
    assert digest('{"text": "b"}\n{"text": "a"}\n') != plain
    assert digest('{"text": "ab"}\n') != plain
    assert digest("ab", "b.txt") == digest('{"text": "ab"}\n')


def test_files_that_cannot_be_used_are_located(tmp_path: Path) -> None:
    def read(wanted: Dataset) -> tuple[Code, str]:
        return _code(lambda: data.read_text(wanted, tmp_path))

    assert read(dataset(location="gone.txt"))[0] is catalog.E0001
    (tmp_path / "folder.txt").mkdir()
    assert read(dataset(location="folder.txt"))[0] is catalog.E0001
    (tmp_path / "a.csv").write_text("a")
    assert read(dataset(location="a.csv"))[0] is catalog.E0004
    (tmp_path / "b.txt").write_bytes(b"\xff")
    assert read(dataset(location="b.txt"))[0] is catalog.E0002
    (tmp_path / "c.jsonl").write_text('{"text": "a"}\n\n{"text": }')
    code, message = read(dataset(location="c.jsonl"))
    assert code is catalog.E0004
    assert "line 3" in message
    for line in ("[]", '{"text": 1}', '{"Text": "a"}'):
        (tmp_path / "d.jsonl").write_text(line)
        assert "string `text`" in read(dataset(location="d.jsonl"))[1]
    assert read(dataset(kind="hf"))[0] is catalog.E0011


# ---- Tokenizers ------------------------------------------------------------------------------


def _model(directory: Path, **config: object) -> Model:
    return replace(smollm(), directory=directory, config=MappingProxyType(config))


def test_the_models_own_tokenizer_is_used(parents: Path) -> None:
    from transformers import AutoTokenizer

    text = "The cat sat, é and ran.\n"
    ours = data.load_tokenizer(_model(parents / "llama"))(text)
    theirs = cast("Any", AutoTokenizer).from_pretrained(parents / "llama")
    assert ours == theirs.encode(text, add_special_tokens=False)
    assert theirs.decode(ours) == text


def test_a_stored_truncation_or_padding_does_not_touch_documents(
    parents: Path, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer

    text = "The cat sat, é and ran.\n"
    whole = data.load_tokenizer(_model(parents / "llama"))(text)
    assert len(whole) > 3
    for name in ("cut", "padded"):
        stored = cast("Any", Tokenizer).from_file(str(parents / "llama" / "tokenizer.json"))
        if name == "cut":
            stored.enable_truncation(3)
        else:
            stored.enable_padding(length=len(whole) + 5)
        (tmp_path / name).mkdir()
        stored.save(str(tmp_path / name / "tokenizer.json"))
        assert len(stored.encode(text, add_special_tokens=False).ids) != len(whole)
        assert data.load_tokenizer(_model(tmp_path / name))(text) == whole


def test_missing_and_malformed_tokenizers_are_findings(tmp_path: Path) -> None:
    with pytest.raises(Stop) as stopped:
        data.load_tokenizer(_model(tmp_path))
    assert stopped.value.diagnostic.code is catalog.E0001
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(Stop) as stopped:
        data.load_tokenizer(_model(tmp_path))
    assert stopped.value.diagnostic.code is catalog.E0004
    one = data.tokenizer_digest(_model(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{ }")
    assert data.tokenizer_digest(_model(tmp_path)) != one


def test_the_end_of_text_is_the_configs(tmp_path: Path) -> None:
    assert data.end_of_text(_model(tmp_path, eos_token_id=5)) == 5
    assert data.end_of_text(_model(tmp_path, eos_token_id=[9, 8])) == 9
    assert data.end_of_text(_model(tmp_path, eos_token_id=None)) is None
    assert data.end_of_text(_model(tmp_path)) is None
