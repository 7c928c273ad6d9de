"""How unequally experts are chosen: a number in scenarios, or what the parent does on text."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_gpt_oss_120b import GOLDEN

from surgery import evaluate, facts
from surgery import plan as plans
from surgery.affine import walk
from surgery.cli import main
from surgery.costing import routing, serving
from surgery.diagnostics import Sink
from surgery.expr import Metric
from surgery.grammar.parse import parse
from surgery.ir import Candidate, Site, Space, Spec
from surgery.passes import check, cost, expand, resolve
from surgery.pipeline import Halt, Options, Posed, Run, costs, foresee, pose
from surgery.scoring import activations, data
from surgery.scoring.model import load_parent
from surgery.source import Source
from surgery.sources import default_cache

SPECS = Path(__file__).parent.parent / "specs"

SPEC = """surg 1

import "std/nvidia.surg" as nvidia

model parent = local("parent")

machine one = 1 * nvidia.h100_sxm

scenario chat on one { prefill = 4K tok  decode = 1K tok  batch = 16 FIELDS }

dataset text = local("text.jsonl") { take = 4  length = 128K tok  seed = 0 }
score damage = swap_one(metric: kl(logits), on: text)

choose experts in layers[30..35] {
  keep
  retain 96 | 64 by rank_experts("random", text)
}

require tpot(chat) <= 1 s
minimize damage
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unequal") / "work"
    shutil.copytree(GOLDEN / "parent", folder / "parent")
    return folder


def checked(place: Path, fields: str, sink: Sink) -> Spec | None:
    text = SPEC.replace("FIELDS", fields)
    return check.run(parse(Source(str(place / "spec.surg"), text), sink), sink, {})


def expanded(place: Path, fields: str) -> tuple[Spec, Space]:
    sink = Sink()
    spec = checked(place, fields, sink)
    model = resolve.run(spec, sink, place / "cache") if spec else None
    space = expand.run(spec, model, sink) if spec and model else None
    assert spec is not None
    assert space is not None, sink.found
    return spec, space


def per_token(place: Path, fields: str, pick: int = 0) -> Fraction:
    """`tpot` of a child that takes everywhere what is offered in that place."""
    spec, space = expanded(place, fields)
    asked = next(
        part
        for each in spec.requirements
        for part in walk(each.expr)
        if isinstance(part, Metric) and part.name == "tpot"
    )
    parts = (o.candidates[min(pick, len(o.candidates) - 1)] for o in space.options)
    context = evaluate.parent_context(spec, space.model)
    result = (space.fixed, *(c.cost for c in parts))
    return facts.metric(asked, replace(context, result=result))


# ---- a number --------------------------------------------------------------------------------


def test_the_more_unequal_the_fewer_are_read(place: Path) -> None:
    times = [per_token(place, f"skew = {skew}") for skew in ("0", "0.4", "0.7", "1.5", "4")]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 5
    # What a prompt reads is most of them in any case; the rest is not of experts.
    assert times[-1] < times[0] * Fraction(9, 10)


def test_specs_that_do_not_say_it_are_what_they_were(place: Path) -> None:
    silent = checked(place, "", Sink())
    said = checked(place, "skew = 0.7", Sink())
    other = checked(place, "skew = 0.71", Sink())
    assert silent is not None
    assert said is not None
    assert other is not None
    assert silent.digest == said.digest != other.digest
    assert per_token(place, "") == per_token(place, "skew = 0.7")


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ("skew = 4.5", "E0309", "`skew` is at most 4, and `4.5` is more"),
        ("skew = 3 tok", "E0302", "`skew` cannot be a number of tokens"),
        ("skew = 0.7  routing = text", "E0202", "`routing` and `skew` cannot both be given"),
        ("routing = one", "E0302", "`routing` cannot be a machine"),
        ("skew = 0.7  skew = 0", "E0202", "the field `skew` is given twice"),
    ],
)
def test_what_is_no_skew(place: Path, fields: str, code: str, text: str) -> None:
    sink = Sink()
    assert checked(place, fields, sink) is None
    assert [(each.code.id, each.message) for each in sink.found] == [(code, text)]


def test_a_token_goes_to_as_many_experts_as_there_are_active() -> None:
    """Also where most were never seen."""
    for shares in ((1.0, 0, 0, 0, 0, 0), (0.0,) * 6, (5.0, 5, 1, 0, 0, 0), (1e9, 1, 1, 1, 1, 1)):
        assert routing.distinct_of(shares, 3, 1) == pytest.approx(3)
        assert routing.distinct_of(shares, 3, 1e7) <= 6


