"""Tensors in memory: reading them, and the operations of `surgery.ops` on them.

In: a `Model` (or a place in a shard) and a `TensorOp`. Out: numpy arrays as stored: BF16 is
`uint16`, 8-bit floats are `uint8`. The results are bit for bit what `write.py` streams to
disk. Not here: constant memory (`write.py`), deciding what to cut (`edits/`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, assert_never

import numpy as np
import numpy.typing as npt

from surgery.ir import Model, TensorFile
from surgery.ops import (
    Blend,
    Constant,
    Copy,
    Joint,
    MeanHeads,
    Merge,
    Pad,
    Product,
    Take,
    TakeEach,
    TensorOp,
    Unpack,
)
from surgery.tensors import product as products
from surgery.tensors.headers import open_shard
from surgery.untrusted import malformed, shown, unreadable

Array: TypeAlias = npt.NDArray[Any]

NUMPY: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "U8": np.dtype(np.uint8),
        "I8": np.dtype(np.int8),
        "F8_E4M3": np.dtype(np.uint8),
        "F8_E5M2": np.dtype(np.uint8),
        "F8_E8M0": np.dtype(np.uint8),
        "U16": np.dtype("<u2"),
        "I16": np.dtype("<i2"),
        "F16": np.dtype("<f2"),
        "BF16": np.dtype("<u2"),
        "U32": np.dtype("<u4"),
        "I32": np.dtype("<i4"),
        "F32": np.dtype("<f4"),
        "U64": np.dtype("<u8"),
        "I64": np.dtype("<i8"),
        "F64": np.dtype("<f8"),
    }
)
"""What a stored dtype is in memory."""


def read_tensor(directory: Path, file: TensorFile, dtype: str, shape: tuple[int, ...]) -> Array:
    """The tensor at `file` of `directory` as a fresh array of `NUMPY[dtype]` and `shape`.

    Raises `Stop`: E0001, or E0004 where the shard has become shorter than its header said.
    """
    made = np.empty(shape, NUMPY[dtype])
    descriptor = open_shard(directory, file.shard)
    try:
        if made.nbytes:
            read_into(descriptor, made.reshape(-1).view(np.uint8).data, file.start, file.shard)
    except OSError as error:
        raise unreadable(directory / file.shard, error) from error
    finally:
        os.close(descriptor)
    return made


def read_into(descriptor: int, view: memoryview, offset: int, shard: str) -> None:
    """Fill `view` with the bytes at `offset`; raises `Stop` (E0004) at an early end, `OSError`."""
    done = 0
    while done < len(view):
        got = os.preadv(descriptor, [view[done:]], offset + done)
        if got == 0:
            message = f"`{shown(shard)}` ends {len(view) - done} bytes early: it has changed"
            raise malformed(shard, message)
        done += got


def tensor_reader(model: Model) -> Callable[[str], Array]:
    """A function from a parent tensor's name to its array; see `read_tensor`."""
    specs = {spec.name: spec for spec in model.tensors}

    def read(name: str) -> Array:
        spec = specs[name]
        return read_tensor(model.directory, model.files[name], spec.dtype, spec.shape)

    return read


def materialise(op: TensorOp, read: Callable[[str], Array]) -> Array:
    """The child tensor that `op` makes of the parent's.

    `read` returns a parent tensor as stored (`tensor_reader`). `MeanHeads` takes a `uint16`
    array as BF16: the only 16-bit kind of weight besides F16. The result has the dtype of the
    source.
    """
    match op:
        case Copy(source):
            return read(source)
        case Take(source, axis, indices, unit):
            return take(read(source), axis, indices, unit)
        case TakeEach(source, axis, indices, unit):
            return take_each(read(source), axis, indices, unit)
        case Merge(source, groups):
            return merge(read(source), groups)
        case Blend() | Product():
            return _joined(op, read)
        case MeanHeads(source, heads, head_dim):
            return mean_heads(read(source), heads, head_dim)
        case Constant(value):
            return np.array(value, NUMPY["F32"])
        case Unpack(source, scales, count):
            return unpack(read(source), read(scales), count)
        case Pad(source, count, fill):
            return pad(read(source), count, fill)
        case _:
            assert_never(op)


def _joined(op: Joint, read: Callable[[str], Array]) -> Array:
    match op:
        case Blend(parts):
            return weighted_mean([read(name) for name, _ in parts], [w for _, w in parts])
        case Product(left, right, head_dim):
            return product(read(left), read(right), head_dim)


