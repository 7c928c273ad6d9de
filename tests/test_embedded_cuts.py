"""The embedded mixture, cut: exactly the parent that may not choose what is gone.

The reference is the parent itself, told through its own parameters what the cut takes away: router
logits of minus infinity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from msgspec.structs import replace
from space_fixtures import span
from torch.nn import functional
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssTopKRouter

from surgery import edits, sizes
from surgery.ir import Alternative, Candidate, Experts, Model, Ranking, Site
from surgery.passes.resolve import read_model
from surgery.scoring import data
from surgery.scoring.model import Parent, load_parent, make_layer, swapped
from surgery.sources import Fetched, default_cache
from surgery.tensors.ops import materialise, tensor_reader

SPECS = Path(__file__).parent.parent / "specs"
OFFERED = (24, 16, 12, 8)


@pytest.fixture(scope="module")
def tokens(model: Model) -> Any:
    """Two held-out texts, int64 [2, 160]."""
    lines = (SPECS / "tinymoe/text/heldout.jsonl").read_text(encoding="utf-8").splitlines()
    encode: Any = data.load_tokenizer(model)
    rows = [list(encode(json.loads(line)["text"]))[:160] for line in lines[:40:20]]
    return torch.tensor(rows)


@pytest.fixture(scope="module")
def model() -> Model:
    return read_model(Fetched(SPECS / "tinymoe", "local:tinymoe"), default_cache())


@pytest.fixture(scope="module")
def parent(model: Model) -> Parent:
    return load_parent(model)


def _kept(layer: int, count: int) -> tuple[int, ...]:
    """Scattered experts, others in every layer."""
    order = sorted(range(32), key=lambda e: hashlib.sha256(f"{layer}/{e}".encode()).digest())
    return tuple(sorted(order[:count]))


def _candidates(model: Model, count: int) -> tuple[Candidate, ...]:
    made: list[Candidate] = []
    for layer in model.layers:
        block = layer.mlp
        assert isinstance(block, Experts)
        by = Ranking(span(1), "random", None)
        retain = Alternative(span(1), "retain", Fraction(count), by)
        cost = sizes.block_cost(None, ())
        address = f"layer.{layer.index}.experts.{count}"
        child = replace(block, count=count)
        unranked = Candidate(address, layer.index, Site.EXPERTS, str(count), child, cost, retain)
        made.append(edits.ranked(model, unranked, _kept(layer.index, count)))
    return tuple(made)


def _logits(parent: Parent, tokens: Any, chosen: tuple[Candidate, ...] = ()) -> Any:
    module: Any = parent.module
    layers = dict(make_layer(parent, (candidate,)) for candidate in chosen)
    for layer in layers.values():
        layer.to(module.lm_head.weight.dtype)
    with torch.inference_mode(), swapped(parent, layers):
        if module.lm_head.weight.dtype is torch.float64:
            # The grouped kernel knows no float64.
            for layer in module.model.layers:
                layer.mlp.experts.config._experts_implementation = "eager"
        return module(tokens).logits


@contextmanager
def _unavailable(parent: Parent, chosen: tuple[Candidate, ...]) -> Generator[None]:
    """Router logits of minus infinity for everything that the candidates drop."""
    modules: Any = parent.module.model.layers
    routers = [modules[candidate.layer].mlp.router for candidate in chosen]
    before = [router.bias.data for router in routers]
    for candidate, router in zip(chosen, routers, strict=True):
        gone = [e for e in range(32) if e not in (candidate.kept or ())]
        router.bias.data = router.bias.data.clone()
        router.bias.data[gone] = -torch.inf
    yield
    for router, bias in zip(routers, before, strict=True):
        router.bias.data = bias


@pytest.fixture
def row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every router multiplies its rows one at a time, so that their number does not matter.

    A matrix of 8 rows may be multiplied by another kernel than one of 32, and is rounded otherwise.
    """
    kind = cast("Any", GptOssTopKRouter)
    routed, linear = kind.forward, functional.linear

    def rows(hidden: Any, weight: Any, bias: Any) -> Any:
        each = zip(weight.split(1), bias.split(1), strict=True)
        return torch.cat([linear(hidden, *row) for row in each], -1)

    def forward(router: Any, hidden: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(functional, "linear", rows)
            return routed(router, hidden)

    monkeypatch.setattr(kind, "forward", forward)


def _difference(model: Model, parent: Parent, tokens: Any, count: int) -> float:
    chosen = _candidates(model, count)
    assert len({candidate.kept for candidate in chosen}) == 8
    whole, found = _logits(parent, tokens), _logits(parent, tokens, chosen)
    with _unavailable(parent, chosen):
        expected = _logits(parent, tokens)
    assert float((whole - expected).abs().max()) > 1
    assert torch.equal(whole, _logits(parent, tokens))
    return float((found - expected).abs().max())


@pytest.mark.parametrize("count", OFFERED)
@pytest.mark.usefixtures("row_by_row")
def test_removed_experts_are_logits_at_minus_infinity(
    count: int, model: Model, parent: Parent, tokens: Any
) -> None:
    found = _difference(model, parent, tokens, count)
    print(f"{count} of 32 experts: max |d logit| {found:.1e}")
    assert found <= 1e-5


def test_routers_of_other_sizes_round_otherwise(model: Model, parent: Parent, tokens: Any) -> None:
    """As it is run: ten units in the last place of logits of 20, and nothing with more experts."""
    assert _difference(model, parent, tokens, 8) <= 3e-5


def test_what_is_left_of_the_difference_is_rounding(model: Model, tokens: Any) -> None:
    parent = load_parent(model)
    module: Any = parent.module
    module.double()
    chosen = _candidates(model, 8)
    found = _logits(parent, tokens, chosen)
    with _unavailable(parent, chosen):
        expected = _logits(parent, tokens)
    assert found.dtype is torch.float64
    assert float((found - expected).abs().max()) <= 1e-12


@pytest.mark.parametrize("count", OFFERED)
def test_packed_bytes_of_kept_experts_are_the_parents(count: int, model: Model) -> None:
    read = tensor_reader(model)
    packed = 0
    for candidate in _candidates(model, count):
        for output in edits.outputs(model, candidate):
            if not output.name.endswith(("_blocks", "_scales", "_bias", "router.bias")):
                continue
            packed += 1
            child = materialise(output.op, read)
            whole = read(output.name)
            for place, expert in enumerate(candidate.kept or ()):
                mine = hashlib.sha256(child[place].tobytes()).digest()
                assert mine == hashlib.sha256(whole[expert].tobytes()).digest()
    assert packed == 8 * 7
