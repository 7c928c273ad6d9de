"""Tensors as a checkpoint has them -> parameters as Transformers has them, in float32.

In: outputs of edits, the parent's tensors of the same sites, a reader. Out: parameters by name.
BF16 and F16 are widened exactly; MXFP4 pairs are dequantised and turned to [in, out]; experts with
tensors of their own are gathered into one parameter, [experts, all their rows, in]. Refuses, as
`ValueError`, dtypes that no weight has. Not here: modules (`model.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surgery.ir import TensorSpec
from surgery.ops import Output
from surgery.scoring.arrays import from_numpy
from surgery.tensors.ops import Array, bf16_to_f32, dequantise_mxfp4, materialise

_BLOCKS, _SCALES = "_blocks", "_scales"


def parameter_of(spec: TensorSpec) -> str:
    """The parameter that a stored tensor is, or is a part of."""
    return spec.parameter or spec.name


def widened(
    outputs: Iterable[Output], specs: Iterable[TensorSpec], read: Callable[[str], Array]
) -> Iterator[tuple[str, Tensor]]:
    """Parameters by name, each as soon as its last part was read.

    `specs` are parent tensors that have the names of those `outputs` that were not joined, `read`
    gives a parent tensor as stored.
    """
    known = {spec.name: spec for spec in specs}
    parts = tuple(outputs)

    def parameter(output: Output) -> str:
        # What was joined of several tensors has a name that the parent does not know.
        spec = known.get(output.name)
        return output.name if spec is None else parameter_of(spec)

    missing = Counter(map(parameter, parts))
    found: dict[str, dict[str, Array]] = {}
    for output in parts:
        name = parameter(output)
        held = found.setdefault(name, {})
        held[output.name] = materialise(output.op, read)
        missing[name] -= 1
        if not missing[name]:
            yield name, _joined(found.pop(name), known, output.dtype)


def _joined(parts: Mapping[str, Array], known: Mapping[str, TensorSpec], dtype: str) -> Tensor:
    """The parameter that consists of `parts`, by their names in the checkpoint."""
    if dtype == "U8":
        (blocks,) = (array for name, array in parts.items() if name.endswith(_BLOCKS))
        ((name, scales),) = ((n, array) for n, array in parts.items() if n.endswith(_SCALES))
        return _owned(dequantise_mxfp4(blocks, scales, name).swapaxes(-1, -2))
    experts: dict[int, dict[int, Tensor]] = {}
    for name, array in parts.items():
        own = known[name].expert if name in known else None
        if own is None:
            return _float32(array, dtype)
        experts.setdefault(own.index, {})[own.piece] = _float32(array, dtype)
    return torch.stack([torch.cat(_ordered(experts[index])) for index in sorted(experts)])


def _ordered(pieces: Mapping[int, Tensor]) -> list[Tensor]:
    return [pieces[number] for number in sorted(pieces)]


def _float32(array: Array, dtype: str) -> Tensor:
    match dtype:
        case "BF16":
            values: NDArray[np.float32] = bf16_to_f32(array)
        case "F16" | "F32":
            values = array.astype(np.float32)
        case _:
            raise ValueError(f"no weight is stored as {dtype}")
    return _owned(values)


def _owned(values: NDArray[np.float32]) -> Tensor:
    """A contiguous copy in torch's memory, which is aligned to 64 bytes.

    numpy's is not, and matrix products may round differently on other alignments: two processes
    would then measure different last digits.
    """
    tensor = torch.empty(values.shape)
    tensor.copy_(from_numpy(values))
    return tensor
