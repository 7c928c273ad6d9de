"""gpt-oss-120b from its `config.json` alone: searched with a table, and its released child weighed.

The folder `golden/gpt-oss-120b` holds the config, the search, and the pattern that
gpt-oss-puzzle-88B was released with, as a plan. Scores are made up; sizes are exact.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from space_fixtures import FULL, HALVED, WINDOW_8K

from surgery import catalog, edits, lockfile, pipeline, sizes
from surgery import plan as plans
from surgery.cli import main
from surgery.diagnostics import Sink
from surgery.ir import Candidate, Cost, Evidence, Measured, Plan, Site, Space, Spec
from surgery.library import digest
from surgery.passes import cost, replan, resolve, verify
from surgery.pipeline import Options, Planned
from surgery.sources.fetched import Fetched

GOLDEN = Path(__file__).parent / "golden" / "gpt-oss-120b"
RELEASED = GOLDEN / "released.plan"
K = 1024
PARAMS, WEIGHTS = 88_150_438_080, 49_993_752_960


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt-oss-120b") / "work"
    shutil.copytree(GOLDEN, folder)
    (folder / "scores.csv").write_text("\n".join(table_rows()) + "\n", encoding="utf-8")
    return folder


def table_rows() -> Iterator[str]:
    """Scores as one would expect them: early experts and middle attention are hard to spare."""
    yield "address,metric,value"
    for layer in range(36):
        early = 1 / (1 + math.exp((layer - 18) / 4))
        for count in (112, 96, 80, 64, 48):
            damage = ((128 - count) / 64) ** 1.5 * (0.002 + 0.03 * early)
            yield f"layer.{layer}.experts.{count},damage,{damage:.6f}"
            yield f"layer.{layer}.experts.{count},reach,{damage / 50:.6f}"
        middle = math.exp(-(((layer - 13) / 6) ** 2))
        attention = f"layer.{layer}.attention"
        for text, damage, reach in (
            ("full", 0.0, 0.0),
            ("window(8K)", 0.0, 0.0005 + 0.003 * middle),
            ("window(128)", 0.001 + 0.02 * middle, 0.004 + 0.05 * middle),
        ):
            if layer % 2 or text == "window(128)":
                shorter = layer % 2  # the others have windows of 128 already
                yield f"{attention}.{text}+fp8,damage,{1e-5 + shorter * damage:.6f}"
                yield f"{attention}.{text}+fp8,reach,{1e-5 + shorter * reach:.6f}"


@pytest.fixture(scope="module")
def searched(place: Path) -> Planned:
    sink = Sink()
    options = Options(place / "library", place / "cache", tables=(place / "scores.csv",))
    found = pipeline.plan(str(place / "search.surg"), sink, options)
    assert found is not None, sink.found
    assert not (place / "library").exists(), "nothing was measured"
    return found


# ---- the search ------------------------------------------------------------------------------


def test_the_search_is_solved_from_the_config_and_a_table(searched: Planned) -> None:
    offered = [len(option.candidates) for option in searched.space.options]
    assert Counter(offered) == {6: 36, 3: 18, 1: 18}
    assert dict(searched.plan.solver) == {"status": "optimal", "gap": "0", "seed": "0"}
    costs = cost.chosen_costs(searched.space, searched.chosen)
    assert sizes.params(costs) <= 88_500_000_000
    assert sizes.params(costs) > 0.95 * 88_500_000_000
    parent = cost.parent_costs(searched.space.model)
    assert 0.25 < sizes.kv(costs, 128 * K) / sizes.kv(parent, 128 * K) <= 0.3
    cut = [c for c in searched.chosen if c.changed and c.site is Site.EXPERTS]
    assert cut
    assert all(c.kept is None and c.artefact for c in cut)
    assert "kept" not in lockfile.text(searched.plan)


def test_no_other_choice_of_one_or_two_blocks_is_better(searched: Planned, place: Path) -> None:
    """Tried one by one and in pairs, with sums that owe nothing to the solver's rows."""
    scores = _scores(place)
    chosen = {(c.layer, c.site): c for c in searched.chosen}
    total = _sum([_vector(c, scores) for c in searched.chosen])
    fixed = searched.space.fixed
    moves = [
        (candidate.layer, candidate.site, _less(_vector(candidate, scores), _vector(old, scores)))
        for candidate in searched.space.candidates
        if (old := chosen[candidate.layer, candidate.site]) is not candidate
    ]
    assert len(moves) == 36 * 5 + 18 * 2
    assert _fits(total, fixed)
    better = [move for move in moves if move[2][-1] < -1e-12]
    assert better, "a search without trade-offs"
    assert not [move for move in better if _fits(_sum([total, move[2]]), fixed)]
    for layer, site, first in better:
        for other, at, second in moves:
            if (layer, site) != (other, at) and first[-1] + second[-1] < -1e-12:
                assert not _fits(_sum([total, first, second]), fixed), (layer, site, other, at)


