"""`surgery bench`: what is timed, what is kept of it, what plans make of it. No time is judged."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import GPT_OSS_SPEC, LLAMA_SPEC, Workplace
from msgspec.structs import replace

from surgery.benching import clock, figures, keys, rounds, shapes, stack
from surgery.benching.keys import Seconds
from surgery.benching.shapes import Shape, Split, Times
from surgery.costing import serving, trust
from surgery.diagnostics import Sink
from surgery.ir import Attention, Block, Experts, Model, Space, Spec
from surgery.library import Library
from surgery.passes import bench, estimates, resolve, tables, timing
from surgery.pipeline import Options, foresee
from surgery.scoring.arrays import from_numpy
from surgery.sources import Fetched

SERVED = """
machine here = device("desk") { memory = 8GiB  bandwidth = 20GB / 1 s  compute = 80B / 1 s }
scenario chat on here { prefill = 24 tok  decode = 16 tok  batch = 3  engine = torch }
scenario chatty on here {
  prefill = 24 tok  decode = 16 tok  batch = 3  engine = torch  verbosity = 1.2x
}
scenario cloud on here { prefill = 24 tok  decode = 16 tok  batch = 3 }
require @fast tpot(chat) <= 99.9% * parent.tpot(chat)
"""


# ---- where and how ---------------------------------------------------------------------------


def test_a_processor_is_a_clock() -> None:
    here = clock.cpu()
    start, stop = here.stamp(), here.stamp()
    assert here.seconds(start, stop) >= 0
    assert here.free() > 0
    assert replace(here, name="AMD EPYC zen3").is_a("zen3")
    assert not replace(here, name="Intel Xeon").is_a("zen3")
    assert not here.is_a("h100_sxm")


@pytest.mark.parametrize(
    ("name", "device", "same"),
    [
        ("NVIDIA H200", "h200_sxm", True),
        ("NVIDIA H100 80GB HBM3", "h100_sxm", True),
        ("NVIDIA H100 PCIe", "h100_sxm", False),
        ("NVIDIA H100 PCIe", "h100_pcie", True),
        ("NVIDIA H100 80GB HBM3", "h100_pcie", False),
        ("NVIDIA GeForce RTX 4090", "rtx_4090", True),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx_pro_6000", True),
        ("NVIDIA B200", "h200_sxm", False),
        ("NVIDIA B200", "zen3", False),
    ],
)
def test_gpus_are_known_by_what_their_driver_calls_them(name: str, device: str, same: bool) -> None:
    gpu = replace(clock.cpu(), device=torch.device("cuda"), name=name)
    assert gpu.is_a(device) is same


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_is_a_clock() -> None:
    here = clock.here()
    start = here.stamp()
    torch.ones(64, device=here.device).sum()
    stop = here.stamp()
    here.settle()
    assert here.seconds(start, stop) > 0
    assert here.free() > 0


# ---- children --------------------------------------------------------------------------------

FULL, NEAR = Attention(4, 2, 16), Attention(4, 2, 16, 64)
MANY, SOME, FEW = (Experts(count, 2, 64) for count in (8, 6, 4))


def test_children_have_everything_that_is_offered() -> None:
    offers = (((FULL, NEAR), (MANY, SOME, FEW)), ((NEAR,), (MANY,)), ((FULL, None), (MANY, None)))
    made = shapes.mixed(offers)
    assert len(made) == 3
    for layer, offer in enumerate(offers):
        for site in (0, 1):
            assert {child[layer][site] for child in made} == set(offer[site])
    drawn = shapes.drawn(offers, 5, 1)
    assert drawn == shapes.drawn(offers, 5, 1)
    assert all(child[n][m] in offers[n][m] for child in drawn for n in range(3) for m in (0, 1))


def _rounds(
    timed: tuple[tuple[Shape, ...], ...],
    whole: tuple[tuple[Shape, ...], ...],
    cost: dict[Block | None, float],
    rest: float,
) -> Times:
    """What a machine whose times add up would say, with the parent's step as the unit."""
    lots = random.Random(0)

    def split(child: tuple[Shape, ...]) -> Split:
        noise = lots.uniform(0.99, 1.01)
        return Split(tuple((noise * cost[a], noise * cost[b]) for a, b in child), noise * rest)

    def step(child: tuple[Shape, ...]) -> float:
        return rest + sum(cost[block] for shape in child for block in shape)

    return Times(
        tuple(lots.uniform(0.9, 1.1) for _ in range(9)),
        tuple(tuple(split(child) for _ in range(9)) for child in timed),
        tuple(tuple(step(child) for _ in range(9)) for child in whole),
    )


