from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import safetensors
import tensors_fixtures as made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surgery import catalog
from surgery.diagnostics import Code, Diagnostic, Stop
from surgery.tensors.headers import (
    DTYPE_BYTES,
    INDEX,
    MAX_TENSORS,
    SINGLE,
    Header,
    open_checkpoint,
    parse_header,
    read_header,
    shard_path,
)
from surgery.tensors.ops import NUMPY, read_tensor


def refusal(call: Callable[[], object], code: Code = catalog.E0004) -> Diagnostic:
    with pytest.raises(Stop) as caught:
        call()
    assert caught.value.diagnostic.code is code
    return caught.value.diagnostic


def parse(data: bytes) -> Header:
    length = int.from_bytes(data[:8], "little")
    return parse_header(data[8 : 8 + length], len(data), "x.safetensors", "x.safetensors")


def small() -> bytes:
    return made.checkpoint_bytes(
        {
            "a": ("BF16", made.random_tensor("BF16", (3, 4), 1)),
            "b": ("U8", made.random_tensor("U8", (2, 5), 2)),
            "empty": ("F32", made.random_tensor("F32", (0, 7), 3)),
        }
    )


# ---- One header ------------------------------------------------------------------------------


def test_reads_names_dtypes_shapes_and_absolute_ranges(tmp_path: Path) -> None:
    path = tmp_path / SINGLE
    path.write_bytes(small())
    header = read_header(path)
    data = 8 + int.from_bytes(small()[:8], "little")
    assert [(t.name, t.dtype, t.shape) for t in header.tensors.values()] == [
        ("a", "BF16", (3, 4)),
        ("b", "U8", (2, 5)),
        ("empty", "F32", (0, 7)),
    ]
    assert header.tensors["a"].file.start == data
    assert header.tensors["b"].file.start == data + 24
    assert (header.metadata["format"], header.size) == ("pt", len(small()))


@pytest.mark.parametrize("dtype", sorted(DTYPE_BYTES))
def test_reads_the_bytes_of_every_dtype(dtype: str, tmp_path: Path) -> None:
    array = made.random_tensor(dtype, (5, 3), 7)
    (tmp_path / SINGLE).write_bytes(made.checkpoint_bytes({"x": (dtype, array)}))
    stored = open_checkpoint(tmp_path).tensors["x"]
    read = read_tensor(tmp_path, stored.file, stored.dtype, stored.shape)
    assert read.dtype == NUMPY[dtype]
    assert read.tobytes() == array.tobytes()


