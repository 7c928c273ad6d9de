"""safetensors without weights: what a file or a sharded checkpoint holds, and where.

In: a path. Out: `Header` (one file) and `Checkpoint` (a directory): name -> dtype, shape, absolute
byte range. Headers are the truth and the index is advisory: a disagreement is an error. Tensor
names are data: they never become a path, and messages escape them. Refuses, as `Stop` E0004,
whatever could be read in two ways, and more than the safetensors library does: duplicate keys,
unknown fields, padding in front, holes, overlaps, trailing bytes, absurd sizes (the caps are
below), shards outside the directory, pickles. Not here: bytes, which `ops.py` reads and `write.py`
writes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from surgery import catalog
from surgery.diagnostics import Diagnostic, Help, Stop
from surgery.ir import TensorFile
from surgery.untrusted import (
    as_list,
    as_object,
    encodable,
    malformed,
    open_regular,
    parse_json,
    read_capped,
    shown,
    unreadable,
)

DTYPE_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
        "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4,
        "U64": 8, "I64": 8, "F64": 8,
    }
)  # fmt: skip
"""Bytes per element of every dtype read here; sub-byte and complex ones are refused."""

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

MAX_HEADER = 32 * 2**20
MAX_INDEX = 64 * 2**20
MAX_TENSORS = 100_000
"""Tensors per file: a header of that size parses in bounded time and memory."""
MAX_RANK = 8
MAX_DIMENSION = 2**32
MAX_NAME = 1024
"""Longest tensor name, in UTF-8 bytes."""

_SHARD = re.compile(r"[A-Za-z0-9._-]+\.safetensors")
_FIELDS = frozenset({"dtype", "shape", "data_offsets"})
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SHOW = 5
"""How many differences a message lists."""


class Stored(Struct, frozen=True):
    """A tensor on disk: safetensors dtype name, shape, and where its bytes are."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: TensorFile

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self.file.end - self.file.start


class Header(Struct, frozen=True):
    """One safetensors file: its tensors in order of their bytes, its metadata, its size."""

    shard: str
    size: int
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]


class Checkpoint(Struct, frozen=True):
    """A directory of safetensors: tensors by name (sorted), and the shards that hold them."""

    directory: Path
    tensors: Mapping[str, Stored]
    shards: tuple[str, ...]


# ---- One file --------------------------------------------------------------------------------


def read_header(path: Path, shard: str | None = None) -> Header:
    """Parse and check the header of the safetensors file `path`; reads no tensor data.

    `shard` is the name that messages and `TensorFile`s use (the file's own by default: a cache
    may store it under its hash). Raises `Stop`: E0001 unreadable, E0004 malformed.
    """
    shard = shard or path.name
    with open(open_regular(path, shard), "rb") as file:
        try:
            size = os.fstat(file.fileno()).st_size
            raw = file.read(8)
            length = int.from_bytes(raw, "little")
            fault = _length_fault(len(raw), length, size)
            if fault:
                raise malformed(str(path), f"`{shown(shard)}` {fault}")
            raw = file.read(length)
        except OSError as error:
            raise unreadable(path, error) from error
    if len(raw) < length:
        raise malformed(str(path), f"`{shown(shard)}` was truncated while it was read")
    return parse_header(raw, size, shard, str(path))


def _length_fault(read: int, length: int, size: int) -> str | None:
    if read < 8:
        return f"is truncated: {size} bytes, and the header length alone takes 8"
    if length < 2:
        return f"has a header of {length} bytes; the shortest one takes 2"
    if length > MAX_HEADER:
        return f"says its header takes {length} bytes; at most {MAX_HEADER} are read"
    if length > size - 8:
        return f"is truncated: its header takes {length} bytes, {size - 8} are there"
    return None


def parse_header(raw: bytes, size: int, shard: str, subject: str) -> Header:
    """The header whose JSON is `raw`, of a file of `size` bytes; see `read_header`."""
    what = f"the header of `{shown(shard)}`"
    if not raw.startswith(b"{"):
        raise malformed(subject, f"{what} does not begin with a brace")
    # One object per tensor, the metadata and the whole.
    value = parse_json(raw, subject, what, max_objects=MAX_TENSORS + 2, unsigned=True)
    root = as_object(value)
    if root is None:
        raise malformed(subject, f"{what} is not an object")
    metadata = _metadata(root.pop("__metadata__", {}), subject, what)
    start = 8 + len(raw)
    tensors: list[Stored] = []
    for name in list(root):
        # Popped, so that a large header is not held twice.
        info = root.pop(name)
        stored = _name_fault(name) or _stored(name, info, shard, start)
        if isinstance(stored, str):
            raise malformed(subject, f"{what}: tensor `{shown(name)}` {stored}")
        tensors.append(stored)
    tensors.sort(key=lambda tensor: (tensor.file.start, tensor.file.end, tensor.name))
    fault = _layout_fault(tensors, start, size)
    if fault:
        raise malformed(subject, f"`{shown(shard)}` {fault}")
    ordered = {tensor.name: tensor for tensor in tensors}
    return Header(shard, size, MappingProxyType(ordered), MappingProxyType(metadata))


