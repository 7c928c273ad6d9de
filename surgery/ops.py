"""What a child tensor is made of: parent tensors and one operation, or one measured number.

In: decisions of `edits/`. Out: `Output`, which `tensors/stream.py` streams to disk, `scoring/`
loads into memory, and the provenance manifest lists. The set is closed and every operation is
exact or deterministic, so provenance is complete by construction. Not here: doing the work.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct


class Copy(Struct, frozen=True):
    """The parent tensor's bytes, unchanged."""

    source: str


class Take(Struct, frozen=True):
    """Slices `indices` along `axis`, in the order given; each is `unit` neighbours wide.

    Works on any dtype, packed ones included, because only whole slices move: an index `i` means
    elements `i * unit` up to `(i + 1) * unit`.
    """

    source: str
    axis: int
    indices: tuple[int, ...]
    unit: int = 1


class TakeEach(Struct, frozen=True):
    """Other slices of every expert: axis 0 holds experts, `indices` what is left of each.

    Number `e * n + i` is slice i along `axis` of expert e, where n is how many there are; each
    expert keeps equally many, in the order given, and each slice is `unit` neighbours wide. As
    with `Take`, only whole slices move.
    """

    source: str
    axis: int
    indices: tuple[int, ...]
    unit: int = 1


class Merge(Struct, frozen=True):
    """Axis 0 holds experts; slice n of the result is the weighted mean of group n.

    A group is (index, weight) pairs. Sum of weight / sum of weights (rounded to float32) times
    slice, in float32 and in the order given, rounded once to the parent's dtype (to nearest, ties
    to even); a group of one is that slice, bit for bit.
    """

    source: str
    groups: tuple[tuple[tuple[int, int], ...], ...]


class Blend(Struct, frozen=True):
    """The weighted mean of several tensors of one shape and dtype, as in `Merge`.

    `parts` are (tensor, weight) pairs, two or more.
    """

    parts: tuple[tuple[str, int], ...]


class Product(Struct, frozen=True):
    """The matrix product of two tensors: [rows, k] x [k, columns], in the dtype of `left`.

    With a `head_dim`, k of `left` are heads of that size, and `right` may hold fewer: neighbouring
    heads of `left` share one of `right`. Both are split into parts whose products add up exactly in
    float64, so that no order of summation shows; rounded once to the parent's dtype.
    """

    left: str
    right: str
    head_dim: int = 0


class MeanHeads(Struct, frozen=True):
    """Axis 0 holds heads of `head_dim` rows; neighbours are averaged into `heads` heads.

    Mean in float32, rounded once to the parent's dtype (to nearest, ties to even). Paper B,
    appendix A: mean-pooled K and V projections.
    """

    source: str
    heads: int
    head_dim: int


class Constant(Struct, frozen=True):
    """One float32 number of no parent tensor; `how` says what it was measured by, for people."""

    value: float
    how: str = ""


class Unpack(Struct, frozen=True):
    """MXFP4 experts in BF16, exactly: [experts, out, blocks, 16] -> [count, in, out].

    `source` holds the blocks, `scales` their exponents; the result is turned as Transformers has
    it, and experts beyond those of the source are zero.
    """

    source: str
    scales: str
    count: int


class Pad(Struct, frozen=True):
    """The parent tensor, its first axis made `count` long with entries that are all `fill`."""

    source: str
    count: int
    fill: float = 0.0


Cut: TypeAlias = Copy | Take | TakeEach | Merge | MeanHeads
"""What is made of a parent tensor, without a change of its dtype, for a child."""

Growth: TypeAlias = Unpack | Pad
"""What is made of a child's tensor for a twin of it."""

Joint: TypeAlias = Blend | Product
"""What is made of several parent tensors."""

TensorOp: TypeAlias = Cut | Joint | Constant | Growth


class Output(Struct, frozen=True):
    """One tensor of the child: its name, how it is stored, and how it comes about.

    `dtype` is the safetensors name, `nbytes` the exact size on disk, `numel` the parameters it
    counts (see `ir.TensorSpec`).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    numel: int
    op: TensorOp