def unpack(blocks: Array, scales: Array, count: int) -> Array:
    """`Unpack` on [experts, out, G, 16] and [experts, out, G]: [count, G * 32, out] of BF16 bits.

    Raises `Stop` (E0004) on a scale that is no number, or too large for BF16.
    """
    made = np.zeros((count, 32 * blocks.shape[2], blocks.shape[1]), NUMPY["BF16"])
    for expert in range(len(blocks)):
        made[expert] = unpacked(blocks[expert], scales[expert])
    return made


def unpacked(blocks: Array, scales: Array) -> Array:
    """One expert, or some of its blocks: [out, G, 16] and [out, G] -> [G * 32, out] of BF16 bits.

    FP4 has two bits of mantissa, and BF16 the exponents of E8M0 but for the largest: no rounding.
    """
    values = dequantise_mxfp4(blocks, scales)
    if not bool(np.isfinite(values).all()):
        raise malformed("MXFP4 scales", "an MXFP4 scale is too large for BF16")
    return f32_to_bf16(np.ascontiguousarray(values.T))


def pad(array: Array, count: int, fill: float) -> Array:
    """`Pad`: [n, ...] -> [count, ...], same dtype; BF16 is `uint16`."""
    made = np.empty((count, *array.shape[1:]), array.dtype)
    made[: len(array)] = array
    made[len(array) :] = filling(fill, array.dtype)
    return made


def filling(fill: float, dtype: np.dtype[Any]) -> Array:
    """One number as it is stored, BF16 as `uint16`."""
    if dtype == NUMPY["BF16"]:
        return f32_to_bf16(np.array([fill], np.float32))
    return np.array([fill]).astype(dtype)


