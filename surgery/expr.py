"""Typed expressions: what is left of a spec's formulas once names are resolved.

In: built by `surgery/checking/`, which has inlined `let`, `fn` and `input`, folded literals into
base units and checked dimensions. Out: a closed set of frozen nodes that `expect`, `require`,
`when`, selectors and the objective are made of. Evaluated by `evaluate.py` against a model,
lowered to rows by `solving/lower.py`. Not here: names, calls, units or any evaluation.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, TypeAlias

from msgspec import Struct

from surgery.source import Span
from surgery.units import NUMBER, Dimension


class Number(Struct, frozen=True):
    """A literal or folded constant, in base units; `unit` is how the user wrote it."""

    span: Span
    value: Fraction
    dimension: Dimension = NUMBER
    unit: str = ""


class Fact(Struct, frozen=True):
    """`parent.heads`: a constant of the unmodified model.

    Names: params, weights (bytes), layers, hidden, vocab, context (tok), heads, kv_heads,
    head_dim, experts, active (per token), width.
    """

    span: Span
    name: str
    dimension: Dimension


class MachineFact(Struct, frozen=True):
    """`node.gpus` or `one.memory`: a constant of a declared machine."""

    span: Span
    machine: str
    name: str
    dimension: Dimension


class Metric(Struct, frozen=True):
    """A cost of the result, or with `parent` the same cost of the unmodified model.

    `params`, `weights` (bytes as stored) and `kv` (bytes per sequence, at `argument` tokens) need
    no scenario; `memory`, `throughput`, `latency`, `ttft` and `tpot` name one.
    """

    span: Span
    name: str
    dimension: Dimension
    scenario: str | None = None
    argument: Fraction | None = None
    parent: bool = False


class ScoreTotal(Struct, frozen=True):
    """A declared score, summed over the chosen alternatives (Puzzle's additive estimate)."""

    span: Span
    score: str
    dimension: Dimension = NUMBER


class Distance(Struct, frozen=True):
    """In how many layers the result is decided otherwise than by a plan in a file.

    `plan` is the file as the spec names it, `digest` the hash of its decisions, `parent` that of
    its parent (16 hex digits). `decided` has (layer, site, text, whether that is an edit) of every
    decision. A layer that differs at two sites counts once; which experts or channels an edit
    keeps does not count.
    """

    span: Span
    plan: str
    digest: str
    parent: str
    decided: tuple[tuple[int, str, str, bool], ...]
    dimension: Dimension = NUMBER


class LayerFact(Struct, frozen=True):
    """A property of the layer that a selector or fold is looking at.

    Names: index, experts, active, width, heads, kv_heads, window (tok). In `choose ... in` it is
    the parent's layer, in `require` the result's.
    """

    span: Span
    name: str
    dimension: Dimension


class Is(Struct, frozen=True):
    """`attention is full`: an enumeration test on the layer at hand.

    Words: attention full | window | noop | linear; ffn dense | noop | linear; experts (a layer
    with a router) moe; kv_cache bf16 | fp8; `layer` first | last.
    """

    span: Span
    site: str
    word: str
    negated: bool
    dimension: Dimension = NUMBER


class Arith(Struct, frozen=True):
    """`left op right` with op one of + - * / %."""

    span: Span
    op: Literal["+", "-", "*", "/", "%"]
    left: Expr
    right: Expr
    dimension: Dimension


class Compare(Struct, frozen=True):
    """A chain `first op expr op expr ...`; holds when every link holds."""

    span: Span
    first: Expr
    rest: tuple[tuple[str, Expr], ...]
    dimension: Dimension = NUMBER


class Logic(Struct, frozen=True):
    """`and`, `or` (two or more operands) and `not` (one)."""

    span: Span
    op: Literal["and", "or", "not"]
    operands: tuple[Expr, ...]
    dimension: Dimension = NUMBER


class If(Struct, frozen=True):
    """`if test then yes else no`."""

    span: Span
    test: Expr
    yes: Expr
    no: Expr
    dimension: Dimension


class Fold(Struct, frozen=True):
    """`count(layers where ...)`, `sum(layers: experts)`, `every(layers: ...)`."""

    span: Span
    kind: Literal["count", "sum", "min", "max", "every", "some"]
    selector: Selector
    body: Expr | None
    dimension: Dimension


class Pick(Struct, frozen=True):
    """Layers `low` to `high`, both included; negative numbers count from the end (-1 is last)."""

    span: Span
    low: int
    high: int


class LayerSet(Struct, frozen=True):
    """`layers[...] where ...`; no picks means every layer."""

    span: Span
    picks: tuple[Pick, ...] | None
    where: Expr | None


class Selector(Struct, frozen=True):
    """A set of layers: `include` less every one of `excludes`."""

    span: Span
    include: LayerSet
    excludes: tuple[LayerSet, ...] = ()


Expr: TypeAlias = (
    Number
    | Fact
    | MachineFact
    | Metric
    | ScoreTotal
    | Distance
    | LayerFact
    | Is
    | Arith
    | Compare
    | Logic
    | If
    | Fold
)
