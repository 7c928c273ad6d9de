"""Tables of operations: what is looked up, what is interpolated, what stays unknown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace
from test_gpt_oss_120b import GOLDEN

from surgery import lockfile
from surgery.costing import aiconfigurator, device, serving
from surgery.costing.aiconfigurator import Tables, between, grid
from surgery.costing.parallel import Parallel
from surgery.costing.terms import Load, Stage, Work
from surgery.diagnostics import Sink
from surgery.ir import Attention, Block, Experts, Ffn, Machine, Space, Spec
from surgery.machines import known as machines
from surgery.passes import estimates, timing
from surgery.pipeline import Options, foresee
from surgery.source import Source, Span

packaged = pytest.mark.skipif(
    not aiconfigurator.installed(), reason="aiconfigurator-core is not installed"
)


# ---- grids -----------------------------------------------------------------------------------


def test_between_points() -> None:
    made = grid({(x, y): x * y**0.5 for x in (1.0, 4.0, 16.0) for y in (1.0, 100.0)})
    # Where times are powers of sizes, logarithms are exact.
    for x, y in ((1, 1), (4, 100), (2, 10), (9, 64), (16, 3)):
        assert between(made, (x, y)) == pytest.approx(x * y**0.5)
    for where in ((0.5, 10), (17, 10), (4, 0.9), (4, 101)):
        assert between(made, where) is None
    holed = grid({place: value for place, value in made.points.items() if place != (4.0, 100.0)})
    assert between(holed, (2, 10)) is None
    assert between(holed, (2, 1)) == pytest.approx(2)
    assert between(grid({}), (1, 1)) is None


def test_nothing_is_known_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiconfigurator, "VERSION", "0.0.0")
    assert not aiconfigurator.installed()
    assert aiconfigurator.tables("h200_sxm", "vllm") is None


# ---- operations ------------------------------------------------------------------------------


def _stage(name: str = "nvidia.h200_sxm", shared: Parallel | None = None, **load: float) -> Stage:
    fields = next(each.fields for each in machines() if each.name == name)
    here = device.of(Machine(Span(Source("", ""), 0, 0), name, name, 1, fields))
    given = {"prefill": 1024, "decode": 1024, "batch": 16.0} | load
    made = Load(int(given["prefill"]), int(given["decode"]), given["batch"], 2880, "vllm")
    return Stage(made, here, shared or Parallel())


def _work(block: Block, bits: float = 16.0) -> Work:
    return Work(block, 8_000_000, int(bits * 1_000_000))


@pytest.fixture
def tables() -> Tables:
    found = aiconfigurator.tables("h200_sxm", "vllm")
    assert found is not None
    return found


@packaged
def test_no_tables_of_what_was_not_measured() -> None:
    assert aiconfigurator.tables("zen3", "torch") is None
    assert aiconfigurator.tables("h200_sxm", "torch") is None
    assert aiconfigurator.tables("mi300x", "vllm") is None


@packaged
def test_experts_lie_between_the_numbers_that_were_measured(tables: Tables) -> None:
    for batch in (1.0, 4.0, 64.0, 300.0):
        stage = _stage(batch=batch)
        times = [
            aiconfigurator.seconds(_work(Experts(n, 4, 2880), 4.25), stage, "decode", tables)
            for n in (32, 48, 64, 96, 128)
        ]
        assert all(time is not None and 1e-5 < time < 1e-2 for time in times)
        # One token reads four experts, however many there are: but for the router, equal.
        if batch > 1:
            assert times == sorted(times, key=lambda time: time or 0)
    for n in (16, 256):
        work = _work(Experts(n, 4, 2880), 4.25)
        assert aiconfigurator.seconds(work, _stage(), "decode", tables) is None
    # Another width, and weights whose scales are not told by their bits.
    for block, bits in ((Experts(128, 4, 2000), 4.25), (Experts(128, 4, 2880), 8.0)):
        assert aiconfigurator.seconds(_work(block, bits), _stage(), "decode", tables) is None


@packaged
def test_windows_read_what_they_see(tables: Tables) -> None:
    full = Attention(64, 8, 64)
    stage = _stage(prefill=30000, decode=2, batch=16.0)

    def step(block: Attention) -> float:
        found = aiconfigurator.seconds(_work(block), stage, "decode", tables)
        assert found is not None
        return found

    near, wide = replace(full, window=128), replace(full, window=8192)
    assert step(near) < step(wide) < step(full)
    assert step(replace(full, window=65536)) == step(full)
    assert step(replace(full, kv_dtype="fp8_e4m3")) < step(full)
    # However long ago the window began: 120,000 tokens of full attention were not measured so.
    long = _stage(prefill=120000, decode=2, batch=16.0)
    assert aiconfigurator.seconds(_work(full), long, "decode", tables) is None
    assert aiconfigurator.seconds(_work(near), long, "decode", tables) == pytest.approx(
        step(near), rel=0.05
    )
    # A window of 512 was not measured, and full attention of 512 tokens is no stand-in.
    narrow = replace(full, window=512)
    assert aiconfigurator.seconds(_work(narrow), stage, "decode", tables) is None
    # Longer prompts than were measured, and first tokens that stay in sight.
    assert aiconfigurator.seconds(_work(full), stage, "prefill", tables) is None
    assert aiconfigurator.seconds(_work(replace(near, sinks=4)), stage, "decode", tables) is None


@packaged
def test_gpus_that_share_a_block_add_up_what_it_gives(tables: Tables) -> None:
    work = _work(Ffn(28672))
    one, four = (
        aiconfigurator.seconds(work, _stage(shared=Parallel(tensor=n)), "prefill", tables)
        for n in (1, 4)
    )
    assert one is not None
    assert four is not None
    assert one / 4 < four < one
    # A prompt that rides along costs less than one on its own: the weights are read anyway.
    along = aiconfigurator.seconds(work, _stage(), "mixed", tables)
    assert along is not None
    assert 0 < along < one
    # Four-bit projections have kernels of their own, and gathering experts is not in the tables.
    assert aiconfigurator.seconds(_work(Ffn(28672), 4.5), _stage(), "decode", tables) is None
    apart = _stage(shared=Parallel(tensor=1, data=4, expert=4))
    experts = _work(Experts(128, 4, 2880), 4.25)
    assert aiconfigurator.seconds(experts, apart, "decode", tables) is None


# ---- plans -----------------------------------------------------------------------------------

SPEC = """surg 1

