"""Surgery on attention and dense FFNs: one linear layer in place of a block (paper B).

In: an `Attention` or `Ffn` block. Out: `Linear`, and its one tensor beside the norm that feeds it.
Refuses families whose children have no words for it, and blocks with biases (E0423).

The layer is [hidden, hidden], without a bias, as NVIDIA's Nemotron-NAS has it. It begins as the
product of the block's projections (paper B, appendix A): for attention W_o W_v, as if every token
attended to itself alone, each query head by the value head that it shares; for an FFN W_down W_up,
the gate left out. The product is taken in float64 in a way that does not depend on the order of
sums, and rounded once. A linear attention caches nothing.

Nemotron-NAS is the format of Llama's children, so tensors have Llama's names here.
"""

from __future__ import annotations

from surgery import catalog
from surgery.arch import family_named
from surgery.edits.edit import Edit, Refusal, copied
from surgery.ir import Attention, Block, Linear, Model, Site, TensorSpec
from surgery.ops import Output, Product


def _refuse(model: Model, site: Site) -> Refusal | None:
    if not family_named(model.family).child.nested:
        return Refusal(
            catalog.E0423,
            f"children of {model.family} have no linear blocks",
            "no format says this of a layer",
            why=f"its children are written as {family_named(model.family).child.mixed}",
            help="use `noop` or a smaller block; linear blocks are for families like llama",
        )
    biased = [t.name for t in model.tensors if t.site is site and t.name.endswith(".bias")]
    if not biased:
        return None
    return Refusal(
        catalog.E0423,
        "a linear block has no bias, and the projections of this one have",
        "would leave them out",
        why=f"it has tensors like `{biased[0]}`",
        help="use `noop` or a smaller block",
    )


def _joined(
    tensors: tuple[TensorSpec, ...], name: str, left: str, right: str, head_dim: int = 0
) -> Output:
    """`left` times `right`, as the weight `name` of the module that both belong to."""
    found = {tensor.name.rsplit(".", 2)[1]: tensor for tensor in tensors}
    before, after = found[left], found[right]
    size = before.shape[0]
    stem = before.name.rsplit(".", 2)[0]
    nbytes = before.nbytes // before.numel * size * size
    op = Product(before.name, after.name, head_dim)
    return Output(f"{stem}.{name}.weight", before.dtype, (size, size), nbytes, size * size, op)


def _norms(tensors: tuple[TensorSpec, ...]) -> tuple[Output, ...]:
    return tuple(copied(tensor) for tensor in tensors if tensor.axes == ("hidden",))


def _join_attention(tensors: tuple[TensorSpec, ...], block: Block) -> tuple[Output, ...]:
    if not isinstance(block, Attention):
        raise TypeError(f"an attention edit on {block!r}")
    made = _joined(tensors, "linear_attn", "o_proj", "v_proj", block.head_dim)
    return (*_norms(tensors), made)


def _join_ffn(tensors: tuple[TensorSpec, ...], _block: Block) -> tuple[Output, ...]:
    return (*_norms(tensors), _joined(tensors, "linear_mlp", "down_proj", "up_proj"))


ATTENTION = Edit(
    name="linear",
    site=Site.ATTENTION,
    valued=False,
    selects=None,
    inits=("product",),
    refuse=lambda model, _block, _value: _refuse(model, Site.ATTENTION),
    become=lambda _block, _value: Linear(),
    text=lambda _value: "linear",
    cut=None,
    join=_join_attention,
)

FFN = Edit(
    name="linear",
    site=Site.FFN,
    valued=False,
    selects=None,
    inits=("product",),
    refuse=lambda model, _block, _value: _refuse(model, Site.FFN),
    become=lambda _block, _value: Linear(),
    text=lambda _value: "linear",
    cut=None,
    join=_join_ffn,
)
