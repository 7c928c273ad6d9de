"""What a solved plan warns of: requirements inside the noise, and KV caches that page badly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from rules_fixtures import DENSE, EXPERTS, FFN, MOE, SIZE, WINDOW, Bench, dense, labelled, moe
from space_fixtures import GPT_OSS_120B

from surgery import paging
from surgery.diagnostics import Diagnostic, Severity, Sink
from surgery.ir import Attention, Layer, Measured
from surgery.passes import advise, constrain, solve


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def advice(bench: Bench, text: str, damage: float = 0.1, error: float = 0.0) -> list[Diagnostic]:
    """What is said of the plan when every edit does the same damage with the same error."""
    linted = bench.lint(text)
    assert not [d for d in linted.findings if d.severity is Severity.ERROR]
    spec, space = linted.subject.spec, linted.subject.space
    assert spec is not None
    assert space is not None
    damages = {c.address: damage if c.changed else 0.0 for c in space.candidates}
    errors = {c.address: error if c.changed else 0.0 for c in space.candidates}
    names = [score.name for score in spec.scores]
    measured = Measured(dict.fromkeys(names, damages), "", dict.fromkeys(names, errors))
    sink = Sink()
    problem = constrain.run(spec, space, measured, sink)
    assert problem is not None
    solution = solve.run(problem, sink)
    assert solution is not None
    advise.run(problem, solution.chosen, sink)
    return sink.found


# ---- W0706 tight-requirement -------------------------------------------------------------------

THREE = "require @three count(layers where experts <= 4) >= 3 layers\n"


@pytest.mark.parametrize(
    ("limit", "error", "expected"),
    # Three edits of damage 0.1 and error e: 0.3 in all, and an error of sqrt(3) e.
    [("0.31", 0.005, 0), ("0.31", 0.006, 1), ("0.3101", 0.006, 1), ("0.32", 0.006, 0)],
)
def test_slack_below_the_standard_error(
    limit: str, error: float, expected: int, bench: Bench
) -> None:
    text = moe(EXPERTS, THREE, f"require @calm damage <= {limit}\n", objective="minimize weights")
    assert [d.code.id for d in advice(bench, text, 0.1, error)] == ["W0706"] * expected


def test_what_is_said_of_a_tight_requirement(bench: Bench) -> None:
    text = moe(EXPERTS, THREE, "require @calm damage <= 0.31\n", objective="minimize weights")
    (found,) = advice(bench, text, 0.1, 0.02)
    assert found.message == "`@calm` holds by less than the noise of `damage`"
    assert labelled(found) == [("damage <= 0.31", "0.3 in this plan: 0.01 to spare")]
    assert found.notes == ("the standard error of what is measured here is 0.03464",)


def test_weights_of_a_sum_scale_the_noise(bench: Bench) -> None:
    half = "require @calm 0.5 * damage <= 0.16 and weights <= 100% * parent.weights\n"
    text = moe(EXPERTS, THREE, half, objective="minimize weights")
    assert not advice(bench, text, 0.1, 0.011)
    assert [d.code.id for d in advice(bench, text, 0.1, 0.012)] == ["W0706"]


def test_sizes_have_no_noise(bench: Bench) -> None:
    assert not advice(bench, moe(EXPERTS, SIZE), 0.1, 10.0)


# ---- W0802 kv-page-waste -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "slots"),
    [
        # The released child of gpt-oss-120b; a plan that pages well; engines' own example.
        ({None: 10, 128: 18, 8192: 8}, {None: 16, 128: 24, 8192: 8}),
        ({None: 9, 128: 18, 8192: 9}, {None: 9, 128: 18, 8192: 9}),
        ({None: 13, 128: 12}, {None: 13, 128: 13}),
        ({None: 12, 128: 8}, {None: 16, 128: 8}),
        ({None: 36}, {None: 36}),
        ({None: 1, 128: 35}, {None: 1, 128: 35}),
    ],
)
def test_how_layers_are_paged(counts: dict[int | None, int], slots: dict[int | None, int]) -> None:
    windows = [window for window, count in counts.items() for _ in range(count)]
    layers = [Layer(n, Attention(8, 2, 64, w), None) for n, w in enumerate(windows)]
    found = paging.kinds([*layers, Layer(99, None, None)])
    assert {kind.attention.window: kind.slots for kind in found} == slots
    assert {kind.attention.window: kind.layers for kind in found} == counts


def test_heads_alone_make_no_groups() -> None:
    layers = [Layer(n, Attention(8, 4 if n else 2, 64), None) for n in range(4)]
    found = paging.kinds(layers)
    assert [(kind.layers, kind.slots) for kind in found] == [(3, 3), (1, 1)]
    # Bytes of K and V in BF16 for 10 tokens: 2 * 2 * 64 * heads * 10.
    assert paging.held_and_wasted(found, 10) == (256 * 10 * (3 * 4 + 2), 0)


def paged(bench: Bench, full: int, *statements: str, window: str = "32") -> Sequence[Diagnostic]:
    """What is said of 13 dense layers of which this many keep full attention."""
    bench.parent("dense", DENSE | {"num_hidden_layers": 13})
    count = f"require @full count(layers where attention is full) == {full}\n"
    choice = WINDOW.replace("32", window)
    return advice(bench, dense(choice, FFN, count, *statements))


def test_layers_that_page_poorly(bench: Bench) -> None:
    (found,) = paged(bench, 8)
    assert found.code.id == "W0802"
    assert found.message == "8 + 5 attention layers share KV pages poorly"
    assert labelled(found) == [
        (
            "choose attention",
            "this plan makes 2 kinds of KV cache",
        )
    ]
    # 128 B per token and layer: 8 * 1024 + 5 * 32 tokens, and two more layers of 1024.
    assert found.notes == (
        "vLLM pages KV in groups of 5 layers: 8 -> 10 layers of full attention",
        "a sequence of 1K tok takes 1.27MiB instead of 1.02MiB, 24.5% more",
    )
    (help,) = found.helps
    assert help.text.startswith("`require @pages count(layers where attention is full) == ")
    sizes = help.text.partition("makes it ")[2].partition(",")[0]
    counts = [int(size) for size in sizes.split(" + ")]
    assert sum(counts) == 13
    assert not paged(bench, counts[0])


def test_the_released_child_of_gpt_oss_120b(bench: Bench) -> None:
    bench.parent("moe", GPT_OSS_120B)
    sight = "require @sight count(layers where attention is full) == 10 layers\n"
    text = moe(WINDOW.replace("32 tok", "8K tok"), sight).replace("256 tok", "16K tok")
    (found,) = advice(bench, text)
    assert found.message == "10 + 8 + 18 attention layers share KV pages poorly"
    assert found.notes == (
        "vLLM pages KV in groups of 8 layers: 10 -> 16 layers of full attention, "
        "18 -> 24 layers of window 128 tok",
        "a sequence of 128K tok takes 4.13GiB instead of 2.63GiB, 57.1% more",
    )
    require = "`require @pages count(layers where attention is full) == 9 layers`"
    assert found.helps[0].text == f"{require} makes it 9 + 9 + 18, which wastes nothing"


@pytest.mark.parametrize("full", [1, 12, 5])
def test_layers_that_page_well(full: int, bench: Bench) -> None:
    # 5 + 8: the windows are padded to 10, which is next to nothing.
    assert not paged(bench, full)


def test_the_lengths_that_matter(bench: Bench) -> None:
    # 5 + 8 wastes 2 of 8 windows: much when nothing is longer than a window.
    (found,) = paged(bench, 5, 'emit runtime "out" { context = 64 tok }\n', window="60")
    assert "a sequence of 64 tok" in found.notes[1]


def test_a_parent_that_pages_poorly_is_not_the_plans_fault(bench: Bench) -> None:
    types = ["full_attention"] * 8 + ["sliding_attention"] * 5
    bench.parent("moe", MOE | {"num_hidden_layers": 13, "layer_types": types})
    assert not advice(bench, moe(EXPERTS, SIZE))
