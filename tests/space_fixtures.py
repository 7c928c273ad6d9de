"""Parents from a config alone, and hand-made specs over them: no checkpoint, no weights."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from surgery.arch import family_of, geometry, tensors_of
from surgery.expr import Compare, Expr, Is, LayerFact, LayerSet, Number, Pick, Selector
from surgery.ir import (
    Alternative,
    Choice,
    Model,
    ModelDecl,
    NotYet,
    Objective,
    Ranking,
    Requirement,
    Scenario,
    Site,
    Spec,
)
from surgery.source import Source, Span
from surgery.units import NUMBER

GPT_OSS_120B: dict[str, object] = {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "vocab_size": 201088,
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "max_position_embeddings": 131072,
    "attention_bias": True,
    "tie_word_embeddings": False,
    "quantization_config": {"quant_method": "mxfp4"},
}
SMOLLM2_135M: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}

# The released child of gpt-oss-120b, layer by layer.
FULL = (1, 7, 9, 11, 13, 15, 17, 19, 25, 29)
WINDOW_8K = (3, 5, 21, 23, 27, 31, 33, 35)
HALVED = (15, 17, 19, *range(21, 36))


def parent(config: dict[str, object], **changes: object) -> Model:
    """The model that a `config.json` describes, without files."""
    config = config | changes
    family = family_of(config)
    sizes = geometry(family, config)
    return Model(
        name="parent",
        source="test",
        directory=Path(),
        digest="0" * 64,
        family=family.name,
        config=config,
        hidden=sizes.hidden,
        vocab=sizes.vocab,
        context=sizes.context,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        tied=sizes.tied,
        layers=sizes.layers,
        tensors=tensors_of(family, sizes, sizes.layers),
        files=MappingProxyType({}),
    )


def gpt_oss(**changes: object) -> Model:
    return parent(GPT_OSS_120B, **changes)


def smollm(**changes: object) -> Model:
    return parent(SMOLLM2_135M, **changes)


TEXT = Source(
    "test.surg",
    "".join(f"line {number:04} of a spec that was never parsed\n" for number in range(200)),
)


def span(line: int = 1) -> Span:
    """The whole of one line: every construct of a test gets its own."""
    start = (line - 1) * 42
    return Span(TEXT, start, start + 41)


# ---- expressions -----------------------------------------------------------------------------


def num(value: int | Fraction) -> Number:
    return Number(span(), Fraction(value))


def fact(name: str) -> LayerFact:
    return LayerFact(span(), name, NUMBER)


def compare(first: Expr, *rest: str | Expr) -> Compare:
    links = [(op, e) for op, e in zip(rest[::2], rest[1::2], strict=True)]
    typed = tuple((op, e) for op, e in links if isinstance(op, str) and not isinstance(e, str))
    assert len(typed) == len(links)
    return Compare(span(), first, typed)


def is_test(site: str, word: str, negated: bool = False) -> Is:
    return Is(span(), site, word, negated)


def picked(*picks: tuple[int, int], where: Expr | None = None) -> LayerSet:
    made = tuple(Pick(span(), low, high) for low, high in picks)
    return LayerSet(span(), made or None, where)


def layers(*picks: tuple[int, int], where: Expr | None = None, line: int = 1) -> Selector:
    return Selector(span(line), picked(*picks, where=where))


# ---- specs -----------------------------------------------------------------------------------


def alternative(
    edit: str,
    value: int | Fraction | None = None,
    *,
    line: int = 1,
    ranking: str = "random",
    init: str | None = None,
    when: Expr | None = None,
) -> Alternative:
    """An alternative; `width` and `retain` have a ranking unless it is empty."""
    selects = edit in ("width", "retain") and ranking
    by = Ranking(span(), ranking, None) if selects else None
    amount = None if value is None else Fraction(value)
    return Alternative(span(line), edit, amount, by, init, None, when)


def ready_inits(inits: tuple[str, ...]) -> tuple[str, ...]:
    """Initialisers without the one that checks and has no back end yet."""
    return tuple(name for name in inits if name != "least_squares")


KEEP = alternative("keep")


def choose(site: Site, selector: Selector, *alternatives: Alternative, line: int = 1) -> Choice:
    return Choice(span(line), site, selector, alternatives)


def spec(
    *choices: Choice,
    expects: tuple[Requirement, ...] = (),
    scenarios: tuple[Scenario, ...] = (),
    not_yet: tuple[NotYet, ...] = (),
) -> Spec:
    return Spec(
        source=TEXT,
        description="",
        model=ModelDecl(span(199), "parent", "local", "nowhere"),
        inputs=(),
        machines=(),
        scenarios=scenarios,
        datasets=(),
        scores=(),
        choices=choices,
        expects=expects,
        requirements=(),
        objective=Objective(span(), "minimize", num(0)),
        emits=(),
        not_yet=not_yet,
        meaning=(),
    )
