"""Replace-one-block damage against whole stock models, and what may not change it."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from measuring_fixtures import (
    Bench,
    Log,
    bench,
    dataset,
    load,
    only,
    reference_kl,
    samples,
    save,
    spoil,
    stock,
    sweep,
    tokens,
)
from space_fixtures import span

from surgery import catalog
from surgery.diagnostics import Stop
from surgery.ir import Candidate, Score, Site
from surgery.library import Library
from surgery.scoring import divergence, swap
from surgery.scoring.arrays import numbers
from surgery.scoring.assembled import assembled
from surgery.scoring.model import load_parent

FAMILIES = pytest.mark.parametrize("name", ["llama", "gpt_oss"])


def _child(bench: Bench, *candidates: Candidate) -> Any:
    child = stock(bench)
    for candidate in candidates:
        spoil(child, candidate)
    return child


# ---- Values ----------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("tail", [None, 5])
def test_damage_is_that_of_whole_models(
    name: str, tail: int | None, parents: Path, tmp_path: Path
) -> None:
    scores = (Score(span(11), "damage", "kl", "text", tail),)
    made = bench(parents, name, tmp_path, scores=scores)
    library = Library(tmp_path / "library")
    ranked = made.rank(library)
    measured = made.score(library).damage["damage"]
    batch = tokens(made)
    parent = stock(made)
    worst = 0.0
    # One layer has every kind of edit, and the last one has no suffix; gpt-oss has windows in 0.
    for candidate in ranked.candidates:
        if not candidate.changed:
            assert measured[candidate.address] == 0.0
        elif candidate.layer in (0, 3):
            expected = float(
                reference_kl(parent, _child(made, candidate), batch, tail or 48).mean()
            )
            assert expected > 1e-4
            worst = max(worst, abs(measured[candidate.address] - expected) / expected)
    assert worst < 1e-5


@FAMILIES
def test_assembled_child_is_judged_like_whole_models(
    name: str, parents: Path, tmp_path: Path
) -> None:
    made = bench(parents, name, tmp_path)
    library = Library(tmp_path / "library")
    space = made.rank(library)
    mlp, text = (Site.FFN, "64") if name == "llama" else (Site.EXPERTS, "3")
    chosen = (
        only(space, 0, Site.ATTENTION, "noop"),
        only(space, 1, Site.ATTENTION, "window(8)"),
        only(space, 1, mlp, text),
        only(space, 2, Site.ATTENTION, "kv_heads(1)"),
        only(space, 3, mlp, text),
    )
    held_out = dataset(name="held", seed=5)
    judged = assembled(made.spec, space, chosen, held_out, library)

    batch = tokens(made, held_out)
    parent, child = stock(made), _child(made, *chosen)
    per_sample = reference_kl(parent, child, batch, 48)
    assert judged.kl == pytest.approx(float(per_sample.mean()), rel=1e-5)
    assert judged.kl_error == pytest.approx(float(per_sample.std()) / 2, rel=1e-4)
    late = assembled(made.spec, space, chosen, held_out, library, tail=5)
    expected = float(reference_kl(parent, child, batch, 5).mean())
    assert late.kl == pytest.approx(expected, rel=1e-5)
    assert abs(late.kl - judged.kl) > 1e-3
    assert late.child_perplexity == judged.child_perplexity
    with torch.no_grad():
        losses = [float(m(batch, labels=batch).loss) for m in (parent, child)]
    assert judged.parent_perplexity == pytest.approx(torch.tensor(losses[0]).exp().item(), rel=1e-4)
    assert judged.child_perplexity == pytest.approx(torch.tensor(losses[1]).exp().item(), rel=1e-4)

    log = Log()
    again = assembled(made.spec, space, chosen, held_out, library, log)
    assert again == judged
    assert not log.events


def test_an_unchanged_child_is_the_parent(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "llama", tmp_path)
    judged = assembled(made.spec, made.space, (), made.spec.datasets[0])
    assert judged.kl == 0.0
    assert judged.parent_perplexity == judged.child_perplexity > 1


@pytest.mark.parametrize("who", ["parent", "child"])
def test_a_child_that_is_not_finite_is_refused_and_not_kept(
    who: str, parents: Path, tmp_path: Path
) -> None:
    made = bench(parents, "llama", tmp_path)
    tensors = load(made)
    if who == "parent":
        tensors["model.norm.weight"][3] = math.nan
    else:
        # The parent never reads these weights (their input is 0), but their sum overflows.
        tensors["model.layers.1.input_layernorm.weight"][0] = 0
        tensors["model.layers.1.self_attn.k_proj.weight"][[0, 16], 0] = 3e38
    save(made, tensors)
    spoiled = bench(parents, "llama", tmp_path)
    chosen = (only(spoiled.space, 1, Site.ATTENTION, "kv_heads(1)"),)
    library = Library(tmp_path / "library")
    with pytest.raises(Stop) as stopped:
        assembled(spoiled.spec, spoiled.space, chosen, spoiled.spec.datasets[0], library)
    found = stopped.value.diagnostic
    assert found.code is catalog.E0702
    subject = "the assembled child" if who == "child" else "`parent` itself"
    assert found.message == f"{subject} predicts values that are not finite"
    assert not list(library.root.rglob("*.json"))


def test_a_loss_beyond_what_exp_can_say_is_refused(parents: Path, tmp_path: Path) -> None:
    """Finite losses of thousands of nats: a final norm that makes huge logits."""
    made = bench(parents, "llama", tmp_path)
    tensors = load(made)
    tensors["model.norm.weight"] *= 1e5
    save(made, tensors)
    spoiled = bench(parents, "llama", tmp_path)
    library = Library(tmp_path / "library")
    with pytest.raises(Stop, match="E0702"):
        assembled(spoiled.spec, spoiled.space, (), spoiled.spec.datasets[0], library)
    assert not list(library.root.rglob("*.json"))


# ---- Groups ----------------------------------------------------------------------------------


def test_batches_have_one_shape_whatever_fits(parents: Path, tmp_path: Path) -> None:
    """How many layers still miss candidates decides memory, and must not decide batches."""
    made = bench(parents, "llama", tmp_path)
    length, count = 300, 50
    step = swap.batch_size(length)
    one = swap.sample_bytes(made.model, length, length, 1)
    shapes: set[tuple[int, ...]] = set()
    sizes: set[int] = set()
    for layers in (1, 2, 4):
        for memory in (1, 7 * one, 15 * one, 29 * one, 99 * one):
            parts = swap.groups(made.model, count, length, length, layers, memory=memory)
            assert [n for part in parts for n in range(part.start, part.stop)] == [*range(count)]
            starts = [(n, part.stop) for part in parts for n in range(part.start, part.stop, step)]
            shapes.add(tuple(min(step, stop - start) for start, stop in starts))
            sizes.add(len(parts))
    assert shapes == {(6,) * 8 + (2,)}
    assert len(sizes) > 3


# ---- Divergence ------------------------------------------------------------------------------


def _kl64(parent: torch.Tensor, child: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    p = torch.log_softmax(parent.double() @ head.double().T, -1)
    q = torch.log_softmax(child.double() @ head.double().T, -1)
    return (p.exp() * (p - q)).sum(-1)


@pytest.mark.parametrize("size", [1e-4, 1e-3, 1e-1, 1.0, 30.0])
def test_divergence_is_accurate_at_every_size(size: float) -> None:
    draw = torch.Generator().manual_seed(1)
    tokens = divergence.CHUNK + 44
    head = torch.randn(500, 16, generator=draw)
    parent = torch.randn(tokens, 16, generator=draw)
    child = parent + size * torch.randn(tokens, 16, generator=draw)
    found = divergence.divergence(divergence.predict(parent, head), child, head)
    expected = _kl64(parent, child, head)
    error = float((found - expected).abs().mean() / expected.mean())
    assert error < 2e-3
    if size < 1e-2:
        # A KL of 5e-8 must come out as 5e-8, which two float32 log-softmaxes cannot do.
        p, q = (torch.log_softmax(states @ head.T, -1) for states in (parent, child))
        textbook = (p.exp() * (p - q)).sum(-1)
        assert error < 0.1 * float((textbook - expected).abs().mean() / expected.mean())


def test_divergence_of_equal_states_is_exactly_zero() -> None:
    head, states = torch.randn(300, 8), 40 * torch.randn(20, 8)
    same = divergence.divergence(divergence.predict(states, head), states.clone(), head)
    assert torch.equal(same, torch.zeros(20, dtype=torch.float64))


def test_divergence_of_nan_is_nan() -> None:
    head, states = torch.randn(300, 8), torch.randn(3, 8)
    child = states.clone()
    child[1, 2] = torch.nan
    found = divergence.divergence(divergence.predict(states, head), child, head)
    assert [math.isnan(value) for value in numbers(found)] == [False, True, False]


# ---- What may not change a score -------------------------------------------------------------


@FAMILIES
def test_batches_and_groups_do_not_change_damage(
    name: str, parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(parents, name, tmp_path)
    space = made.rank(Library(tmp_path / "library"))
    parent, drawn = load_parent(made.model), samples(made)
    changed = [c for c in space.candidates if c.changed]
    whole = dict(sweep(parent, drawn, changed, memory=2**30))
    monkeypatch.setattr(swap, "BATCH", 1)
    monkeypatch.setattr(divergence, "CHUNK", 7)
    swaps: list[Candidate] = []
    split = dict(sweep(parent, drawn, changed, memory=1, after=swaps.append))
    assert len(swaps) == 4 * len(changed)
    assert whole.keys() == split.keys() == {c.address for c in changed}
    for address, values in whole.items():
        assert values.shape == (4,)
        torch.testing.assert_close(split[address], values, rtol=1e-4, atol=1e-9)


def test_a_swap_leaves_the_parent_as_it_was(parents: Path, tmp_path: Path) -> None:
    made = bench(parents, "llama", tmp_path)
    parent, drawn = load_parent(made.model), samples(made)
    module = cast("torch.nn.Module", parent.module)
    before = {name: tensor.clone() for name, tensor in module.named_parameters()}
    noop = only(made.space, 1, Site.FFN, "noop")
    ((_, first),) = sweep(parent, drawn, [noop])
    ((_, second),) = sweep(parent, drawn, [noop])
    assert torch.equal(first, second)
    after = dict(module.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_loaded_parent_computes_what_transformers_does(parents: Path, tmp_path: Path) -> None:
    for name in ("llama", "gpt_oss"):
        made = bench(parents, name, tmp_path / name)
        batch = tokens(made)
        with torch.inference_mode():
            hidden, state = (parent := load_parent(made.model)).module.begin(batch)
            hidden = parent.module.run(hidden, state, 0, 4)
            logits = parent.normalised(hidden) @ parent.head.T
            expected = stock(made)(batch).logits
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


# ---- Packed experts --------------------------------------------------------------------------


def test_packed_experts_measure_like_their_values(parents: Path, tmp_path: Path) -> None:
    packed = bench(parents, "gpt_oss", tmp_path / "packed")
    plain = bench(parents, "gpt_oss", tmp_path / "plain")
    tensors = load(plain)
    draw = torch.Generator().manual_seed(3)
    codes = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
    stored = copy.copy(tensors)
    for layer in range(4):
        for name in ("gate_up_proj", "down_proj"):
            key = f"model.layers.{layer}.mlp.experts.{name}"
            experts, inside, outside = tensors[key].shape
            nibbles = torch.randint(0, 16, (experts, outside, inside // 32, 32), generator=draw)
            scales = torch.randint(122, 125, (experts, outside, inside // 32), generator=draw)
            values = codes[nibbles] * 2.0 ** (scales.unsqueeze(-1) - 127)
            tensors[key] = values.flatten(2).transpose(1, 2).contiguous().bfloat16()
            del stored[key]
            stored[f"{key}_blocks"] = (nibbles[..., ::2] | nibbles[..., 1::2] << 4).to(torch.uint8)
            stored[f"{key}_scales"] = scales.to(torch.uint8)
    save(plain, tensors)
    save(packed, stored)
    config = json.loads((packed.model.directory / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4"}
    (packed.model.directory / "config.json").write_text(json.dumps(config))

    results = [
        bench(parents, "gpt_oss", tmp_path / kind).score(Library(tmp_path / f"{kind}-library"))
        for kind in ("packed", "plain")
    ]
    assert results[0].damage == results[1].damage
    assert max(results[0].damage["damage"].values()) > 1e-3
