"""Toy spaces and specs for the solving passes, made by hand: no files, no parser, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path

from msgspec import Struct

from surgery import evaluate
from surgery.expr import (
    Arith,
    Compare,
    Expr,
    Fact,
    Fold,
    Is,
    LayerFact,
    LayerSet,
    Logic,
    Metric,
    Number,
    Pick,
    ScoreTotal,
    Selector,
)
from surgery.ir import (
    Alternative,
    Attention,
    Block,
    Candidate,
    Cost,
    Ffn,
    Layer,
    Measured,
    Model,
    ModelDecl,
    Objective,
    Requirement,
    Scenario,
    Site,
    SiteOptions,
    Space,
    Spec,
    TensorSpec,
)
from surgery.source import Source, Span
from surgery.units import BYTES, NUMBER, PARAMS, TOK, Dimension

HEADS, HEAD_DIM, WIDTH = 4, 8, 64
BLANK = Source("toy.surg", "")
NOWHERE = Span(BLANK, 0, 0)


# ---- formulas --------------------------------------------------------------------------------


class Formulas(Struct, frozen=True):
    """Builds formulas whose spans are found in `source`, or are empty where the text is not."""

    source: Source = BLANK

    def span(self, text: str) -> Span:
        start = self.source.text.find(text) if text else -1
        return Span(self.source, start, start + len(text)) if start >= 0 else NOWHERE

    def number(
        self, value: float | Fraction, dimension: Dimension = NUMBER, unit: str = ""
    ) -> Number:
        return Number(NOWHERE, Fraction(value), dimension, unit)

    def metric(self, name: str, *, parent: bool = False, tokens: int | None = None) -> Metric:
        argument = None if tokens is None else Fraction(tokens)
        dimension = PARAMS if name == "params" else BYTES
        return Metric(NOWHERE, name, dimension, argument=argument, parent=parent)

    def memory(self, scenario: str, *, parent: bool = False) -> Metric:
        return Metric(NOWHERE, "memory", BYTES, scenario=scenario, parent=parent)

    def score(self, name: str = "damage", text: str = "") -> ScoreTotal:
        return ScoreTotal(self.span(text), name)

    def compare(self, left: Expr, op: str, right: Expr, text: str = "") -> Compare:
        return Compare(self.span(text), left, ((op, right),))

    def arith(self, left: Expr, op: str, right: Expr, text: str = "") -> Arith:
        dimension = {"*": left.dimension * right.dimension, "/": left.dimension / right.dimension}
        return Arith(self.span(text), op, left, right, dimension.get(op, left.dimension))  # pyright: ignore[reportArgumentType] - callers write literals

    def test(self, site: str, word: str, *, negated: bool = False) -> Is:
        return Is(NOWHERE, site, word, negated)

    def fact(self, name: str) -> LayerFact:
        return LayerFact(NOWHERE, name, TOK if name == "window" else NUMBER)

    def both(self, *operands: Expr) -> Logic:
        return Logic(NOWHERE, "and", operands)

    def either(self, *operands: Expr) -> Logic:
        return Logic(NOWHERE, "or", operands)

    def no(self, operand: Expr) -> Logic:
        return Logic(NOWHERE, "not", (operand,))

    def layers(
        self,
        where: Expr | None = None,
        picks: Sequence[tuple[int, int]] | None = None,
        excludes: Sequence[tuple[int, int]] = (),
    ) -> Selector:
        chosen = None if picks is None else tuple(Pick(NOWHERE, a, b) for a, b in picks)
        without = tuple(LayerSet(NOWHERE, (Pick(NOWHERE, a, b),), None) for a, b in excludes)
        return Selector(NOWHERE, LayerSet(NOWHERE, chosen, where), without)

    def count(self, where: Expr | None = None, text: str = "") -> Fold:
        return Fold(self.span(text), "count", self.layers(where), None, NUMBER)

    def fold(self, kind: str, body: Expr, selector: Selector | None = None) -> Fold:
        chosen = selector or self.layers()
        return Fold(NOWHERE, kind, chosen, body, NUMBER)  # pyright: ignore[reportArgumentType] - callers write literals

    def parent(self, name: str, dimension: Dimension = NUMBER) -> Fact:
        return Fact(NOWHERE, name, dimension)


F = Formulas()


# ---- spaces ----------------------------------------------------------------------------------


class Option(Struct, frozen=True):
    """One candidate of a toy site: what it becomes, its costs, its damage."""

    text: str
    block: Block | None
    params: int
    damage: float
    weights: int | None = None
    changed: bool = True


def attention(text: str, params: int, damage: float, **changes: int | None) -> Option:
    """`full`, `window(n)`, `noop` or `kv_heads(n)` with a block to match."""
    block = Attention(HEADS, HEADS, HEAD_DIM)
    if text == "noop":
        return Option(text, None, params, damage)
    if text.startswith("window"):
        block = Attention(HEADS, HEADS, HEAD_DIM, window=int(text[7:-1]))
    if text.startswith("kv_heads"):
        block = Attention(HEADS, int(text[9:-1]), HEAD_DIM)
    return Option(text, block, params, damage, changed=text != "full")


def ffn(text: str, params: int, damage: float) -> Option:
    """`64`, a smaller width, or `noop`."""
    if text == "noop":
        return Option(text, None, params, damage)
    return Option(text, Ffn(int(text)), params, damage, changed=text != str(WIDTH))


def toy_model(options: Sequence[Mapping[Site, Sequence[Option]]]) -> Model:
    """A parent whose tensors cost what the unchanged options cost."""
    tensors: list[TensorSpec] = [_tensor("embed", 1000, None, None)]
    layers: list[Layer] = []
    for index, sites in enumerate(options):
        for site, alternatives in sites.items():
            keep = next((o for o in alternatives if not o.changed), alternatives[0])
            tensors.append(_tensor(f"layers.{index}.{site}", keep.params, index, site))
        layers.append(Layer(index, Attention(HEADS, HEADS, HEAD_DIM), Ffn(WIDTH)))
    return Model(
        name="toy",
        source="local:toy",
        directory=Path("toy"),
        digest="d" * 64,
        family="llama",
        config={},
        hidden=32,
        vocab=100,
        context=1024,
        heads=HEADS,
        kv_heads=HEADS,
        head_dim=HEAD_DIM,
        tied=True,
        layers=tuple(layers),
        tensors=tuple(tensors),
        files={},
    )


def _tensor(name: str, numel: int, layer: int | None, site: Site | None) -> TensorSpec:
    return TensorSpec(name, (numel,), "BF16", ("-",), layer, site, 2 * numel, numel)


def toy_space(options: Sequence[Mapping[Site, Sequence[Option]]]) -> tuple[Space, Measured]:
    """One layer per mapping; a site left out of it has its parent's block and costs nothing."""
    found: list[SiteOptions] = []
    damage: dict[str, float] = {}
    for layer, sites in enumerate(options):
        for site in (Site.ATTENTION, Site.FFN):
            default = (attention("full", 0, 0.0) if site is Site.ATTENTION else ffn("64", 0, 0.0),)
            made = tuple(_candidate(layer, site, o) for o in sites.get(site, default))
            pairs = zip(made, sites.get(site, default), strict=True)
            damage.update({c.address: o.damage for c, o in pairs})
            found.append(SiteOptions(layer, site, made))
    space = Space(toy_model(options), tuple(found), Cost(1000, 2000))
    return space, Measured({"damage": damage}, "a" * 64)


