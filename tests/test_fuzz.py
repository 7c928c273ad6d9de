"""Whatever is handed to the compiler ends in diagnostics; `fuzz_language.py` tries a hundred times
as much, and how long it takes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz_language import Watch, texts, through
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spec_mutations import make, of_kind

from surgery.diagnostics import Sink


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "spec.surg"


def said(data: bytes, path: Path) -> Sink:
    """What is found in a text; raises where a step raises or its answer makes no sense."""
    return through(data, path, Watch())


ONCE = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SPECS = texts()


@settings(ONCE, max_examples=300)
@given(number=st.integers(0, 10**9))
def test_mutated_specs_end_in_findings(path: Path, number: int) -> None:
    kind, data = make(number, 1, SPECS)
    if kind not in ("many", "huge_line", "deep", "long"):
        said(data, path)


@settings(ONCE, max_examples=500)
@given(data=st.binary(max_size=600))
def test_bytes_end_in_findings(path: Path, data: bytes) -> None:
    # Nothing is a spec without a model and an objective, and empty files are no exception.
    assert said(data, path).found


@settings(ONCE, max_examples=300)
@given(text=st.text(max_size=300))
def test_unicode_ends_in_findings(path: Path, text: str) -> None:
    assert said(("surg 1\n" + text).encode("utf-8", "surrogatepass"), path).found


@pytest.mark.parametrize("kind", ["deep", "long", "many", "huge_line"])
def test_extreme_shapes_end_in_findings(path: Path, kind: str) -> None:
    for number in range(4):
        said(of_kind(kind, number, 2, SPECS), path)


def test_inputs_are_the_same_for_the_same_number() -> None:
    for number in range(40):
        assert make(number, 3, SPECS) == make(number, 3, SPECS)
    assert make(1, 3, SPECS) != make(1, 4, SPECS)
