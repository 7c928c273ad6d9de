from __future__ import annotations

import hashlib
import mmap
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import safetensors
import tensors_fixtures as made
from msgspec.structs import replace

from surgery import catalog
from surgery.diagnostics import Stop
from surgery.ir import Model
from surgery.ops import Copy, MeanHeads, Output, Take
from surgery.tensors import digest as digests
from surgery.tensors.headers import INDEX, SINGLE, open_checkpoint
from surgery.tensors.layout import layout
from surgery.tensors.ops import materialise, tensor_reader
from surgery.tensors.stream import CHUNK
from surgery.tensors.write import WrittenTensor, write_checkpoint
from surgery.units import format_bytes

# Runs `write_checkpoint` of everything in argv[1] into argv[2] under limits, in its own process.
CHILD = f"""
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import tensors_fixtures as made
from surgery.diagnostics import Stop
from surgery.ops import Copy
from surgery.tensors.write import write_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
model = made.bare_model(Path(sys.argv[1]))
outputs = [made.output(model, spec.name, Copy(spec.name)) for spec in model.tensors]
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    write_checkpoint(Path(sys.argv[2]), model, outputs)
except Stop as stop:
    print(stop.diagnostic.code.id, stop.diagnostic.message)
else:
    # Not getrusage: that remembers the process which started this one.
    status = Path("/proc/self/status").read_text()
    print(status.split("VmHWM:")[1].split()[0])
"""


