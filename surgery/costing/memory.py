"""Bytes per GPU while serving: weights, KV cache as the engine allocates it, workspace.

In: layers, shares of weights, a `Parallel`, the `Profile` of an engine. Out: bytes per GPU, and how
many sequences fit. Exact arithmetic on the engine's own rules, which the profile names; what an
engine only knows at run time (fragments, its CUDA context) is an allowance of the profile, stated
there. Not here: time (`time.py`), what a spec asks for (`facts.py`).

vLLM with layers of different windows (`paging.py`): all groups draw pages from one pool, a page
holding `block` tokens of as many layers as a group has, so that a sequence pays for the slots of
every group. A windowed layer holds the window and, while a prompt is being read, the tokens of one
step: vLLM admits a sequence only if ceil((window - 1 + step) / block) + 1 pages are there for it.
SGLang keeps two pools whose sizes have a fixed ratio, one for full attention and one for windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from surgery import paging
from surgery.costing.parallel import Parallel
from surgery.costing.shares import Shares
from surgery.ir import Attention, Experts, Ffn, Layer
from surgery.sizes import KV_BYTES

_GIB = 2**30


class Profile(Struct, frozen=True):
    """How one engine spends memory. Lengths in tokens, `reserve` and `links` in bytes.

    `hybrid` is what layers of different windows do: share pages in groups, have pools of their own
    (`ratio` is the windows' pool by the other's, in tokens), or hold exactly what they need.
    `step` is the most tokens of one step, `sequences` the most sequences, `utilization` the part
    of a GPU's memory that may be used. `width` and `hidden` are what MXFP4 kernels round these
    dimensions up to on each GPU. `reserve` is for the CUDA context and graphs, `links` for buffers
    of the communication library where GPUs share layers.
    """

    name: str
    hybrid: Literal["groups", "pools", "exact"]
    block: int = 1
    step: int = 0
    sequences: int | None = None
    utilization: float = 1.0
    ratio: float = 1.0
    width: int = 1
    hidden: int = 1
    reserve: int = 0
    links: int = 0


IDEAL = Profile("ideal", "exact")
"""Nothing but weights and the tokens that attention can see: what no engine can go below."""

VLLM = Profile(
    "vllm",
    "groups",
    block=16,
    step=8192,
    sequences=256,
    utilization=0.9,
    width=64,
    reserve=_GIB // 2,
    links=_GIB,
)
"""vLLM 0.32 with its defaults for servers; MXFP4 experts as its Triton kernels want them."""

SGLANG = Profile(
    "sglang",
    "pools",
    step=8192,
    sequences=256,
    utilization=0.88,
    ratio=0.8,
    width=64,
    reserve=_GIB // 2,
    links=_GIB,
)
"""SGLang 0.5 with its defaults: pages of one token, `swa_full_tokens_ratio` 0.8."""

TORCH = Profile("torch", "exact")
"""PyTorch with the models of `surgery_runtime`: bytes as stored, nothing else is counted."""

PROFILES = {profile.name: profile for profile in (VLLM, SGLANG, IDEAL, TORCH)}


# ---- weights ---------------------------------------------------------------------------------


def weights(
    fixed: Shares,
    blocks: Iterable[tuple[Layer, Shares]],
    shared: Parallel,
    profile: Profile,
    hidden: int,
) -> int:
    """Bytes of weights on the fullest GPU of one stage; `hidden` is the model's width.

    Stages of a pipeline are as equal as whole layers allow; the embeddings are counted to each.
    """
    found = [_layer(layer, parts, shared, profile, hidden) for layer, parts in blocks]
    largest = max((sum(stage) for stage in _stages(found, shared.pipeline)), default=0)
    return fixed.per_gpu(shared, 1) + largest


def _layer(layer: Layer, parts: Shares, shared: Parallel, profile: Profile, hidden: int) -> int:
    heads = layer.attention.kv_heads if isinstance(layer.attention, Attention) else 1
    bytes_ = parts.per_gpu(shared, heads)
    if isinstance(layer.mlp, Experts) and parts.experts:
        experts = Shares(experts=parts.experts).per_gpu(shared, 1)
        bytes_ += round(experts * (padding(layer.mlp.width, hidden, shared, profile) - 1))
    return bytes_


def padding(width: int, hidden: int, shared: Parallel, profile: Profile) -> float:
    """By what factor rounding up to what kernels want makes the experts larger."""
    ranks = shared.sharing_expert
    mine = -(-width // ranks)
    rounded = -(-mine // profile.width) * profile.width
    tall = -(-hidden // profile.hidden) * profile.hidden
    return rounded * ranks / width * tall / hidden


def _stages(found: Sequence[int], stages: int) -> Iterable[Sequence[int]]:
    size, rest = divmod(len(found), stages)
    start = 0
    for stage in range(stages):
        end = start + size + (stage < rest)
        yield found[start:end]
        start = end


# ---- KV cache --------------------------------------------------------------------------------


def kv_per_token(attention: Attention, shared: Parallel) -> int:
    """Bytes that a token adds to one layer on one GPU: at least one KV head, however many GPUs."""
    heads = -(-attention.kv_heads // shared.tensor)
    return 2 * heads * attention.head_dim * KV_BYTES[attention.kv_dtype]


def kv_per_sequence(
    layers: Sequence[Layer],
    tokens: int,
    shared: Parallel,
    profile: Profile,
    group: int | None = None,
) -> float:
    """KV bytes per GPU that one sequence of `tokens` tokens takes from the engine's pool.

    Layers of one pipeline stage: the last of them all, taken from the whole. `group` overrides
    the number of layers that share pages.
    """
    kinds = paging.kinds(layers)
    match profile.hybrid:
        case "exact":
            sizes = [kind.layers * _exact(kind.attention, tokens, shared) for kind in kinds]
        case "groups":
            sizes = [
                _slots(kind, kinds, group) * _pages(kind.attention, tokens, shared, profile)
                for kind in kinds
            ]
        case "pools":
            return _pools(kinds, tokens, shared, profile) / shared.pipeline
    return sum(sizes) / shared.pipeline


def _exact(attention: Attention, tokens: int, shared: Parallel) -> int:
    held = tokens if attention.held is None else min(tokens, attention.held)
    return held * kv_per_token(attention, shared)


def _slots(kind: paging.Kind, kinds: Sequence[paging.Kind], group: int | None) -> int:
    if group is None or len(kinds) < 2:
        return kind.slots
    return -(-kind.layers // group) * group


def pages(attention: Attention, tokens: int, profile: Profile) -> int:
    """Pages of `profile.block` tokens that vLLM has ready for one sequence in one layer."""
    whole = -(-tokens // profile.block)
    if attention.held is None:
        return whole
    held = min(attention.held - 1 + profile.step, tokens)
    # A window may begin inside a page, which takes one more.
    return min(whole, -(-held // profile.block) + 1)


def _pages(attention: Attention, tokens: int, shared: Parallel, profile: Profile) -> int:
    count = pages(attention, tokens, profile)
    return count * profile.block * kv_per_token(attention, shared)


def _pools(kinds: Sequence[paging.Kind], tokens: int, shared: Parallel, profile: Profile) -> float:
    """Both pools grow together, so a sequence costs what the pool that fills up first says."""
    full = [kind for kind in kinds if kind.attention.window is None]
    windowed = [kind for kind in kinds if kind.attention.window is not None]
    per_full = sum(kind.layers * kv_per_token(kind.attention, shared) for kind in full)
    per_window = sum(kind.layers * kv_per_token(kind.attention, shared) for kind in windowed)
    if not full or not windowed:
        longest = max((kind.attention.held or tokens for kind in kinds), default=0)
        return min(tokens, longest) * (per_full + per_window)
    longest = max(kind.attention.held or 0 for kind in windowed)
    held = min(tokens, longest + profile.step)
    scale = max(float(tokens), held / profile.ratio)
    return scale * (per_full + profile.ratio * per_window)


# ---- what is left ----------------------------------------------------------------------------


class Body(Struct, frozen=True):
    """What the workspace depends on beside the layers: width and vocabulary of the model."""

    hidden: int
    vocab: int


def workspace(layers: Sequence[Layer], body: Body, shared: Parallel, profile: Profile) -> int:
    """Bytes of activations of the widest step, and the profile's allowances, on one GPU.

    A step of `profile.step` tokens in BF16: the residual and its norm, and the widest of the
    projections and of the experts' rows (their two inputs and what lies between); logits of
    `profile.sequences` sequences in float32.
    """
    widest = max((_row(layer, body.hidden, shared) for layer in layers), default=0)
    logits = 4 * (profile.sequences or 0) * body.vocab
    links = profile.links if shared.tensor > 1 else 0
    return 2 * profile.step * (2 * body.hidden + widest) + logits + profile.reserve + links


def _row(layer: Layer, hidden: int, shared: Parallel) -> int:
    """Numbers that one token needs at once in the wider block of a layer, on one GPU."""
    attention, mlp = layer.attention, layer.mlp
    rows = [0]
    if isinstance(attention, Attention):
        heads = attention.heads + 2 * attention.kv_heads
        rows.append(-(-heads * attention.head_dim // shared.tensor))
    if isinstance(mlp, Experts):
        width = -(-mlp.width // shared.sharing_expert)
        rows.append(mlp.active * (max(2 * width, hidden) + width))
    elif isinstance(mlp, Ffn):
        rows.append(3 * -(-mlp.width // shared.tensor))
    return max(rows)


class Room(Struct, frozen=True):
    """What one GPU has and what goes before any sequence; bytes."""

    memory: int
    weights: int
    workspace: int
    utilization: float

    @property
    def pool(self) -> float:
        """Bytes that are left for the KV cache; below 0 the weights themselves do not fit."""
        return self.memory * self.utilization - self.weights - self.workspace

    def batch(self, per_sequence: float, limit: int | None = None) -> int:
        """How many sequences fit, 0 if not even one."""
        if self.pool < per_sequence or self.pool <= 0:
            return 0
        found = int(self.pool // per_sequence) if per_sequence > 0 else limit or 1
        return found if limit is None else min(found, limit)
