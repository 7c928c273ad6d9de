"""The store: what is put is got, and nothing else ever is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery import catalog
from surgery.diagnostics import Stop
from surgery.library import Json, Library, canonical, digest

KEY: dict[str, Json] = {"kind": "swap", "data": {"seed": 1, "text": "é"}, "tail": None}
VALUE: Json = {"mean": 0.1 + 0.2, "error": 1e-300, "samples": [1, 2.5, None, True, "x"]}


def _only(library: Library) -> Path:
    (path,) = (p for p in library.root.rglob("*") if p.is_file())
    return path


def test_values_come_back_exactly(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    assert library.get(KEY) is None
    library.put(KEY, VALUE)
    assert Library(tmp_path / "library").get(KEY) == VALUE
    assert Library(tmp_path / "library").get(dict(reversed(KEY.items()))) == VALUE
    assert library.damaged == ()
    assert library.get(KEY | {"tail": 0}) is None
    assert library.get(KEY | {"kind": "ranking"}) is None


def test_the_last_value_holds_and_nothing_is_left_over(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.put(KEY, 1.0)
    library.put(KEY, 2.0)
    assert library.get(KEY) == 2.0
    assert _only(library).name == f"{digest(KEY)[2:]}.json"


def test_entries_are_files_that_others_may_read(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.put(KEY, VALUE)
    other = tmp_path / "other"
    other.write_text("")
    assert _mode(_only(Library(tmp_path / digest(KEY)[:2]))) == _mode(other)


def _mode(path: Path) -> int:
    return path.stat().st_mode


_KEYS = st.dictionaries(
    st.text(max_size=3),
    st.one_of(st.integers(), st.text(max_size=3), st.none(), st.booleans()),
    max_size=3,
)


@given(_KEYS, _KEYS)
def test_keys_have_one_digest_and_different_keys_others(
    a: dict[str, Json], b: dict[str, Json]
) -> None:
    assert digest(dict(reversed(a.items()))) == digest(a)
    assert (digest(a) == digest(b)) == (canonical(a) == canonical(b))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_entry_is_missing_and_reported(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    library = Library(tmp_path_factory.mktemp("library"))
    library.put(KEY, VALUE)
    path = _only(library)
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 2))
    if data.draw(st.booleans()):
        path.write_bytes(good[:at])
    else:
        changed = bytearray(good)
        changed[at] ^= data.draw(st.integers(1, 255))
        path.write_bytes(bytes(changed))
    found = Library(library.root).get(KEY)
    reopened = Library(library.root)
    assert reopened.get(KEY) is None
    assert found is None
    ((name, why),) = reopened.damaged
    assert (library.root / name) == path
    assert why
    reopened.put(KEY, VALUE)
    assert path.read_bytes() == good
    assert Library(library.root).get(KEY) == VALUE


def test_an_entry_under_another_name_is_not_used(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.put(KEY, VALUE)
    stolen = KEY | {"tail": 8}
    source, target = _only(library), tmp_path / digest(stolen)[:2] / f"{digest(stolen)[2:]}.json"
    target.parent.mkdir(exist_ok=True)
    source.rename(target)
    assert library.get(stolen) is None
    assert "another key" in library.damaged[0][1]


@pytest.mark.parametrize("text", ["[]", "null", '{"format": 1}', "[" * 100_000, "\xff"])
def test_other_files_are_not_entries(text: str, tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.put(KEY, VALUE)
    _only(library).write_bytes(text.encode("latin-1"))
    assert library.get(KEY) is None
    assert len(library.damaged) == 1


def test_later_formats_are_not_read(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.put(KEY, VALUE)
    path = _only(library)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    assert library.get(KEY) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), [1.0, float("-inf")]])
def test_numbers_that_are_none_are_refused(bad: Json, tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    with pytest.raises(ValueError, match="JSON compliant"):
        library.put(KEY, bad)
    with pytest.raises(ValueError, match="JSON compliant"):
        library.get({"key": bad})
    assert not library.root.exists()


def test_a_folder_that_cannot_be_written_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    library = Library(tmp_path / "file")
    with pytest.raises(Stop) as stopped:
        library.put(KEY, VALUE)
    assert stopped.value.diagnostic.code is catalog.E0806
    with pytest.raises(Stop) as stopped:
        library.get(KEY)
    assert stopped.value.diagnostic.code is catalog.E0001


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    library = Library(tmp_path)
    path = tmp_path / digest(KEY)[:2] / f"{digest(KEY)[2:]}.json"
    path.mkdir(parents=True)  # renaming a file onto a folder fails after the data are written
    with pytest.raises(Stop):
        library.put(KEY, VALUE)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
