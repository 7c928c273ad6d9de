"""A facet of attention: how keys and values are cached.

In: an `Attention` block, its tensors, scales. Out: the block with an FP8 cache, and two scalars
beside its tensors. Refuses nothing: any attention can be cached in FP8.

K (after rotation) and V are stored as E4M3 of x / scale, one scale for each in a layer. The names
are those of NVIDIA's checkpoints and of vLLM: `self_attn.k_scale`, `self_attn.v_scale`.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from surgery.edits.edit import Refusal
from surgery.edits.facet import FacetEdit
from surgery.ir import Attention, Block, FacetKind, Scales, TensorSpec
from surgery.ops import Constant, Output

LARGEST = 448.0
"""The largest number of E4M3 (without infinities, as in `torch.float8_e4m3fn`)."""


def _never(_block: Block, _value: int) -> Refusal | None:
    return None


def _become(block: Block, _value: int) -> Block:
    return replace(block, kv_dtype="fp8_e4m3") if isinstance(block, Attention) else block


def _shows(block: Block | None, _value: int) -> bool:
    return isinstance(block, Attention) and block.kv_dtype == "fp8_e4m3"


def _adds(tensors: Sequence[TensorSpec], scales: Scales | None, how: str) -> tuple[Output, ...]:
    """One scalar for K, one for V, beside the projections that make them."""
    projection = next(tensor.name for tensor in tensors if "kv_heads" in tensor.axes)
    module = projection.rsplit(".", 2)[0]
    values = scales or Scales(0.0, 0.0)
    return tuple(
        # Like the scales of MXFP4 they are no parameters.
        Output(f"{module}.{name}", "F32", (), 4, 0, Constant(value, how))
        for name, value in (("k_scale", values.k), ("v_scale", values.v))
    )


FP8 = FacetEdit(
    name="fp8_e4m3",
    kind=FacetKind.KV_CACHE,
    valued=False,
    scaled=True,
    refuse=_never,
    become=_become,
    shows=_shows,
    suffix=lambda _value: "+fp8",
    adds=_adds,
)
