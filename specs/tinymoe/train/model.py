"""The training model: gpt-oss written for two CPU cores, with parameters that map 1:1 to gpt-oss.

In: token ids [batch, length]. Out: the mean loss per token, and what the router did.
The mathematics is that of transformers' `GptOssForCausalLM`; what differs is the execution: the
rows of each expert are gathered and multiplied slice by slice, the sink is folded into the softmax,
and experts may be rounded to MXFP4 on the way (straight-through gradients).
Not here: caches, generation, padding. Every sequence starts at position 0.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from mxfp4 import fake_quantise
from torch import Tensor, nn
from torch.nn import functional as F

ALPHA, LIMIT = 1.702, 7.0
FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of the model."""

    vocabulary: int = 3072
    hidden: int = 128
    layers: int = 8
    experts: int = 32
    chosen: int = 4
    width: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    window: int = 64
    theta: float = 10_000.0
    eps: float = 1e-5
    positions: int = 1024

    def sliding(self, layer: int) -> bool:
        """Say whether a layer sees only its window: every second one, from the first."""
        return layer % 2 == 0


class Norm(nn.Module):
    """Root-mean-square normalisation with a learned scale."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotary(sizes: Sizes, length: int) -> tuple[Tensor, Tensor]:
    """Give cosines and sines [length, head_dim / 2] of the default rotary embedding."""
    steps = torch.arange(0, sizes.head_dim, 2, dtype=torch.float32) / sizes.head_dim
    angles = torch.arange(length, dtype=torch.float32)[:, None] / sizes.theta**steps
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of features (i, i + head_dim / 2) of x [.., length, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@lru_cache(maxsize=8)
def band(window: int, blocks: int, batch: int) -> Tensor:
    """Give the additive mask of each block over the block before and itself."""
    row, column = torch.arange(window)[:, None], torch.arange(2 * window)[None, :]
    seen = (column <= row + window) & (column > row)
    masks = torch.stack((seen & (column >= window), *[seen] * (blocks - 1)))
    masks = torch.zeros(masks.shape).masked_fill(~masks, -torch.inf)
    return masks.repeat(batch, 1, 1)[:, None]


class SinkAttention(torch.autograd.Function):
    """Causal attention whose softmax has one more column, the sink, with no value.

    The fused kernel gives the output and log-sum-exp without the sink. With it, the log-sum-exp is
    logaddexp(lse, sink) and the output shrinks by the same factor; the kernel's own backward pass,
    given those two, computes exactly the gradients of the wider softmax.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Attend, given (queries, keys, values, sinks, mask); without a mask, causally."""
        q, k, v, sinks, mask = inputs
        out, lse = FLASH(q, k, v, 0.0, mask is None, attn_mask=mask)
        wide = torch.logaddexp(lse, sinks[None, :, None])
        out = out * (lse - wide).exp()[..., None]
        ctx.mask = mask
        ctx.save_for_backward(q, k, v, out, wide, sinks)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Give the gradients of queries, keys, values and sinks."""
        q, k, v, out, wide, sinks = ctx.saved_tensors
        causal = ctx.mask is None
        grads = FLASH_BACKWARD(grad, q, k, v, out, wide, 0.0, causal, attn_mask=ctx.mask)
        share = (sinks[None, :, None] - wide).exp()
        return (*grads, -(share * (grad * out).sum(dim=-1)).sum(dim=(0, 2)), None)


class Attention(nn.Module):
    """Grouped-query attention with a sink for each head."""

    def __init__(self, sizes: Sizes, sliding: bool) -> None:
        super().__init__()
        self.sizes, self.window = sizes, sizes.window if sliding else None
        inner, kv = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
        self.q_proj = nn.Linear(sizes.hidden, inner)
        self.k_proj = nn.Linear(sizes.hidden, kv)
        self.v_proj = nn.Linear(sizes.hidden, kv)
        self.o_proj = nn.Linear(inner, sizes.hidden)
        self.sinks = nn.Parameter(torch.zeros(sizes.heads))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend to what came before, within the window if there is one."""
        batch, length, _ = x.shape
        s = self.sizes
        q = self.q_proj(x).view(batch, length, s.heads, s.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, s.kv_heads, s.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, s.kv_heads, s.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        groups = s.heads // s.kv_heads
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        if self.window is None:
            out = SinkAttention.apply(q, k, v, self.sinks, None)
        else:
            out = self.banded(q, k, v)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))

    def banded(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend block by block: each block of a window's length sees itself and the one before."""
        batch, heads, length, dim = q.shape
        w = self.window or length
        blocks = length // w
        if length % w:
            raise ValueError(f"length {length} is no multiple of the window {w}")

        def split(x: Tensor) -> Tensor:
            return x.view(batch, heads, blocks, w, dim).transpose(1, 2)

        def paired(x: Tensor) -> Tensor:
            x = split(x)
            before = F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1]
            return torch.cat((before, x), dim=3).view(-1, heads, 2 * w, dim)

        q = split(q).reshape(-1, heads, w, dim)
        out = SinkAttention.apply(q, paired(k), paired(v), self.sinks, band(w, blocks, batch))
        out = out.view(batch, blocks, heads, w, dim).transpose(1, 2)
        return out.reshape(batch, heads, length, dim)


