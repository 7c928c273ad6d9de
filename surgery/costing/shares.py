"""How the weights of a block are shared among GPUs: which bytes are divided, which are copied.

In: tensors of a model (`ir.TensorSpec`), named axes and all, and a `Parallel`. Out: `Shares`, which
add over blocks, and bytes per GPU. The rules are those of vLLM and SGLang: projections are divided
along heads or channels, embeddings and the output head along the vocabulary, experts are dealt out
whole or divided along their width; norms, routers and biases of the output side are copied.
Widths that GPUs do not divide evenly are rounded up. Not here: padding that kernels ask for
(`memory.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from msgspec import Struct

from surgery.arch.family import family_named
from surgery.costing.parallel import Parallel
from surgery.ir import Model, TensorSpec

Kind: TypeAlias = Literal["whole", "split", "kv", "experts", "rows"]


class Shares(Struct, frozen=True):
    """Bytes of weights by how they are shared; additive.

    `whole` is on every GPU, `split` is divided among the GPUs that share a layer, `kv` among as
    many of them as there are KV heads at most, `experts` are dealt out and divided along their
    width, `rows` dealt out alone (a bias after an expert's second projection).
    """

    whole: int = 0
    split: int = 0
    kv: int = 0
    experts: int = 0
    rows: int = 0

    def __add__(self, other: Shares) -> Shares:
        return Shares(
            self.whole + other.whole,
            self.split + other.split,
            self.kv + other.kv,
            self.experts + other.experts,
            self.rows + other.rows,
        )

    @property
    def total(self) -> int:
        """All bytes, as one GPU would hold them."""
        return self.whole + self.split + self.kv + self.experts + self.rows

    def per_gpu(self, shared: Parallel, kv_heads: int) -> int:
        """Bytes on the fullest GPU that holds the block. KV heads are copied where they are few."""
        dealt = shared.expert
        return (
            self.whole
            + _up(self.split, shared.tensor)
            + _up(self.kv, min(shared.tensor, max(1, kv_heads)))
            + _up(self.experts, dealt * shared.sharing_expert)
            + _up(self.rows, dealt)
        )


def _up(number: int, parts: int) -> int:
    return -(-number // parts)


def shares(model: Model, tensors: Iterable[TensorSpec]) -> Shares:
    """How tensors of a model are shared."""
    router = family_named(model.family).router
    module = router.module if router else ""
    found = Shares()
    for tensor in tensors:
        found += Shares(**{kind(tensor, module): tensor.nbytes})
    return found


def kind(tensor: TensorSpec, router: str) -> Kind:
    """How one tensor is shared; `router` is what the family calls its routers."""
    axes = {axis.split("*")[0].split("/")[0] for axis in tensor.axes}
    if tensor.expert is not None or ("experts" in axes and f".{router}." not in tensor.name):
        return "experts" if "ffn" in axes else "rows"
    if "kv_heads" in axes:
        return "kv"
    return "split" if axes & {"heads", "ffn", "vocab"} else "whole"