Vector = tuple[float, ...]
"""Params, weights, KV at 128K, full layers, reach, objective."""


def _scores(place: Path) -> dict[tuple[str, str], float]:
    lines = (place / "scores.csv").read_text(encoding="utf-8").splitlines()[1:]
    return {(a, m): float(v) for a, m, v in (line.split(",") for line in lines)}


def _vector(candidate: Candidate, scores: dict[tuple[str, str], float]) -> Vector:
    damage = scores.get((candidate.address, "damage"), 0.0)
    reach = scores.get((candidate.address, "reach"), 0.0)
    price = candidate.cost
    full = candidate.text == "full+fp8"
    return (
        price.params,
        price.weights,
        price.kv_bytes(128 * K),
        full,
        reach,
        damage + 0.5 * reach,
    )


def _sum(vectors: list[Vector]) -> Vector:
    return tuple(sum(column) for column in zip(*vectors, strict=True))


def _less(a: Vector, b: Vector) -> Vector:
    return tuple(x - y for x, y in zip(a, b, strict=True))


def _fits(total: Vector, fixed: Cost) -> bool:
    params, weights, kv, full, reach, _ = total
    parent = 18 * 2048 * (128 * K + 128)
    return (
        params + fixed.params <= 88_500_000_000
        and weights + fixed.weights + 8 * kv <= 0.92 * 80 * 10**9
        and kv <= 0.3 * parent
        and reach <= 0.020
        and full >= 8
    )


# ---- the released child ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def described(place: Path) -> tuple[Spec, Space]:
    """The spec that offers the released decisions, and its space; nothing is ranked."""
    sink = Sink()
    options = Options(place / "library", place / "cache")
    found = pipeline.plan(str(place / "released.surg"), sink, options)
    assert found is not None, sink.found
    return found.spec, found.space


def _pattern(layer: int) -> tuple[str, str]:
    """Window and experts of a layer, from the published list."""
    window = "full" if layer in FULL else "window(8K)" if layer in WINDOW_8K else "window(128)"
    return window, "64" if layer in HALVED else "128"


def _by_hand(spec: Spec, space: Space) -> Plan:
    """The released decisions as a plan, with the hashes that they have on this config."""
    chosen: list[Candidate] = []
    for option in space.options:
        text = _pattern(option.layer)[option.site is Site.EXPERTS]
        chosen.append(next(c for c in option.candidates if c.text == text))
    return plans.build(
        spec,
        space,
        Measured({}, digest([])),
        chosen,
        solver=(("status", "released"),),
        objective=("minimize params", "88.15B"),
        requirements=(
            Evidence("@halved", "18", "==", "18"),
            Evidence("@windows", "10", "==", "10"),
        ),
        toolchain="by hand",
    )