def _metadata(value: object, subject: str, what: str) -> dict[str, str]:
    pairs = as_object(value)
    if pairs is None:
        raise malformed(subject, f"{what}: `__metadata__` is not an object")
    made: dict[str, str] = {}
    for key, text in pairs.items():
        if not isinstance(text, str) or not encodable(text):
            raise malformed(subject, f"{what}: metadata `{shown(key)}` is not a text")
        made[key] = text
    return made


def _name_fault(name: str) -> str | None:
    if not name or len(name.encode("utf-8")) > MAX_NAME:
        return f"has a name of {len(name)} characters; 1 to {MAX_NAME} bytes are read"
    # A control character is never printable, and nearly every name is.
    if not name.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        return "has control characters in its name"
    return None


def _stored(name: str, value: object, shard: str, data: int) -> Stored | str:
    """One entry of a header, or what is wrong with it."""
    info = as_object(value)
    if info is None or info.keys() != _FIELDS:
        fields = "no object" if info is None else ", ".join(shown(key) for key in sorted(info))
        return f"must have exactly dtype, shape and data_offsets (has: {fields or 'nothing'})"
    dtype = info["dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        return f"has the unsupported dtype `{shown(str(dtype))}`"
    shape = _numbers(info["shape"])
    if shape is None or len(shape) > MAX_RANK or any(size > MAX_DIMENSION for size in shape):
        return f"has an unusable shape: at most {MAX_RANK} whole numbers up to {MAX_DIMENSION}"
    offsets = _numbers(info["data_offsets"])
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        return "has unusable data_offsets: two ascending whole numbers are needed"
    begin, end = offsets
    nbytes = prod(shape) * DTYPE_BYTES[dtype]
    if nbytes != end - begin:
        return f"is {dtype} {list(shape)}, {nbytes} bytes, but its range holds {end - begin}"
    return Stored(name, dtype, shape, TensorFile(shard, data + begin, data + end))


def _numbers(value: object) -> tuple[int, ...] | None:
    items = as_list(value)
    if items is None:
        return None
    # `type`, not `isinstance`: true and false are integers in Python.
    numbers = tuple(item for item in items if type(item) is int)
    return numbers if len(numbers) == len(items) else None


def _layout_fault(tensors: list[Stored], data: int, size: int) -> str | None:
    """Tensors (by start) must cover the data without a hole, an overlap or a rest."""
    at = data
    previous: Stored | None = None
    for tensor in tensors:
        if tensor.file.start < at:
            before = "the header" if previous is None else f"`{shown(previous.name)}`"
            return f"has overlapping tensors: {before} and `{shown(tensor.name)}`"
        if tensor.file.start > at:
            hole = tensor.file.start - at
            return f"has a hole of {hole} bytes before tensor `{shown(tensor.name)}`"
        at, previous = tensor.file.end, tensor
    if at < size:
        return f"has {size - at} bytes after its last tensor"
    if at > size:
        first = next(tensor for tensor in tensors if tensor.file.end > size)
        missing = first.file.end - max(size, first.file.start)
        return (
            f"is truncated: tensor `{shown(first.name)}` misses {missing} of {first.nbytes} bytes"
            f" ({at - size} bytes are missing in all)"
        )
    return None


# ---- A directory -----------------------------------------------------------------------------


def shard_path(directory: Path, shard: str) -> Path:
    """As `inside`, for a name that must be a shard's; raises `Stop` otherwise."""
    if not _SHARD.fullmatch(shard):
        message = f"`{shown(shard)}` is not a shard name: letters, digits, `.`, `_`, `-`"
        raise malformed(str(directory), message)
    return inside(directory, shard)


def inside(directory: Path, name: str) -> Path:
    """Where the file `name` is, after links; raises `Stop` unless that is inside `directory`.

    One link out is allowed: a Hugging Face cache keeps `snapshots/REV/NAME` as links to files
    in the `blobs` beside `snapshots`.
    """
    real = Path(os.path.realpath(directory / name))
    root = Path(os.path.realpath(directory))
    if real.parent == root or root in real.parents:
        return real
    blobs = root.parent.parent / "blobs"
    if root.parent.name == "snapshots" and real.parent == Path(os.path.realpath(blobs)) == blobs:
        return real
    raise malformed(str(directory), f"`{shown(name)}` is a link out of its directory")


def open_shard(directory: Path, shard: str) -> int:
    """A descriptor of `shard` in `directory`, with the checks of `shard_path`."""
    return open_regular(shard_path(directory, shard), shard)


def open_checkpoint(directory: Path) -> Checkpoint:
    """Every tensor of the checkpoint in `directory`, from headers alone.

    Without any weight file the checkpoint is empty: a `config.json` alone is enough to plan.
    Raises `Stop`: E0001, E0004, and E0411 where index and headers disagree.
    """
    index = directory / INDEX
    single = directory / SINGLE
    if os.path.lexists(index):
        located = _read_index(directory)
        if os.path.lexists(single) and SINGLE not in located.values():
            message = f"`{directory.name}` holds two checkpoints: `{SINGLE}` and `{INDEX}`"
            raise malformed(str(directory), message)
    elif os.path.lexists(single):
        located = None
    else:
        _refuse_other_formats(directory)
        return Checkpoint(directory, MappingProxyType({}), ())
    shards = tuple(sorted(set(located.values()))) if located is not None else (SINGLE,)
    tensors = _union(directory, shards)
    if located is not None:
        _compare_index(directory, located, tensors)
    ordered = {name: tensors[name] for name in sorted(tensors)}
    return Checkpoint(directory, MappingProxyType(ordered), shards)


def read_index(directory: Path) -> Mapping[str, str] | None:
    """Tensor name -> shard name as the index of `directory` has it; `None` without an index."""
    present = os.path.lexists(directory / INDEX)
    return MappingProxyType(_read_index(directory)) if present else None


def _read_index(directory: Path) -> dict[str, str]:
    path = directory / INDEX
    data = read_capped(inside(directory, INDEX), MAX_INDEX)
    value = parse_json(data, str(path), f"`{INDEX}`")
    root = as_object(value)
    weights = as_object(root.get("weight_map")) if root is not None else None
    if not weights:
        raise malformed(str(path), f"`{INDEX}` has no `weight_map`")
    located: dict[str, str] = {}
    for name, shard in weights.items():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            message = f"`{INDEX}` puts tensor `{shown(name)}` into `{shown(str(shard))}`"
            note = "a shard is a plain file name that ends in .safetensors"
            raise malformed(str(path), message + ", which is not a shard name", note)
        located[name] = shard
    return located


def _union(directory: Path, shards: tuple[str, ...]) -> dict[str, Stored]:
    tensors: dict[str, Stored] = {}
    for shard in shards:
        for name, stored in read_header(shard_path(directory, shard), shard).tensors.items():
            other = tensors.setdefault(name, stored)
            if other is not stored:
                where = f"`{other.file.shard}` and `{shard}`"
                message = f"tensor `{shown(name)}` is in two shards, {where}"
                raise malformed(str(directory), message)
    return tensors


def _compare_index(directory: Path, located: dict[str, str], tensors: dict[str, Stored]) -> None:
    faults: list[str] = []
    for name in sorted(located.keys() | tensors.keys()):
        stored, shard = tensors.get(name), located.get(name)
        if stored is None:
            faults.append(f"`{shown(name)}` is listed in `{shard}`, but no shard holds it")
        elif shard is None:
            faults.append(f"`{shown(name)}` is in `{stored.file.shard}`, but not listed")
        elif shard != stored.file.shard:
            faults.append(f"`{shown(name)}` is listed in `{shard}`, but is in another shard")
    if faults:
        message = f"`{INDEX}` and the headers of the shards differ in {len(faults)} tensors"
        subject, notes = str(directory), tuple(faults[:_SHOW])
        helps = (Help("index and shards must be of one download: fetch them again"),)
        raise Stop(Diagnostic(catalog.E0411, message, subject=subject, notes=notes, helps=helps))


def _refuse_other_formats(directory: Path) -> None:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise unreadable(directory, error) from error
    shards = [name for name in names if name.endswith(".safetensors")]
    if shards:
        message = f"`{directory.name}` has {len(shards)} safetensors files, but no `{INDEX}`"
        raise malformed(str(directory), message, f"the first is `{shown(shards[0])}`")
    pickles = [n for n in names if n.endswith(_PICKLES) and n != "training_args.bin"]
    if pickles:
        text = "convert it where you trust it: load it with Transformers and `save_pretrained`"
        message = f"`{shown(pickles[0])}` is a pickle, which can run code when it is read"
        raise Stop(
            Diagnostic(
                catalog.E0004,
                message,
                subject=str(directory),
                notes=("weights are read from safetensors only",),
                helps=(Help(text),),
            )
        )