def take(array: Array, axis: int, indices: tuple[int, ...], unit: int = 1) -> Array:
    """`Take`: slices of `unit` neighbours along `axis`, in the order given.

    [..., n * unit, ...] -> [..., len(indices) * unit, ...], same dtype.
    """
    before, length, after = array.shape[:axis], array.shape[axis], array.shape[axis + 1 :]
    if length % unit:
        raise ValueError(f"axis {axis} of length {length} is no multiple of {unit}")
    parts = array.reshape(*before, length // unit, unit, *after)
    taken = np.take(parts, np.asarray(indices, np.intp), axis=axis)
    return taken.reshape(*before, len(indices) * unit, *after)


def take_each(array: Array, axis: int, indices: tuple[int, ...], unit: int = 1) -> Array:
    """`TakeEach`: [experts, ..., n * unit, ...] -> [experts, ..., m * unit, ...], same dtype."""
    lists = own_indices(indices, len(array), array.shape[axis] // unit)
    parts = [take(array[e], axis - 1, own, unit) for e, own in enumerate(lists)]
    return np.stack(parts)


def own_indices(indices: tuple[int, ...], experts: int, whole: int) -> list[tuple[int, ...]]:
    """What `TakeEach` takes of each expert with `whole` slices; `ValueError` where it cannot."""
    size, rest = divmod(len(indices), experts)
    parts = [indices[e * size : (e + 1) * size] for e in range(experts)]
    own = [tuple(i - e * whole for i in part) for e, part in enumerate(parts)]
    if rest or not all(0 <= i < whole for part in own for i in part):
        raise ValueError(f"{len(indices)} indices are not equally many of {experts} x {whole}")
    return own


def merge(array: Array, groups: tuple[tuple[tuple[int, int], ...], ...]) -> Array:
    """`Merge`: [experts, ...] -> [groups, ...] of BF16 (`uint16`), F16 or F32; same dtype."""
    parts = [weighted_mean([array[e] for e, _ in g], [w for _, w in g]) for g in groups]
    return np.stack(parts)


def product(left: Array, right: Array, head_dim: int = 0) -> Array:
    """`Product` on [rows, k] and [k or fewer, columns] of BF16 (`uint16`), F16 or F32; same dtype.

    Both are in memory, `right` in float64 and split.
    """
    dtype = left.dtype
    widen = bf16_to_f32 if dtype == NUMPY["BF16"] else _to_f32
    if head_dim:
        right = products.shared(right, left.shape[1] // head_dim, head_dim)
    wide = widen(right).astype(np.float64)
    made = np.empty((len(left), right.shape[1]), dtype)
    for row in range(0, len(left), _ROWS):
        part = widen(left[row : row + _ROWS]).astype(np.float64)
        # Two roundings, float64 to float32 to BF16, and always the same two.
        found = products.product(part, wide).astype(np.float32)
        made[row : row + _ROWS] = f32_to_bf16(found) if dtype == NUMPY["BF16"] else found
    return made


_ROWS = 1024
"""Rows of a product that are in memory in float64 at once."""


def weighted_mean(parts: list[Array], weights: list[int]) -> Array:
    """`Blend` on equal-shaped arrays of BF16 (`uint16`), F16 or F32; same dtype.

    Elementwise, so that pieces of a tensor give the same bits as the whole. A part of no weight
    adds nothing, and one alone is itself.
    """
    if len(parts) == 1:
        return parts[0]
    total, heavy = sum(weights), [(p, w) for p, w in zip(parts, weights, strict=True) if w]
    return _added([(part, np.float32(weight / total)) for part, weight in heavy], np.float32(1))


def mean_heads(array: Array, heads: int, head_dim: int) -> Array:
    """`MeanHeads` on [parent heads * head_dim, ...] of BF16 (`uint16`), F16 or F32.

    Result [heads * head_dim, ...], same dtype: paper B, appendix A, mean-pooled K and V.
    """
    groups = array.reshape(heads, -1, head_dim, *array.shape[1:])
    made = np.empty((heads, *groups.shape[2:]), array.dtype)
    for head in range(heads):
        made[head] = mean_of([groups[head, i] for i in range(groups.shape[1])])
    return made.reshape(heads * head_dim, *array.shape[1:])


def mean_of(parts: list[Array]) -> Array:
    """Elementwise mean of equal-shaped arrays of BF16 (`uint16`), F16 or F32; same dtype.

    Added in float32 in the order given, divided, rounded once to nearest even: elementwise, so
    that pieces of a tensor give the same bits as the whole.
    """
    one = np.float32(1)
    return _added([(part, one) for part in parts], np.float32(len(parts)))


def _added(parts: list[tuple[Array, np.float32]], over: np.float32) -> Array:
    """Sum of weight times part in float32, in the order given, divided and rounded once."""
    dtype = parts[0][0].dtype
    if dtype not in (NUMPY["BF16"], NUMPY["F16"], NUMPY["F32"]):
        raise ValueError(f"no mean over {dtype}")
    widen = bf16_to_f32 if dtype == NUMPY["BF16"] else _to_f32
    # Values near the top of a range may overflow: they become infinite, as in any runtime.
    with np.errstate(over="ignore", invalid="ignore"):
        total = widen(parts[0][0]) * parts[0][1]
        for part, weight in parts[1:]:
            total += widen(part) * weight
        total /= over
        return f32_to_bf16(total) if dtype == NUMPY["BF16"] else total.astype(dtype)


def _to_f32(array: Array) -> npt.NDArray[np.float32]:
    return array.astype(np.float32)


def bf16_to_f32(array: Array) -> npt.NDArray[np.float32]:
    """BF16 bits (`uint16`, any shape) to float32, exactly."""
    return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)


def f32_to_bf16(array: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """float32 (any shape) to BF16 bits, to nearest, ties to even; every NaN becomes 0x7FC0."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    lowest = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + (lowest + np.uint32(0x7FFF))) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


# E2M1: sign, two exponent bits, one mantissa bit (OCP Microscaling Formats 1.0, 5.3.3).
_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
_FP4 = np.concatenate([_E2M1, -_E2M1])
# Both values of every byte: the low nibble is the even element.
_PAIRS = np.stack([np.tile(_FP4, 16), np.repeat(_FP4, 16)], axis=1)


def dequantise_mxfp4(
    blocks: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.uint8],
    name: str = "MXFP4 scales",
) -> npt.NDArray[np.float32]:
    """MXFP4 as gpt-oss stores it: blocks [..., G, 16], scales [..., G] -> float32 [..., G * 32].

    The last axis is the input axis, as on disk: Transformers' parameter is the transpose. Raises
    `Stop` (E0004) on a scale of 255, which is E8M0's NaN; `name` is what the scales are called.
    """
    if blocks.shape[:-1] != scales.shape or blocks.shape[-1] != 16:
        raise ValueError(f"blocks {blocks.shape} and scales {scales.shape} do not fit")
    if bool((scales == 255).any()):
        where = np.unravel_index(int((scales == 255).argmax()), scales.shape)
        place = ", ".join(str(int(i)) for i in where)
        raise malformed(name, f"the MXFP4 scale at [{place}] is 255, which is no number")
    values = np.take(_PAIRS, blocks, axis=0)
    exponents = scales.astype(np.int32) - np.int32(127)
    with np.errstate(over="ignore"):
        scaled = np.ldexp(values, exponents[..., None, None])
    return scaled.reshape(*scales.shape[:-1], scales.shape[-1] * 32)
