"""Matrix products of stored tensors, bit for bit the same on every machine.

In: two arrays as stored (BF16 as `uint16`, F16, F32). Out: their product, rounded once. Refuses, as
`ValueError`, shapes that do not fit.

A library's matrix product adds in an order of its own, which differs from machine to machine, and
so may the last bit. Here each matrix is the sum of two, split by bits below the largest number of
each row (column) so that the products of the parts and all sums of them are whole multiples of one
power of two below 2^53 of it: those are exact in any order (the scheme of Ozaki et al., 2012). What
the split leaves out is below 2^-34 of the largest product for up to 2^16 terms, far under BF16.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Doubles: TypeAlias = npt.NDArray[np.float64]


def product(left: Doubles, right: Doubles) -> Doubles:
    """[rows, k] x [k, columns] -> [rows, columns]; not finite where either is not."""
    terms = left.shape[1]
    if right.shape[0] != terms:
        raise ValueError(f"{left.shape} and {right.shape} have no product")
    bits = (52 - max(terms - 1, 1).bit_length()) // 2
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = split(left, bits, 1), split(right, bits, 0)
        # From the least: sums of exact products, of which only these three may round.
        return (a[1] @ b[1] + (a[0] @ b[1] + a[1] @ b[0])) + a[0] @ b[0]


def split(values: Doubles, bits: int, axis: int) -> tuple[Doubles, Doubles]:
    """The upper `bits` of each number below the largest along `axis`, and the next ones."""
    largest = np.max(np.abs(values), axis=axis, keepdims=True)
    # 2^e above the largest; frexp is exact where a logarithm would round.
    unit = np.ldexp(1.0, np.frexp(largest)[1] - bits)
    upper = np.rint(values / unit) * unit
    finer = np.ldexp(unit, -bits)
    return upper, np.rint((values - upper) / finer) * finer


def shared(right: Array, heads: int, head_dim: int) -> Array:
    """[fewer heads * head_dim, n] -> [heads * head_dim, n], neighbours sharing a head."""
    fewer, rest = divmod(len(right), head_dim)
    if rest or not fewer or heads % fewer:
        raise ValueError(f"{len(right)} rows are no heads of {head_dim} for {heads}")
    grouped = right.reshape(fewer, head_dim, -1)
    return np.repeat(grouped, heads // fewer, axis=0).reshape(heads * head_dim, -1)
