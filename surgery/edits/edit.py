"""What an edit is: the record that every file of `edits/` fills in, and how tensors are cut.

In: a parent block, the edit's argument, the parent tensors of the site. Out: `Refusal` (why an
edit is illegal on a block) and `ops.Output` (what a child tensor is made of). Tensors are found
by what their axes mean (`ir.TensorSpec.axes`), never by name: families are data. Refuses nothing
by itself; a tensor whose shape contradicts its axes is a `ValueError`, because `resolve` has
checked it against the config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from surgery.diagnostics import Code
from surgery.ir import Attention, Block, Merging, Model, OfExpert, Site, TensorSpec
from surgery.ops import Copy, MeanHeads, Output, Take, TakeEach

PACKED = 32
"""Weights along the input of a matrix that MXFP4 packs together."""


class Refusal(Struct, frozen=True):
    """Why an edit is illegal on a block.

    `message` stands alone and names no layer; `here` labels the alternative, `why` the parent
    (may be empty), `help` says what to do. `legal` are values that the block would allow instead,
    the best first (empty where none comes near). Equal refusals of several layers are one
    diagnostic.
    """

    code: Code
    message: str
    here: str
    why: str = ""
    help: str = ""
    legal: tuple[int, ...] = ()


class Selection(Struct, frozen=True):
    """What an edit keeps some of, where a ranking must list what survives.

    `things` are what is ranked; `whole` is how many a block has, in each of its `groups`: one for
    a layer's experts or an FFN's channels, one per expert for the channels of experts. In a kept
    list, number `g * whole + i` is slice i of group g; every group keeps equally many.
    """

    things: str
    whole: Callable[[Block], int]
    groups: Callable[[Block], int] = lambda _block: 1

    def first(self, block: Block, value: int) -> tuple[int, ...]:
        """A kept list of the right size, for whoever asks for sizes before there is a ranking."""
        return _first(self.groups(block), self.whole(block), value)

    def verify(self, block: Block, value: int, kept: tuple[int, ...], grain: int = 1) -> None:
        """Raise `ValueError` unless `kept` lists `value` of every group, in blocks of `grain`."""
        _verify(self.groups(block), self.whole(block), value, kept, grain)


@lru_cache(maxsize=16)
def _first(groups: int, whole: int, value: int) -> tuple[int, ...]:
    return tuple(start + i for start in range(0, groups * whole, whole) for i in range(value))


@lru_cache(maxsize=16)
def _verify(groups: int, whole: int, value: int, kept: tuple[int, ...], grain: int) -> None:
    what = f"{value} ascending numbers below {whole}"
    if groups > 1:
        what = f"{value} ascending numbers of each of {groups} times {whole}"
    ascending = all(a < b for a, b in pairwise(kept))
    if len(kept) != groups * value or not ascending:
        raise ValueError(f"kept list of {len(kept)} is not {what}")
    for group in range(groups):
        first, last = kept[group * value], kept[(group + 1) * value - 1]
        if first < group * whole or last >= (group + 1) * whole:
            raise ValueError(f"kept list of {len(kept)} is not {what}")
    if not _in_blocks(kept, grain):
        raise ValueError(f"kept list cuts through packed blocks of {grain}")


def _in_blocks(kept: tuple[int, ...], grain: int) -> bool:
    """Whether ascending numbers are whole runs from one multiple of `grain` to the next."""
    ends = zip(kept[::grain], kept[grain - 1 :: grain], strict=False)
    whole = all(a % grain == 0 and b == a + grain - 1 for a, b in ends)
    return whole and len(kept) % grain == 0


class Edit(Struct, frozen=True):
    """One kind of surgery on one site.

    `valued` edits take one whole number, which the functions get as `value` (0 otherwise);
    `selects` says what a ranking must list; `inits` are the initialisers it accepts, the default
    first. `refuse` may assume `value >= 1`; `become` gives the block (`None`: no-op);
    `cut` gives one child tensor, or none, and gets the kept list of edits that select, else `()`;
    it is `None` for a no-op, which leaves no tensor. An edit that merges has `merge` instead, which
    gets the groups, and selects `groups`; one whose tensors are made of several has `join`.
    """

    name: str
    site: Site
    valued: bool
    selects: Selection | None
    inits: tuple[str, ...]
    refuse: Callable[[Model, Block, int], Refusal | None]
    become: Callable[[Block, int], Block | None]
    text: Callable[[int], str]
    cut: Callable[[TensorSpec, Block, int, tuple[int, ...]], Output | None] | None
    merge: Callable[[TensorSpec, Block, Merging], Output | None] | None = None
    join: Callable[[tuple[TensorSpec, ...], Block], tuple[Output, ...]] | None = None


def never(_model: Model, _block: Block, _value: int) -> Refusal | None:
    """Legality of an edit that every block allows."""
    return None


def remove(_block: Block, _value: int) -> None:
    """What `noop` leaves of a block: nothing, so the residual stream passes the site by."""


def copied(tensor: TensorSpec) -> Output:
    """The parent's tensor as it is."""
    return Output(
        tensor.name, tensor.dtype, tensor.shape, tensor.nbytes, tensor.numel, Copy(tensor.name)
    )