@settings(max_examples=100, deadline=None)
@given(
    counts=st.lists(st.integers(0, 1000), min_size=5, max_size=40),
    tokens=st.floats(1, 1e6),
    fewer=st.integers(1, 36),
)
def test_keeping_favourites_never_reads_more(counts: list[int], tokens: float, fewer: int) -> None:
    """Of the others one can: what is left may be chosen more evenly than the whole was."""
    counts = sorted(counts, reverse=True)
    whole = routing.distinct_of(tuple(map(float, counts)), 4, tokens)
    some = routing.distinct_of(tuple(map(float, counts[: max(4, len(counts) - fewer)])), 4, tokens)
    assert some <= whole * (1 + 1e-9) + 1e-9
    assert whole <= routing.distinct(len(counts), 4, tokens, 0) * (1 + 1e-9) + 1e-9


# ---- what the parent does on text ------------------------------------------------------------

EMBEDDED = """surg 1

import "std/nvidia.surg" as nvidia

model parent = local("tinymoe")

machine one = 1 * nvidia.h100_sxm

dataset text = local("code.jsonl") { take = 16  length = 64 tok  seed = 0 }

scenario chat on one { prefill = 64 tok  decode = 64 tok  batch = 4  routing = text }

choose experts in layers {
  keep
  retain 16 | 8 by rank_experts("CRITERION", text)
}
require @fast tpot(chat) <= parent.tpot(chat)
require @soon ttft(chat) <= parent.ttft(chat)
require @size params >= 50% * parent.params
WISHES
minimize tpot(chat)
"""


def options(folder: Path) -> Options:
    return Options(folder / "library", default_cache())


