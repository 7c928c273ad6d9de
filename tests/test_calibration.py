"""FP8 KV caches: scales against what stock models cache, damage against models that round."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measuring_fixtures import (
    Bench,
    Log,
    bench,
    dataset,
    load,
    reference_kl,
    samples,
    save,
    stock,
    sweep,
    tokens,
)
from msgspec.structs import replace
from space_fixtures import KEEP, alternative, choose, layers, span, spec
from torch import Tensor
from transformers import DynamicCache

from surgery import catalog, edits
from surgery.diagnostics import Sink
from surgery.ir import (
    Alternative,
    Attention,
    Candidate,
    Facet,
    FacetKind,
    Ranking,
    Scales,
    Site,
    Space,
)
from surgery.library import Library
from surgery.passes import calibrate, expand, recall, resolve, score
from surgery.passes.resolve import read_model
from surgery.scoring import calibration, data
from surgery.scoring.arrays import from_numpy, numbers
from surgery.scoring.assembled import assembled
from surgery.scoring.model import load_parent
from surgery.sources import Fetched, default_cache
from surgery.units import float32, format_scale
from surgery_runtime.hf import layerwise

SPECS = Path(__file__).parent.parent / "specs"
FAMILIES = pytest.mark.parametrize("name", ["llama", "gpt_oss"])


def stored(method: str, line: int = 50) -> Facet:
    """Every cache in FP8, or as it is."""
    by = Ranking(span(line), method, None if method == "unit" else "text")
    made = Alternative(span(line), "fp8_e4m3", by=by, clause=span(line))
    return Facet(span(line), FacetKind.KV_CACHE, layers(), (KEEP, made))


ATTENTION = choose(
    Site.ATTENTION,
    layers(),
    KEEP,
    alternative("window", 8, line=22),
    alternative("kv_heads", 1, line=21),
)


def fp8_bench(parents: Path, name: str, tmp_path: Path, method: str = "max", **more: Any) -> Bench:
    return bench(parents, name, tmp_path, choices=(ATTENTION,), facets=(stored(method),), **more)


def calibrated(made: Bench, library: Library, log: Log | None = None) -> Space:
    sink = Sink()
    space = calibrate.run(made.spec, made.space, library, sink, log or Log())
    assert not sink.found
    assert space is not None
    return space


def pick(space: Space, layer: int, text: str) -> Candidate:
    (found,) = (
        c for c in space.candidates if (c.layer, c.site, c.text) == (layer, Site.ATTENTION, text)
    )
    return found


class Changing(DynamicCache):
    """A stock cache that hands keys and values of some layers to a function first."""

    def __init__(self, change: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.change = change

    def update(self, *args: Any, **named: Any) -> Any:
        keys, values, layer, *rest = args
        stock: Any = super()
        return stock.update(*self.change(layer, keys, values), layer, *rest, **named)


def cached(model: Any, rows: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
    """What a stock model puts into its cache, by layer."""
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def look(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        found[layer] = (keys, values)
        return keys, values

    with torch.no_grad():
        model(rows, past_key_values=Changing(look), use_cache=True)
    return found


# E4M3 by its definition: every number that eight bits can say, NaN left out.
_E4M3 = torch.tensor(
    sorted(
        {
            sign * (mantissa / 8 + (exponent > 0)) * 2.0 ** (max(exponent, 1) - 7)
            for sign in (1, -1)
            for exponent in range(16)
            for mantissa in range(8)
            if (exponent, mantissa) != (15, 7)
        }
    )
)


def read_back(values: Tensor, scale: float) -> Tensor:
    """The nearest E4M3 of x / scale, times scale: by search, with ties left alone."""
    small = (values / scale).clamp(-448, 448).contiguous()
    above = torch.searchsorted(_E4M3, small).clamp(1, len(_E4M3) - 1)
    low, high = _E4M3[above - 1], _E4M3[above]
    return torch.where(small - low <= high - small, low, high) * scale


# ---- the numbers of FP8 ----------------------------------------------------------------------


def test_what_fp8_gives_back() -> None:
    assert (len(_E4M3), float(_E4M3[-1])) == (253, 448.0)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(20_000, generator=generator) * 10 ** torch.empty(20_000).uniform_(
        -4, 4, generator=generator
    )
    for scale in (1.0, 0.013, 7.0):
        ours, theirs = layerwise.fp8(values, scale), read_back(values, scale)
        assert torch.equal(ours, theirs)
    assert torch.equal(layerwise.fp8(_E4M3 * 0.5, 0.5), _E4M3 * 0.5)
    assert numbers(layerwise.fp8(torch.tensor([1e9, -1e9]), 2.0)) == [896.0, -896.0]
    assert layerwise.fp8(values.bfloat16(), 1.0).dtype == torch.bfloat16


# ---- reach -----------------------------------------------------------------------------------


def test_reaches_are_those_of_a_naive_reference() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(2, 4, 500, 8, generator=generator) ** 3
    reach, magnitudes = calibration.measure(values), values.abs().flatten().double()
    assert reach.count == values.numel()
    assert reach.of("max") == float(values.abs().max())
    for percent in ("99.9", "99.99", "99.999"):
        found = reach.of(f"percentile_{percent}")
        exact = float(
            magnitudes.sort().values[math.ceil(len(magnitudes) * float(percent) / 100) - 1]
        )
        assert exact <= found <= exact * 1.004
    assert reach.of("percentile_99.9") < reach.of("percentile_99.99") <= reach.of("max")

    def error(clip: float) -> float:
        return float((read_back(values, clip / 448) - values).double().square().sum())

    best = reach.of("mse")
    grid = [reach.largest * 2 ** (-step / 8) for step in range(-8, 49)]
    assert best in grid
    assert error(best) <= min(map(error, grid)) * 1.02
    assert error(best) < error(reach.largest)
    with pytest.raises(ValueError, match="no method"):
        reach.of("median")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 19), max_size=4), st.integers(0, 99))
def test_how_tokens_are_split_does_not_matter(cuts: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, 2, 20, 4, generator=generator)
    places = [0, *sorted(set(cuts)), 20]
    parts = [values[:, :, a:b] for a, b in pairwise(places)]
    whole, summed = calibration.measure(values), calibration.measure(parts[0])
    for part in parts[1:]:
        summed += calibration.measure(part)
    assert torch.equal(whole.counts, summed.counts)
    assert whole.largest == summed.largest
    assert whole.counts.shape == (calibration.BINS,), "memory does not grow with the text"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_reach(bad: float) -> None:
    fine, broken = torch.ones(1, 1, 4, 1), torch.full((1, 1, 1, 1), bad)
    for order in ((fine, broken), (broken, fine)):
        first, second = map(calibration.measure, order)
        assert all(math.isnan((first + second).of(m)) for m in ("max", "mse", "percentile_99.9"))
    assert calibration.measure(torch.zeros(1, 1, 3, 1)).of("mse") == 0


@given(st.floats(1e-20, 1e20))
def test_a_scale_holds_its_reach_and_little_more(reach: float) -> None:
    reach = float32(reach)
    found = calibrate.scale(reach)
    assert found == float32(found) > 0
    assert reach <= found * 448 <= reach * 1.002
    assert float32(float(format_scale(found))) == found
    assert len(format_scale(found).replace(".", "").lstrip("0").partition("e")[0]) <= 5
    assert calibrate.scale(0.0) == 1.0
    assert calibrate.scale(448.0) == 1.0


# ---- whole models ----------------------------------------------------------------------------


@FAMILIES
def test_scales_are_those_of_what_stock_models_cache(
    name: str, parents: Path, tmp_path: Path
) -> None:
    made = fp8_bench(parents, name, tmp_path)
    space = calibrated(made, Library(tmp_path / "library"))
    seen = cached(stock(made), tokens(made))
    for layer, pair in seen.items():
        scales = pick(space, layer, f"{_own(space, layer)}+fp8").scales
        assert scales is not None
        for scale, values in zip((scales.k, scales.v), pair, strict=True):
            largest = float(values.abs().max())
            assert 0 < largest <= scale * 448 <= largest * 1.002
        # A window sees the same keys and values; pooled heads do not.
        assert pick(space, layer, "window(8)+fp8").scales == scales
        pooled = pick(space, layer, "kv_heads(1)+fp8").scales
        assert pooled is not None
        for scale, values in zip((pooled.k, pooled.v), pair, strict=True):
            largest = float(values.mean(1).abs().max())
            assert largest <= scale * 448 * 1.0001 <= largest * 1.003
        assert pooled != scales


def _own(space: Space, layer: int) -> str:
    return edits.keep_text(Site.ATTENTION, space.model.layers[layer].attention)


def test_every_real_token_counts_once(parents: Path, tmp_path: Path) -> None:
    made = fp8_bench(parents, "gpt_oss", tmp_path, text=dataset(take=3, length=20))
    parent, drawn = load_parent(made.model), samples(made)
    watched = [(layer.index, 2) for layer in made.model.layers]
    whole = calibration.collect(parent, [from_numpy(drawn.tokens)], watched)
    rows = [from_numpy(drawn.tokens[n : n + 1]) for n in range(3)]
    apart = calibration.collect(parent, rows, watched)
    for key, reaches in whole.items():
        assert reaches.k.count == reaches.v.count == 3 * 20 * 2 * 32
        for one, other in ((reaches.k, apart[key].k), (reaches.v, apart[key].v)):
            assert calibrate.scale(one.of("max")) == calibrate.scale(other.of("max"))
    # Nothing is left on the parent.
    assert all(getattr(layer, "stored", None) is None for layer in parent.module.model.layers)


@FAMILIES
def test_damage_is_that_of_a_stock_model_whose_cache_rounds(
    name: str, parents: Path, tmp_path: Path
) -> None:
    made = fp8_bench(parents, name, tmp_path)
    space = calibrated(made, Library(tmp_path / "library"))
    parent, drawn, rows = load_parent(made.model), samples(made), tokens(made)
    candidates = [pick(space, layer, f"{_own(space, layer)}+fp8") for layer in (0, 1, 3)]
    whole = stock(made)
    for candidate, (_, values) in zip(candidates, sweep(parent, drawn, candidates), strict=True):
        rounding = _rounding(candidate)

        def child(ids: Tensor) -> Any:
            return whole(ids, past_key_values=Changing(rounding), use_cache=True)  # noqa: B023

        reference = reference_kl(whole, child, rows, drawn.length)
        assert bool((values > 0).all())
        torch.testing.assert_close(values, reference, rtol=2e-3, atol=1e-9)


def _rounding(candidate: Candidate) -> Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Round the cache of the candidate's layer, and no other."""
    scales = candidate.scales
    assert scales is not None

    def change(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if layer != candidate.layer:
            return keys, values
        return read_back(keys, scales.k), read_back(values, scales.v)

    return change


def test_combinations_are_measured_as_such(parents: Path, tmp_path: Path) -> None:
    made = fp8_bench(parents, "gpt_oss", tmp_path)
    space = calibrated(made, Library(tmp_path / "library"))
    sink = Sink()
    measured = score.run(made.spec, space, Library(tmp_path / "library"), sink, Log())
    assert measured is not None
    damage = measured.damage["damage"]
    for layer in (1, 3):
        by_text = {t: damage[f"layer.{layer}.attention.{t}"] for t in (
            "full", "full+fp8", "window(8)", "window(8)+fp8", "kv_heads(1)+fp8")}  # fmt: skip
        assert by_text["full"] == 0 < by_text["full+fp8"] < by_text["window(8)"] / 10
        both, apart = by_text["window(8)+fp8"], by_text["window(8)"]
        assert both != apart
        assert both == pytest.approx(apart, rel=0.2)
    chosen = tuple(
        pick(space, option.layer, f"{_own(space, option.layer)}+fp8")
        if option.site is Site.ATTENTION
        else option.candidates[0]
        for option in space.options
    )
    result = assembled(made.spec, space, chosen, made.spec.datasets[0])
    total = sum(damage[c.address] for c in chosen)
    assert 0 < result.kl < 3 * total


def test_outliers_need_calibration(parents: Path, tmp_path: Path) -> None:
    made = fp8_bench(parents, "llama", tmp_path, "unit")
    weights = load(made)
    # V a thousand times larger and read a thousand times smaller: the same function.
    factor = 1024
    weights["model.layers.1.self_attn.v_proj.weight"] *= factor
    weights["model.layers.1.self_attn.o_proj.weight"] /= factor
    save(made, weights)
    model = resolve.read_model(Fetched(made.folder / "llama", "llama"), tmp_path / "cache")
    damage: dict[str, float] = {}
    for method in ("unit", "max", "mse"):
        spec = replace(made.spec, facets=(stored(method),))
        space = expand.run(spec, model, Sink())
        assert space is not None
        tried = replace(made, model=model, spec=spec, space=space)
        found = pick(calibrated(tried, Library(tmp_path / "library")), 1, "full+fp8")
        assert found.scales is not None
        assert (found.scales.k == found.scales.v == 1) is (method == "unit")
        ((_, values),) = sweep(load_parent(model), samples(tried), [found])
        damage[method] = float(values.mean())
    assert 0 < damage["max"] < damage["unit"] / 20
    assert damage["mse"] < damage["unit"] / 20


# ---- the library -----------------------------------------------------------------------------


def test_what_is_calibrated_is_not_calibrated_again(
    parents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, library = fp8_bench(parents, "llama", tmp_path), Library(tmp_path / "library")
    assert recall.run(made.spec, made.space, library) is not None
    log = Log()
    first = calibrated(made, library, log)
    assert log.of("calibrate") == [(0, 1), (1, 1)]

    def never(*_args: object, **_named: object) -> None:
        raise AssertionError("measured twice")

    monkeypatch.setattr(calibration, "collect", never)
    assert calibrated(made, library) == first
    known = calibrate.recalled(made.spec, made.space, library)
    assert set(known) == {c.address for c in made.space.candidates if edits.scaled(c)}
    # Scales of 1 need no text, and other methods are other measurements.
    assert calibrated(replace(made, spec=_with(made, "unit"), space=_space(made, "unit")), library)
    with pytest.raises(AssertionError, match="twice"):
        calibrated(replace(made, spec=_with(made, "mse"), space=_space(made, "mse")), library)


def _with(made: Bench, method: str) -> Any:
    return replace(made.spec, facets=(stored(method),))


def _space(made: Bench, method: str) -> Space:
    space = expand.run(_with(made, method), made.model, Sink())
    assert space is not None
    return space


def test_values_that_are_not_finite_are_told(parents: Path, tmp_path: Path) -> None:
    made = fp8_bench(parents, "llama", tmp_path)
    weights = load(made)
    weights["model.layers.2.self_attn.v_proj.weight"].fill_(torch.inf)
    save(made, weights)
    model = resolve.read_model(Fetched(made.folder / "llama", "llama"), tmp_path / "cache")
    space = expand.run(made.spec, model, Sink())
    assert space is not None
    sink = Sink()
    assert calibrate.run(made.spec, space, Library(tmp_path / "l"), sink, Log()) is None
    (only,) = sink.found
    assert only.code is catalog.E0702
    assert "layer.2.attention, layer.3.attention" in only.message


def test_without_weights_scales_stay_open(parents: Path, tmp_path: Path) -> None:
    made = fp8_bench(parents, "llama", tmp_path)
    (tmp_path / "bench/llama/model.safetensors").unlink()
    model = resolve.read_model(Fetched(made.folder / "llama", "llama"), tmp_path / "cache")
    for method, missing in (("max", "has no scales yet"), ("unit", "")):
        space = expand.run(_with(made, method), model, Sink())
        assert space is not None
        settled = pick(calibrate.deferred(space), 1, "full+fp8")
        assert edits.missing(settled) == missing
        assert len(settled.artefact) == 64


# ---- the embedded mixture --------------------------------------------------------------------


def test_fp8_does_little_to_the_embedded_model_and_not_nothing() -> None:
    model = read_model(Fetched(SPECS / "tinymoe", "local:tinymoe"), default_cache())
    parent = load_parent(model)
    lines = (SPECS / "tinymoe/text/heldout.jsonl").read_text(encoding="utf-8").splitlines()
    encode = data.load_tokenizer(model)
    text = "".join(json.loads(line)["text"] for line in lines[:12])
    rows = torch.tensor(encode(text)[:256]).view(2, 128)
    heads = model.kv_heads
    reaches = calibration.collect(parent, [rows], [(n, heads) for n in (1, 6)])
    drawn = data.Samples(rows.numpy())
    for layer, reach in ((n, reaches[n, heads]) for n in (1, 6)):
        candidate = _embedded(model, layer, reach)
        ((_, values),) = sweep(parent, drawn, [candidate])
        assert all(0 < value < 0.01 for value in numbers(values))


def _embedded(model: Any, layer: int, reach: calibration.Reaches) -> Candidate:
    space = expand.run(replace(spec(), facets=(stored("max"),)), model, Sink())
    assert space is not None
    found = pick(space, layer, f"{_own(space, layer)}+fp8")
    assert isinstance(found.block, Attention)
    made = Scales(calibrate.scale(reach.k.of("max")), calibrate.scale(reach.v.of("max")))
    return edits.calibrated(model, found, made)
