"""numpy -> torch -> Python, with the types that torch's own signatures leave out.

In: numpy arrays, tensors. Out: tensors, lists of numbers. Shares memory where torch does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def from_numpy(array: NDArray[np.int64] | NDArray[np.float32]) -> Tensor:
    """A tensor of the same shape, dtype and memory."""
    return torch.from_numpy(array)  # pyright: ignore[reportUnknownMemberType]


def numbers(tensor: Tensor) -> list[float]:
    """The elements of a one-dimensional tensor."""
    return cast("list[float]", tensor.tolist())  # pyright: ignore[reportUnknownMemberType]
