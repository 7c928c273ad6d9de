"""The operations of `surgery.ops` as streams: from parent shards into a pipe, in constant memory.

In: an operation, where the parent's tensor is. Out: the child tensor's bytes, in order, in chunks
of at most 256 KiB. A matrix product alone takes the memory of what it multiplies. Bit for bit what
`tensors.ops.materialise` gives. Not here: files and hashes (`write.py`).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from math import prod
from types import TracebackType
from typing import Protocol, Self, assert_never

import numpy as np
from msgspec.structs import replace

from surgery import catalog
from surgery.diagnostics import Diagnostic, Stop
from surgery.ir import Model, TensorFile, TensorSpec
from surgery.ops import (
    Blend,
    Constant,
    Copy,
    Cut,
    Growth,
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
from surgery.tensors.digest import sequential, stamp
from surgery.tensors.headers import DTYPE_BYTES, open_shard
from surgery.tensors.ops import (
    NUMPY,
    Array,
    filling,
    mean_of,
    own_indices,
    product,
    read_into,
    unpacked,
    weighted_mean,
)
from surgery.untrusted import malformed, unreadable

CHUNK = 2**18
"""Bytes moved at once. Writes of 1 MiB to multiples of 1 MiB can take ten times as long: the page
cache then asks for one folio of that size, and memory that is in use has few."""
_DIRECT = 2048
"""Runs at least this long are read one by one; shorter ones with everything between them."""
_MAX_OPEN = 64


class Pipe(Protocol):
    """Where bytes go: fill what `room` gives (never empty), then say how much of it."""

    def room(self) -> memoryview:
        """Writable memory for the next bytes."""
        ...

    def filled(self, count: int) -> None:
        """The first `count` bytes of the last `room` are there."""
        ...


class Parents:
    """The parent's tensors; shards are opened when first read. A context manager."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._specs = {tensor.name: tensor for tensor in model.tensors}
        self._open: dict[str, int] = {}
        self._unchanged = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        if error is None and not self._unchanged:
            raise self._changed()

    def _close(self) -> None:
        for shard, descriptor in self._open.items():
            self._unchanged &= self._same(shard, descriptor)
            os.close(descriptor)
        self._open.clear()

    def _same(self, shard: str, descriptor: int) -> bool:
        """Whether a shard is as it was when its contents were hashed, as far as that is known."""
        return self._model.stamps.get(shard) in (None, stamp(descriptor))

    def _changed(self) -> Stop:
        message = f"the weights of `{self._model.name}` have changed while they were in use"
        return malformed(str(self._model.directory), message, help="run it again")

    def known(self, op: TensorOp) -> str | None:
        """SHA-256 (hex) of what `op` makes, where that is known without reading it again."""
        if not isinstance(op, Copy) or self._model.files[op.source].shard not in self._model.stamps:
            return None
        return self._model.contents.get(op.source)

    def locate(self, op: Cut | Growth) -> tuple[TensorSpec, TensorFile]:
        """The tensor that `op` reads; raises `Stop` (E0001) when there are no weights."""
        model = self._model
        if op.source not in model.files:
            message = f"the model `{model.name}` has no weights here, only a config.json"
            raise Stop(Diagnostic(catalog.E0001, message, subject=str(model.directory)))
        return self._specs[op.source], model.files[op.source]

    def read(self, shard: str, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes of `shard` at `offset`; raises `Stop` (E0001, E0004)."""
        if shard not in self._open:
            if len(self._open) >= _MAX_OPEN:
                self._close()
            self._open[shard] = open_shard(self._model.directory, shard)
            if not self._same(shard, self._open[shard]):
                raise self._changed()
            sequential(self._open[shard])
        try:
            read_into(self._open[shard], view, offset, shard)
        except OSError as error:
            raise unreadable(self._model.directory / shard, error) from error


def aligned(size: int) -> memoryview:
    """Page-aligned memory: copies to and from other memory are up to six times slower."""
    return memoryview(mmap.mmap(-1, max(size, 1)))[:size]


def result_shape(op: Cut, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that `op` makes of a parent tensor's; raises `ValueError` where it cannot."""
    match op:
        case Copy():
            return shape
        case Take(_, axis, indices, unit):
            if shape[axis] % unit or not all(0 <= i < shape[axis] // unit for i in indices):
                raise ValueError(f"{op.source}: indices do not fit axis {axis} of {shape}")
            return (*shape[:axis], len(indices) * unit, *shape[axis + 1 :])
        case TakeEach(_, axis, indices, unit):
            if shape[axis] % unit:
                raise ValueError(f"{op.source}: axis {axis} of {shape} is no multiple of {unit}")
            own = own_indices(indices, shape[0], shape[axis] // unit)
            return (*shape[:axis], len(own[0]) * unit, *shape[axis + 1 :])
        case Merge(_, groups):
            if not all(0 <= e < shape[0] for group in groups for e, _ in group):
                raise ValueError(f"{op.source}: groups do not fit {shape[0]} experts")
            return (len(groups), *shape[1:])
        case MeanHeads(_, heads, head_dim):
            if shape[0] % (heads * head_dim):
                raise ValueError(f"{op.source}: {shape[0]} rows are not {heads} x n x {head_dim}")
            return (heads * head_dim, *shape[1:])
        case _:
            assert_never(op)


def _joint_result(op: Joint, parents: Parents) -> tuple[tuple[int, ...], str]:
    if isinstance(op, Product):
        left, right = (parents.locate(Copy(name))[0] for name in (op.left, op.right))
        if left.dtype != right.dtype or len(left.shape) != 2 or len(right.shape) != 2:
            raise ValueError(f"{op.left} and {op.right} have no product")
        return (left.shape[0], right.shape[1]), left.dtype
    specs = [parents.locate(Copy(name))[0] for name, _ in op.parts]
    if len({(spec.shape, spec.dtype) for spec in specs}) != 1:
        raise ValueError(f"{op.parts[0][0]} and others are not of one shape")
    return specs[0].shape, specs[0].dtype


def result(op: TensorOp, parents: Parents) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of what `op` makes; raises `ValueError` where it cannot."""
    if isinstance(op, Constant):
        return (), "F32"
    if isinstance(op, Blend | Product):
        return _joint_result(op, parents)
    spec, _ = parents.locate(op)
    match op:
        case Unpack(_, scales, count):
            beside = parents.locate(Copy(scales))[0]
            if (*beside.shape, 16) != spec.shape or {beside.dtype, spec.dtype} != {"U8"}:
                raise ValueError(f"{op.source} and {scales} are no MXFP4")
            experts, out, groups, _ = spec.shape
            if experts > count:
                raise ValueError(f"{op.source}: {experts} experts are more than {count}")
            return (count, groups * 32, out), "BF16"
        case Pad(_, count):
            if not spec.shape or spec.shape[0] > count:
                raise ValueError(f"{op.source}: {spec.shape} cannot be padded to {count}")
            return (count, *spec.shape[1:]), spec.dtype
        case _:
            return result_shape(op, spec.shape), spec.dtype


def send(op: TensorOp, parents: Parents, pipe: Pipe) -> None:
    """Send the child tensor that `op` makes, of a parent tensor or of nothing, through `pipe`."""
    match op:
        case Constant(value):
            _put(memoryview(np.float32(value).tobytes()), pipe)
        case Blend(parts):
            found = [parents.locate(Copy(name)) for name, _ in parts]
            places = [(file.shard, file.start) for _, file in found]
            size, dtype = found[0][0].nbytes, found[0][0].dtype
            _weigh(places, [w for _, w in parts], size, dtype, parents, pipe)
        case Product(left, right, head_dim):
            made = product(_whole(left, parents), _whole(right, parents), head_dim)
            _put(made.reshape(-1).view(np.uint8).data, pipe)
        case Unpack():
            _unpack(op, parents, pipe)
        case Pad(_, count, fill):
            spec, file = parents.locate(op)
            _copy(file.shard, file.start, file.end - file.start, parents, pipe)
            missing = (count - spec.shape[0]) * prod(spec.shape[1:])
            _fill(filling(fill, NUMPY[spec.dtype]).tobytes(), missing, pipe)
        case _:
            stream(op, *parents.locate(op), parents, pipe)


def stream(op: Cut, spec: TensorSpec, file: TensorFile, parents: Parents, pipe: Pipe) -> None:
    """Send the child tensor that `op` makes of the parent tensor at `file` through `pipe`."""
    match op:
        case Copy():
            _copy(file.shard, file.start, file.end - file.start, parents, pipe)
        case Take():
            _take(op, spec, file, parents, pipe)
        case TakeEach():
            _take_each(op, spec, file, parents, pipe)
        case Merge():
            size = (file.end - file.start) // spec.shape[0]
            for group in op.groups:
                places = [(file.shard, file.start + e * size) for e, _ in group]
                _weigh(places, [w for _, w in group], size, spec.dtype, parents, pipe)
        case MeanHeads():
            _mean(op, spec, file, parents, pipe)
        case _:
            assert_never(op)


def _copy(shard: str, start: int, length: int, parents: Parents, pipe: Pipe) -> None:
    end = start + length
    while start < end:
        view = pipe.room()[: end - start]
        parents.read(shard, view, start)
        pipe.filled(len(view))
        start += len(view)


def _put(data: memoryview, pipe: Pipe) -> None:
    while data:
        room = pipe.room()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        pipe.filled(count)
        data = data[count:]


def runs(indices: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Neighbouring indices as (first, count)."""
    at = 0
    while at < len(indices):
        count = 1
        while at + count < len(indices) and indices[at + count] == indices[at] + count:
            count += 1
        yield indices[at], count
        at += count


def _take(op: Take, spec: TensorSpec, file: TensorFile, parents: Parents, pipe: Pipe) -> None:
    width = op.unit * prod(spec.shape[op.axis + 1 :]) * DTYPE_BYTES[spec.dtype]
    row = spec.shape[op.axis] // op.unit * width
    rows = prod(spec.shape[: op.axis])
    pieces = tuple(runs(op.indices))
    if not pieces or not row:
        return
    if len(op.indices) * width >= _DIRECT * len(pieces) or row > CHUNK:
        for start in range(file.start, file.start + rows * row, row):
            for first, count in pieces:
                _copy(file.shard, start + first * width, count * width, parents, pipe)
        return
    per_chunk = CHUNK // row
    scratch = aligned(per_chunk * row)
    wanted = np.asarray(op.indices, np.intp)
    for at in range(0, rows, per_chunk):
        count = min(per_chunk, rows - at)
        view = scratch[: count * row]
        parents.read(file.shard, view, file.start + at * row)
        parts = np.frombuffer(view, np.dtype(f"V{width}")).reshape(count, -1)
        _put(np.take(parts, wanted, axis=1).reshape(-1).view(np.uint8).data, pipe)


def _take_each(
    op: TakeEach, spec: TensorSpec, file: TensorFile, parents: Parents, pipe: Pipe
) -> None:
    """Expert by expert, each as if it were a tensor of its own."""
    lists = own_indices(op.indices, spec.shape[0], spec.shape[op.axis] // op.unit)
    size = (file.end - file.start) // spec.shape[0]
    one = replace(spec, shape=spec.shape[1:])
    for start, own in zip(range(file.start, file.end, size), lists, strict=True):
        part = TensorFile(file.shard, start, start + size)
        _take(Take(op.source, op.axis - 1, own, op.unit), one, part, parents, pipe)


def _whole(name: str, parents: Parents) -> Array:
    """A parent tensor, in memory."""
    spec, file = parents.locate(Copy(name))
    made = np.empty(spec.shape, NUMPY[spec.dtype])
    parents.read(file.shard, made.reshape(-1).view(np.uint8).data, file.start)
    return made


def _fill(element: bytes, count: int, pipe: Pipe) -> None:
    per_chunk = CHUNK // len(element)
    chunk = memoryview(element * min(count, per_chunk))
    for at in range(0, count, per_chunk):
        _put(chunk[: min(per_chunk, count - at) * len(element)], pipe)


def _unpack(op: Unpack, parents: Parents, pipe: Pipe) -> None:
    """Expert by expert: one in memory packed, and of its blocks one column unpacked."""
    (spec, file), (_, beside) = parents.locate(op), parents.locate(Copy(op.scales))
    experts, out, groups, _ = spec.shape
    size = out * groups
    packed, exponents = aligned(size * 16), aligned(size)
    blocks = np.frombuffer(packed, np.uint8).reshape(out, groups, 16)
    scales = np.frombuffer(exponents, np.uint8).reshape(out, groups)
    for expert in range(experts):
        parents.read(file.shard, packed, file.start + expert * size * 16)
        parents.read(beside.shard, exponents, beside.start + expert * size)
        for group in range(groups):
            made = unpacked(blocks[:, group : group + 1], scales[:, group : group + 1])
            _put(made.reshape(-1).view(np.uint8).data, pipe)
    _fill(b"\0\0", (op.count - experts) * size * 32, pipe)


def _weigh(
    places: list[tuple[str, int]],
    weights: list[int],
    size: int,
    dtype: str,
    parents: Parents,
    pipe: Pipe,
) -> None:
    """The weighted mean of `size` bytes at each of some places."""
    kind = NUMPY[dtype]
    step = max(CHUNK // len(places) // kind.itemsize, 1) * kind.itemsize
    scratch = [aligned(min(step, size)) for _ in places]
    for at in range(0, size, step):
        views = [view[: min(step, size - at)] for view in scratch]
        for view, (shard, start) in zip(views, places, strict=True):
            parents.read(shard, view, start + at)
        mean = weighted_mean([np.frombuffer(view, kind) for view in views], weights)
        _put(mean.view(np.uint8).data, pipe)


def _mean(op: MeanHeads, spec: TensorSpec, file: TensorFile, parents: Parents, pipe: Pipe) -> None:
    dtype = NUMPY[spec.dtype]
    head = op.head_dim * prod(spec.shape[1:]) * dtype.itemsize
    group = spec.shape[0] // (op.head_dim * op.heads)
    step = max(CHUNK // group // dtype.itemsize, 1) * dtype.itemsize
    scratch = [aligned(min(step, head)) for _ in range(group)]
    for first in range(file.start, file.start + op.heads * group * head, group * head):
        for at in range(0, head, step):
            views = [view[: min(step, head - at)] for view in scratch]
            for number, view in enumerate(views):
                parents.read(file.shard, view, first + number * head + at)
            mean = mean_of([np.frombuffer(view, dtype) for view in views])
            _put(mean.view(np.uint8).data, pipe)