E = made.entry
BAD_HEADERS: list[tuple[str, str | bytes, int, str]] = [
    ("array", "[]", 0, "begin with a brace"),
    ("leading space", " {}", 0, "begin with a brace"),
    ("not JSON", '{"a":', 0, "not JSON"),
    ("not UTF-8", b'{"\xff":1}', 0, "not UTF-8"),
    ("second value", "{}{}", 0, "not JSON"),
    ("empty with data", "{}", 4, "4 bytes after its last tensor"),
    ("NaN", '{"a": NaN}', 0, "NaN"),
    ("nesting", '{"a":' + "[" * 200_000 + "]" * 200_000 + "}", 0, "nested too deeply"),
    ("huge number", '{"a": ' + "9" * 5000 + "}", 0, "5000 digits"),
    ("same key", f'{{"a": {E("U8", [4], 0, 4)}, "a": {E("U8", [4], 0, 4)}}}', 4, "twice"),
    ("same field", '{"a": {"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}', 0, "twi"),
    ("extra field", '{"a": {"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}}', 0, "exactly"),
    ("missing field", '{"a": {"dtype":"U8","shape":[0]}}', 0, "exactly"),
    ("no object", '{"a": 7}', 0, "exactly"),
    ("unknown dtype", f'{{"a": {E("F4", [4], 0, 2)}}}', 2, "dtype `F4`"),
    ("dtype is a number", '{"a": {"dtype":4,"shape":[0],"data_offsets":[0,0]}}', 0, "dtype"),
    ("wrong product", f'{{"a": {E("F32", [4], 0, 8)}}}', 8, "16 bytes, but its range holds 8"),
    ("negative size", f'{{"a": {E("U8", [-1], 0, 1)}}}', 1, "negative"),
    ("minus zero", '{"a": {"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}', 0, "negative"),
    ("float size", '{"a": {"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}', 1, "shape"),
    ("true as size", '{"a": {"dtype":"U8","shape":[true],"data_offsets":[0,1]}}', 1, "shape"),
    ("backwards", f'{{"a": {E("U8", [0], 4, 0)}}}', 4, "data_offsets"),
    ("three offsets", '{"a": {"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}}', 1, "data_off"),
    ("rank 9", f'{{"a": {E("U8", [1] * 9, 0, 1)}}}', 1, "shape"),
    ("zero by 2^40", f'{{"a": {E("U8", [0, 2**40], 0, 0)}}}', 0, "shape"),
    ("hole", f'{{"a": {E("U8", [2], 0, 2)}, "b": {E("U8", [2], 3, 5)}}}', 5, "hole of 1 bytes"),
    ("hole in front", f'{{"a": {E("U8", [2], 1, 3)}}}', 3, "hole of 1 bytes before tensor `a`"),
    ("overlap", f'{{"a": {E("U8", [4], 0, 4)}, "b": {E("U8", [3], 2, 5)}}}', 5, "overlapping"),
    ("alias", f'{{"a": {E("U8", [4], 0, 4)}, "b": {E("U8", [4], 0, 4)}}}', 4, "overlapping"),
    ("trailing bytes", f'{{"a": {E("U8", [4], 0, 4)}}}', 7, "3 bytes after its last tensor"),
    ("long name", f'{{"{"n" * 1025}": {E("U8", [0], 0, 0)}}}', 0, "1025 characters"),
    ("empty name", f'{{"": {E("U8", [0], 0, 0)}}}', 0, "name of 0"),
    ("NUL in a name", f'{{"a\\u0000b": {E("U8", [0], 0, 0)}}}', 0, "control characters"),
    ("escape in a name", f'{{"\\u001b[2Ja": {E("U8", [0], 0, 0)}}}', 0, "control characters"),
    ("surrogate", f'{{"\\ud800": {E("U8", [0], 0, 0)}}}', 0, "no Unicode text"),
    ("metadata list", '{"__metadata__": []}', 0, "not an object"),
    ("metadata number", '{"__metadata__": {"a": 1}}', 0, "not a text"),
]


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [case[1:] for case in BAD_HEADERS],
    ids=[case[0] for case in BAD_HEADERS],
)
def test_refuses_a_header(header: str | bytes, data: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / SINGLE
    path.write_bytes(made.file_bytes(header, bytes(data)))
    found = refusal(lambda: read_header(path))
    assert message in found.message
    assert found.message.isprintable()
    assert found.message[0].islower() or found.message[0] == "`"
    assert found.subject == str(path)


@pytest.mark.parametrize(
    ("length", "message"),
    [(0, "0 bytes"), (1, "1 bytes"), (2**63, "at most"), (2**64 - 1, "at most"), (99, "91")],
)
def test_refuses_a_header_length_before_reading_on(
    length: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / SINGLE
    path.write_bytes(length.to_bytes(8, "little") + b"{}" + bytes(89))
    assert message in refusal(lambda: read_header(path)).message


def test_a_header_that_repeats_its_own_bytes_is_not_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / SINGLE
    path.write_bytes(made.file_bytes("{}", b""))
    assert dict(read_header(path).tensors) == {}


def test_refuses_more_tensors_than_the_cap() -> None:
    one = E("U8", [0], 0, 0)
    header = "{" + ",".join(f'"{i:06}":{one}' for i in range(MAX_TENSORS + 5)) + "}"
    found = refusal(lambda: parse(made.file_bytes(header, b"")))
    assert f"more than {MAX_TENSORS + 2} objects" in found.message


def test_every_truncation_is_refused_and_names_what_is_missing(tmp_path: Path) -> None:
    data = small()
    path = tmp_path / SINGLE
    body = len(data) - 34
    for length in range(len(data)):
        path.write_bytes(data[:length])
        found = refusal(lambda: read_header(path))
        assert "truncated" in found.message
        if length >= body + 24:
            missing = len(data) - length
            assert f"tensor `b` misses {missing} of 10 bytes" in found.message
        elif length >= body:
            assert f"tensor `a` misses {body + 24 - length} of 24 bytes" in found.message
            assert f"({len(data) - length} bytes are missing in all)" in found.message


# ---- Against the safetensors library -----------------------------------------------------------

_sizes = st.lists(st.integers(0, 4), max_size=3)
_dtypes = st.sampled_from([*DTYPE_BYTES, "F4", "C64", "bf16"])


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Files that are well-formed but for a few slips of offsets, sizes, names and bytes."""
    parts: list[str] = []
    at = 0
    slip = st.sampled_from([0] * 14 + [1, -1, 2])
    for number in range(draw(st.integers(0, 4))):
        dtype, shape = draw(_dtypes), draw(_sizes)
        size = int(np.prod(shape)) * DTYPE_BYTES.get(dtype, 1)
        begin = at + draw(slip)
        end = begin + size + draw(slip)
        name = draw(st.sampled_from([f"t{number}"] * 8 + ["t0", "../x", "é", "__metadata__"]))
        parts.append(f"{json.dumps(name)}:{made.entry(dtype, shape, begin, end)}")
        at = end
    draw(st.randoms()).shuffle(parts)
    header = bytearray(("{" + ",".join(parts) + "}").encode())
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(header) - 1))
        header[place : place + 1] = draw(st.binary(max_size=2))
    padding = draw(st.sampled_from([b"", b"", b"   ", b"\n"]))
    data = bytes(range(256))[: max(at, 0)] + draw(st.sampled_from([b""] * 6 + [b"x"]))
    return made.file_bytes(bytes(header) + padding, data)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(headers())
def test_never_accepts_what_the_safetensors_library_refuses(data: bytes) -> None:
    try:
        header = parse(data)
    except Stop:
        return
    deserialize = cast("Any", safetensors).deserialize
    theirs = {name: value for name, value in deserialize(data)}
    assert theirs.keys() == header.tensors.keys()
    for name, stored in header.tensors.items():
        assert tuple(theirs[name]["shape"]) == stored.shape
        assert bytes(theirs[name]["data"]) == data[stored.file.start : stored.file.end]
        assert theirs[name]["dtype"] == stored.dtype


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(DTYPE_BYTES)), _sizes), max_size=5))
def test_accepts_every_well_formed_file(kinds: list[tuple[str, list[int]]]) -> None:
    tensors = {
        f"t{i}": (dtype, made.random_tensor(dtype, tuple(shape), i))
        for i, (dtype, shape) in enumerate(kinds)
    }
    header = parse(made.checkpoint_bytes(tensors))
    assert {name: (t.dtype, t.shape) for name, t in header.tensors.items()} == {
        name: (dtype, array.shape) for name, (dtype, array) in tensors.items()
    }


# ---- A directory -----------------------------------------------------------------------------


def sharded(directory: Path) -> None:
    for shard, name in (("one.safetensors", "a"), ("two.safetensors", "b")):
        array = made.random_tensor("U8", (4,), 1)
        (directory / shard).write_bytes(made.checkpoint_bytes({name: ("U8", array)}))
    write_index(directory, {"a": "one.safetensors", "b": "two.safetensors"})


def write_index(directory: Path, weight_map: object) -> None:
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_joins_shards(tmp_path: Path) -> None:
    sharded(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert {n: t.file.shard for n, t in checkpoint.tensors.items()} == {
        "a": "one.safetensors",
        "b": "two.safetensors",
    }


@pytest.mark.parametrize(
    "shard",
    ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin", "x\n.safetensors", "", "..", 7],
)
def test_refuses_shard_names_that_are_paths(shard: object, tmp_path: Path) -> None:
    sharded(tmp_path)
    write_index(tmp_path, {"a": shard, "b": "two.safetensors"})
    assert "not a shard name" in refusal(lambda: open_checkpoint(tmp_path)).message


def test_refuses_links_out_of_the_directory(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    sharded(inner)
    os.rename(inner / "one.safetensors", tmp_path / "one.safetensors")
    (inner / "one.safetensors").symlink_to("../one.safetensors")
    assert "link out of its directory" in refusal(lambda: open_checkpoint(inner)).message


def test_follows_links_inside_the_directory_and_into_a_hub_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    sharded(snapshot)
    os.rename(snapshot / "one.safetensors", blobs / "cafe")
    (snapshot / "one.safetensors").symlink_to("../../blobs/cafe")
    os.rename(snapshot / "two.safetensors", snapshot / "real.safetensors")
    (snapshot / "two.safetensors").symlink_to("real.safetensors")
    assert set(open_checkpoint(snapshot).tensors) == {"a", "b"}
    assert shard_path(snapshot, "one.safetensors") == blobs / "cafe"


@pytest.mark.parametrize("kind", ["directory", "fifo", "device"])
def test_refuses_what_is_no_regular_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / SINGLE
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case _:
            path.symlink_to("/dev/zero")
    message = refusal(lambda: open_checkpoint(tmp_path)).message
    assert "not a regular file" in message or "link out" in message


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    sharded(tmp_path)
    data = (tmp_path / "one.safetensors").read_bytes()
    (tmp_path / "two.safetensors").write_bytes(data)
    assert "in two shards" in refusal(lambda: open_checkpoint(tmp_path)).message


def test_an_index_that_disagrees_with_the_headers(tmp_path: Path) -> None:
    sharded(tmp_path)
    write_index(tmp_path, {"a": "two.safetensors", "c": "one.safetensors"})
    found = refusal(lambda: open_checkpoint(tmp_path), catalog.E0411)
    assert "differ in 3 tensors" in found.message
    assert found.notes == (
        "`a` is listed in `two.safetensors`, but is in another shard",
        "`b` is in `two.safetensors`, but not listed",
        "`c` is listed in `one.safetensors`, but no shard holds it",
    )


@pytest.mark.parametrize("text", ["[]", '{"weight_map": {}}', '{"weight_map": 1}', "{", ""])
def test_a_broken_index(text: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(text)
    refusal(lambda: open_checkpoint(tmp_path))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / "two.safetensors").unlink()
    found = refusal(lambda: open_checkpoint(tmp_path), catalog.E0001)
    assert found.message == "cannot read `two.safetensors`: no such file or directory"


def test_two_checkpoints_in_one_directory(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / SINGLE).write_bytes(small())
    assert "two checkpoints" in refusal(lambda: open_checkpoint(tmp_path)).message


def test_shards_without_an_index(tmp_path: Path) -> None:
    sharded(tmp_path)
    (tmp_path / INDEX).unlink()
    assert f"no `{INDEX}`" in refusal(lambda: open_checkpoint(tmp_path)).message


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickles_are_refused_with_a_way_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    found = refusal(lambda: open_checkpoint(tmp_path))
    assert "pickle" in found.message
    assert "save_pretrained" in found.helps[0].text


def test_a_directory_without_weights_is_empty(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert dict(open_checkpoint(tmp_path).tensors) == {}


def test_names_never_reach_the_terminal_unescaped(tmp_path: Path) -> None:
    header = f'{{"\\u202e\\u2028evil": {E("U8", [1], 0, 2)}}}'
    (tmp_path / SINGLE).write_bytes(made.file_bytes(header, b"  "))
    found = refusal(lambda: open_checkpoint(tmp_path))
    assert r"`\u202e\u2028evil`" in found.message


def test_a_shard_that_shrinks_after_its_header_was_read(tmp_path: Path) -> None:
    (tmp_path / SINGLE).write_bytes(small())
    stored = open_checkpoint(tmp_path).tensors["b"]
    os.truncate(tmp_path / SINGLE, stored.file.end - 3)
    found = refusal(lambda: read_tensor(tmp_path, stored.file, stored.dtype, stored.shape))
    assert "ends 3 bytes early" in found.message
