"""Scoring and the library: measured once, found again, and refused when it means nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from measuring_fixtures import Bench, Log, bench, dataset, load, only, samples, save, sweep
from msgspec.structs import replace
from space_fixtures import span

from surgery import catalog
from surgery.diagnostics import Sink, Stop
from surgery.expr import Arith, ScoreTotal
from surgery.ir import Measured, Objective, Score, Site, Space
from surgery.library import Library
from surgery.passes import rank, score
from surgery.scoring.arrays import numbers
from surgery.scoring.model import Parent, load_parent
from surgery.units import NUMBER

FAMILIES = pytest.mark.parametrize("name", ["llama", "gpt_oss"])


# ---- The library -----------------------------------------------------------------------------


@FAMILIES
def test_runs_agree_and_the_second_measures_nothing(
    name: str, parents: Path, tmp_path: Path
) -> None:
    made = bench(parents, name, tmp_path)
    first_log, second_log = Log(), Log()
    library = Library(tmp_path / "one")
    first = made.score(library, first_log)
    files = {p: p.stat().st_mtime_ns for p in library.root.rglob("*.json")}
    changed = sum(c.changed for c in made.space.candidates)
    assert first_log.of("library") == [(0, changed)]
    # Every candidate once, and one block that is put back unchanged.
    assert first_log.of("score") == [(n, changed + 1) for n in range(changed + 2)]

    again = made.score(library, second_log)
    assert again == first
    assert second_log.of("library") == [(changed, changed)]
    assert not second_log.of("score")
    assert not second_log.of("rank")
    assert {p: p.stat().st_mtime_ns for p in library.root.rglob("*.json")} == files

    assert made.score(Library(tmp_path / "two")) == first


def test_names_do_not_count_and_texts_do(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "llama", tmp_path)
    library = Library(tmp_path / "library")
    first = made.score(library)
    renamed = replace(
        made.spec,
        scores=(Score(span(60), "harm", "kl", "prose"),),
        datasets=(*made.spec.datasets, dataset(name="prose", span=span(61))),
        objective=Objective(span(62), "minimize", ScoreTotal(span(62), "harm")),
    )
    log = Log()
    second = replace(made, spec=renamed).score(library, log)
    assert second.damage["harm"] == first.damage["damage"]
    assert second.digest == first.digest
    assert not log.of("score")

    longer = replace(made.spec, datasets=(dataset(length=49),))
    third = replace(made, spec=longer).score(library, log)
    assert log.of("score")
    assert third.digest != first.digest


def test_only_missing_and_damaged_entries_are_measured(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "llama", tmp_path)
    library = Library(tmp_path / "library")
    first = made.score(library)
    swaps = [p for p in library.root.rglob("*.json") if b'"kind":"swap"' in p.read_bytes()]
    swaps[0].unlink()
    swaps[1].write_bytes(swaps[1].read_bytes().replace(b'"mean":', b'"mean":1'))
    sink, log = Sink(), Log()
    space = made.rank(library)
    fresh = Library(library.root)
    assert score.run(made.spec, space, fresh, sink, log) == first
    assert log.of("library") == [(len(swaps) - 2, len(swaps))]
    assert log.of("score")[-1] == (3, 3)
    (warning,) = sink.found
    assert warning.code is catalog.W0717
    assert warning.subject == str(library.root)
    assert [note.endswith("does not match its own checksum") for note in warning.notes] == [True]
    assert score.run(made.spec, space, Library(library.root), sink, log) == first


def test_a_config_alone_needs_its_weights_whatever_the_library_holds(
    parents: Path, tmp_path: Path
) -> None:
    made = bench(parents, "llama", tmp_path)
    library = Library(tmp_path / "library")
    space = made.rank(library)
    made.score(library)
    (made.model.directory / "model.safetensors").unlink()
    bare = bench(parents, "llama", tmp_path)
    assert not bare.model.files
    # Nothing says which weights would belong to it, so it is another model to the library.
    assert bare.model.digest != made.model.digest
    with pytest.raises(Stop) as stopped:
        rank.run(bare.spec, bare.space, library, Sink(), Log())
    found = stopped.value.diagnostic
    assert found.code is catalog.E0701
    assert "4 rankings are missing from the library, and there are no weights" in found.message
    assert found.subject == str(made.model.directory)
    (help,) = found.helps
    assert help.text == "fetch the checkpoint's safetensors files as well"
    with pytest.raises(Stop, match="E0701: 20 measurements are missing"):
        score.run(bare.spec, replace(space, model=bare.model), library, Sink(), Log())


def test_standard_errors_are_those_of_sample_means(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "llama", tmp_path)
    measured = made.score(Library(tmp_path / "library"))
    noop = only(made.space, 2, Site.FFN, "noop")
    ((_, values),) = sweep(load_parent(made.model), samples(made), [noop])
    assert measured.damage["damage"][noop.address] == pytest.approx(values.mean().item(), rel=1e-8)
    error = values.std().item() / 4**0.5
    assert measured.errors["damage"][noop.address] == pytest.approx(error, rel=1e-6)
    assert error > 0

    single = replace(made.spec, datasets=(dataset(take=1),))
    alone = replace(made, spec=single).score(Library(tmp_path / "single"))
    assert noop.address not in alone.errors["damage"]


# ---- Findings --------------------------------------------------------------------------------


def test_scores_that_are_not_finite_are_all_listed(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "llama", tmp_path)
    library = Library(tmp_path / "library")
    # The parent never reads these weights (their input is 0), but adding two of them overflows.
    tensors = load(made)
    for layer in (1, 3):
        tensors[f"model.layers.{layer}.input_layernorm.weight"][0] = 0
        tensors[f"model.layers.{layer}.self_attn.k_proj.weight"][[0, 16], 0] = 3e38
    save(made, tensors)
    spoiled = bench(parents, "llama", tmp_path)
    sink = Sink()
    attention_only = [o for o in spoiled.space.options if o.site is Site.ATTENTION]
    space = replace(spoiled.space, options=tuple(attention_only))
    assert score.run(spoiled.spec, space, library, sink, Log()) is None
    (found,) = sink.found
    assert found.code is catalog.E0702
    assert found.primary is not None
    assert found.primary.span == span(21)
    assert found.notes == (
        "layer.1.attention.kv_heads(1): nan",
        "layer.3.attention.kv_heads(1): nan",
    )
    # Nothing else was lost, and nothing that is no number was stored.
    swaps = [p.read_text() for p in library.root.rglob("*.json") if '"swap"' in p.read_text()]
    assert len(swaps) == 3 * 4 - 2
    assert "nan" not in "".join(swaps).lower()


def test_a_parent_that_is_not_finite_is_told_so(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "llama", tmp_path)
    tensors = load(made)
    tensors["model.norm.weight"][3] = torch.nan
    save(made, tensors)
    spoiled = bench(parents, "llama", tmp_path)
    library, sink = Library(tmp_path / "library"), Sink()
    assert score.run(spoiled.spec, spoiled.rank(library), library, sink, Log()) is None
    (found,) = sink.found
    assert found.code is catalog.E0702
    assert "itself" in found.message


def test_damage_of_keep_stops_the_run(
    parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(parents, "llama", tmp_path)
    library = Library(tmp_path / "library")
    space = made.rank(library)

    def drifting(model: Any) -> Parent:
        """A parent whose tensors on disk are no longer those in memory."""
        loaded = load_parent(model)

        def read(name: str) -> Any:
            array = loaded.read(name).copy()
            if name.endswith("proj.weight"):
                array.reshape(-1)[0] ^= 1
            return array

        return replace(loaded, read=read)

    monkeypatch.setattr("surgery.scoring.model.load_parent", drifting)
    sink = Sink()
    assert score.run(made.spec, space, library, sink, Log()) is None
    (found,) = sink.found
    assert found.code is catalog.E0704
    assert not [p for p in library.root.rglob("*.json") if b'"swap"' in p.read_bytes()]


def _blindness(made: Bench, tmp_path: Path) -> tuple[Sink, Measured | None, Space]:
    library, sink = Library(tmp_path / "library"), Sink()
    # Rankings read other text than scores do, so that only blindness is at stake.
    space = made.rank(library)
    return sink, score.run(made.spec, space, library, sink, Log()), space


def test_windows_that_no_score_sees_are_errors(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "llama", tmp_path, dataset(length=8))
    sink, measured, _ = _blindness(made, tmp_path)
    assert measured is None
    (found,) = sink.found
    assert found.code is catalog.E0705
    assert found.primary is not None
    assert found.primary.span == span(22)
    assert "8 tok" in found.primary.text


def test_windows_that_one_score_sees_are_warnings(parents: Path, tmp_path: Path) -> None:
    both = Arith(
        span(12), "+", ScoreTotal(span(12), "damage"), ScoreTotal(span(12), "reach"), NUMBER
    )
    made = bench(
        parents,
        "llama",
        tmp_path,
        dataset(length=8),
        datasets=(dataset(length=8), dataset(name="long", length=9, span=span(13))),
        scores=(
            Score(span(11), "damage", "kl", "text"),
            Score(span(14), "reach", "kl", "long"),
        ),
        objective=Objective(span(12), "minimize", both),
    )
    sink, measured, space = _blindness(made, tmp_path)
    assert measured is not None
    (found,) = sink.found
    assert found.code is catalog.W0715
    assert [label.span for label in found.labels] == [span(22), span(10)]
    window = only(space, 2, Site.ATTENTION, "window(8)")
    assert measured.damage["damage"][window.address] == 0.0
    assert measured.damage["reach"][window.address] > 0.0

    # Not assumed but so: what is skipped would have measured exactly 0.
    ((_, values),) = sweep(load_parent(made.model), samples(made), [window])
    assert numbers(values) == [0.0] * 4


def test_scores_that_nobody_uses_are_not_measured(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "llama", tmp_path)
    idle = Score(span(14), "idle", "kl", "nowhere")
    more = replace(made.spec, scores=(*made.spec.scores, idle))
    measured = replace(made, spec=more).score(Library(tmp_path / "library"))
    assert list(measured.damage) == ["damage"]


def test_a_complete_library_needs_no_torch() -> None:
    """Importing the passes is all that a run without missing measurements does with them."""
    modules = "surgery.passes.rank, surgery.passes.score, surgery.scoring.assembled"
    program = f"import sys, {modules}; print({{'torch', 'transformers'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout.strip() == b"set()"
