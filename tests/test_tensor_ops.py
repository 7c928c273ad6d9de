from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import tensors_fixtures as made
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.diagnostics import Stop
from surgery.ops import Blend, Copy, MeanHeads, Merge, Pad, Take, TakeEach, TensorOp, Unpack
from surgery.tensors.headers import DTYPE_BYTES, SINGLE
from surgery.tensors.ops import (
    NUMPY,
    Array,
    bf16_to_f32,
    dequantise_mxfp4,
    f32_to_bf16,
    materialise,
    tensor_reader,
)
from surgery.tensors.stream import CHUNK, Parents, send


def to_torch(array: Array) -> Any:
    import torch

    return cast("Any", torch).from_numpy(array)


class Collector:
    """A pipe that keeps everything, in rooms of a size that divides nothing."""

    def __init__(self, room: int) -> None:
        self.data = bytearray()
        self._room = bytearray(room)

    def room(self) -> memoryview:
        return memoryview(self._room)

    def filled(self, count: int) -> None:
        assert 0 < count <= len(self._room)
        self.data += self._room[:count]


def streamed(directory: Path, op: TensorOp, room: int = 1000) -> bytes:
    model = made.bare_model(directory)
    pipe = Collector(room)
    with Parents(model) as parents:
        send(op, parents, pipe)
    return bytes(pipe.data)


def assert_same(directory: Path, op: TensorOp, room: int = 1000) -> Array:
    """Streamed and in memory, the bits agree."""
    array = materialise(op, tensor_reader(made.bare_model(directory)))
    assert streamed(directory, op, room) == array.tobytes()
    return array


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tensor [6, 8, 10] of every dtype, under the dtype's name, and a few large ones."""
    directory = tmp_path_factory.mktemp("tensors")
    tensors = {
        dtype: (dtype, made.random_tensor(dtype, (6, 8, 10), number))
        for number, dtype in enumerate(sorted(DTYPE_BYTES))
    }
    tensors["wide"] = ("BF16", made.random_tensor("BF16", (3, CHUNK), 1))
    tensors["tall"] = ("BF16", made.random_tensor("BF16", (2000, 600), 2))
    tensors["blocks"] = ("U8", made.random_tensor("U8", (2, 20000, 2, 16), 4))
    tensors["scales"] = ("U8", made.random_tensor("U8", (2, 20000, 2), 5) % 250)
    tensors["flat"] = ("U8", made.random_tensor("U8", (CHUNK + 77,), 3))
    (directory / SINGLE).write_bytes(made.checkpoint_bytes(tensors))
    return directory


@pytest.mark.parametrize("dtype", sorted(DTYPE_BYTES))
def test_streams_and_memory_agree_on_every_dtype(dtype: str, folder: Path) -> None:
    parent = made.random_tensor(dtype, (6, 8, 10), sorted(DTYPE_BYTES).index(dtype))
    assert assert_same(folder, Copy(dtype)).tobytes() == parent.tobytes()
    cut = assert_same(folder, Take(dtype, 1, (7, 0, 3)))
    assert cut.tobytes() == parent[:, [7, 0, 3]].tobytes()
    pairs = assert_same(folder, Take(dtype, 2, (4, 1), unit=2))
    assert pairs.tobytes() == parent[:, :, [8, 9, 2, 3]].tobytes()


