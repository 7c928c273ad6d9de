"""MXFP4: blocks of 32 numbers along the input axis, FP4 (E2M1) each, one power-of-two scale.

In and out: expert matrices [experts, in, out] in float32; packed, they are stored the other way
round, as gpt-oss stores them: blocks uint8 [experts, out, in / 32, 16] (low nibble first) and
scales uint8 [experts, out, in / 32] (exponent + 127).
`pack` then `unpack` gives exactly `quantise`; all rounding is to nearest, ties to even codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 32
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Between codes c and c + 1; a tie goes to the even code.
EDGES = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


def exponents(blocks: Tensor) -> Tensor:
    """Give each block's scale exponent: the largest magnitude lands in [4, 8), or clips to 6."""
    largest = blocks.abs().amax(dim=-1).clamp(min=2.0**-100)
    _, exponent = torch.frexp(largest * (8.0 / 7.0))
    return exponent - 3


def as_blocks(weight: Tensor) -> Tensor:
    """View [experts, in, out] as [experts, out, in / 32, 32]."""
    experts, inner, out = weight.shape
    if inner % BLOCK:
        raise ValueError(f"input axis {inner} is no multiple of {BLOCK}")
    return weight.transpose(1, 2).contiguous().view(experts, out, inner // BLOCK, BLOCK)


def quantise(weight: Tensor) -> Tensor:
    """Round to the values that MXFP4 can hold."""
    experts, inner, out = weight.shape
    blocks = weight.view(experts, inner // BLOCK, BLOCK, out)
    largest = blocks.abs().amax(dim=2, keepdim=True).clamp(min=2.0**-100)
    _, exponent = torch.frexp(largest * (8.0 / 7.0))
    scale = torch.ldexp(torch.ones_like(largest), exponent - 3)
    scaled = (blocks / scale).clamp(-6.0, 6.0)
    size = scaled.abs()
    # Magnitudes below 2 lie on steps of 1/2, below 4 on steps of 1, above on steps of 2.
    step = torch.where(size < 2.0, 0.5, torch.where(size < 4.0, 1.0, 2.0))
    return (torch.round(scaled / step) * step * scale).view_as(weight)


class Straight(torch.autograd.Function):
    """Quantise forwards, pass the gradient through backwards."""

    @staticmethod
    def forward(ctx: object, weight: Tensor) -> Tensor:
        """Round."""
        return rounded(weight)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        """Pass."""
        return grad


rounded = torch.compile(quantise, dynamic=False)


def fake_quantise(weight: Tensor) -> Tensor:
    """Round with straight-through gradients."""
    return Straight.apply(weight)


def pack(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Give (blocks, scales) of an expert matrix [experts, in, out]."""
    blocks = as_blocks(weight)
    exponent = exponents(blocks)
    scaled = blocks / torch.ldexp(torch.ones_like(blocks[..., 0]), exponent)[..., None]
    size, edges = scaled.abs(), torch.tensor(EDGES)
    code = torch.bucketize(size, edges, right=False)
    tie = (code < len(EDGES)) & (size == edges[code.clamp(max=len(EDGES) - 1)]) & (code % 2 == 1)
    code = (code + tie.long() + 8 * (scaled < 0).long()).to(torch.uint8)
    packed = code[..., 0::2] | (code[..., 1::2] << 4)
    return packed.contiguous(), (exponent + 127).to(torch.uint8).contiguous()


def unpack(blocks: Tensor, scales: Tensor) -> Tensor:
    """Give the matrix [experts, in, out] back."""
    table = torch.tensor((*VALUES, *(-value for value in VALUES)))
    code = torch.stack((blocks & 15, blocks >> 4), dim=-1).flatten(-2)
    exponent = scales.to(torch.int32) - 127
    values = torch.ldexp(table[code.long()], exponent[..., None])
    return values.flatten(-2).transpose(1, 2).contiguous()
