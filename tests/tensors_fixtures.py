"""Small safetensors files built byte by byte, and models around them without any config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from surgery.ir import Model, TensorSpec
from surgery.ops import Cut, Output
from surgery.tensors.headers import DTYPE_BYTES, open_checkpoint
from surgery.tensors.ops import NUMPY, Array
from surgery.tensors.stream import result_shape

Tensors = Mapping[str, tuple[str, Array]]


def file_bytes(header: bytes | str, data: bytes) -> bytes:
    """A safetensors file with exactly this header and this data."""
    raw = header.encode() if isinstance(header, str) else header
    return len(raw).to_bytes(8, "little") + raw + data


def entry(dtype: str, shape: Sequence[int], begin: int, end: int) -> str:
    """One tensor's value in a header."""
    return json.dumps({"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]})


def checkpoint_bytes(tensors: Tensors) -> bytes:
    """A well-formed safetensors file of `tensors` in the order given."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, array) in tensors.items():
        begin = len(data)
        data += array.tobytes()
        offsets = [begin, len(data)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
    return file_bytes(json.dumps(header), data)


def random_tensor(dtype: str, shape: tuple[int, ...], seed: int) -> Array:
    """Any bits for integers, ordinary values for floats (all of them finite)."""
    random = np.random.default_rng(seed)
    if dtype == "BF16":
        values = random.standard_normal(shape).astype(np.float32)
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    if dtype in ("F16", "F32", "F64"):
        return random.standard_normal(shape).astype(NUMPY[dtype])
    count = int(np.prod(shape)) * DTYPE_BYTES[dtype]
    raw = random.integers(0, 2 if dtype == "BOOL" else 256, count, np.uint8)
    return raw.view(NUMPY[dtype]).reshape(shape)


def bare_model(directory: Path, weights: Mapping[str, int] | None = None) -> Model:
    """A `Model` of whatever safetensors `directory` holds: one layer, nothing known of it."""
    checkpoint = open_checkpoint(directory)
    specs = tuple(
        TensorSpec(
            name=t.name,
            shape=t.shape,
            dtype=t.dtype,
            axes=("-",) * len(t.shape),
            layer=None,
            site=None,
            nbytes=t.nbytes,
            numel=(weights or {}).get(t.name, t.nbytes // DTYPE_BYTES[t.dtype]),
        )
        for t in checkpoint.tensors.values()
    )
    return Model(
        name="parent",
        source="local:bare",
        directory=directory,
        digest="",
        family="none",
        config=MappingProxyType({}),
        hidden=1,
        vocab=1,
        context=1,
        heads=1,
        kv_heads=1,
        head_dim=1,
        tied=False,
        layers=(),
        tensors=specs,
        files=MappingProxyType({t.name: t.file for t in checkpoint.tensors.values()}),
    )


def output(model: Model, name: str, op: Cut) -> Output:
    """The child tensor `name` that `op` makes, with its exact size."""
    spec = next(tensor for tensor in model.tensors if tensor.name == op.source)
    shape = result_shape(op, spec.shape)
    elements = int(np.prod(shape, dtype=np.int64))
    return Output(name, spec.dtype, shape, elements * DTYPE_BYTES[spec.dtype], elements, op)