@settings(max_examples=150, deadline=None)
@given(
    dtype=st.sampled_from(["U8", "BF16", "F32", "I64"]),
    axis=st.integers(0, 2),
    unit=st.sampled_from([1, 2]),
    picks=st.lists(st.integers(0, 10**6), min_size=1, max_size=13),
)
def test_any_take_streams_what_numpy_takes(
    folder: Path, dtype: str, axis: int, unit: int, picks: list[int]
) -> None:
    room = picks.pop() % 300 + 1
    parent = made.random_tensor(dtype, (6, 8, 10), sorted(DTYPE_BYTES).index(dtype))
    indices = tuple(pick % (parent.shape[axis] // unit) for pick in picks)
    elements = [index * unit + offset for index in indices for offset in range(unit)]
    array = assert_same(folder, Take(dtype, axis, indices, unit), room)
    assert array.dtype == NUMPY[dtype]
    np.testing.assert_array_equal(array, np.take(parent, np.array(elements, np.intp), axis))


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["U8", "BF16", "F32"]),
    axis=st.sampled_from([1, 2]),
    unit=st.sampled_from([1, 2]),
    seed=st.integers(0, 10**6),
)
def test_every_expert_gives_slices_of_its_own(
    folder: Path, dtype: str, axis: int, unit: int, seed: int
) -> None:
    parent = made.random_tensor(dtype, (6, 8, 10), sorted(DTYPE_BYTES).index(dtype))
    whole, draw = parent.shape[axis] // unit, random.Random(seed)
    size = draw.randint(1, whole)
    own = [sorted(draw.sample(range(whole), size)) for _ in range(6)]
    flat = tuple(e * whole + i for e, mine in enumerate(own) for i in mine)
    array = assert_same(folder, TakeEach(dtype, axis, flat, unit), seed % 300 + 1)
    expected = [
        np.take(parent[e], [i * unit + n for i in mine for n in range(unit)], axis - 1)
        for e, mine in enumerate(own)
    ]
    assert array.dtype == NUMPY[dtype]
    np.testing.assert_array_equal(array, np.stack(expected))


@pytest.mark.parametrize("indices", [(0, 8, 16, 24, 32, 39, 40), (0, 9, 17, 24, 47, 40), (7,) * 6])
def test_lists_that_are_not_equally_many_of_each_are_refused(
    indices: tuple[int, ...], folder: Path
) -> None:
    with pytest.raises(ValueError, match="not equally many of 6 x 8"):
        materialise(TakeEach("BF16", 1, indices), tensor_reader(made.bare_model(folder)))


@pytest.mark.parametrize(
    "op",
    [
        Copy("wide"),
        Take("wide", 0, (2, 0)),
        Take("wide", 1, tuple(range(0, CHUNK, 999))),
        Take("wide", 1, tuple(range(10, CHUNK, 4096)), unit=1),
        Take("tall", 0, tuple(range(0, 2000, 2))),
        Take("tall", 1, tuple(range(599, 0, -3))),
        Take("tall", 1, tuple(range(0, 300)), unit=2),
        Take("flat", 0, tuple(range(0, CHUNK, 5000))),
        Take("flat", 0, ()),
        MeanHeads("tall", 5, 100),
        MeanHeads("wide", 1, 1),
        Pad("wide", 5, -1e30),
        Pad("flat", 3 * CHUNK),
        Unpack("blocks", "scales", 3),
        Merge("tall", (((0, 3), (7, 2)), ((5, 1),), tuple((n, n) for n in range(9, 30)))),
        Merge("wide", (((2, 5), (0, 0), (1, 10**12)),)),
        Blend((("wide", 3), ("wide", 4))),
        TakeEach("blocks", 1, (*range(1, 20000, 7), *range(20000, 22857))),
    ],
    ids=str,
)
def test_tensors_larger_than_a_chunk(op: TensorOp, folder: Path) -> None:
    assert_same(folder, op, room=CHUNK - 13)


def widened(array: Array, dtype: str) -> npt.NDArray[np.float64]:
    """The numbers of a stored tensor."""
    return (bf16_to_f32(array) if dtype == "BF16" else array).astype(np.float64)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_merged_slices_are_weighted_means(dtype: str, folder: Path) -> None:
    parent = made.random_tensor(dtype, (6, 8, 10), sorted(DTYPE_BYTES).index(dtype))
    groups = (((4, 7), (0, 2), (3, 0)), ((1, 5),), ((5, 1), (2, 3)))
    array = assert_same(folder, Merge(dtype, groups), 77)
    step = {"BF16": 2.0**-8, "F16": 2.0**-10, "F32": 2.0**-20}[dtype]
    with np.errstate(all="ignore"):
        for n, group in enumerate(groups):
            total = sum(weight for _, weight in group)
            parts = [widened(parent[e], dtype) * (w / total) for e, w in group if w]
            exact, found = np.sum(np.stack(parts), 0), widened(array[n], dtype)
            fine = np.isfinite(exact.astype(np.float32)) & np.isfinite(found)
            largest = np.max(np.stack([np.abs(widened(parent[e], dtype)) for e, _ in group]), 0)
            bound = step * np.where(fine, largest, 1) + 2.0**-24
            assert np.all(np.abs(found - exact)[fine] <= bound[fine])
    assert array[1].tobytes() == parent[1].tobytes()


