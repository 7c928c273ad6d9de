"""How unequally experts are chosen: a number in scenarios, or what the parent does on text."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from test_gpt_oss_120b import GOLDEN

from surgery import evaluate, facts
from surgery.affine import walk
from surgery.costing import routing
from surgery.diagnostics import Sink
from surgery.expr import Metric
from surgery.grammar.parse import parse
from surgery.ir import Cost, Model, Site, Space, Spec
from surgery.passes import check, expand, resolve
from surgery.pipeline import Options, Posed, Run, pose
from surgery.scoring import data
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


def real(model: Model, tokens: int) -> list[list[set[int]]]:
    """The experts that each token of held-out text is sent to, by layer: the model's own router."""
    parent = load_parent(model)
    encode: Any = data.load_tokenizer(model)
    rows = [list(encode(json.loads(line)["text"])) for line in code("heldout")]
    cut = [row[n : n + 64] for row in rows for n in range(0, len(row) - 63, 64)]
    batch = torch.tensor(cut[:: max(1, 64 * len(cut) // tokens)])
    seen: list[list[set[int]]] = []

    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        chosen = output[-1].reshape(-1, 4).tolist()
        seen.append([set(experts) for experts in chosen])

    module: Any = parent.module
    hooks = [layer.mlp.router.register_forward_hook(hook) for layer in module.model.layers]
    with torch.inference_mode():
        hidden, state = parent.module.begin(batch)
        parent.module.run(hidden, state, 0, len(model.layers))
    for each in hooks:
        each.remove()
    return seen


def test_measured_shares_say_what_steps_read(posed: Posed) -> None:
    """Steps of tokens drawn from text that nothing was measured on, against both ways to say it."""
    drawn, errors = Random(0), {"measured": [], "zipf 0.7": [], "uniform": []}
    seen = real(posed.space.model, 2048)
    assert len(seen) == 8
    print()
    for batch in (4, 16, 64):
        for layer, chosen in enumerate(seen):
            steps = [set[int]().union(*drawn.sample(chosen, batch)) for _ in range(300)]
            mean = sum(map(len, steps)) / len(steps)
            (told,) = [shares for name, shares in _cost(posed, layer, "32").routing]
            ways = {
                "measured": routing.distinct_of(told, 4, batch),
                "zipf 0.7": routing.distinct(32, 4, batch, 0.7),
                "uniform": routing.distinct(32, 4, batch, 0),
            }
            for way, value in ways.items():
                errors[way].append(abs(value / mean - 1))
            told_ways = "  ".join(f"{way} {value:.2f}" for way, value in ways.items())
            print(f"layer {layer}, {batch:>2} tokens: {mean:.2f} read; {told_ways}")
    means = {way: sum(found) / len(found) for way, found in errors.items()}
    print("mean error: " + ", ".join(f"{way} {mean:.1%}" for way, mean in means.items()))
    assert means["measured"] < 0.04
    assert means["measured"] < means["zipf 0.7"] / 2


def _cost(posed: Posed, layer: int, text: str) -> Cost:
    (found,) = [
        c.cost
        for option in posed.space.options
        for c in option.candidates
        if (option.layer, option.site, c.text) == (layer, Site.EXPERTS, text)
    ]
    return found