def test_figures_find_what_blocks_take() -> None:
    offers = tuple(((FULL, NEAR, None), (MANY, SOME, FEW)) for _ in range(4))
    timed, held = shapes.mixed(offers), shapes.drawn(offers, 4, 0)
    cost: dict[Block | None, float] = {
        FULL: 0.1, NEAR: 0.05, None: 0.0, MANY: 0.2, SOME: 0.16, FEW: 0.12
    }  # fmt: skip
    times = _rounds(timed, held, cost, 0.3)
    found = figures.of(timed, times)
    assert found.blocks.keys() == cost.keys() - {None}
    for block, part in found.blocks.items():
        assert part.seconds == pytest.approx(cost[block], rel=0.01)
        assert 0 < part.spread < 0.02
    assert found.rest.seconds == pytest.approx(0.3, rel=0.01)
    parts = {block: Seconds(value, 0.0) for block, value in cost.items() if block is not None}
    assert figures.errors(held, times, parts, 0.3, 1.0) == pytest.approx([0.0] * 4)
    # A sum that misses half of the rest is off by just that.
    whole = figures.total(held[0], parts, 0.3)
    assert figures.errors(held, times, parts, 0.15, 1.0)[0] == pytest.approx(-0.15 / whole)


def test_a_quantile_is_one_of_the_values() -> None:
    assert figures.quantile([0.1, -0.4, 0.2, 0.3], 0.9) == 0.4
    assert figures.quantile([0.1, -0.4, 0.2, 0.3], 0.5) == 0.3
    assert figures.quantile([], 0.9) == 0.0


# ---- layers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("bench")
    return resolve.read_model(Fetched(parents / "gpt_oss", "gpt_oss"), folder / "cache")


@pytest.fixture(scope="module")
def small(model: Model) -> stack.Stack:
    return stack.load(model, clock.cpu(), 4)