def renumbered(tensor: TensorSpec, own: OfExpert, kept: tuple[int, ...]) -> Output | None:
    """An expert's own tensor under the number that it has among those `kept`; none if it goes."""
    if own.index not in kept:
        return None
    return replace(copied(tensor), name=own.named(kept.index(own.index)))


def _share(total: int, part: int, whole: int) -> int:
    share, rest = divmod(total * part, whole)
    if rest:
        raise ValueError(f"{total} does not divide into {whole} equal slices")
    return share


def taken(tensor: TensorSpec, units: Mapping[str, int], full: int, kept: tuple[int, ...]) -> Output:
    """The slices `kept` of `full` along the axis named in `units`; a copy if there is none.

    `units` maps an axis name to how many neighbouring elements make one slice (2 for `ffn*2`,
    where gate and up of a channel alternate). Sizes shrink by exactly kept / full, packed dtypes
    included, because only whole slices go.
    """
    axes = [axis for axis, name in enumerate(tensor.axes) if name in units]
    if not axes:
        return copied(tensor)
    if len(axes) > 1:
        raise ValueError(f"{tensor.name}: more than one of {sorted(units)} in {tensor.axes}")
    axis = axes[0]
    unit = units[tensor.axes[axis]]
    if tensor.shape[axis] != full * unit:
        raise ValueError(f"{tensor.name}: axis {axis} of {tensor.shape} does not hold {full}")
    shape = (*tensor.shape[:axis], len(kept) * unit, *tensor.shape[axis + 1 :])
    return Output(
        tensor.name,
        tensor.dtype,
        shape,
        _share(tensor.nbytes, len(kept), full),
        _share(tensor.numel, len(kept), full),
        Take(tensor.name, axis, kept, unit),
    )


def taken_each(
    tensor: TensorSpec, units: Mapping[str, int], whole: int, kept: tuple[int, ...]
) -> Output:
    """Of every expert the channels in `kept`, `whole` of which it has; a copy of other tensors.

    `units` as in `taken`; besides, an axis `ffn/32` holds blocks that 32 channels share, and only
    all of them together can be kept. Raises `ValueError` for a list that cuts through a block.
    """
    axes = [axis for axis, name in enumerate(tensor.axes) if name.startswith("ffn")]
    if not axes:
        return copied(tensor)
    (axis,) = axes
    experts, count, name = tensor.shape[0], tensor.shape[axis], tensor.axes[axis]
    if tensor.axes[0] != "experts" or not axis:
        raise ValueError(f"{tensor.name}: no axis of experts first in {tensor.axes}")
    value, unit, indices = len(kept) // experts, units.get(name, 1), kept
    if name not in units:
        if whole % PACKED or not _in_blocks(kept, PACKED):
            raise ValueError(f"{tensor.name}: kept channels are not whole blocks of {PACKED}")
        indices, count = tuple(n // PACKED for n in kept[::PACKED]), count * PACKED
    if count != whole * unit:
        raise ValueError(f"{tensor.name}: axis {axis} of {tensor.shape} does not hold {whole}")
    size = len(indices) // experts * unit
    shape = (*tensor.shape[:axis], size, *tensor.shape[axis + 1 :])
    return Output(
        tensor.name,
        tensor.dtype,
        shape,
        _share(tensor.nbytes, value, whole),
        _share(tensor.numel, value, whole),
        TakeEach(tensor.name, axis, indices, unit),
    )


def pooled(tensor: TensorSpec, block: Attention, heads: int) -> Output:
    """KV heads averaged into `heads` heads (paper B, appendix A); a copy of any other tensor."""
    if "kv_heads" not in tensor.axes:
        return copied(tensor)
    if tensor.axes[0] != "kv_heads" or tensor.shape[0] != block.kv_heads * block.head_dim:
        raise ValueError(f"{tensor.name}: axis 0 of {tensor.shape} is not {block.kv_heads} heads")
    return Output(
        tensor.name,
        tensor.dtype,
        (heads * block.head_dim, *tensor.shape[1:]),
        _share(tensor.nbytes, heads, block.kv_heads),
        _share(tensor.numel, heads, block.kv_heads),
        MeanHeads(tensor.name, heads, block.head_dim),
    )