# ---- Means -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("shape", [(24, 5), (24,)])
def test_mean_heads_is_the_rounded_float32_mean(
    dtype: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    import torch

    kinds = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    parent = made.random_tensor(dtype, shape, 5)
    (tmp_path / SINGLE).write_bytes(made.checkpoint_bytes({"k": (dtype, parent)}))
    # 6 heads of 4 rows become 2: each the mean of three neighbours.
    ours = assert_same(tmp_path, MeanHeads("k", 2, 4))
    tensor = to_torch(parent.view(np.int16) if dtype == "BF16" else parent)
    wide = tensor.view(kinds[dtype]).float().reshape(2, 3, 4, *shape[1:])
    mean = ((wide[:, 0] + wide[:, 1] + wide[:, 2]) / 3).to(kinds[dtype])
    theirs = mean.reshape(8, *shape[1:]).contiguous().view(torch.uint8).numpy()
    assert ours.tobytes() == theirs.tobytes()


def test_a_mean_of_one_head_is_the_head(folder: Path) -> None:
    same = materialise(MeanHeads("tall", 20, 100), tensor_reader(made.bare_model(folder)))
    assert same.tobytes() == made.random_tensor("BF16", (2000, 600), 2).tobytes()


def test_no_mean_of_integers(folder: Path) -> None:
    with pytest.raises(ValueError, match="no mean"):
        materialise(MeanHeads("I32", 3, 1), tensor_reader(made.bare_model(folder)))


def test_bf16_rounds_as_torch_does() -> None:
    import torch

    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, 200_000, np.uint32)
    special = [0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x7F7FFFFF, 1]
    ties = [0x3F808000, 0x3F818000, 0x3F808001, 0x00008000, 0x00018000]
    values = np.concatenate([bits, np.array(special + ties, np.uint32)]).view(np.float32)
    theirs = to_torch(values).bfloat16().view(torch.uint16).numpy()
    ours = f32_to_bf16(values)
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(ours[numbers], theirs[numbers])
    assert bool((ours[~numbers] == 0x7FC0).all())


def test_every_bf16_survives_a_round_trip() -> None:
    every = np.arange(2**16, dtype=np.uint16)
    wide = bf16_to_f32(every)
    numbers = ~np.isnan(wide)
    np.testing.assert_array_equal(f32_to_bf16(wide)[numbers], every[numbers])


# ---- MXFP4 -----------------------------------------------------------------------------------


def test_mxfp4_agrees_with_transformers() -> None:
    import torch
    from transformers.integrations import mxfp4

    random = np.random.default_rng(1)
    blocks = random.integers(0, 256, (3, 8, 4, 16), np.uint8)
    blocks[0, 0] = np.arange(64, dtype=np.uint8).reshape(4, 16) * 4 + 3
    scales = random.integers(100, 150, (3, 8, 4), np.uint8)
    convert = cast("Any", mxfp4).convert_moe_packed_tensors
    theirs = convert(to_torch(blocks), to_torch(scales), dtype=torch.float32)
    ours = dequantise_mxfp4(blocks, scales)
    assert ours.shape == (3, 8, 128)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours.transpose(0, 2, 1), theirs.numpy())


def test_mxfp4_values_by_hand() -> None:
    # Low nibble first: 0x2A is -1 (code 10), then 1 (code 2); the scale 128 doubles.
    blocks = np.full((1, 16), 0x2A, np.uint8)
    np.testing.assert_array_equal(
        dequantise_mxfp4(blocks, np.array([128], np.uint8)), np.tile([-2.0, 2.0], 16)
    )
    blocks[0, 0] = 0x7F
    first = dequantise_mxfp4(blocks, np.array([127], np.uint8))[:2]
    np.testing.assert_array_equal(first, [-6.0, 6.0])


def test_an_mxfp4_scale_that_is_no_number_is_named() -> None:
    scales = np.full((4, 2, 3), 127, np.uint8)
    scales[2, 1, 0] = 255
    with pytest.raises(Stop) as caught:
        dequantise_mxfp4(np.zeros((4, 2, 3, 16), np.uint8), scales)
    assert "the MXFP4 scale at [2, 1, 0] is 255" in caught.value.diagnostic.message


def test_mxfp4_blocks_and_scales_must_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        dequantise_mxfp4(np.zeros((4, 2, 16), np.uint8), np.zeros((3, 2), np.uint8))