def test_a_step_on_a_made_up_cache_says_what_the_model_says(small: stack.Stack) -> None:
    """Reading 40 tokens at once, and the last of them on the cache of the 39 before it."""
    drawn = np.random.default_rng(0).integers(0, 200, (2, 40))
    tokens = from_numpy(drawn)
    given = rounds.prompts(small, drawn, 24)
    module = cast("Any", small.module)
    with torch.inference_mode():
        expected = module(tokens).logits[:, -1]
        layers = list(module.model.layers)
        cache = stack.Slots(layers, given.held).again()
        found = module(given.last, past_key_values=cache).logits[:, -1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_layers_of_other_shapes_run(small: stack.Stack) -> None:
    own = small.own
    full, mlp = own[1][0], own[1][1]
    assert isinstance(full, Attention)
    assert isinstance(mlp, Experts)
    child: list[Shape] = [
        (None, mlp),
        (replace(full, window=8, kv_heads=1, kv_dtype="fp8_e4m3"), replace(mlp, count=4)),
        (full, None),
        own[3],
    ]
    (layers,) = rounds.make(small, [child])
    given = rounds.prompts(small, np.zeros((2, 30), dtype=np.int64), 24)
    slots = stack.Slots(layers, given.held)
    held = [slot.keys.shape for slot in cast("Any", slots.again()).layers]
    # 29 tokens before the last one; a window holds one less than it sees.
    assert held == [(2, 1, 7, 32), (2, 2, 29, 32), (2, 2, 29, 32)]
    before = cast("Any", small.module.model.layers)
    for phase in shapes.PHASES:
        times = rounds.run(small, rounds.Children([layers], [layers]), given, phase, 3)
        assert len(times.parent) == 3 * 3
        assert [len(each) for each in (*times.splits, *times.wholes)] == [3, 3]
        for split in times.splits[0]:
            none = [[part == 0 for part in layer] for layer in split.blocks]
            assert none == [[True, False], [False, False], [False, True], [False, False]]
            assert split.rest > 0
    assert cast("Any", small.module.model.layers) is before
    assert not any(layer._forward_hooks for layer in cast("list[Any]", layers))


def test_a_parent_without_weights_is_noise_of_its_shapes(model: Model) -> None:
    bare = replace(model, files={})
    made = stack.load(bare, clock.cpu(), 4)
    assert made.own == tuple((n.attention, n.mlp) for n in model.layers)
    assert all(bool(p.isfinite().all()) for p in cast("Any", made.module).parameters())
    # What does not fit is measured on its first layers.
    tight = replace(clock.cpu(), free=lambda: 2 * 5 * 4 * 2 * model.params // len(model.layers))
    assert stack.load(model, tight, 4).own == made.own[:2]


# ---- the library and the command -------------------------------------------------------------


def _spec(workplace: Workplace, text: str = GPT_OSS_SPEC) -> tuple[str, Spec, Space]:
    path = workplace.write("spec.surg", text + SERVED)
    sink = Sink()
    options = Options(workplace.folder / "library", workplace.folder / "cache")
    from surgery import pipeline

    space = foresee(path, sink, options)
    spec = pipeline.check(path, sink, options)
    assert space is not None, sink.found
    assert spec is not None
    return path, spec, space


def _run(workplace: Workplace, command: str, *arguments: str) -> int:
    return workplace.run(command, *arguments, *(() if command == "plan" else _library(workplace)))


def _library(workplace: Workplace) -> tuple[str, str]:
    return "--library", str(workplace.folder / "library")


def test_bench_times_what_is_offered_once(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path, spec, space = _spec(workplace)
    arguments = (path, "--rounds", "3", "--machine", "here")
    threads = torch.get_num_threads()
    assert _run(workplace, "bench", *arguments) == 0
    said = capsys.readouterr().out
    blocks = bench.blocks_of(space)
    assert len(blocks) == 6
    assert torch.get_num_threads() == threads
    assert f"  {len(blocks) + 1} timed now, 0 known before" in said
    assert "cloud: not timed: it is served by vllm: only `engine = torch` is timed" in said
    assert "chatty: not timed: its requests, or a child's, are not all as long" in said
    library = Library(workplace.folder / "library")
    scenario = next(s for s in spec.scenarios if s.name == "chat")
    place = keys.place(spec, space.model, spec.machines[0], scenario)
    assert place is not None
    for phase in shapes.PHASES:
        for what in (*blocks, keys.FIXED, keys.REFERENCE):
            found = place.get(library, phase, what)
            assert found is not None
            assert found.seconds > 0
        assert place.get(library, phase, keys.WHOLE) is not None
    files = {path: path.read_bytes() for path in library.root.rglob("*.json")}
    entry = json.loads(next(iter(files.values())))
    assert {"machine", "count", "torch", "prefill", "decode", "batch", "block", "phase"} <= set(
        entry["key"]
    )
    assert not any(word in str(entry["key"]) for word in ("desk:", "here", "chat", "/"))
    # Nothing is timed twice, and what was timed stays as it is.
    assert _run(workplace, "bench", *arguments) == 0
    assert f"  0 timed now, {len(blocks) + 1} known before" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in library.root.rglob("*.json")} == files


def test_what_comes_later_is_in_the_unit_of_the_first(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path, spec, space = _spec(workplace, GPT_OSS_SPEC.replace("retain 6 | 4", "retain 6"))
    arguments = ("--rounds", "3", "--machine", "here")
    assert _run(workplace, "bench", path, *arguments) == 0
    scenario = next(s for s in spec.scenarios if s.name == "chat")
    place = keys.place(spec, space.model, spec.machines[0], scenario)
    assert place is not None
    library = Library(workplace.folder / "library")
    units = [place.get(library, phase, keys.REFERENCE) for phase in shapes.PHASES]
    capsys.readouterr()
    path, spec, space = _spec(workplace)
    assert _run(workplace, "bench", path, *arguments) == 0
    assert "  1 timed now, 6 known before" in capsys.readouterr().out
    assert [place.get(library, phase, keys.REFERENCE) for phase in shapes.PHASES] == units


def test_entries_are_the_same_bytes(tmp_path: Path, workplace: Workplace) -> None:
    _, spec, space = _spec(workplace)
    texts: list[list[bytes]] = []
    for name in ("a", "b"):
        library = Library(tmp_path / name)
        _plant(library, spec, space)
        texts.append(sorted(file.read_bytes() for file in library.root.rglob("*.json")))
    assert texts[0] == texts[1]


# ---- plans -----------------------------------------------------------------------------------


def _plant(library: Library, spec: Spec, space: Space, *, but: Block | None = None) -> None:
    """A machine on which experts are what takes time, and everything else takes 1 ms."""
    scenario = next(s for s in spec.scenarios if s.name == "chat")
    place = keys.place(spec, space.model, spec.machines[0], scenario)
    assert place is not None
    for phase in shapes.PHASES:
        for block in bench.blocks_of(space):
            milliseconds = 10.0 * block.count if isinstance(block, Experts) else 1.0
            if block != but:
                place.put(library, phase, block, Seconds(milliseconds / 1000, 0.01))
        place.put(library, phase, keys.FIXED, Seconds(0.001, 0.01))
        place.put(library, phase, keys.WHOLE, Seconds(0.0, 0.04))


def _metrics(path: str) -> dict[str, str]:
    from surgery import plan as plans

    return dict(plans.read(Path(path).with_suffix(".plan")).metrics)


def test_a_plan_uses_what_was_measured(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GPT_OSS_SPEC.replace("85%", "100%")
    path, spec, space = _spec(workplace, text + "require @ms tpot(chat) <= 300 ms\n")
    library = Library(workplace.library)
    _plant(library, spec, space)
    assert workplace.run("plan", path) == 0
    said = capsys.readouterr()
    from surgery import plan as plans

    plan = plans.read(Path(path).with_suffix(".plan"))
    chosen = plans.chosen(plan, space)
    kept = [c.block.count for c in chosen if isinstance(c.block, Experts)]
    attending = sum(isinstance(c.block, Attention) for c in chosen)
    step = 10 * sum(kept) + attending + 1
    # Two other sequences have a prompt read once in 16 steps, which takes as long as a step.
    expected = step * (1 + 2 / 16)
    metrics = _metrics(path)
    assert metrics["tpot@chat"] == f"{expected:.4g} ms, measured +-4%"
    assert expected <= 300
    # Parents have measured times as well: four layers of eight experts.
    parent = (4 * 80 + 4 + 1) * (1 + 2 / 16)
    assert f"{parent:.4g} ms, measured +-4%" in said.out
    near, far = expected * 1.02, parent * 1.1
    for limit, doubtful in ((near, True), (far, False)):
        path = workplace.write(
            "spec.surg", text + f"require @ms tpot(chat) <= {limit:.4f} ms\n" + SERVED
        )
        assert workplace.run("plan", path) == 0
        warning = "warning[W0706]: `@ms` holds by less than the error of measured times"
        assert (warning in capsys.readouterr().err) is doubtful


def test_what_nobody_measured_is_modelled_and_said_so(workplace: Workplace) -> None:
    _, spec, space = _spec(workplace)
    library = Library(workplace.folder / "other")
    _plant(library, spec, space, but=Experts(8, 2, 64))
    found = timing.run(spec, space, library)
    said = dict(estimates.parent(spec, found))["tpot@chat"]
    head, _, tail = said.partition(" ms, modelled (")
    assert float(head) > 0
    assert tail.endswith("%), error unknown")
    bare = dict(estimates.parent(spec, space))["tpot@chat"]
    assert bare.endswith(", modelled, error unknown: no point has torch")


def test_a_breakdown_has_measured_times(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path, spec, space = _spec(workplace)
    _plant(Library(workplace.library), spec, space)
    assert workplace.run("plan", path) == 0
    capsys.readouterr()
    shown = ("show", str(Path(path).with_suffix(".plan")), "--costs", path)
    assert workplace.run(*shown, "--library", str(workplace.library)) == 0
    said = capsys.readouterr().out
    assert "measured decode" in said
    assert "measured prefill" in said
    assert "gemm" not in said


def test_a_dense_model_is_timed_too(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _, space = _spec(workplace, LLAMA_SPEC)
    assert _run(workplace, "bench", path, "--rounds", "3", "--machine", "here") == 0
    assert f"{len(bench.blocks_of(space)) + 1} timed now" in capsys.readouterr().out


# ---- tables ----------------------------------------------------------------------------------

CLOUD = (
    GPT_OSS_SPEC.replace("85%", "100%")
    + """
machine node = device("x100") { memory = 80GiB  bandwidth = 3TB / 1 s  compute = 900T / 1 s }
scenario chat on node { prefill = 24 tok  decode = 16 tok  batch = 3 }
scenario many on node { prefill = 24 tok  decode = 16 tok  batch = fit }
require @fast tpot(chat) <= parent.tpot(chat)
"""
)


def _table(workplace: Workplace, text: str, *rows: str) -> tuple[Spec, Space | None, Sink]:
    path = workplace.write("cloud.surg", text)
    table = Path(workplace.write("times.csv", "\n".join(("address,metric,value,error", *rows))))
    sink = Sink()
    options = Options(workplace.folder / "library", workplace.folder / "cache")
    from surgery import pipeline

    spec, space = pipeline.check(path, sink, options), foresee(path, sink, options)
    assert spec is not None
    assert space is not None
    given = tables.run(spec, space, [table], sink)
    return spec, given.space if given else None, sink


def _all_rows(space: Space) -> list[str]:
    """A decoding step of 3 ms for a block, 1 ms more per expert; prompts take nothing."""
    rows = ["fixed,decode@chat,0.002,0.0001", "fixed,prefill@chat,0,"]
    for c in space.candidates:
        seconds = 0.003 + 0.001 * getattr(c.block, "count", 0)
        rows += [
            f"{c.address},decode@chat,{seconds},{seconds / 50}",
            f"{c.address},prefill@chat,0,",
        ]
    return rows


def test_times_of_a_table_are_those_of_a_plan(workplace: Workplace) -> None:
    _, space, sink = _table(workplace, CLOUD)
    assert space is not None, sink.found
    rows = _all_rows(space)
    spec, space, sink = _table(workplace, CLOUD, *rows)
    assert space is not None, sink.found
    told = dict(estimates.parent(spec, space))
    # Two percent is a standard error; nine in ten are nearer than 1.6 of them (5% of 2 ms).
    assert told["tpot@chat"] == "58 ms, imported +-3%"
    assert told["ttft@chat"] == told["tpot@chat"]
    # Without the rows of one kind of block, those are modelled, and the whole is less sure.
    fewer = [row for row in rows if ".attention." not in row]
    spec, space, sink = _table(workplace, CLOUD, *fewer)
    assert space is not None, sink.found
    told = dict(estimates.parent(spec, space))
    assert " ms, modelled (<1%) +-" in told["tpot@chat"]


def test_a_plan_of_a_table_says_so(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    _, space, _ = _table(workplace, CLOUD)
    assert space is not None
    rows = _all_rows(space)
    table = workplace.write("times.csv", "\n".join(("address,metric,value,error", *rows)))
    assert workplace.run("plan", "cloud.surg", "--table", table) == 0
    metrics = _metrics("cloud.surg")
    assert metrics["tpot@chat"].endswith(" ms, imported +-3%")
    from surgery import plan as plans

    kept = [
        c.block.count
        for c in plans.chosen(plans.read(Path("cloud.plan")), space)
        if isinstance(c.block, Experts)
    ]
    assert metrics["tpot@chat"].startswith(f"{2 + 8 * 3 + sum(kept)} ms")


@pytest.mark.parametrize(("limit", "doubtful"), [("80 ms", True), ("1 s", False)])
def test_a_margin_that_no_error_can_use_up(
    workplace: Workplace, capsys: pytest.CaptureFixture[str], limit: str, doubtful: bool
) -> None:
    """Errors of more than the time itself are told, and a limit far beyond them is none."""
    text = CLOUD + f"require @ms tpot(chat) <= {limit}\n"
    _, space, _ = _table(workplace, text)
    assert space is not None
    rows = [",".join((*row.split(",")[:3], row.split(",")[2])) for row in _all_rows(space)]
    table = workplace.write("times.csv", "\n".join(("address,metric,value,error", *rows)))
    assert workplace.run("plan", "cloud.surg", "--table", table) == 0
    assert _metrics("cloud.surg")["tpot@chat"].endswith("imported +-164%")
    assert ("W0706" in capsys.readouterr().err) is doubtful


def test_a_breakdown_tells_of_the_line(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """The time to the first token that a plan has: reading, one step, and what comes before."""
    line = "scenario queue on node { prefill = 24 tok  decode = 16 tok  clients = 2000 }\n"
    path = workplace.write("queue.surg", f"{CLOUD}{line}require @q latency(queue) <= 1000 s\n")
    assert workplace.run("plan", path) == 0
    capsys.readouterr()
    shown = ("show", str(Path(path).with_suffix(".plan")), "--costs", path)
    assert workplace.run(*shown) == 0
    assert "until a request has its turn" in capsys.readouterr().out
    assert workplace.run(*shown, "--json") == 0
    costs = {each["scenario"]: each for each in json.loads(capsys.readouterr().out)["costs"]}
    assert costs["chat"]["wait"] == 0
    found = costs["queue"]["wait"] + sum(each["seconds"] for each in costs["queue"]["ttft"])
    told = _metrics(path)["ttft@queue"].partition(" ms")[0]
    assert 1000 * found == pytest.approx(float(told), rel=1e-3)


def test_a_machine_that_the_spec_does_not_have(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workplace.write("spec.surg", GPT_OSS_SPEC + SERVED)
    assert workplace.run("bench", path, "--machine", "there") == 1
    said = capsys.readouterr().err
    assert "error[E0201]: there is no machine `there`" in said
    assert "machines are here" in said


def test_what_is_measured_counts_more_than_what_is_imported(workplace: Workplace) -> None:
    text = CLOUD.replace("batch = 3 }", "batch = 3  engine = torch }", 1)
    spec, space, _ = _table(workplace, text)
    assert space is not None
    scenario = next(s for s in spec.scenarios if s.name == "chat")
    place = keys.place(spec, space.model, spec.machines[0], scenario)
    assert place is not None
    library = Library(workplace.folder / "library")
    for block in bench.blocks_of(space):
        for phase in shapes.PHASES:
            if isinstance(block, Attention):
                place.put(library, phase, block, Seconds(0.007, 0.01))
    spec, space, sink = _table(workplace, text, *_all_rows(space))
    assert space is not None, sink.found
    told = dict(estimates.parent(spec, space))["tpot@chat"]
    # Attention 4 x 7 ms (and 2/16 of 7 ms for prompts), experts 4 x 11 ms, 2 ms for the rest.
    assert told == "77.5 ms, imported (59%) +-2%"
    at = serving.setting(space.model, spec.machines[0], scenario, 3)
    found = trust.of(space.parent, at, spec.machines[0], "tpot")
    assert found.long == "imported +-2% (measured 41%, imported 59%)"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("fixed,decode@night,1,", "`decode@night` is about a scenario that the spec does not have"),
        ("fixed,decode@many,1,", "`decode@many` is about a batch that is not a number"),
        ("fixed,decode@chat,-1,", "`decode@chat` of `fixed` is below 0"),
        ("fixed,decode@chat,1,-1", "`decode@chat` of `fixed` is below 0"),
        ("fixed,decode@chat,fast,", "`fast` is no number"),
        ("fixed,decoding@chat,1,", "`decoding@chat` is neither a score of the spec nor a cost"),
    ],
)
def test_rows_that_are_no_times(workplace: Workplace, row: str, message: str) -> None:
    _, space, sink = _table(workplace, CLOUD, row)
    assert space is None
    assert [found.message for found in sink.found] == [message]


def test_what_was_timed_here_travels_as_a_table(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    path, spec, space = _spec(workplace)
    library = workplace.folder / "planted"
    _plant(Library(library), spec, space)
    command = ["library", path, "--library", str(library), "--csv", "times.csv"]
    from surgery.cli import main

    assert main(command) == 0
    wanted = 2 * (1 + len(space.candidates))
    assert f"times of chat {wanted} of {wanted} measured" in capsys.readouterr().out
    sink = Sink()
    given = tables.run(spec, space, [Path("times.csv")], sink)
    assert given is not None, sink.found
    ours = timing.run(spec, space, Library(library))
    here, there = (dict(estimates.parent(spec, each))["tpot@chat"] for each in (ours, given.space))
    assert here.endswith("measured +-4%")
    assert there == here.replace("measured", "imported")


@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral"])
def test_other_families_run_in_parts_too(sparse_parents: Path, tmp_path: Path, name: str) -> None:
    model = resolve.read_model(Fetched(sparse_parents / name, name), tmp_path / "cache")
    made = stack.load(model, clock.cpu(), 2)
    mixture = made.own[0][1]
    assert isinstance(mixture, Experts)
    child: list[Shape] = [(made.own[0][0], replace(mixture, count=4)), *made.own[1:]]
    nothing: list[Shape] = [(None, None)] * len(made.own)
    layers = rounds.make(made, [child, nothing])
    given = rounds.prompts(made, np.zeros((2, 20), dtype=np.int64), 12)
    for phase in shapes.PHASES:
        times = rounds.run(made, rounds.Children(layers, []), given, phase, 3)
        whole, empty = (splits[0] for splits in times.splits)
        assert all(part > 0 for layer in whole.blocks for part in layer)
        assert all(part == 0 for layer in empty.blocks for part in layer)
        assert empty.rest > 0
