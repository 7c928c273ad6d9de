"""Exact sizes: the published parent and child of gpt-oss-120b, and additivity everywhere."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from space_fixtures import (
    FULL,
    HALVED,
    KEEP,
    WINDOW_8K,
    alternative,
    choose,
    gpt_oss,
    is_test,
    layers,
    smollm,
    spec,
)

from surgery.arch import family_of, geometry, tensors_of
from surgery.diagnostics import Sink
from surgery.edits import child_layers, child_outputs, ranked, selects
from surgery.ir import Attention, Candidate, Scenario, Site, Space
from surgery.passes import cost, expand
from surgery.source import Source, Span

K = 1024
SMALL = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_local_experts": 16,
    "hidden_size": 64,
    "intermediate_size": 64,
    "vocab_size": 320,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
}


def gpt_oss_space() -> Space:
    """The search space whose optimum the released child is."""
    space = expand.run(
        spec(
            choose(
                Site.ATTENTION,
                layers(where=is_test("attention", "full")),
                KEEP,
                alternative("window", 8 * K),
            ),
            choose(Site.EXPERTS, layers(), KEEP, alternative("retain", 64)),
        ),
        gpt_oss(),
        Sink(),
    )
    assert space is not None
    return space


def released(space: Space) -> tuple[Candidate, ...]:
    """The candidates of the released pattern; which experts are kept is made up."""
    wanted = {(n, Site.ATTENTION): "window(8K)" for n in WINDOW_8K}
    wanted |= {(n, Site.EXPERTS): "64" for n in HALVED}
    chosen: list[Candidate] = []
    for option in space.options:
        text = wanted.get((option.layer, option.site))
        candidate = next(c for c in option.candidates if (c.text == text or not text))
        if selects(candidate.edit):
            candidate = ranked(space.model, candidate, tuple(range(0, 128, 2)))
        chosen.append(candidate)
    return tuple(chosen)


def test_the_parent_weighs_what_is_published() -> None:
    model = gpt_oss()
    costs = cost.parent_costs(model)
    assert (model.params, model.weights) == (116_829_156_672, 65_248_815_744)
    assert (cost.params(costs), cost.weights(costs)) == (model.params, model.weights)


def test_the_released_child_weighs_what_is_published() -> None:
    space = gpt_oss_space()
    chosen = released(space)
    costs = cost.chosen_costs(space, chosen)
    assert (cost.params(costs), cost.weights(costs)) == (88_150_438_080, 49_993_752_960)
    parts = child_outputs(space.model, chosen)
    assert sum(part.numel for part in parts) == 88_150_438_080
    assert sum(part.nbytes for part in parts) == 49_993_752_960


def test_the_released_pattern_has_its_layers() -> None:
    space = gpt_oss_space()
    made = child_layers(space.model, released(space))
    seen = {n.index: n.attention for n in made if isinstance(n.attention, Attention)}
    assert len(seen) == len(made)
    windows = {index: block.window for index, block in seen.items()}
    assert tuple(n for n, window in windows.items() if window is None) == FULL
    assert tuple(n for n, window in windows.items() if window == 8 * K) == WINDOW_8K
    assert [n for n, window in windows.items() if window == 128] == list(range(0, 36, 2))


def test_one_expert_costs_what_is_published() -> None:
    space = gpt_oss_space()
    keep, half = space.options[1].candidates
    assert (keep.text, half.text) == ("128", "64")
    # An expert goes with its row of the router: 2880 weights and a bias in BF16.
    assert keep.cost.params - half.cost.params == 64 * (24_891_840 + 2881)
    assert keep.cost.weights - half.cost.weights == 64 * (13_236_480 + 2 * 2881)


@pytest.mark.parametrize(
    ("tokens", "ratio"),
    [
        (1 * K, "1.000"),
        (8 * K, "1.000"),
        (16 * K, "0.780"),
        (32 * K, "0.668"),
        (64 * K, "0.612"),
        (128 * K, "0.584"),
    ],
)
def test_kv_ratio_of_the_released_child(tokens: int, ratio: str) -> None:
    space = gpt_oss_space()
    child = cost.kv(cost.chosen_costs(space, released(space)), tokens)
    whole = cost.kv(cost.parent_costs(space.model), tokens)
    assert f"{child / whole:.3f}" == ratio


def test_kv_ratio_over_a_long_decode() -> None:
    space = gpt_oss_space()
    child = cost.chosen_costs(space, released(space))
    whole = cost.parent_costs(space.model)
    # The mean over lengths from 64K to 128K; KV is linear there, so the ends suffice.
    ends = (64 * K, 128 * K)
    ratio = Fraction(sum(cost.kv(child, n) for n in ends), sum(cost.kv(whole, n) for n in ends))
    assert f"{float(ratio):.3f}" == "0.593"


def test_kv_of_one_token_and_of_a_window() -> None:
    full, windowed = gpt_oss().layers[1].attention, gpt_oss().layers[0].attention
    assert cost.kv_per_token(full) == 2048
    assert cost.block_cost(full, ()).kv_bytes(100_000) == 2048 * 100_000
    assert cost.block_cost(windowed, ()).kv_bytes(100_000) == 2048 * 128
    assert cost.block_cost(windowed, ()).kv_bytes(100) == 2048 * 100
    assert cost.kv_per_token(None) == 0


def test_memory_is_weights_and_the_kv_of_every_sequence() -> None:
    model = smollm()
    costs = cost.parent_costs(model)
    here = Span(Source("x", "x"), 0, 1)
    chat = Scenario(here, "chat", "gpu", prefill=1024, decode=512, batch=None)
    # 30 layers, K and V, 3 heads of 64, two bytes each.
    assert cost.memory(costs, chat, 7) == 269_030_016 + 7 * 1536 * 30 * 2 * 3 * 64 * 2


def test_smollm_weighs_what_its_page_says() -> None:
    model = smollm()
    assert model.params == 30 * 3_540_096 + 28_312_128 == 134_515_008
    assert cost.fixed(model).params == 49152 * 576 + 576


# ---- additivity ------------------------------------------------------------------------------


def dense_space() -> Space:
    space = expand.run(
        spec(
            choose(
                Site.ATTENTION,
                layers(),
                KEEP,
                alternative("window", 1024),
                alternative("kv_heads", 1),
                alternative("noop"),
            ),
            choose(
                Site.FFN,
                layers(),
                KEEP,
                alternative("width", 1024),
                alternative("width", 32),
                alternative("noop"),
            ),
        ),
        smollm(num_hidden_layers=4),
        Sink(),
    )
    assert space is not None
    return space


def mixture_space() -> Space:
    space = expand.run(
        spec(
            choose(
                Site.ATTENTION,
                layers(),
                KEEP,
                alternative("window", 100),
                alternative("kv_heads", 2),
                alternative("kv_heads", 1),
                alternative("noop"),
            ),
            choose(
                Site.EXPERTS,
                layers(),
                *(alternative("retain", n) for n in (12, 7, 4)),
            ),
        ),
        gpt_oss(**SMALL),
        Sink(),
    )
    assert space is not None
    return space


@pytest.mark.parametrize("make", [dense_space, mixture_space])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_costs_add_up_to_the_child(make: object, data: st.DataObject) -> None:
    assert callable(make)
    space = make()
    assert isinstance(space, Space)
    chosen: list[Candidate] = []
    for option in space.options:
        candidate = data.draw(st.sampled_from(option.candidates))
        if selects(candidate.edit):
            candidate = ranked(space.model, candidate, data.draw(kept(space, candidate)))
        chosen.append(candidate)
    parts = child_outputs(space.model, tuple(chosen))
    costs = cost.chosen_costs(space, chosen)
    assert cost.params(costs) == sum(part.numel for part in parts)
    assert cost.weights(costs) == sum(part.nbytes for part in parts)

    # The family, asked for the child's layers, expects these very tensors.
    family = family_of(space.model.config)
    sizes = geometry(family, space.model.config)
    expected = tensors_of(family, sizes, child_layers(space.model, tuple(chosen)))
    assert [(p.name, p.shape, p.dtype, p.nbytes, p.numel) for p in parts] == [
        (t.name, t.shape, t.dtype, t.nbytes, t.numel) for t in expected
    ]


def kept(space: Space, candidate: Candidate) -> st.SearchStrategy[tuple[int, ...]]:
    """Random ascending lists of what a candidate may keep."""
    block = space.model.layers[candidate.layer].block(candidate.site)
    full = getattr(block, "count", None) or getattr(block, "width", 0)
    assert candidate.alternative is not None
    assert candidate.alternative.value is not None
    size = int(candidate.alternative.value)
    return st.randoms(use_true_random=False).map(
        lambda random: tuple(sorted(random.sample(range(full), size)))
    )