import "std/nvidia.surg" as nvidia

model parent = local("parent")
machine node = nvidia.h200_sxm

scenario chat on node { prefill = 4K tok  decode = 1K tok  batch = 64 }
scenario full on node { prefill = 4K tok  decode = 1K tok  batch = fit }

dataset text = local("text.jsonl") { take = 4  length = 128K tok  seed = 0 }

choose experts in layers[30..35] {
  keep
  retain 96 | 64 by rank_experts("random", text)
}

require @chat tpot(chat) <= parent.tpot(chat)
require @full throughput(full) >= parent.throughput(full)

minimize weights
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN / "parent", tmp_path / "parent")
    (tmp_path / "spec.surg").write_text(SPEC, encoding="utf-8")
    return tmp_path


def _expanded(place: Path) -> tuple[Spec, Space]:
    from surgery import pipeline

    sink, options = Sink(), Options(place / "library", place / "cache")
    path = str(place / "spec.surg")
    spec, space = pipeline.check(path, sink, options), foresee(path, sink, options)
    assert spec is not None
    assert space is not None, sink.found
    return spec, space


@packaged
def test_times_are_looked_up_where_the_batch_is_a_number(place: Path) -> None:
    spec, space = _expanded(place)
    found, files = timing.looked_up(spec, space)
    assert [name for name, _ in files] == ["aiconfigurator-core-h200_sxm-vllm"]
    assert found == timing.looked_up(spec, space)[0]
    (kept,) = {c.cost for c in found.candidates if c.text == "64"}
    assert {(each.scenario, each.batch) for each in kept.times} == {("chat", 64)}
    assert {each.phase for each in kept.times} == {"prefill", "decode", "mixed"}
    told = dict(estimates.parent(spec, found))
    # What lies outside of layers is modelled.
    assert told["tpot@chat"].endswith(" ms, modelled (3%) +-21%")
    assert "modelled +-" in told["tpot@full"]
    scenario = next(s for s in spec.scenarios if s.name == "chat")
    at = serving.setting(space.model, timing.machine_of(spec, scenario), scenario, 64)
    modelled, looked = (
        float(serving.seconds(costs, at, "tpot"))
        for costs in (timing.parent_of(space), found.parent)
    )
    # Two sources that know nothing of each other.
    assert looked == pytest.approx(modelled, rel=0.3)


@packaged
def test_a_plan_says_whose_tables_it_has(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from surgery.cli import main

    monkeypatch.chdir(place)
    arguments = ["plan", "spec.surg", "--library", "library"]
    assert main([*arguments, "--aiconfigurator"]) == 0
    plan = lockfile.parse(Path("spec.plan").read_text(), "spec.plan")
    assert [name for name, _ in plan.tables] == ["aiconfigurator-core-h200_sxm-vllm"]
    assert "+-21%" in dict(plan.metrics)["tpot@chat"]
    before = Path("spec.plan").read_bytes()
    assert main([*arguments, "--aiconfigurator"]) == 0
    assert Path("spec.plan").read_bytes() == before
    assert main(arguments) == 0
    bare = lockfile.parse(Path("spec.plan").read_text(), "spec.plan")
    assert bare.tables == ()
    assert dict(bare.metrics)["tpot@chat"].endswith("modelled +-16%")
    capsys.readouterr()
