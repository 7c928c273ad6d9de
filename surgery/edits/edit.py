"""What an edit is: the record that every file of `edits/` fills in, and how tensors are cut.

In: a parent block, the edit's argument, the parent tensors of the site. Out: `Refusal` (why an
edit is illegal on a block) and `ops.Output` (what a child tensor is made of). Tensors are found
by what their axes mean (`ir.TensorSpec.axes`), never by name: families are data. Refuses nothing
by itself; a tensor whose shape contradicts its axes is a `ValueError`, because `resolve` has
checked it against the config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from surgery.diagnostics import Code
from surgery.ir import Attention, Block, Model, OfExpert, Site, TensorSpec
from surgery.ops import Copy, MeanHeads, Output, Take


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


class Edit(Struct, frozen=True):
    """One kind of surgery on one site.

    `valued` edits take one whole number, which the functions get as `value` (0 otherwise);
    `selects` says that a ranking must list what is kept; `inits` are the initialisers it accepts,
    the default first. `refuse` may assume `value >= 1`; `become` gives the block (`None`: no-op);
    `cut` gives one child tensor, or none, and gets the kept list of edits that select, else `()`;
    it is `None` for a no-op, which leaves no tensor.
    """

    name: str
    site: Site
    valued: bool
    selects: bool
    inits: tuple[str, ...]
    refuse: Callable[[Model, Block, int], Refusal | None]
    become: Callable[[Block, int], Block | None]
    text: Callable[[int], str]
    cut: Callable[[TensorSpec, Block, int, tuple[int, ...]], Output | None] | None


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
