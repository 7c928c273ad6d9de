"""What the parent is: `Model`, its weights known by hash alone, and the blocks of its layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct, field

from surgery.ir.site import Site


class Attention(Struct, frozen=True):
    """One attention block. `window` counts the current token; `None` is full attention.

    With a window, the first `sinks` tokens of a sequence stay in sight besides. `kv_dtype` is how K
    and V are cached: `bf16`, or `fp8_e4m3` with one scale for K and one for V.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    kv_dtype: str = "bf16"
    sinks: int = 0

    @property
    def held(self) -> int | None:
        """Tokens whose K and V are held at most; `None` is all of them."""
        return None if self.window is None else self.window + self.sinks


class Scales(Struct, frozen=True):
    """What keys and values are divided by before they are cached in FP8: float32, above 0."""

    k: float
    v: float


class Ffn(Struct, frozen=True):
    """One dense gated FFN of intermediate size `width`."""

    width: int


class Experts(Struct, frozen=True):
    """One mixture of `count` experts of intermediate size `width`, `active` per token."""

    count: int
    active: int
    width: int


class Linear(Struct, frozen=True):
    """One linear layer in place of a block: [hidden, hidden], no bias, no cache (paper B)."""


Block: TypeAlias = Attention | Ffn | Experts | Linear


class Layer(Struct, frozen=True):
    """What a layer is; `None` in place of a block means that the block is not there (no-op)."""

    index: int
    attention: Attention | Linear | None
    mlp: Ffn | Experts | Linear | None

    @property
    def attends(self) -> Attention | None:
        """The attention block, where there is one that looks at other tokens."""
        return self.attention if isinstance(self.attention, Attention) else None

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites a parent layer offers, in plan order."""
        mlp = Site.EXPERTS if isinstance(self.mlp, Experts) else Site.FFN
        return (Site.ATTENTION, mlp)

    def block(self, site: Site) -> Block | None:
        """The block at `site`."""
        return self.attention if site is Site.ATTENTION else self.mlp


class OfExpert(Struct, frozen=True):
    """Says that a tensor is one expert's own: `pattern` is its name with `{expert}` for `index`.

    In memory, slice e of axis 0 of the parameter holds expert e: its tensors, concatenated in the
    order of `piece`.
    """

    pattern: str
    index: int
    piece: int

    def named(self, index: int) -> str:
        """What the tensor is called when the expert has the number `index`."""
        return self.pattern.replace("{expert}", str(index))


class TensorSpec(Struct, frozen=True):
    """A tensor that the family says the parent has.

    `shape` is as stored; `dtype` the safetensors name (BF16, F32, U8, ...). `axes` names each
    dimension: experts, ffn (FFN channels; `ffn*2` interleaved gate and up), heads, kv_heads
    (times head_dim), hidden, vocab, or `-`. `layer` and `site` are `None` outside layers; a
    tensor that every block of a layer needs (a norm that feeds the site) belongs to that site.
    `numel` counts parameters, which for packed MXFP4 is not the number of stored elements:
    scales count none, each byte of blocks counts two. `parameter` is what Transformers calls it in
    memory (`None`: the same), `expert` whose it is where every expert has tensors of its own.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[str, ...]
    layer: int | None
    site: Site | None
    nbytes: int
    numel: int
    parameter: str | None = None
    expert: OfExpert | None = None


class TensorFile(Struct, frozen=True):
    """Where a tensor's bytes are: shard file name, absolute byte range within that file."""

    shard: str
    start: int
    end: int


class Model(Struct, frozen=True):
    """The parent: geometry from `config.json`, tensors from safetensors headers.

    It holds no weights, but their bytes are hashed, once: the first run on a model reads them all.

    `directory` is where the files are (never written to an artefact); `files` is empty when only
    a `config.json` is there: then everything but measuring and cutting works. `digest` is the
    SHA-256 of config, headers and every tensor's content, `tensors` in canonical (name) order.
    """

    name: str
    source: str
    directory: Path
    digest: str
    family: str
    config: Mapping[str, object]
    hidden: int
    vocab: int
    context: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    layers: tuple[Layer, ...]
    tensors: tuple[TensorSpec, ...]
    files: Mapping[str, TensorFile]
    contents: Mapping[str, str] = field(default_factory=dict[str, str])
    """SHA-256 (hex) of every stored tensor's bytes, by name; empty where they were not hashed."""
    stamps: Mapping[str, str] = field(default_factory=dict[str, str])
    """What tells that a shard still has those contents: its size, times and inode, by name."""

    @property
    def params(self) -> int:
        """Parameters, tied ones counted once."""
        return sum(tensor.numel for tensor in self.tensors)

    @property
    def weights(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(tensor.nbytes for tensor in self.tensors)
