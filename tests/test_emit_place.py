"""Where output goes: it appears whole or not at all, and harms nothing that was there."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from emit_fixtures import FFN, Case, bench, prepare, tree

from surgery.diagnostics import Sink, Stop
from surgery.passes import emit, emit_place

__all__ = ["bench"]


@pytest.fixture
def case(bench: Path, tmp_path: Path) -> Case:
    return prepare(bench, "llama", {(1, FFN): "64"}, tmp_path / "spec")


def test_emit_paths_are_used_without_an_output_folder(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    emits = 'emit checkpoint "out/a"\nemit runtime "out/a" { context = 128 tok }\n'
    emits += 'emit runtime "out/b" { backend = triton }'
    case = prepare(bench, "llama", {(1, FFN): "64"}, tmp_path / "spec", emits)
    made = case.write(None)
    assert (made.directory, made.others) == (Path("out/a"), (Path("out/b"),))
    assert sorted(os.listdir("out/a")) == [
        "checkpoint",
        "provenance.json",
        "runtime.json",
        "tiny.plan",
    ]
    assert sorted(os.listdir("out/b")) == ["provenance.json", "runtime.json", "tiny.plan"]
    told = [json.loads(Path(f"out/{x}/runtime.json").read_text("utf-8")) for x in "ab"]
    assert [t["context"] for t in told] == [128, 256]
    assert [t["checkpoint"] for t in told] == ["checkpoint", None]
    assert [t["backend"] for t in told] == [None, "triton"]


def test_no_place_and_too_long_a_context_are_refused(bench: Path, tmp_path: Path) -> None:
    case = prepare(bench, "llama", {}, tmp_path)
    assert case.refuse(None).startswith("E0806: there is no output folder")
    emits = 'emit runtime "x" { context = 1K tok }'
    case = prepare(bench, "llama", {}, tmp_path, emits)
    assert case.refuse(tmp_path / "out").startswith("E0804: a runtime for 1K tok is longer")
    assert not (tmp_path / "out").exists()


def test_a_parent_without_weights_is_refused(bench: Path, tmp_path: Path) -> None:
    (tmp_path / "p" / "llama").mkdir(parents=True)
    shutil.copy(bench / "llama" / "config.json", tmp_path / "p" / "llama")
    shutil.copy(bench / "text.jsonl", tmp_path / "p")
    case = prepare(tmp_path / "p", "llama", {}, tmp_path)
    assert case.refuse(tmp_path / "out").startswith("E0001")


def test_our_own_output_is_replaced(bench: Path, case: Case, tmp_path: Path) -> None:
    out = tmp_path / "out"
    case.write(out)
    first = tree(out)
    case.write(out)
    assert tree(out) == first
    other = prepare(bench, "llama", {(2, FFN): "96"}, tmp_path / "spec")
    other.write(out)
    assert tree(out) != first
    assert os.listdir(tmp_path / "spec").count("out") == 0
    assert sorted(os.listdir(tmp_path)) == ["out", "spec"]


def test_an_empty_folder_is_taken(case: Case, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    case.write(tmp_path / "out")
    assert (tmp_path / "out" / "provenance.json").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "link", "dangling", "manifest", "addition"])
def test_what_is_not_ours_stays(kind: str, case: Case, tmp_path: Path) -> None:
    out = tmp_path / "out"
    match kind:
        case "folder":
            (out / "sub").mkdir(parents=True)
        case "file":
            out.write_text("mine", encoding="utf-8")
        case "link":
            (tmp_path / "real").mkdir()
            out.symlink_to(tmp_path / "real")
        case "dangling":
            out.symlink_to(tmp_path / "nowhere")
        case "manifest":
            out.mkdir()
            (out / "provenance.json").write_text('{"files": {}}', encoding="utf-8")
        case _:
            case.write(out)
            (out / "checkpoint" / "notes.txt").write_text("mine", encoding="utf-8")
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    found = case.refuse(out)
    assert found.startswith("E0802")
    if kind == "addition":
        assert "`checkpoint/notes.txt`" in found
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_links_inside_our_output_are_not_followed(case: Case, tmp_path: Path) -> None:
    out = tmp_path / "out"
    case.write(out)
    (out / "runtime.json").unlink()
    (tmp_path / "precious").write_text("mine", encoding="utf-8")
    (out / "runtime.json").symlink_to(tmp_path / "precious")
    assert "`runtime.json`" in case.refuse(out)
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "mine"


def test_hard_links_are_broken_not_written_through(bench: Path, case: Case, tmp_path: Path) -> None:
    out = tmp_path / "out"
    case.write(out)
    twin = tmp_path / "twin.json"
    os.link(out / "runtime.json", twin)
    before = twin.read_bytes()
    prepare(bench, "llama", {(2, FFN): "96"}, tmp_path / "spec").write(out)
    assert (out / "runtime.json").read_bytes() != before
    assert twin.read_bytes() == before


@pytest.mark.parametrize("file", ["runtime.json", "checkpoint/model.safetensors"])
def test_what_was_edited_by_hand_is_no_longer_ours(file: str, case: Case, tmp_path: Path) -> None:
    out = tmp_path / "out"
    case.write(out)
    path = out / file
    good = path.read_bytes()
    path.write_bytes(good + b" ")
    found = case.refuse(out)
    assert found.startswith("E0802")
    assert found.endswith(f": `{file}`")
    assert path.read_bytes() == good + b" "
    if file == "runtime.json":
        path.write_bytes(good.replace(b"256", b"512"))
        assert path.stat().st_size == len(good)
        assert case.refuse(out).startswith("E0802")
    path.write_bytes(good)
    case.write(out)


def test_overlap_with_the_parent_is_refused(bench: Path, tmp_path: Path) -> None:
    parents = tmp_path / "parents"
    shutil.copytree(bench, parents)
    case = prepare(parents, "llama", {}, tmp_path / "spec")
    before = tree(parents)
    link = tmp_path / "link"
    link.symlink_to(parents / "llama")
    for out in (parents / "llama", parents / "llama" / "new", parents, link / "new"):
        assert case.refuse(out).startswith("E0807"), out
    assert tree(parents) == before


def test_a_linked_tokenizer_is_not_carried_from_outside(bench: Path, tmp_path: Path) -> None:
    parents = tmp_path / "parents"
    shutil.copytree(bench, parents)
    (parents / "llama" / "vocab.json").symlink_to("/etc/hostname")
    case = prepare(parents, "llama", {}, tmp_path / "spec")
    assert case.refuse(tmp_path / "out") == "E0004: `vocab.json` is a link out of its directory"
    assert sorted(os.listdir(tmp_path)) == ["parents", "spec"]


# ---- several outputs -------------------------------------------------------------------------

BOTH = 'emit checkpoint "out/a"\nemit runtime "out/b"'


def test_several_outputs_appear_together_or_not_at_all(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The k-th call that changes the disk fails, for every k: both places are as they were."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    case = prepare(bench, "llama", {(1, FFN): "64"}, tmp_path / "spec", BOTH)
    before: dict[str, bytes] = {}
    for _ in ("into nothing", "over what is there"):
        left = _fail_each(monkeypatch)
        refused = 0
        for failing in range(1, 99):
            left[0] = failing
            sink = Sink()
            made = emit.run(case.spec, case.model, case.space, case.plan, case.chosen, None, sink)
            if made is not None:
                break
            refused += 1
            assert sink.found[0].code.id == "E0806"
            assert tree(Path()) == before
            assert len(os.listdir(".")) == (1 if before else 0)
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path / "work")
        assert refused > 15
        assert sorted(os.listdir("out")) == ["a", "b"]
        assert tree(Path()) != before
        before = tree(Path())
        case = prepare(bench, "llama", {(2, FFN): "96"}, tmp_path / "spec", BOTH)


def test_a_second_place_that_is_refused_leaves_the_first(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case = prepare(bench, "llama", {(1, FFN): "64"}, tmp_path / "spec", BOTH)

    def intrude(_bytes: int) -> None:
        Path("out/b").mkdir(exist_ok=True)
        Path("out/b/mine").write_text("mine", encoding="utf-8")

    sink = Sink()
    assert not emit.run(
        case.spec, case.model, case.space, case.plan, case.chosen, None, sink, intrude
    )
    assert [found.code.id for found in sink.found] == ["E0802"]
    assert sorted(str(p) for p in Path("out").rglob("*")) == ["out/b", "out/b/mine"]


@pytest.mark.parametrize("second", ["out/a/b", "./x/../out/a", "out"])
def test_outputs_may_not_share_a_place(
    second: str, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    emits = f'emit checkpoint "out/a"\nemit runtime "{second}"'
    case = prepare(bench, "llama", {}, tmp_path / "spec", emits)
    found = case.refuse(None)
    assert found.startswith("E0806: the output `")
    assert "`out/a`" in found
    assert os.listdir(tmp_path) == ["spec"]


# ---- failures and interruptions --------------------------------------------------------------


def test_unwritable_place(case: Case, tmp_path: Path) -> None:
    assert case.refuse(Path("/proc/surgery/out")).startswith("E0806")
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert case.refuse(tmp_path / "file" / "out").startswith("E0806")


def test_full_disk_leaves_nothing(case: Case, tmp_path: Path) -> None:
    """Files may not grow past 100 kB: the weights are larger."""
    out = tmp_path / "deep" / "er" / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        found = case.refuse(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert found.startswith("E0806")
    assert "model.safetensors" in found
    assert sorted(os.listdir(tmp_path)) == ["spec"]


def test_any_failing_operation_keeps_the_old_output(
    bench: Path, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The k-th call that changes the disk fails, for every k: what was there is still there."""
    out = tmp_path / "out"
    prepare(bench, "llama", {(2, FFN): "96"}, tmp_path / "spec").write(out)
    before = tree(out)
    left = _fail_each(monkeypatch)
    refused = 0
    for failing in range(1, 50):
        left[0] = failing
        sink = Sink()
        made = emit.run(case.spec, case.model, case.space, case.plan, case.chosen, out, sink)
        assert sorted(os.listdir(tmp_path)) == ["out", "spec"]
        if made is not None:
            break
        refused += 1
        assert sink.found[0].code.id == "E0806"
        assert "input/output error" in sink.found[0].message
        assert tree(out) == before
    assert refused > 15
    assert tree(out) != before


