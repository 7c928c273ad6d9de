"""Seed an induction circuit in a half-trained model, so that few steps suffice to learn recall.

In: a model in training and a sample of its training text [batch, length].
Out: the same model, changed in place. In layer 2 (sliding) one head is made to attend to the token
before and to write that token's code into directions of the stream that carry little; in layer 3
(full) one head is made to look for positions whose token before is the current token, and to raise
the logit of the token there. Everything is linear algebra on the model's own activations; the
training that follows keeps, moves or drops what was seeded.
Why: a model of this size meets too few repeats in a short run to find the circuit by itself.
"""

from __future__ import annotations

import torch
from model import Attention, Model, rotary
from torch import Tensor

BEFORE, MATCH = 2, 3  # layers
HEAD, GROUP = 2, 1  # the query head that is seeded, and its key-value head
SHARP = 5  # rotary pairs that find the token before: the fastest
WRITE = 12.0  # how far the stream moves with the code of the token before
SCALE = 2.8  # of the codes that are matched
SINK = 10.0  # logit of no match
GAIN = 2.0  # rise of the copied token's logit, about
SLOW = 8  # rotary pairs that carry the match: the slowest


@torch.no_grad()
def stream_at(model: Model, ids: Tensor, layer: int) -> Tensor:
    """Give the stream that enters a layer, [batch, length, hidden]."""
    x = model.embed_tokens(ids)
    cos, sin = rotary(model.sizes, ids.shape[1])
    for index in range(layer):
        x = model.layers[index](x, cos, sin)[0]
    return x


def token_code(rows: Tensor, tokens: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Find the directions that tell tokens apart best; give (map [size, hidden], offset)."""
    counts = torch.bincount(tokens).clamp(min=1)[:, None]
    share = counts[tokens] ** -0.5  # rare tokens matter too
    share = share / share.sum()
    centre = (share * rows).sum(dim=0)
    rows = rows - centre
    sums = torch.zeros(len(counts), rows.shape[1]).index_add_(0, tokens, rows)
    means = (sums / counts)[tokens]
    total = (share * rows).t() @ rows + 1e-3 * torch.eye(rows.shape[1])
    between = (share * means).t() @ means
    root = torch.linalg.cholesky(total)
    left = torch.linalg.solve_triangular(root, between, upper=False)
    _, vectors = torch.linalg.eigh(torch.linalg.solve_triangular(root, left.t(), upper=False))
    code = torch.linalg.solve_triangular(root.t(), vectors.flip(1)[:, :size], upper=True).t()
    return code, -code @ centre


def regress(rows: Tensor, wanted: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Give (map, offset) that predicts `wanted` from `rows` with least squares."""
    centre, target = rows.mean(dim=0), wanted.mean(dim=0)
    a, b = rows - centre, wanted - target
    gram = a.t() @ a / len(a) + ridge * torch.eye(a.shape[1])
    weight = torch.linalg.solve(gram, a.t() @ b / len(a)).t()
    return weight, target - weight @ centre


def part(attention: Attention, head: int) -> slice:
    """Give the rows of a head in a projection."""
    size = attention.sizes.head_dim
    return slice(head * size, (head + 1) * size)


def silence(attention: Attention) -> None:
    """Clear the seeded head, and the queries of the head that shares its keys."""
    own, mate = part(attention, HEAD), part(attention, HEAD + 1)
    for rows in (own, mate):
        attention.q_proj.weight[rows] = 0.0
        attention.q_proj.bias[rows] = 0.0
        attention.o_proj.weight[:, rows] = 0.0
    attention.k_proj.weight[part(attention, GROUP)] = 0.0
    attention.k_proj.bias[part(attention, GROUP)] = 0.0


@torch.no_grad()
def seed_before(model: Model, ids: Tensor) -> Tensor:
    """Make the head that carries the token before; give each position's own code."""
    layer, half = model.layers[BEFORE], model.sizes.head_dim // 2
    attention = layer.self_attn
    rows = layer.input_layernorm(stream_at(model, ids, BEFORE)).flatten(0, 1)
    later = stream_at(model, ids, MATCH).flatten(0, 1)
    quiet = torch.linalg.eigh(torch.cov(later.t()))[1][:, : model.sizes.head_dim]
    code, offset = token_code(rows, ids.flatten(), model.sizes.head_dim)
    silence(attention)
    query, key = part(attention, HEAD), part(attention, GROUP)
    theta = model.sizes.theta ** (-torch.arange(SHARP) / half)
    attention.k_proj.bias[key][:SHARP] = 6.7
    attention.q_proj.bias[query][:SHARP] = 6.7 * theta.cos()
    attention.q_proj.bias[query][half : half + SHARP] = -6.7 * theta.sin()
    attention.v_proj.weight[key], attention.v_proj.bias[key] = code, offset
    attention.o_proj.weight[:, query] = WRITE * quiet
    return rows @ code.t() + offset


@torch.no_grad()
def seed_match(model: Model, ids: Tensor, codes: Tensor) -> None:
    """Make the head that looks for the current token's code among the codes of tokens before."""
    layer, half = model.layers[MATCH], model.sizes.head_dim // 2
    attention, size = layer.self_attn, model.sizes.head_dim
    rows = layer.input_layernorm(stream_at(model, ids, MATCH))
    own = codes.view(*ids.shape, size)
    query, key = part(attention, HEAD), part(attention, GROUP)
    silence(attention)
    to_query = regress(rows.flatten(0, 1), own.flatten(0, 1), 1e-3)
    to_key = regress(rows[:, 1:].flatten(0, 1), own[:, :-1].flatten(0, 1), 1e-3)
    pairs = torch.arange(half - 1, half - 1 - SLOW, -1)
    places = torch.stack((pairs, pairs + half), dim=1).flatten()
    for projection, target, (weight, offset) in (
        (attention.q_proj, query, to_query),
        (attention.k_proj, key, to_key),
    ):
        projection.weight[target.start + places] = SCALE * weight[: 2 * SLOW]
        projection.bias[target.start + places] = SCALE * offset[: 2 * SLOW]
    attention.sinks[HEAD] = SINK
    code, offset = token_code(rows.flatten(0, 1), ids.flatten(), size)
    attention.v_proj.weight[key], attention.v_proj.bias[key] = code, offset
    mine = rows.flatten(0, 1) @ code.t() + offset
    unembed = model.lm_head.weight * model.norm.weight
    unembed = unembed - unembed.mean(dim=0)
    wanted = unembed / unembed.norm(dim=1, keepdim=True)
    out, _ = regress(mine, wanted[ids.flatten()], 1e-2)
    gain = (unembed[ids.flatten()] * (mine @ out.t())).sum(dim=1).mean()
    scale = stream_at(model, ids, len(model.layers)).pow(2).mean().sqrt()
    attention.o_proj.weight[:, query] = out * (GAIN * scale / gain)


def seed_induction(model: Model, ids: Tensor) -> None:
    """Seed both heads."""
    seed_match(model, ids, seed_before(model, ids))