def test_the_released_pattern_is_a_plan(
    described: tuple[Spec, Space], request: pytest.FixtureRequest
) -> None:
    expected = lockfile.text(_by_hand(*described))
    if request.config.getoption("--update-golden"):
        RELEASED.write_text(expected, encoding="utf-8")
    text = RELEASED.read_text(encoding="utf-8")
    assert text == expected
    plan = lockfile.parse(text, "released.plan")
    assert lockfile.text(plan) == text
    assert plan.stated is None
    pairs = Counter(_pattern(layer) for layer in range(36))
    assert pairs == {
        ("window(128)", "128"): 11,
        ("window(128)", "64"): 7,
        ("window(8K)", "64"): 6,
        ("full", "128"): 5,
        ("full", "64"): 5,
        ("window(8K)", "128"): 2,
    }
    for layer in range(36):
        decided = [d.text for d in plan.decisions if d.layer == layer]
        assert tuple(decided) == _pattern(layer)


def test_the_released_plan_weighs_what_is_published(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert main(["show", "released.plan"]) == 0
    shown = capsys.readouterr().out
    assert "64 in 15 17 19 21-35" in shown
    assert "window(8K) in 3 5 21 23 27 31 33 35" in shown
    assert main(["verify", "released.plan", "--parent", "parent"]) == 0
    told = capsys.readouterr().out
    assert f"{PARAMS:,}" in told
    assert f"{WEIGHTS:,} bytes" in told


def test_the_released_plan_is_carried_out_on_a_config(described: tuple[Spec, Space]) -> None:
    spec, space = described
    plan, sink = plans.read(RELEASED), Sink()
    chosen = replan.run(plan, spec, space, "released.plan", sink)
    assert chosen is not None, sink.found
    child, parent = cost.chosen_costs(space, chosen), cost.parent_costs(space.model)
    assert (sizes.params(child), sizes.weights(child)) == (PARAMS, WEIGHTS)
    assert (sizes.params(parent), sizes.weights(parent)) == (116_829_156_672, 65_248_815_744)
    lengths = (8, 16, 32, 64, 128)
    ratios = [f"{sizes.kv(child, n * K) / sizes.kv(parent, n * K):.3f}" for n in lengths]
    assert ratios == ["1.000", "0.780", "0.668", "0.612", "0.584"]
    decode = [sum(sizes.kv(each, n * K) for n in (64, 128)) for each in (child, parent)]
    assert f"{decode[0] / decode[1]:.3f}" == "0.593"


def test_other_plans_than_the_released_one_are_told_apart(
    described: tuple[Spec, Space], place: Path
) -> None:
    spec, space = described
    text = RELEASED.read_text(encoding="utf-8")
    edited = lockfile.parse(text.replace("metric params 88.15B", "metric params 80.00B"), "x")
    sink = Sink()
    assert replan.run(edited, spec, space, "x", sink) is None
    assert [d.code for d in sink.found] == [catalog.E0801]
    assert "it says 80.00B for `params`" in sink.found[0].message

    model = resolve.read_model(Fetched(place / "parent", "local:parent"), place / "cache")
    with pytest.raises(Exception, match="it says 80\\.00B"):
        verify.weigh(edited, "x", model)
    for old, new in (("=64#", "=63#"), ("window(8K)", "window(4K)")):
        moved = lockfile.parse(text.replace(old, new), "x")
        plain = replace(moved, metrics=())
        assert sizes.params(verify.weigh(plain, "x", model)) <= PARAMS
        assert sizes.kv(verify.weigh(plain, "x", model), 128 * K) <= sizes.kv(
            verify.weigh(replace(plans.read(RELEASED), metrics=()), "x", model), 128 * K
        )
        sink = Sink()
        assert replan.run(moved, spec, space, "x", sink) is None
        assert {d.code for d in sink.found} == {catalog.E0801}
    with pytest.raises(Exception, match="cannot be done to this parent"):
        verify.weigh(lockfile.parse(text.replace("=64#", "=noop#"), "x"), "x", model)


def test_a_block_that_is_not_ranked_is_none_that_is(described: tuple[Spec, Space]) -> None:
    _, space = described
    halved = [c for c in space.candidates if c.text == "64"]
    assert len({c.artefact for c in halved}) == 36
    assert not {c.artefact for c in halved} & {
        edits.ranked(space.model, c, tuple(range(64))).artefact for c in halved
    }
