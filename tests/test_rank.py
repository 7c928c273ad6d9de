"""What is kept: the best by the criterion, recomputed token by token with the stock model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from measuring_fixtures import Log, bench, dataset, load, ranked_by, save, stock, tokens
from msgspec.structs import replace
from space_fixtures import alternative, choose, layers, span
from torch.nn import functional

from surgery import catalog, edits
from surgery.diagnostics import Sink, Stop
from surgery.ir import Ranking, Site, Space
from surgery.library import Library
from surgery.passes import rank
from surgery.passes.rank import Scores, kept
from surgery.scoring import activations, swap
from surgery.scoring.arrays import numbers
from surgery.scoring.model import load_parent


def _inputs(model: Any, batch: torch.Tensor) -> list[torch.Tensor]:
    """What enters the FFN or mixture of every layer: float64 [tokens, hidden]."""
    found: list[torch.Tensor] = []

    def hook(_module: Any, inputs: tuple[torch.Tensor]) -> None:
        found.append(inputs[0])

    hooks = [layer.mlp.register_forward_pre_hook(hook) for layer in model.model.layers]
    with torch.no_grad():
        model(batch)
    for handle in hooks:
        handle.remove()
    return [hidden.flatten(0, 1).double() for hidden in found]


def _channel_scores(model: Any, batch: torch.Tensor) -> list[list[float]]:
    """Paper B, appendix A: how much the output moves when one channel is left out."""
    scores: list[list[float]] = []
    for layer, hidden in zip(model.model.layers, _inputs(model, batch), strict=True):
        mlp = layer.mlp.double()
        active = functional.silu(mlp.gate_proj(hidden)) * mlp.up_proj(hidden)
        whole = mlp.down_proj(active)
        row: list[float] = []
        for channel in range(active.shape[1]):
            without = active.clone()
            without[:, channel] = 0
            row.append(float((whole - mlp.down_proj(without)).norm(dim=-1).mean()))
        scores.append(row)
    return scores


def _expert_sums(model: Any, batch: torch.Tensor) -> list[tuple[list[float], list[int]]]:
    """Router weight times output norm of every expert, one token after the other."""
    found: list[tuple[list[float], list[int]]] = []
    for layer, hidden in zip(model.model.layers, _inputs(model, batch), strict=True):
        mlp = layer.mlp.double()
        experts = mlp.experts
        sums, counts = [0.0] * experts.num_experts, [0] * experts.num_experts
        for token in hidden:
            logits = mlp.router.weight @ token + mlp.router.bias
            best = sorted(range(len(logits)), key=lambda e: -float(logits[e]))[: mlp.router.top_k]
            weights = torch.softmax(logits[best], 0)
            for expert, weight in zip(best, numbers(weights), strict=True):
                gate_up = token @ experts.gate_up_proj[expert] + experts.gate_up_proj_bias[expert]
                gate = gate_up[0::2].clamp(max=7.0)
                up = gate_up[1::2].clamp(-7.0, 7.0)
                inner = (up + 1) * gate * torch.sigmoid(1.702 * gate)
                output = inner @ experts.down_proj[expert] + experts.down_proj_bias[expert]
                sums[expert] += weight * float(output.norm())
                counts[expert] += 1
        found.append((sums, counts))
    return found


def _top(scores: list[float], size: int) -> tuple[int, ...]:
    return tuple(sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:size]))


def _kept(space: Space, site: Site) -> dict[tuple[int, str], tuple[int, ...] | None]:
    """Kept lists of the candidates that have one, by layer and text."""
    return {
        (c.layer, c.text): c.kept
        for c in space.candidates
        if c.site is site and edits.selects(c.edit)
    }


# ---- Against references ----------------------------------------------------------------------


def test_kept_channels_are_the_ones_whose_loss_would_cost_most(
    parents: Path, tmp_path: Path
) -> None:
    sizes = (96, 64)
    choice = choose(
        Site.FFN,
        layers(),
        alternative("keep"),
        *(ranked_by("width", n, "channel_contribution", 24 + i) for i, n in enumerate(sizes)),
    )
    made = bench(parents, "llama", tmp_path, choices=(choice,))
    space = made.rank(Library(tmp_path / "library"))
    with torch.no_grad():
        scores = _channel_scores(stock(made), tokens(made))
    expected = {(i, str(n)): _top(row, n) for i, row in enumerate(scores) for n in sizes}
    assert _kept(space, Site.FFN) == expected
    for layer in range(4):
        assert set(expected[layer, "64"]) < set(expected[layer, "96"])
    assert len({expected[layer, "64"] for layer in range(4)}) == 4


def test_kept_experts_are_the_top_of_a_token_by_token_count(parents: Path, tmp_path: Path) -> None:
    criteria = ("router_contribution", "reap", "frequency")
    with torch.no_grad():
        made = bench(parents, "gpt_oss", tmp_path, dataset(take=2))
        sums = _expert_sums(stock(made), tokens(made))
    values = {
        "router_contribution": [total for total, _ in sums],
        "reap": [[s / max(n, 1) for s, n in zip(*both, strict=True)] for both in sums],
        "frequency": [[float(n) for n in counts] for _, counts in sums],
    }
    found: dict[str, list[tuple[int, ...] | None]] = {}
    for criterion in criteria:
        alternatives = (ranked_by("retain", n, criterion, 26 + n) for n in (6, 3))
        choice = choose(Site.EXPERTS, layers(), alternative("keep"), *alternatives)
        again = bench(parents, "gpt_oss", tmp_path, dataset(take=2), choices=(choice,))
        lists = _kept(again.rank(Library(tmp_path / "library")), Site.EXPERTS)
        for layer, row in enumerate(values[criterion]):
            for size in (6, 3):
                got = lists[layer, str(size)]
                assert got is not None
                # By score and not by identity: equal counts may come in either order.
                assert sorted(row[i] for i in got) == pytest.approx(sorted(row)[-size:], rel=1e-5)
        found[criterion] = list(lists.values())
    assert found["router_contribution"] == [
        _top(row, n) for row in values["router_contribution"] for n in (6, 3)
    ]
    assert found["router_contribution"] != found["reap"]


def test_filled_candidates_are_those_of_the_registry(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "gpt_oss", tmp_path)
    space = made.rank(Library(tmp_path / "library"))
    selecting = [c for c in space.candidates if edits.selects(c.edit)]
    assert len(selecting) == 8
    for candidate in selecting:
        assert candidate.kept == tuple(sorted(candidate.kept or ()))
        assert candidate.artefact == edits.artefact(made.model, candidate) != ""
    blank = {c.address: replace(c, kept=None, artefact="") for c in selecting}
    stripped = tuple(blank.get(c.address, c) for c in space.candidates)
    assert stripped == made.space.candidates


# ---- Which are best --------------------------------------------------------------------------


def test_kept_is_the_top_by_score() -> None:
    # The trap: `argsort` of these would call {1, 3} the best two.
    scores = Scores((0.5, 0.1, 0.9, 0.3), (1, 1, 1, 1))
    assert kept(scores, 2) == (0, 2)
    assert kept(scores, 3) == (0, 2, 3)
    assert kept(Scores((1.0, 1.0, 1.0), (1, 1, 1)), 2) == (0, 1)


def test_what_no_token_reached_ranks_last() -> None:
    assert kept(Scores((9.0, 0.0, 0.0, 1.0), (0, 0, 4, 2)), 2) == (2, 3)
    assert kept(Scores((9.0, 0.0, 0.0, 1.0), (0, 0, 4, 2)), 3) == (0, 2, 3)


def test_dead_experts_go_first(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "gpt_oss", tmp_path)
    tensors = load(made)
    tensors["model.layers.2.mlp.router.bias"][[0, 5]] = -1e4
    # Their outputs would be the largest of all, if anything were routed to them.
    tensors["model.layers.2.mlp.experts.down_proj_bias"][[0, 5]] = 1e3
    save(made, tensors)
    space = bench(parents, "gpt_oss", tmp_path).rank(Library(tmp_path / "library"))
    assert _kept(space, Site.EXPERTS)[2, "6"] == (1, 2, 3, 4, 6, 7)


# ---- What may not change a ranking -----------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
def test_batches_do_not_change_statistics(name: str, parents: Path, tmp_path: Path) -> None:
    made = bench(parents, name, tmp_path)
    parent, batch = load_parent(made.model), tokens(made)
    site = Site.FFN if name == "llama" else Site.EXPERTS
    things = "channels" if site is Site.FFN else "experts"
    watched = [(layer, site, things) for layer in range(4)]
    total = batch.numel()
    whole = activations.collect(parent, [batch], watched, total)
    split = activations.collect(parent, [row.unsqueeze(0) for row in batch], watched, total)
    assert len(whole) == 4
    sites = [criterion for criterion, those in rank.CRITERIA.items() if things in those]
    for key, found in whole.items():
        for criterion in set(sites) - {"random"}:
            expected = pytest.approx(found.scores(criterion), rel=1e-5)
            assert split[key].scores(criterion) == expected
        assert torch.equal(split[key].count, found.count)
    mlp: Any = parent.module.model.layers[0].mlp
    assert not any(module._forward_pre_hooks for module in mlp.modules())


def test_the_second_run_measures_nothing(
    parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(parents, "llama", tmp_path)
    library, first, second, third = Library(tmp_path / "library"), Log(), Log(), Log()
    space = made.rank(library, first)
    assert first.of("rank") == [(0, 1), (1, 1)]
    assert made.rank(library, second) == space
    assert not second.events
    monkeypatch.setattr(swap, "BATCH", 48)
    assert made.rank(Library(tmp_path / "other"), third) == space
    assert third.of("rank")[-1] == (4, 4)


def test_other_text_is_another_ranking(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "gpt_oss", tmp_path)
    library, log = Library(tmp_path / "library"), Log()
    space = made.rank(library)
    other = replace(made.spec, datasets=(dataset(take=1, seed=3),))
    assert replace(made, spec=other).rank(library, log) != space
    assert log.of("rank")


def test_random_is_a_control_that_reads_nothing(parents: Path, tmp_path: Path) -> None:
    by = replace(alternative("width", 64), by=Ranking(span(24), "random", None))
    choice = choose(Site.FFN, layers(), alternative("keep"), by)
    made = bench(parents, "llama", tmp_path, choices=(choice,))
    bare = replace(made, space=replace(made.space, model=replace(made.model, files={})))
    library = Library(tmp_path / "library")
    lists = _kept(bare.rank(library), Site.FFN)
    assert lists == _kept(bare.rank(library), Site.FFN)
    assert not library.root.exists()
    assert len(set(lists.values())) == 4
    middle = sum(sum(names or ()) / 64 for names in lists.values()) / 4
    assert 50 < middle < 77, "an even draw from 0..127"


# ---- Findings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criterion", "text", "code"),
    [
        ("router_contribution", "text", catalog.E0201),
        ("beauty", "text", catalog.E0201),
        ("channel_contribution", None, catalog.E0303),
    ],
)
def test_criteria_that_cannot_rank_are_located(
    criterion: str, text: str | None, code: Any, parents: Path, tmp_path: Path
) -> None:
    by = replace(alternative("width", 64), by=Ranking(span(24), criterion, text))
    choice = choose(Site.FFN, layers(), alternative("keep"), by)
    made = bench(parents, "llama", tmp_path, choices=(choice,))
    sink = Sink()
    assert rank.run(made.spec, made.space, Library(tmp_path / "library"), sink, Log()) is None
    (found,) = sink.found
    assert found.code is code
    assert found.primary is not None
    assert found.primary.span == span(24)


def test_statistics_that_are_not_finite_are_refused(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "llama", tmp_path)
    tensors = load(made)
    tensors["model.layers.3.mlp.up_proj.weight"][9, 0] = torch.inf
    save(made, tensors)
    spoiled = bench(parents, "llama", tmp_path)
    sink, library = Sink(), Library(tmp_path / "library")
    assert rank.run(spoiled.spec, spoiled.space, library, sink, Log()) is None
    (found,) = sink.found
    assert found.code is catalog.E0702
    assert "layer.3.ffn" in found.message
    assert "layer.2.ffn" not in found.message


def test_missing_weights_are_a_finding(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "llama", tmp_path)
    bare = replace(made.space, model=replace(made.model, files={}))
    with pytest.raises(Stop) as stopped:
        rank.run(made.spec, bare, Library(tmp_path / "library"), Sink(), Log())
    assert stopped.value.diagnostic.code is catalog.E0701