def _fail_each(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let calls that change the disk fail when the count returned here reaches 0."""
    left = [0]

    def guarded(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.EIO, "input/output error")
            return real(*args, **kwargs)

        return call

    for place in (emit, emit_place):
        monkeypatch.setattr(place, "sync", guarded(emit_place.sync))
    monkeypatch.setattr(emit, "write_file", guarded(emit_place.write_file))
    for name in ("rename", "mkdir"):
        monkeypatch.setattr(Path, name, guarded(getattr(Path, name)))
    return left


def test_interruption_leaves_nothing(case: Case, tmp_path: Path) -> None:
    def stop(_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        emit.run(
            case.spec,
            case.model,
            case.space,
            case.plan,
            case.chosen,
            tmp_path / "out",
            Sink(),
            stop,
        )
    assert sorted(os.listdir(tmp_path)) == ["spec"]


@pytest.mark.parametrize("tensors", [1, 7, 20, 38])
def test_kill_in_the_middle_and_run_again(tensors: int, case: Case, tmp_path: Path) -> None:
    """A process killed after so many tensors leaves the old output; the next run clears up."""
    out = tmp_path / "out"
    left = tensors

    def die(_bytes: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        emit.run(case.spec, case.model, case.space, case.plan, case.chosen, out, Sink(), die)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not out.exists()
    assert len(os.listdir(tmp_path)) == 2
    case.write(out)
    assert sorted(os.listdir(tmp_path)) == ["out", "spec"]
    case.write(tmp_path / "fresh")
    assert tree(out) == tree(tmp_path / "fresh")


def test_checking_first_finds_what_writing_would(case: Case, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x", encoding="utf-8")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    refused = {"full": "E0802", "file": "E0802", "file/out": "E0806", "spec/../full": "E0802"}
    for place, code in refused.items():
        with pytest.raises(Stop, match=code):
            emit.check(case.spec, case.model, tmp_path / place)
    with pytest.raises(Stop, match="E0807"):
        emit.check(case.spec, case.model, case.model.directory / "out")
    emit.check(case.spec, case.model, tmp_path / "deep" / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_killed_runs_are_cleaned_up(case: Case, tmp_path: Path) -> None:
    """A dead run's folder goes, a live one's stays, and one moved aside comes back."""
    out = tmp_path / "out"
    dead = tmp_path / ".out.surgery-new-1-0"
    dead.mkdir()
    (dead / "part").write_text("half", encoding="utf-8")
    other = tmp_path / ".outer.surgery-new-1-0"
    other.mkdir()
    with emit_place.staged((tmp_path / "out",), case.model.directory) as (alive,):
        assert not dead.exists()
        case.write(out)
        assert alive.exists()
        shutil.rmtree(out)
    assert other.exists()
    shutil.rmtree(other)
    shutil.rmtree(out)
    case.write(out)
    before = tree(out)
    out.rename(tmp_path / ".out.surgery-old-1-0")
    seen: dict[str, bytes] = {}
    with pytest.raises(Stop, match="E0803"):
        _fill_the_disk(out, case, seen)
    assert seen == before
    assert tree(out) == before
    assert sorted(os.listdir(tmp_path)) == ["out", "spec"]


def _fill_the_disk(out: Path, case: Case, seen: dict[str, bytes]) -> None:
    with emit_place.staged((out,), case.model.directory):
        seen |= tree(out)
        raise OSError(errno.ENOSPC, "no space left on device")
