"""What could be: `Space`, every alternative of every site with its costs; and measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct, field

from surgery.ir.merging import Merging
from surgery.ir.model import Block, Model, Scales
from surgery.ir.site import Site
from surgery.ir.spec import Alternative

TimePhase: TypeAlias = Literal["prefill", "decode", "mixed"]
"""The reading of one prompt on its own; one token for every sequence; what a prompt of another
sequence adds to such steps, in all."""

TimeSource: TypeAlias = Literal["measured", "imported", "aiconfigurator", "modelled"]
"""Where a time comes from, the most trusted first."""

TIME_SOURCES: tuple[TimeSource, ...] = ("measured", "imported", "aiconfigurator", "modelled")


class Timing(Struct, frozen=True):
    """What one cost takes in one scenario with so many sequences, as somebody has found it.

    `batch` is that of the whole machine; `band` is the relative error that 9 in 10 such times stay
    below, `inf` where nobody has said it.
    """

    scenario: str
    batch: int
    phase: TimePhase
    seconds: float
    source: TimeSource
    band: float


class Cost(Struct, frozen=True):
    """Exact costs of one block as stored: additive over sites and layers.

    `kv_per_token` and `kv_window` give KV bytes per sequence at any length (`kv_bytes`): in BF16,
    2 * kv_heads * head_dim * 2 bytes per token held, in FP8 half of that; and a window holds no
    more than its own. `block` is what costs so much, which times depend on; `None` is a no-op, or
    what lies outside of layers. `times` are those that need no model. `routing` says, by dataset,
    which part of all choices falls on each expert.
    """

    params: int
    weights: int
    kv_per_token: int = 0
    kv_window: int | None = None
    block: Block | None = None
    times: tuple[Timing, ...] = ()
    routing: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def kv_bytes(self, tokens: int) -> int:
        """KV-cache bytes of one sequence of `tokens` tokens."""
        held = tokens if self.kv_window is None else min(tokens, self.kv_window)
        return self.kv_per_token * held


class Candidate(Struct, frozen=True):
    """One alternative of one site of one layer.

    `text` is what the plan shows and is absolute (`window(8K)`, `full+fp8`, `64`); `address` is
    `layer.19.attention.window(8K)`: the MIP column's name, the place in diagnostics. `block`
    is what the site becomes (`None`: no-op). `kept` lists, for edits that select, the surviving
    experts or FFN channels in ascending parent order; it stays `None` until `passes/rank.py` has
    filled it in; one that merges has `merged` instead. `facet` is what a facet of the site becomes
    beside that, where it is not the parent's; one that stores K and V in FP8 needs `scales`, from
    `passes/calibrate.py`. `artefact` is the hash of the edited block's content (parent tensors,
    edit, arguments, what is kept or merged, facet, scales), "" for the parent's own block; library
    keys name a block by it.
    """

    address: str
    layer: int
    site: Site
    text: str
    block: Block | None
    cost: Cost
    alternative: Alternative | None
    kept: tuple[int, ...] | None = None
    artefact: str = ""
    facet: Alternative | None = None
    scales: Scales | None = None
    merged: Merging | None = None

    @property
    def edit(self) -> str:
        """The edit's name, `keep` where at most a facet changes."""
        return self.alternative.edit if self.alternative else "keep"

    @property
    def decision(self) -> tuple[int, str, str, bool]:
        """What distances compare: layer, site, text, whether it is an edit."""
        return (self.layer, self.site.value, self.text, self.changed)

    @property
    def changed(self) -> bool:
        """Whether the block differs from the parent's."""
        return self.edit != "keep" or self.facet is not None


class SiteOptions(Struct, frozen=True):
    """All candidates of one site; exactly one is chosen. A site nobody edits has one."""

    layer: int
    site: Site
    candidates: tuple[Candidate, ...]

    @property
    def keep(self) -> Candidate | None:
        """The parent's own block, when it is on offer."""
        return next((c for c in self.candidates if not c.changed), None)


class Space(Struct, frozen=True):
    """Every site of every layer with its candidates, ordered by layer, then site.

    `fixed` is the cost of what no choice changes: embeddings, final norm, output head. `parent`
    are the costs of the unmodified model in plan order, `fixed` first, once times are known that
    need no model; empty before. `routing` has, by dataset and layer, how many tokens chose each of
    the parent's experts.
    """

    model: Model
    options: tuple[SiteOptions, ...]
    fixed: Cost
    parent: tuple[Cost, ...] = ()
    routing: Mapping[str, Mapping[int, tuple[float, ...]]] = field(
        default_factory=dict[str, Mapping[int, tuple[float, ...]]]
    )

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates in canonical order: the columns of the MIP."""
        return tuple(c for option in self.options for c in option.candidates)


class Measured(Struct, frozen=True):
    """Damage of every candidate under every score: `damage[score][address]` in nats per token.

    Unchanged blocks are exactly 0. `digest` hashes what was measured (keys and values).
    """

    damage: Mapping[str, Mapping[str, float]]
    digest: str
    errors: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict[str, Mapping[str, float]]
    )
    """Standard errors over samples, like `damage`; absent for a single sample."""