def _candidate(layer: int, site: Site, option: Option) -> Candidate:
    block = option.block
    kv = 2 * block.kv_heads * block.head_dim * 2 if isinstance(block, Attention) else 0
    window = block.window if isinstance(block, Attention) else None
    weights = 2 * option.params if option.weights is None else option.weights
    return Candidate(
        address=f"layer.{layer:02}.{site}.{option.text}",
        layer=layer,
        site=site,
        text=option.text,
        block=block,
        cost=Cost(option.params, weights, kv, window),
        alternative=Alternative(NOWHERE, "edited") if option.changed else None,
        kept=(0, 1, 2, 5) if option.changed and isinstance(block, Ffn) else None,
        artefact=f"{layer:02x}{len(option.text):02x}" * 16 if option.changed else "",
    )


def toy_spec(
    *requirements: Expr | tuple[str, Expr],
    objective: Expr | None = None,
    sense: str = "minimize",
    source: Source = BLANK,
) -> Spec:
    """A spec with these requirements, labelled `@r0`, `@r1`, ... unless a label is given."""
    labelled = [r if isinstance(r, tuple) else (f"@r{n}", r) for n, r in enumerate(requirements)]
    goal = objective or F.score()
    return Spec(
        source=source,
        description="",
        model=ModelDecl(NOWHERE, "parent", "local", "toy"),
        inputs=(),
        machines=(),
        scenarios=(
            Scenario(NOWHERE, "chat", "gpu", 16, 48, 4),
            Scenario(NOWHERE, "bulk", "gpu", 16, 48, None),
        ),
        datasets=(),
        scores=(),
        choices=(),
        expects=(),
        requirements=tuple(Requirement(e.span, label or None, e) for label, e in labelled),
        objective=Objective(goal.span, sense, goal),  # pyright: ignore[reportArgumentType] - callers write literals
        emits=(),
        not_yet=(),
        meaning=(),
    )


# ---- brute force -----------------------------------------------------------------------------


def assignments(space: Space) -> list[tuple[Candidate, ...]]:
    """Every choice of one candidate per site."""
    return list(product(*(option.candidates for option in space.options)))


def child(
    spec: Spec, space: Space, measured: Measured, chosen: Sequence[Candidate]
) -> evaluate.Context:
    """The chosen child as formulas see it, made without the passes under test."""
    parent = evaluate.parent_context(spec, space.model)
    layers: list[Layer] = []
    for layer in space.model.layers:
        blocks = {c.site: c.block for c in chosen if c.layer == layer.index}
        made = blocks[Site.ATTENTION], blocks[Site.FFN]
        if not (made[0] is None or isinstance(made[0], Attention)):
            raise TypeError
        if isinstance(made[1], Attention):
            raise TypeError
        layers.append(Layer(layer.index, made[0], made[1]))
    scores = {
        name: sum((Fraction(damage[c.address]) for c in chosen), Fraction(0))
        for name, damage in measured.damage.items()
    }
    return evaluate.Context(
        layers=tuple(layers),
        model=space.model,
        scenarios=spec.scenarios,
        parent=parent.parent,
        result=(space.fixed, *(c.cost for c in chosen)),
        scores=scores,
    )


def satisfies(context: evaluate.Context, expr: Expr) -> bool:
    """Whether a requirement holds of a child."""
    return evaluate.holds(expr, context)