def code(name: str) -> list[str]:
    """Lines of one kind of text: on all kinds together the mixture was trained to be even."""
    lines = (SPECS / f"tinymoe/text/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if json.loads(line)["domain"] == "code"]


def written(folder: Path, wishes: str = "", criterion: str = "frequency") -> str:
    if not (folder / "tinymoe").exists():
        (folder / "tinymoe").symlink_to(SPECS / "tinymoe")
        (folder / "code.jsonl").write_text("\n".join(code("calibration")), encoding="utf-8")
    path = folder / "spec.surg"
    text = EMBEDDED.replace("WISHES", wishes).replace("CRITERION", criterion)
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(scope="module")
def posed(embedded: Path) -> Posed:
    sink = Sink()
    found = pose(written(embedded), Run(sink, options(embedded)))
    assert not sink.failed, sink.found
    return found


@pytest.fixture(scope="module")
def logits(posed: Posed) -> list[torch.Tensor]:
    """What the model's own routers say of text that nothing was measured on: [tokens, experts]."""
    parent = load_parent(posed.space.model)
    encode: Any = data.load_tokenizer(posed.space.model)
    rows = [list(encode(json.loads(line)["text"])) for line in code("heldout")]
    cut = [row[n : n + 64] for row in rows for n in range(0, len(row) - 63, 64)]
    seen: list[torch.Tensor] = []

    def hook(router: Any, inputs: Any, _output: Any) -> None:
        hidden = inputs[0].reshape(-1, 128)
        seen.append(torch.nn.functional.linear(hidden, router.weight, router.bias))

    module: Any = parent.module
    hooks = [layer.mlp.router.register_forward_hook(hook) for layer in module.model.layers]
    with torch.inference_mode():
        hidden, state = parent.module.begin(torch.tensor(cut[:: len(cut) // 32]))
        parent.module.run(hidden, state, 0, 8)
    for each in hooks:
        each.remove()
    return seen


def mean_read(logits: torch.Tensor, batch: int, drawn: Random) -> float:
    """How many experts steps of so many tokens read on average."""
    best: Any = logits.topk(4, dim=-1).indices
    chosen = [set[int](row) for row in best.tolist()]
    steps = (set[int]().union(*drawn.sample(chosen, batch)) for _ in range(300))
    return sum(map(len, steps)) / 300


BATCHES = (4, 16, 64)


@pytest.mark.parametrize(("experts", "bound"), [("32", 0.02), ("16", 0.02)])
def test_measured_shares_say_what_steps_read(
    posed: Posed, logits: list[torch.Tensor], experts: str, bound: float
) -> None:
    """Steps of tokens drawn from text that nothing was measured on, against every way to say it.

    Of a layer that keeps some, shares are approximate: its tokens go where its router sends them.
    """
    drawn, errors = Random(0), dict[str, list[float]]()
    count = int(experts)
    print()
    for batch, (layer, said) in product(BATCHES, enumerate(logits)):
        found = _candidate(posed, layer, experts)
        kept = list(found.kept or range(32))
        mean = mean_read(said[:, kept], batch, drawn)
        ((_, shares),) = found.cost.routing
        ways = {
            "measured": routing.distinct_of(shares, 4, batch),
            "zipf 0.7": routing.distinct(count, 4, batch, 0.7),
            "uniform": routing.distinct(count, 4, batch, 0),
        }
        for way, value in ways.items():
            errors.setdefault(way, []).append(abs(value / mean - 1))
        told = "  ".join(f"{way} {value:.2f}" for way, value in ways.items())
        print(f"layer {layer}, {batch:>2} tokens, {experts} experts: {mean:.2f} read; {told}")
    means = {way: sum(found) / len(found) for way, found in errors.items()}
    print("mean error: " + ", ".join(f"{way} {mean:.1%}" for way, mean in means.items()))
    assert means["measured"] < bound
    assert means["measured"] < min(means["zipf 0.7"], means["uniform"])


def _candidate(posed: Posed, layer: int, text: str) -> Candidate:
    (found,) = [
        c
        for option in posed.space.options
        for c in option.candidates
        if (option.layer, option.site, c.text) == (layer, Site.EXPERTS, text)
    ]
    return found


def test_times_of_the_parent_are_those_of_keeping_everything(posed: Posed) -> None:
    spec, space = posed.spec, posed.space
    metrics = {
        part.name: part
        for each in spec.requirements
        for part in walk(each.expr)
        if isinstance(part, Metric) and part.parent
    }
    assert metrics
    context = cost.parent_context(spec, space)
    whole = tuple(o.candidates[0].cost for o in space.options)
    routed = replace(context, result=(space.fixed, *whole))
    plain = evaluate.parent_context(spec, space.model)
    for asked in metrics.values():
        parent = facts.metric(asked, routed)
        assert facts.metric(replace(asked, parent=False), routed) == parent
        assert parent != facts.metric(asked, plain), "shares change nothing"


def test_times_add_up_over_layers(posed: Posed) -> None:
    """What a choice saves does not depend on the others."""
    spec, space = posed.spec, posed.space
    at = serving.setting(space.model, spec.machines[0], spec.scenarios[0], 4)
    for time in ("tpot", "ttft"):
        costs = tuple(o.candidates[n % len(o.candidates)].cost for n, o in enumerate(space.options))
        alone = sum((serving.seconds((each,), at, time) for each in costs), Fraction(0))
        assert serving.seconds(costs, at, time) == alone


def test_what_was_counted_is_not_counted_again(
    posed: Posed, embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rankings count, whatever they are by; and so the library of one serves the other."""

    def never(*_arguments: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(activations, "collect", never)
    run = Run(Sink(), options(embedded))
    again = pose(written(embedded, criterion="random"), run)
    assert again.space.routing == posed.space.routing
    assert again.space.parent == posed.space.parent
    assert {sum(c) for c in again.space.routing["text"].values()} == {16 * 64 * 4}


def test_a_plan_keeps_its_times(embedded: Path, posed: Posed) -> None:
    """`plan`, `show --costs` and `compile --plan` say the same of measured routing."""
    spec, plan = written(embedded), embedded / "spec.plan"
    common = ["--library", str(options(embedded).library)]
    assert main(["plan", spec, "-o", str(plan), *common]) == 0
    told = plans.read(plan)
    tpot = dict(told.metrics)["tpot@chat"].split(" ms")[0]
    found = costs(spec, Sink(), options(embedded), plan, None)
    assert found is not None
    seconds = sum(line.seconds for line in found[0].tpot)
    assert float(tpot) / 1000 == pytest.approx(seconds, rel=1e-3)
    assert main(["compile", spec, "--plan", str(plan), "-o", str(embedded / "out"), *common]) == 0
    assert plans.read(embedded / "out" / "spec.plan").metrics == told.metrics


def test_no_limit_is_refused_before_routing_is_measured(
    embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What times would be without it is no reason to refuse a spec."""
    sink = Sink()
    path = written(embedded, "require @odd tpot(chat) <= 1% * parent.tpot(chat)")
    assert foresee(path, sink, options(embedded)) is not None
    assert not sink.failed
    assert main(["plan", path, "--library", str(options(embedded).library)]) == 1
    assert "E0601" in capsys.readouterr().err
    fixed = Path(path).read_text(encoding="utf-8").replace("routing = text", "skew = 0.7")
    Path(path).write_text(fixed, encoding="utf-8")
    assert foresee(path, sink, options(embedded)) is None
    assert [each.code.id for each in sink.found] == ["E0601"]


def test_a_parent_without_weights_shows_no_routing(place: Path) -> None:
    (place / "text.jsonl").write_text(code("calibration")[0], encoding="utf-8")
    path = place / "routed.surg"
    path.write_text(SPEC.replace("FIELDS", "routing = text"), encoding="utf-8")
    sink = Sink()
    with pytest.raises(Halt):
        pose(str(path), Run(sink, options(place)))
    (found,) = sink.found
    assert found.code.id == "E0701"
    assert found.message.startswith("`chat` takes the routing of `text`, and there are no weights")
    assert found.primary is not None
    assert found.primary.span.text.startswith("scenario chat")
