"""Times of serving: the fit that comes with surgery, held-out points, and what can never be."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from surgery import study
from surgery.costing import factors, fit, points, predict, routing, terms
from surgery.costing.device import Device, format_of
from surgery.costing.parallel import Parallel
from surgery.costing.terms import Load, Stage, Work
from surgery.ir import Attention, Experts, Ffn, Linear
from surgery.study import Row

DATA = Path(points.__file__).parent / "data"
H100 = Device(80e9, 3.35e12, 989e12, 1979e12, None, 450e9)
LOAD = Load(4096, 4096, 64, 2880, "vllm")
HEAD = (2880 * 201088, 2 * 2880 * 201088)
BLOCKS = points.works(points.SHAPES["openai/gpt-oss-120b"], (16, 4.25), "bf16")


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return study.rows()


def test_every_measurement_is_read_once() -> None:
    lines = (DATA / "serving-points.csv").read_text(encoding="utf-8").splitlines()
    found = points.read()
    assert len(lines) - 1 == 826
    # Two are in the file twice, under another reading of the same run.
    assert len(found) == 824
    assert Counter(p.machine for p in found) == {"nvidia.h200_sxm": 410, "nvidia.b200": 414}
    # No row is of more GPUs than a node has.
    assert max(point.shared.gpus for point in found) == 8


def test_the_factors_that_ship_are_those_of_the_fit(rows: tuple[Row, ...]) -> None:
    shipped = factors.fitted()
    made = study.fit_to(rows)
    assert made.values.keys() == shipped.factors.keys()
    # The objective is what counts: other solvers may end in another corner of the same face.
    ours = factors.Factors({name: each.value for name, each in shipped.factors.items()})
    errors = [
        float(np.mean([abs(each.tpot) for each in study.judge(one, rows)])) for one in (made, ours)
    ]
    assert errors[1] == pytest.approx(errors[0], rel=0.02)
    for name, each in shipped.factors.items():
        assert each.low <= each.high, name
        assert each.value >= fit.floor(name) - 1e-3, name


def test_residuals_are_those_of_the_factors_that_ship(rows: tuple[Row, ...]) -> None:
    with (DATA / "residuals.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    ours = factors.factors("vllm")
    for row, said in zip(rows, found, strict=True):
        assert float(said["predicted_ms"]) == pytest.approx(
            1000 * ours.seconds(row.token), rel=1e-3
        )


def test_points_that_a_fit_has_not_seen(rows: tuple[Row, ...]) -> None:
    """The median error stays below 8 % on the same machines and 12 % on one that is new."""
    order: list[int] = np.random.default_rng(1).permutation(len(rows)).tolist()
    half = len(order) // 2
    first, second = ([rows[i] for i in part] for part in (order[:half], order[half:]))
    held_out = list(study.judge(study.fit_to(first), second))
    assert study.quantile(held_out, 0.5, lambda each: each.tpot) <= 0.08
    assert study.quantile(held_out, 0.5, lambda each: each.throughput) <= 0.08
    new = study.across(rows, "nvidia.h200_sxm")
    assert study.quantile(new, 0.5, lambda each: each.tpot) <= 0.12
    # A proof that the errors are not those of the training points alone.
    assert not all(each.known for each in new)


# ---- routing ---------------------------------------------------------------------------------


def test_distinct_experts() -> None:
    assert routing.distinct(128, 4, 1, 0) == pytest.approx(4)
    assert routing.distinct(128, 4, 1, 0.7) == pytest.approx(4)
    assert routing.distinct(8, 8, 3, 0) == 8
    assert routing.distinct(128, 4, 1e6, 0.7) == pytest.approx(128, rel=1e-3)
    # A draw says the same.
    random = np.random.default_rng(0)
    drawn = [
        len({int(e) for _ in range(16) for e in random.choice(64, 4, replace=False)})
        for _ in range(2000)
    ]
    assert routing.distinct(64, 4, 16, 0) == pytest.approx(np.mean(drawn), rel=0.01)
    shares = [2.0] * 4 + [1.0] * 60
    assert routing.distinct_of(shares, 4, 16) < routing.distinct(64, 4, 16, 0)
    assert routing.distinct_of([100.0, *[1.0] * 7], 2, 1) == pytest.approx(2)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(5, 256),
    more=st.integers(1, 64),
    tokens=st.floats(1, 5000),
    zipf=st.sampled_from([0.0, 0.5, 0.7, 1.0]),
)
def test_more_experts_are_never_fewer_to_read(
    count: int, more: int, tokens: float, zipf: float
) -> None:
    few, many = (routing.distinct(n, 4, tokens, zipf) for n in (count, count + more))
    assert few <= many + 1e-9
    assert few <= min(count, 4 * tokens) + 1e-9


# ---- what can never be -----------------------------------------------------------------------


def tpot(works: tuple[Work, ...], stage: Stage) -> float:
    made = factors.factors(stage.load.engine)
    return predict.times(works, HEAD, stage, made).tpot


_LOADS = st.builds(
    Load,
    prefill=st.integers(1, 100_000),
    decode=st.integers(1, 20_000),
    batch=st.integers(1, 512).map(float),
    hidden=st.just(2880),
    engine=st.sampled_from(["vllm", "sglang", "ideal"]),
)
_SHARED = st.sampled_from([Parallel(), Parallel(8), Parallel(2, data=2, expert=4)])


def scaled(count: int, work: Work) -> Work:
    assert isinstance(work.block, Experts)
    part = count / work.block.count
    return Work(
        replace(work.block, count=count), round(work.params * part), round(work.weights * part)
    )


@settings(max_examples=60, deadline=None)
@given(load=_LOADS, shared=_SHARED, count=st.sampled_from([8, 32, 64, 96]))
def test_fewer_experts_are_never_slower(load: Load, shared: Parallel, count: int) -> None:
    stage = Stage(load, H100, shared)
    cut = tuple(scaled(count, w) if isinstance(w.block, Experts) else w for w in BLOCKS)
    assert tpot(cut, stage) <= tpot(BLOCKS, stage) * (1 + 1e-12)


@settings(max_examples=60, deadline=None)
@given(load=_LOADS, shared=_SHARED, window=st.integers(1, 200_000))
def test_smaller_windows_are_never_slower(load: Load, shared: Parallel, window: int) -> None:
    def made(size: int) -> tuple[Work, ...]:
        return tuple(
            replace(w, block=replace(w.block, window=size)) if isinstance(w.block, Attention) else w
            for w in BLOCKS
        )

    stage = Stage(load, H100, shared)
    assert tpot(made(window), stage) <= tpot(made(2 * window), stage) * (1 + 1e-12)


@settings(max_examples=60, deadline=None)
@given(load=_LOADS, shared=_SHARED, field=st.sampled_from(["bandwidth", "bf16", "fp8", "link"]))
def test_a_better_machine_is_never_slower(load: Load, shared: Parallel, field: str) -> None:
    better = replace(H100, **{field: 2 * getattr(H100, field)})
    assert tpot(BLOCKS, Stage(load, better, shared)) <= tpot(BLOCKS, Stage(load, H100, shared))


@settings(max_examples=40, deadline=None)
@given(load=_LOADS, shared=_SHARED)
def test_no_engine_beats_the_machine(load: Load, shared: Parallel) -> None:
    ideal = tpot(BLOCKS, Stage(replace(load, engine="ideal"), H100, shared))
    assert 0 < ideal <= tpot(BLOCKS, Stage(load, H100, shared))


def test_terms_add_over_blocks() -> None:
    stage = Stage(LOAD, H100, Parallel(8))
    for of in (terms.decode, terms.mixed, terms.prefill):
        total = terms.total(of([work], stage) for work in BLOCKS)
        whole = of(BLOCKS, stage)
        for name in {*whole, *total}:
            assert whole.get(name, 0) == pytest.approx(total.get(name, 0), rel=1e-9, abs=1e-15)


# ---- terms by hand ---------------------------------------------------------------------------


def test_a_dense_block_by_hand() -> None:
    load = replace(LOAD, batch=1, hidden=100)
    found = terms.decode([Work(Ffn(1000), 3_000_000, 6_000_000)], Stage(load, H100, Parallel(2)))
    assert found["gemm.memory"] == pytest.approx(6e6 / 2 / 3.35e12)
    assert found["gemm.compute"] == pytest.approx(2 * 3e6 / 2 / 989e12)
    # All-reduce in a ring moves 2 (g - 1) / g of two bytes a channel.
    assert found["link.bytes"] == pytest.approx(2 * 100 * 2 * 0.5 / 450e9)
    assert found["layer.vllm"] == pytest.approx(0.5e-6)


def test_a_linear_layer_is_one_matrix_on_every_gpu() -> None:
    stage = Stage(replace(LOAD, batch=1), H100, Parallel(2))
    found = terms.decode([Work(Linear(), 2880**2, 2 * 2880**2)], stage)
    assert found["gemm.memory"] == pytest.approx(2 * 2880**2 / 3.35e12)
    assert "kv.memory" not in found
    assert "link.bytes" not in found


def test_attention_by_hand() -> None:
    load = replace(LOAD, prefill=1000, decode=500, batch=10)
    seen = Attention(64, 8, 64, None)
    work = Work(seen, 1, 2)
    found = terms.decode([work], Stage(load, H100, Parallel(4)))
    assert found["kv.memory"] == pytest.approx(10 * 1250 * 2 * 2 * 64 * 2 / 3.35e12)
    short = terms.decode(
        [replace(work, block=replace(seen, window=128, kv_dtype="fp8_e4m3"))],
        Stage(load, H100, Parallel(16)),
    )
    # One KV head is the least that a GPU has.
    assert short["kv.memory"] == pytest.approx(10 * 128 * 2 * 1 * 64 / 3.35e12)
    prompt = terms.prefill([work], Stage(load, H100, Parallel()))
    assert prompt["attention.compute"] == pytest.approx(4 * 1000 * 500 * 64 * 64 / 989e12)


def test_formats_follow_from_bits_and_hardware() -> None:
    blackwell = replace(H100, fp4=9e15)
    assert [format_of(bits, H100) for bits in (4.25, 8, 8.1, 16)] == ["w4", "fp8", "fp8", "bf16"]
    assert format_of(4.25, blackwell) == "fp4"
    assert (H100.rate(4.25), blackwell.rate(4.25), H100.rate(8)) == (989e12, 9e15, 1979e12)


def test_kernels_that_nobody_measured_are_told() -> None:
    stage = Stage(replace(LOAD, engine="sglang"), H100, Parallel())
    made = predict.per_token(BLOCKS, HEAD, stage)
    known = factors.fitted().factors
    assert factors.unmeasured(made, known) == ("moe.sglang.w4",)
    # They are taken from another engine, which is better than nothing and said to be no more.
    ours = factors.factors("sglang")
    others = [known[f"moe.{e}.w4.memory"].value for e in ("trtllm", "vllm")]
    assert ours.of("moe.sglang.w4.memory") == pytest.approx(sum(others) / 2)
    assert ours.of("moe.sglang.w8.memory") == pytest.approx(factors.FLOOR)
