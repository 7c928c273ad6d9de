"""The criteria of experts against a reference that goes token by token and literally removes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from measuring_fixtures import Bench, bench, dataset, tokens
from msgspec import Struct, field

from surgery.checking import tables
from surgery.ir import Site
from surgery.passes.rank import Scores, kept
from surgery.scoring import activations, routing
from surgery.scoring.model import load_parent


class _Sums(Struct):
    """What one token after the other adds up to, per expert."""

    count: list[float] = field(default_factory=lambda: [0.0] * 8)
    gate: list[float] = field(default_factory=lambda: [0.0] * 8)
    weighted: list[float] = field(default_factory=lambda: [0.0] * 8)
    norm: list[float] = field(default_factory=lambda: [0.0] * 8)
    square: list[float] = field(default_factory=lambda: [0.0] * 8)
    removal: list[float] = field(default_factory=lambda: [0.0] * 8)


def _expert(mlp: Any, expert: int, token: Any) -> Any:
    """An expert, written out: gpt-oss', or a plain gated one. float64 [hidden]."""
    experts = mlp.experts
    gate_up, down = experts.gate_up_proj[expert].double(), experts.down_proj[expert].double()
    if not hasattr(mlp, "router"):
        gate, up = (gate_up @ token).chunk(2)
        return down @ (gate * torch.sigmoid(gate) * up)
    both = token @ gate_up + experts.gate_up_proj_bias[expert]
    gate, up = both[0::2].clamp(max=7.0), both[1::2].clamp(-7.0, 7.0)
    inner = (up + 1) * gate * torch.sigmoid(1.702 * gate)
    return inner @ down + experts.down_proj_bias[expert]


def _logits(mlp: Any, hidden: Any) -> Any:
    """gpt-oss' router has a bias, the gates of the others have none."""
    if hasattr(mlp, "router"):
        return hidden @ mlp.router.weight.to(hidden.dtype).T + mlp.router.bias
    return hidden @ mlp.gate.weight.to(hidden.dtype).T


def _output(mlp: Any, logits: Any, token: Any) -> tuple[Any, list[int], Any]:
    """The native layer: the best experts of these logits, their weights, their sum."""
    best = logits.argsort(descending=True)[: _top_k(mlp)].tolist()
    if hasattr(mlp, "router"):
        weights = logits[best].softmax(0)
    else:
        weights = logits.softmax(0)[best]
        if getattr(mlp.gate, "norm_topk_prob", True):
            weights = weights / weights.sum()
    parts = (w * _expert(mlp, e, token) for e, w in zip(best, weights, strict=True))
    return sum(parts), best, weights


def _top_k(mlp: Any) -> int:
    return (mlp.router if hasattr(mlp, "router") else mlp.gate).top_k


def _reference(mlp: Any, hidden: Any) -> _Sums:
    sums = _Sums()
    for token in hidden.double():
        logits = _logits(mlp, token)
        whole, best, weights = _output(mlp, logits, token)
        for expert, weight in zip(best, weights.tolist(), strict=True):
            norm = float(_expert(mlp, expert, token).norm())
            sums.count[expert] += 1
            sums.gate[expert] += weight
            sums.weighted[expert] += weight * norm
            sums.norm[expert] += norm
            sums.square[expert] += norm**2
        for expert in range(8):
            unavailable = logits.clone()
            unavailable[expert] = -torch.inf
            without, rerouted, _ = _output(mlp, unavailable, token)
            assert expert not in rerouted
            sums.removal[expert] += float((whole - without).square().mean()) / len(hidden)
    return sums


def _means(totals: Sequence[float], counts: Sequence[float]) -> list[float]:
    return [total / max(count, 1) for total, count in zip(totals, counts, strict=True)]


def _election(preferences: list[list[int]], votes: int) -> list[float]:
    """The experts of every token's router, one leaving at a time."""
    alive, scores = set(range(len(preferences[0]))), [0.0] * len(preferences[0])
    for turn in range(len(alive)):
        tally = dict.fromkeys(alive, 0)
        for order in preferences:
            for expert in [e for e in order if e in alive][:votes]:
                tally[expert] += 1
        loser = min(alive, key=lambda e: (tally[e], -e))
        scores[loser] = turn
        alive.remove(loser)
    return scores


def _entering(mlp: Any) -> list[Any]:
    """Fills with what enters a module when it runs."""
    found: list[Any] = []

    def hook(_module: Any, inputs: tuple[Any, ...]) -> None:
        found.append(inputs[0])

    mlp.register_forward_pre_hook(hook)
    return found