def in_child(*arguments: str) -> str:
    command = [sys.executable, "-c", CHILD, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def parent(tmp_path: Path) -> Model:
    directory = tmp_path / "parent"
    directory.mkdir()
    tensors = {
        "blocks": ("U8", made.random_tensor("U8", (4, 3, 5), 1)),
        "gate": ("BF16", made.random_tensor("BF16", (8, 6), 2)),
        "keys": ("F32", made.random_tensor("F32", (8, 6), 3)),
        "one": ("F32", made.random_tensor("F32", (), 4)),
    }
    (directory / SINGLE).write_bytes(made.checkpoint_bytes(tensors))
    return made.bare_model(directory)


def child(model: Model) -> list[Output]:
    return [
        made.output(model, "new.blocks", Take("blocks", 0, (3, 1))),
        made.output(model, "gate", Copy("gate")),
        made.output(model, "../name is data", Take("gate", 1, (0, 2), unit=2)),
        made.output(model, "keys", MeanHeads("keys", 2, 2)),
        made.output(model, "one", Copy("one")),
    ]


def write(
    directory: Path, model: Model, outputs: Sequence[Output], shard: int | None = None
) -> tuple[WrittenTensor, ...]:
    directory.mkdir()
    return write_checkpoint(directory, model, outputs, shard)


@pytest.mark.parametrize("shard", [None, 1, 60, 10**9])
def test_an_independent_reader_finds_the_same_tensors(
    shard: int | None, parent: Model, tmp_path: Path
) -> None:
    outputs = child(parent)
    written = write(tmp_path / "out", parent, outputs, shard)
    assert [tensor.name for tensor in written] == [output.name for output in outputs]
    for output, tensor in zip(outputs, written, strict=True):
        expected = materialise(output.op, tensor_reader(parent))
        data = (tmp_path / "out" / tensor.shard).read_bytes()
        deserialize = cast("Any", safetensors).deserialize
        theirs = dict(deserialize(data))[output.name]
        assert bytes(theirs["data"]) == expected.tobytes()
        assert (tuple(theirs["shape"]), theirs["dtype"]) == (output.shape, output.dtype)
        assert tensor.sha256 == hashlib.sha256(expected.tobytes()).hexdigest()


def test_files_are_as_planned_to_the_byte(parent: Model, tmp_path: Path) -> None:
    outputs = child(parent)
    for shard, count in ((None, 1), (100, 4)):
        out = tmp_path / f"out{count}"
        write(out, parent, outputs, shard)
        plan = layout(outputs, shard)
        assert len(plan.shards) == count
        assert sorted(os.listdir(out)) == sorted(plan.files)
        assert sum(path.stat().st_size for path in out.iterdir()) == plan.size
        assert dict(open_checkpoint(out).tensors).keys() == {o.name for o in outputs}
    names = sorted(os.listdir(tmp_path / "out4"))
    assert names[0] == "model-00001-of-00004.safetensors"
    assert names[-1] == INDEX


def test_every_tensor_is_aligned_to_its_elements(parent: Model, tmp_path: Path) -> None:
    # The first output is 30 odd bytes of U8: left in front, it would shift the floats.
    odd = made.output(parent, "odd", Take("blocks", 0, (0,)))
    write(tmp_path / "out", parent, [odd, *child(parent)])
    for stored in open_checkpoint(tmp_path / "out").tensors.values():
        assert stored.file.start % {"U8": 1, "BF16": 2, "F32": 4}[stored.dtype] == 0


def test_the_same_outputs_give_the_same_bytes(parent: Model, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(tmp_path / name, parent, child(parent), 60)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_files_are_readable_by_others_as_the_umask_allows(parent: Model, tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o000, 0o644)):
        old = os.umask(mask)
        try:
            write(tmp_path / f"out{mask}", parent, child(parent), 60)
        finally:
            os.umask(old)
        for path in (tmp_path / f"out{mask}").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == mode


def settled(model: Model) -> Model:
    """The model with the hashes and stamps that `resolve` would find."""
    checkpoint = open_checkpoint(model.directory)
    os.utime(model.directory / SINGLE, ns=(0, 0))
    stamps = digests.stamps(checkpoint)
    return replace(model, contents=dict(CONTENTS), stamps=stamps)


CONTENTS = {"gate": "a" * 64, "one": "b" * 64}
"""Not their hashes, so that the tests see where they come from."""


def test_what_is_copied_whole_has_the_hash_that_is_known(
    parent: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_SETTLED_NS", -1)
    known = {w.name: w.sha256 for w in write(tmp_path / "known", settled(parent), child(parent))}
    assert (known["gate"], known["one"]) == ("a" * 64, "b" * 64)
    bare = replace(settled(parent), stamps={})
    found = {w.name: w.sha256 for w in write(tmp_path / "found", bare, child(parent))}
    for name in known.keys() - CONTENTS.keys():
        assert known[name] == found[name]
    for name in CONTENTS:
        expected = materialise(Copy(name), tensor_reader(parent))
        assert found[name] == hashlib.sha256(expected.tobytes()).hexdigest()


def test_a_shard_that_has_just_been_written_may_change_unnoticed(parent: Model) -> None:
    # Its times are those of now: another write in this tick of the clock would leave them alone.
    assert digests.stamps(open_checkpoint(parent.directory)) == {}


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_parent_that_changes_leaves_no_output(
    when: str, parent: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_SETTLED_NS", -1)
    model, told = settled(parent), list[int]()

    def touch(done: int) -> None:
        told.append(done)
        if len(told) == 1:
            os.utime(parent.directory / SINGLE)

    if when == "before":
        touch(0)
    (tmp_path / "out").mkdir()
    with pytest.raises(Stop) as caught:
        write_checkpoint(tmp_path / "out", model, child(model), progress=touch)
    assert caught.value.diagnostic.code is catalog.E0004
    assert "have changed while they were in use" in caught.value.diagnostic.message
    assert os.listdir(tmp_path / "out") == []


def test_progress_counts_every_byte(parent: Model, tmp_path: Path) -> None:
    told: list[int] = []
    write_checkpoint(tmp_path, parent, child(parent), progress=told.append)
    assert sum(told) == sum(output.nbytes for output in child(parent))


def test_an_output_that_contradicts_its_operation_is_our_bug(parent: Model, tmp_path: Path) -> None:
    wrong = Output("x", "U8", (4, 3, 5), 60, 60, Take("blocks", 0, (0,)))
    with pytest.raises(ValueError, match="x is not what"):
        write(tmp_path / "out", parent, [wrong])
    assert os.listdir(tmp_path / "out") == []


# ---- When it cannot be done ------------------------------------------------------------------


def test_too_little_space_is_noticed_before_the_first_byte(tmp_path: Path) -> None:
    directory = tmp_path / "parent"
    directory.mkdir()
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    size = (free // 4096 + 2**18) * 4096
    header = f'{{"big": {made.entry("U8", [2**12, size // 2**12], 0, size)}}}'
    (directory / SINGLE).write_bytes(made.file_bytes(header, b""))
    # Sparse: it is as long as it says and takes no room.
    os.truncate(directory / SINGLE, (directory / SINGLE).stat().st_size + size)
    model = made.bare_model(directory)
    with pytest.raises(Stop) as caught:
        write(tmp_path / "out", model, [made.output(model, "big", Copy("big"))])
    assert caught.value.diagnostic.code is catalog.E0803
    needed = layout([made.output(model, "big", Copy("big"))]).size
    assert f"takes {format_bytes(needed)}, and only " in caught.value.diagnostic.message
    assert os.listdir(tmp_path / "out") == []


def big(directory: Path, megabytes: int) -> None:
    """A sparse checkpoint of four tensors, `megabytes` in all."""
    directory.mkdir()
    each = megabytes * 2**18
    entries = [f'"t{i}": {made.entry("U8", [each], i * each, i * each + each)}' for i in range(4)]
    (directory / SINGLE).write_bytes(made.file_bytes("{" + ",".join(entries) + "}", b""))
    os.truncate(directory / SINGLE, (directory / SINGLE).stat().st_size + 4 * each)


@pytest.mark.parametrize("limit", [0, 10, 4096, 2**20 + 5, 7 * 2**20])
def test_a_write_that_fails_leaves_nothing(limit: int, tmp_path: Path) -> None:
    big(tmp_path / "parent", 8)
    (tmp_path / "out").mkdir()
    said = in_child(str(tmp_path / "parent"), str(tmp_path / "out"), str(limit))
    assert said == "E0806 cannot write `model.safetensors`: file too large"
    assert os.listdir(tmp_path / "out") == []


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    from surgery.tensors.write import _write_all  # pyright: ignore[reportPrivateUsage]

    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(Stop) as caught:
            _write_all(descriptor, memoryview(b"x"), Path("model.safetensors"))
    finally:
        os.close(descriptor)
    assert caught.value.diagnostic.code is catalog.E0803
    assert "filled up while `model.safetensors` was written" in caught.value.diagnostic.message


def test_a_file_that_is_there_already_is_left_alone(parent: Model, tmp_path: Path) -> None:
    (tmp_path / SINGLE).write_text("not ours")
    with pytest.raises(Stop) as caught:
        write_checkpoint(tmp_path, parent, child(parent))
    assert caught.value.diagnostic.code is catalog.E0806
    assert (tmp_path / SINGLE).read_text() == "not ours"


def test_a_parent_that_breaks_off_leaves_no_output(parent: Model, tmp_path: Path) -> None:
    os.truncate(parent.directory / SINGLE, parent.files["one"].end - 2)
    with pytest.raises(Stop) as caught:
        write(tmp_path / "out", parent, child(parent), 60)
    assert caught.value.diagnostic.code is catalog.E0004
    assert os.listdir(tmp_path / "out") == []


def test_a_parent_without_weights(parent: Model, tmp_path: Path) -> None:
    bare = replace(parent, files={})
    with pytest.raises(Stop) as caught:
        write(tmp_path / "out", bare, child(parent))
    assert "has no weights here" in caught.value.diagnostic.message


def test_whole_chunks_are_written_to_whole_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big(tmp_path / "parent", 8)
    model, found, system = made.bare_model(tmp_path / "parent"), list[tuple[int, int]](), os.write

    def write_at(descriptor: int, data: memoryview) -> int:
        found.append((os.lseek(descriptor, 0, os.SEEK_CUR), len(data)))
        return system(descriptor, data)

    monkeypatch.setattr(os, "write", write_at)
    write(
        tmp_path / "out", model, [made.output(model, t.name, Copy(t.name)) for t in model.tensors]
    )
    # The chunks of each tensor less what comes before its first page, and after its last.
    assert sum(count == CHUNK for _, count in found) >= 4
    assert all(at % mmap.PAGESIZE == 0 for at, count in found if count > mmap.PAGESIZE)


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    peaks: list[int] = []
    for megabytes in (32, 256):
        big(tmp_path / f"parent{megabytes}", megabytes)
        (tmp_path / f"out{megabytes}").mkdir()
        folders = (str(tmp_path / f"{name}{megabytes}") for name in ("parent", "out"))
        peaks.append(int(in_child(*folders)))
        (tmp_path / f"out{megabytes}" / SINGLE).unlink()
    # In KiB: the interpreter and numpy, and a few chunks.
    assert peaks[1] < 128 * 1024
    assert peaks[1] - peaks[0] < 8 * 1024
