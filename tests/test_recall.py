"""A look without work: the parent without hashing or a network, and what a library knows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import GPT_OSS_SPEC, Workplace
from msgspec.structs import replace
from resolve_fixtures import resolved, spec

from surgery.diagnostics import Sink
from surgery.grammar.parse import parse
from surgery.ir import Space, Spec
from surgery.library import Library
from surgery.passes import check, expand, rank, recall, resolve, score
from surgery.progress import silent
from surgery.source import Source
from surgery.tensors import digest as tensors_digest

# ---- resolve.glance ----------------------------------------------------------------------------


def test_a_glance_hashes_nothing_and_finds_what_is_known(
    parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors_digest, "_SETTLED_NS", 0)
    # A copy, so that its files are new to every cache.
    folder = tmp_path / "work"
    shutil.copytree(parents / "llama", folder / "llama")
    wanted, cache = spec(folder, "local", "llama"), tmp_path / "cache"
    before = resolve.glance(wanted, cache)
    assert before is not None
    assert before.digest == ""
    assert not cache.exists()
    known = resolved(spec(parents, "local", "llama"), cache)
    assert resolve.glance(spec(parents, "local", "llama"), cache) == known
    hashed = {"digest": known.digest, "contents": known.contents, "stamps": known.stamps}
    assert replace(before, directory=known.directory, **hashed) == known


def test_a_glance_at_what_is_not_there_or_not_right(parents: Path, tmp_path: Path) -> None:
    assert resolve.glance(spec(tmp_path, "local", "llama"), tmp_path) is None
    assert resolve.glance(spec(tmp_path, "hf", "no/such"), tmp_path) is None
    assert resolve.glance(spec(tmp_path, "hf", "no/such", revision="../x"), tmp_path) is None
    pinned = spec(tmp_path, "gguf", "a.gguf", sha256="0" * 64)
    assert resolve.glance(pinned, tmp_path) is None
    shutil.copytree(parents / "llama", tmp_path / "llama")
    (tmp_path / "llama" / "config.json").write_text("{}")
    assert resolve.glance(spec(tmp_path, "local", "llama"), tmp_path) is None


def test_an_imported_file_is_known_by_its_digest(parents: Path, tmp_path: Path) -> None:
    for kind in ("gguf", "wheel"):
        pinned = spec(tmp_path, kind, "a.gguf", sha256="1" * 64)
        imported = tmp_path / "cache" / "imports" / f"{'1' * 64}-v1"
        if not imported.exists():
            shutil.copytree(parents / "llama", imported)
        found = resolve.glance(pinned, tmp_path / "cache")
        assert found is not None
        assert found.source == f"{kind}:a.gguf"
        assert found.layers == resolved(spec(parents, "local", "llama"), tmp_path).layers


# ---- recall ------------------------------------------------------------------------------------


def expanded(workplace: Workplace) -> tuple[Spec, Space]:
    sink = Sink()
    source = Source(workplace.write("spec.surg", GPT_OSS_SPEC), GPT_OSS_SPEC)
    checked = check.run(parse(source, sink), sink, {})
    assert checked is not None
    model = resolve.run(checked, sink, workplace.library / "cache")
    assert model is not None
    space = expand.run(checked, model, sink)
    assert space is not None
    return checked, space


def test_a_library_is_looked_up_without_measuring(workplace: Workplace) -> None:
    checked, space = expanded(workplace)
    library = Library(workplace.library)
    ranked = rank.run(checked, space, library, Sink(), silent)
    assert ranked is not None
    measured = score.run(checked, ranked, library, Sink(), silent)
    assert measured is not None
    found = recall.run(checked, space, library)
    assert found is not None
    assert found.damage == measured.damage
    assert found.errors == measured.errors
    assert any(found.damage["damage"].values())


def test_an_empty_library_knows_only_what_is_unchanged(workplace: Workplace) -> None:
    checked, space = expanded(workplace)
    found = recall.run(checked, space, Library(workplace.folder / "nothing"))
    assert found is not None
    unchanged = {c.address: 0.0 for c in space.candidates if not c.changed}
    assert found.damage == {"damage": unchanged}
    assert len(unchanged) == 8


def test_text_that_cannot_be_read_leaves_a_score_out(workplace: Workplace) -> None:
    checked, space = expanded(workplace)
    gone = tuple(replace(d, location="gone.txt") for d in checked.datasets)
    found = recall.run(replace(checked, datasets=gone), space, Library(workplace.library))
    assert found is not None
    assert found.damage == {"damage": {}}


def test_a_parent_that_was_never_hashed_has_no_measurements(workplace: Workplace) -> None:
    checked, space = expanded(workplace)
    blank = replace(space, model=replace(space.model, digest=""))
    assert recall.run(checked, blank, Library(workplace.library)) is None


# ---- weight ------------------------------------------------------------------------------------

HEAVY = {"numpy", "scipy", "torch", "highspy", "cvxpy", "huggingface_hub", "subprocess"}


@pytest.mark.parametrize(
    "module", ["passes.resolve", "passes.expand", "passes.recall", "passes.fit", "rules"]
)
def test_looking_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, surgery.{module}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