@pytest.fixture
def toy(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """A parent of a family; `qwen3_moe plain` uses the weights of chosen experts as they are."""
    name, _, plain = str(request.param).partition(" ")
    parents = request.getfixturevalue("parents" if name == "gpt_oss" else "sparse_parents")
    text = dataset(take=2, length=48)
    made = bench(parents, name, tmp_path, text)
    if plain:
        path = made.model.directory / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(config | {"norm_topk_prob": False}), encoding="utf-8")
        made = bench(parents, name, tmp_path, text)
    return made


@pytest.mark.parametrize(
    "toy", ["gpt_oss", "mixtral", "qwen3_moe", "qwen3_moe plain"], indirect=True
)
def test_every_criterion_is_what_its_formula_says(toy: Bench) -> None:
    parent, batch = load_parent(toy.model), tokens(toy)
    entered = [_entering(parent.module.model.layers[layer].mlp) for layer in range(4)]
    watched = [(layer, Site.EXPERTS, "experts") for layer in (2, 3)]
    with torch.inference_mode():
        found = activations.collect(parent, [batch], watched, batch.numel())
        for layer in (2, 3):
            mlp: Any = parent.module.model.layers[layer].mlp
            hidden: Any = entered[layer][0].flatten(0, 1)
            sums = _reference(mlp, hidden)
            orders = _logits(mlp, hidden).argsort(dim=-1, descending=True, stable=True).tolist()
            expected = {
                "removal": sums.removal,
                "router_contribution": sums.weighted,
                "reap": _means(sums.weighted, sums.count),
                "ean": sums.norm,
                "man": _means(sums.norm, sums.count),
                "msan": _means(sums.square, sums.count),
                "frequency": sums.count,
                "weighted_frequency": sums.gate,
                "ranked_choice": _election(orders, _top_k(mlp)),
            }
            assert expected.keys() == set(tables.CRITERIA["rank_experts"]) - {"random"}
            for criterion, values in expected.items():
                got = found[layer, Site.EXPERTS, "experts"].scores(criterion)
                assert got == pytest.approx(values, rel=1e-4), criterion
            rankings = {tuple(sorted(range(8), key=lambda e: v[e])) for v in expected.values()}
            assert len(rankings) > 3, "the toy must tell criteria apart"


def test_a_router_that_is_sure_leaves_no_infinities() -> None:
    """One expert takes all of the softmax: what is left of it still has weights."""
    logits = torch.tensor([[900.0, 3.0, 2.0, -5.0]], dtype=torch.float64)
    outputs = torch.eye(3, dtype=torch.float64)[None]
    for renormalised in (True, False):
        style = routing.Style("gate", renormalised)
        found = routing.removals(
            logits.log_softmax(-1), torch.tensor([[0, 1, 2]]), outputs, 2, style
        )
        rest = logits[0, 1:].softmax(0)
        weights = rest[:2] / rest[:2].sum() if renormalised else rest[:2]
        change = torch.cat([torch.ones(1), weights])
        assert float(found[0]) == pytest.approx(float(change.square().mean()))
        assert bool(found.isfinite().all())


def test_voters_are_the_same_whatever_the_batches(
    parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "MAX_BALLOTS", 20)
    monkeypatch.setattr(routing, "_CHUNK", 7)
    made = bench(parents, "gpt_oss", tmp_path, dataset(take=2, length=48))
    parent, batch = load_parent(made.model), tokens(made)
    watched = [(0, Site.EXPERTS, "experts")]
    whole = activations.collect(parent, [batch], watched, batch.numel())[watched[0]]
    rows = [row.unsqueeze(0) for row in batch]
    split = activations.collect(parent, rows, watched, batch.numel())[watched[0]]
    assert isinstance(whole, routing.Routing)
    assert isinstance(split, routing.Routing)
    assert whole.ballots.shape == (20, 8)
    assert torch.equal(whole.ballots, split.ballots)
    assert whole.tokens == split.tokens == 96


@given(st.lists(st.permutations(range(6)), min_size=1, max_size=30), st.integers(1, 4))
def test_elections(preferences: list[list[int]], votes: int) -> None:
    ballots = torch.tensor(preferences, dtype=torch.int16)
    assert routing.ranked_choice(ballots, votes) == _election(preferences, votes)


@given(st.lists(st.floats(0, 10), min_size=8, max_size=8), st.sets(st.integers(0, 7)))
def test_kept_sets_are_nested_and_dead_experts_go_first(
    values: list[float], dead: set[int]
) -> None:
    scores = Scores(tuple(values), tuple(0.0 if e in dead else 1.0 for e in range(8)))
    for size in range(1, 8):
        smaller, larger = set(kept(scores, size)), set(kept(scores, size + 1))
        assert smaller < larger
        assert not smaller & dead or size > 8 - len(dead)