@torch.compile(dynamic=False)
def activate(inner: Tensor) -> Tensor:
    """Apply gpt-oss's clamped gate to [gate | up]."""
    gate, up = inner.chunk(2, dim=-1)
    gate, up = gate.clamp(max=LIMIT), up.clamp(-LIMIT, LIMIT)
    return (up + 1) * gate * torch.sigmoid(ALPHA * gate)


@torch.compile(dynamic=False)
def activate_backward(inner: Tensor, grad: Tensor) -> Tensor:
    """Give the gradient of [gate | up]."""
    gate_in, up_in = inner.chunk(2, dim=-1)
    gate, up = gate_in.clamp(max=LIMIT), up_in.clamp(-LIMIT, LIMIT)
    slope = torch.sigmoid(ALPHA * gate)
    by_up = grad * gate * slope * ((up_in >= -LIMIT) & (up_in <= LIMIT))
    by_gate = grad * (up + 1) * slope * (1 + ALPHA * gate * (1 - slope)) * (gate_in <= LIMIT)
    return torch.cat((by_gate, by_up), dim=-1)


class MixExperts(torch.autograd.Function):
    """Send each row to its experts and mix what they give.

    Rows are gathered in the order of their expert, so that each expert multiplies one slice.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Gather, multiply expert by expert, scatter."""
        flat, share, up_w, up_b, down_w, down_b, order, bounds = inputs
        chosen = share.shape[1]
        x = flat.index_select(0, order // chosen)
        inner = x.new_empty(x.shape[0], up_w.shape[2])
        out = torch.empty_like(x)
        parts = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        for e, part in enumerate(parts):
            torch.addmm(up_b[e], x[part], up_w[e], out=inner[part])
        act = activate(inner)
        for e, part in enumerate(parts):
            torch.addmm(down_b[e], act[part], down_w[e], out=out[part])
        back = torch.empty_like(order)
        back[order] = torch.arange(order.numel())
        ctx.parts = parts
        ctx.save_for_backward(x, inner, act, out, share, up_w, down_w, order, back)
        by_row = out.index_select(0, back).view(*share.shape, -1)
        return torch.bmm(share[:, None], by_row)[:, 0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Run the same slices backwards."""
        x, inner, act, out, share, up_w, down_w, order, back = ctx.saved_tensors
        g = grad.index_select(0, order // share.shape[1])
        by_share = (g * out).sum(dim=1).index_select(0, back).view_as(share)
        g.mul_(share.flatten()[order][:, None])
        by_act, by_x = torch.empty_like(act), torch.empty_like(x)
        by_up_w, by_down_w = torch.empty_like(up_w), torch.empty_like(down_w)
        by_up_b = x.new_empty(up_w.shape[0], up_w.shape[2])
        by_down_b = x.new_empty(down_w.shape[0], down_w.shape[2])
        for e, part in enumerate(ctx.parts):
            torch.mm(g[part], down_w[e].t(), out=by_act[part])
            torch.mm(act[part].t(), g[part], out=by_down_w[e])
            torch.sum(g[part], dim=0, out=by_down_b[e])
        by_inner = activate_backward(inner, by_act)
        for e, part in enumerate(ctx.parts):
            torch.mm(by_inner[part], up_w[e].t(), out=by_x[part])
            torch.mm(x[part].t(), by_inner[part], out=by_up_w[e])
            torch.sum(by_inner[part], dim=0, out=by_up_b[e])
        by_flat = by_x.index_select(0, back).view(*share.shape, -1).sum(dim=1)
        return by_flat, by_share, by_up_w, by_up_b, by_down_w, by_down_b, None, None


class Experts(nn.Module):
    """The router and its experts; gate_up holds all gates, then all ups (export interleaves)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        e, h, w = sizes.experts, sizes.hidden, sizes.width
        self.sizes = sizes
        self.router = nn.Linear(h, e)
        self.gate_up_proj = nn.Parameter(torch.randn(e, h, 2 * w) * h**-0.5)
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(e, 2 * w))
        self.down_proj = nn.Parameter(torch.randn(e, w, h) * w**-0.5)
        self.down_proj_bias = nn.Parameter(torch.zeros(e, h))
        self.quantised = False
        self.allowed: Tensor | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the output, the balance loss of this layer, and the chosen experts [rows, k]."""
        s = self.sizes
        flat = x.reshape(-1, s.hidden)
        logits = self.router(flat)
        if self.allowed is not None:
            logits = logits.masked_fill(~self.allowed, -torch.inf)
        top, chosen = logits.topk(s.chosen, dim=-1)
        share = top.softmax(dim=-1)
        expert, order = chosen.flatten().sort(stable=True)
        counts = torch.bincount(expert, minlength=s.experts)
        bounds = [0, *counts.cumsum(0).tolist()]
        up_w, down_w = self.gate_up_proj, self.down_proj
        if self.quantised:
            up_w, down_w = fake_quantise(up_w), fake_quantise(down_w)
        biases = self.gate_up_proj_bias, self.down_proj_bias
        mixed = MixExperts.apply(flat, share, up_w, biases[0], down_w, biases[1], order, bounds)
        used = counts.to(flat.dtype) / expert.numel()
        balance = s.experts * (used * logits.softmax(dim=-1).mean(dim=0)).sum()
        return mixed.view_as(x), balance, chosen


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, sizes: Sizes, index: int) -> None:
        super().__init__()
        self.input_layernorm = Norm(sizes.hidden, sizes.eps)
        self.self_attn = Attention(sizes, sizes.sliding(index))
        self.post_attention_layernorm = Norm(sizes.hidden, sizes.eps)
        self.mlp = Experts(sizes)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attention, then experts, each added to the stream."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out, balance, chosen = self.mlp(self.post_attention_layernorm(x))
        return x + out, balance, chosen


class Model(nn.Module):
    """The whole model."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.hidden)
        self.layers = nn.ModuleList(Layer(sizes, i) for i in range(sizes.layers))
        self.norm = Norm(sizes.hidden, sizes.eps)
        self.lm_head = nn.Linear(sizes.hidden, sizes.vocabulary, bias=False)
        self.initialise()

    def initialise(self) -> None:
        """Draw the weights: inputs by their fan-in, outputs into the stream smaller."""
        nn.init.normal_(self.embed_tokens.weight, std=0.5)
        nn.init.normal_(self.lm_head.weight, std=0.02)
        for layer in self.layers:
            for name, parameter in layer.named_parameters():
                if name.endswith("bias"):
                    nn.init.zeros_(parameter)
                elif name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
                    nn.init.normal_(parameter, std=self.sizes.hidden**-0.5)
                elif name.endswith("router.weight"):
                    nn.init.normal_(parameter, std=0.02)
                elif name.endswith(("o_proj.weight", "down_proj")):
                    nn.init.normal_(parameter, std=0.3 * self.sizes.hidden**-0.5)

    def quantise(self, on: bool) -> None:
        """Round the experts to MXFP4 in every forward pass from now on, or stop."""
        for layer in self.layers:
            layer.mlp.quantised = on

    def hidden(self, ids: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Give the final hidden states, the summed balance losses, the chosen experts."""
        x = self.embed_tokens(ids)
        cos, sin = rotary(self.sizes, ids.shape[1])
        balances, choices = x.new_zeros(()), list[Tensor]()
        for layer in self.layers:
            x, balance, chosen = layer(x, cos, sin)
            balances = balances + balance
            choices.append(chosen)
        return self.norm(x), balances, choices

    def losses(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Give the loss of each next token [batch, length - 1] and the balance loss."""
        x, balance, _ = self.hidden(ids)
        logits = self.lm_head(x[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        return loss.view(ids.shape[0], -1), balance
