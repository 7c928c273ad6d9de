"""Merged experts: the parent whose experts are the mean of their group, routed by its survivor.

The reference is Transformers' own parent: every expert of a group gets the group's mean, computed
here, and the router may choose its survivor alone.
"""

from __future__ import annotations

import json
import random
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GPT_OSS_SPEC, Workplace, make_gpt_oss, make_mixtral, write_text
from emit_fixtures import (
    EXPERTS,
    GPT_OSS,
    TOKENS,
    Case,
    logits,
    measured_logits,
    prepare,
    pretrained,
    stored,
    tree,
)
from measuring_fixtures import bench, dataset, forbid, tokens
from msgspec.structs import replace
from space_fixtures import alternative, choose, gpt_oss, layers, span

from surgery import edits, lockfile
from surgery import plan as plans
from surgery.arch import family_of
from surgery.arch.geometry import layers as read_layers
from surgery.diagnostics import Sink
from surgery.ir import Candidate, Merging, Ranking, merging_of
from surgery.library import Library
from surgery.passes import twin, verify
from surgery.passes.resolve import read_model
from surgery.progress import silent
from surgery.scoring import activations, clusters, data
from surgery.scoring.model import load_parent
from surgery.sources import Fetched

SPECS = Path(__file__).parent.parent / "specs"
RETAIN = 'retain 6 | 4 | 2 by rank_experts("router_contribution", text)'
MERGE = 'merge 6 | 3 by cluster_experts("outputs", text)'
TEMPLATE = GPT_OSS.replace(RETAIN, f"{RETAIN}\n  {MERGE}")
NAMES = ("gpt_oss", "mixtral")
PICKS = {(0, EXPERTS): "merge(3)", (2, EXPERTS): "4", (3, EXPERTS): "merge(6)"}


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory, hf_modules: None) -> Path:
    """Tiny mixtures, experts together and apart."""
    folder = tmp_path_factory.mktemp("whole")
    make_gpt_oss(folder / "gpt_oss")
    make_mixtral(folder / "mixtral")
    write_text(folder / "text.jsonl")
    return folder


@pytest.fixture(scope="module")
def children(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Two layers of merged experts, one with fewer, one as it was; written to disk."""
    folder = tmp_path_factory.mktemp("merged")
    made = {name: prepare(parents, name, PICKS, folder / name, "", TEMPLATE) for name in NAMES}
    for name, case in made.items():
        case.write(folder / name / "out")
    return made


def _out(case: Case) -> Path:
    return case.spec.folder / "out"


def _reference(parent: Path, chosen: tuple[Candidate, ...]) -> Any:
    """The stock parent with means in place of experts."""
    model = pretrained(parent)
    for candidate in chosen:
        mlp = model.model.layers[candidate.layer].mlp
        if candidate.merged is not None:
            _average(mlp.experts, candidate.merged)
            stay = candidate.merged.survivors
        elif candidate.edit == "retain":
            stay = candidate.kept or ()
        else:
            continue
        count = mlp.experts.down_proj.shape[0]
        gone = sorted(set(range(count)) - set(stay))
        if hasattr(mlp, "router"):
            mlp.router.bias.data[gone] = -1e30
        else:
            forbid(mlp.gate, gone)
    return model


def _average(experts: Any, merging: Merging) -> None:
    for group in merging.groups:
        members, total = [e for e, _ in group], sum(weight for _, weight in group)
        for parameter in experts.parameters():
            mean = sum(parameter.data[e].double() * (w / total) for e, w in group)
            # Emitted in BF16, so rounded to it.
            parameter.data[members] = torch.as_tensor(mean).bfloat16().float()


# ---- the child -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_child_is_the_parent_with_the_means_of_its_groups(
    name: str, parents: Path, children: dict[str, Case]
) -> None:
    case = children[name]
    with torch.no_grad():
        expected = _reference(parents / name, case.chosen)(TOKENS).logits
    found = logits(_out(case) / "checkpoint", remote=True)
    assert (expected - logits(parents / name)).abs().max() > 0.1
    torch.testing.assert_close(measured_logits(case), found, rtol=0, atol=1e-5)
    # A mean in float32 may be rounded to the other neighbour in BF16 than one in float64: compared
    # are models of the same weights, and the weights by themselves.
    shipped = pretrained(_out(case) / "checkpoint", remote=True)
    reference = _reference(parents / name, case.chosen)
    for candidate in case.chosen:
        if candidate.merged is None:
            continue
        mine = shipped.model.layers[candidate.layer].mlp.experts
        theirs = reference.model.layers[candidate.layer].mlp.experts
        for ours, its in zip(mine.parameters(), theirs.parameters(), strict=True):
            for n, group in enumerate(candidate.merged.groups):
                torch.testing.assert_close(ours[n], its[group[0][0]], rtol=2**-7, atol=2**-24)
                assert (ours[n] == its[group[0][0]]).float().mean() > 0.99
                its.data[[e for e, _ in group]] = ours[n].data
    with torch.no_grad():
        torch.testing.assert_close(found, reference(TOKENS).logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_provenance_names_the_parts_and_their_weights(
    name: str, parents: Path, children: dict[str, Case]
) -> None:
    case = children[name]
    told = json.loads((_out(case) / "provenance.json").read_text(encoding="utf-8"))["tensors"]
    (chosen,) = (c for c in case.chosen if c.text == "merge(3)")
    merging = chosen.merged
    assert merging is not None
    parent, child = stored(parents / name), stored(_out(case) / "checkpoint")
    router = next(n for n in child if n.startswith("model.layers.0.") and "weight" in n and _is(n))
    assert torch.equal(child[router], parent[router][list(merging.survivors)])
    if name == "gpt_oss":
        place = "model.layers.0.mlp.experts.down_proj"
        assert told[place]["from"] == {"op": "merge", "tensor": place, "groups": merging.text}
        return
    for n, group in enumerate(merging.groups):
        places = [f"model.layers.0.block_sparse_moe.experts.{e}.w2.weight" for e, _ in group]
        origin = told[f"model.layers.0.block_sparse_moe.experts.{n}.w2.weight"]["from"]
        if len(group) == 1:
            assert origin == {"op": "copy", "tensor": places[0]}
        else:
            weights = [weight for _, weight in group]
            assert origin == {"op": "blend", "tensors": places, "weights": weights}


def _is(name: str) -> bool:
    return ".router." in name or ".gate." in name


@pytest.mark.parametrize("name", NAMES)
def test_verify_proves_it_and_finds_another_weight(
    name: str, children: dict[str, Case], tmp_path: Path
) -> None:
    case = children[name]
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(_out(case) / "checkpoint", checkpoint)
    sink = Sink()
    # As a file has it: what the text of the plan says is all that verify knows.
    plan = lockfile.parse(lockfile.text(case.plan), "x.plan")
    assert verify.run(plan, "x.plan", case.model, checkpoint, sink, silent) is not None
    told = plans.from_json(plans.to_json(case.plan))
    assert told.decisions == case.plan.decisions
    text = (checkpoint / "model.safetensors").read_bytes()
    length = int.from_bytes(text[:8], "little")
    header = json.loads(text[8 : 8 + length])
    victim = next(n for n in sorted(header) if ".layers.0." in n and "experts" in n)
    spoiled = bytearray(text)
    spoiled[8 + length + header[victim]["data_offsets"][0]] ^= 1
    (checkpoint / "model.safetensors").write_bytes(spoiled)
    assert verify.run(plan, "x.plan", case.model, checkpoint, sink, silent) is None
    assert sink.found[0].notes == (f"`{victim}`",)


def test_embedded_mixture_in_bf16_is_merged(tmp_path: Path, hf_modules: None) -> None:
    """Alike in all layers, so stock code runs it."""
    packed = read_model(Fetched(SPECS / "tinymoe", "local:tinymoe"), tmp_path / "cache")
    twin.run(packed, twin.Kind(bf16=True, padded=False), tmp_path / "twin")
    (tmp_path / "tinymoe").symlink_to(tmp_path / "twin/checkpoint")
    template = GPT_OSS.replace(RETAIN, 'merge 16 by cluster_experts("outputs", text)')
    picks = {(layer, EXPERTS): "merge(16)" for layer in range(8)}
    case = prepare(tmp_path, "tinymoe", picks, tmp_path / "spec", "", template)
    made = case.write(tmp_path / "out")
    assert made.model_type == "gpt_oss"
    line = (SPECS / "tinymoe/text/heldout.jsonl").read_text(encoding="utf-8").splitlines()[0]
    encode: Any = data.load_tokenizer(case.model)
    text = torch.tensor([list(encode(json.loads(line)["text"]))[:160]])
    child = pretrained(made.directory / "checkpoint")
    reference = _reference(tmp_path / "twin/checkpoint", case.chosen)
    for candidate in case.chosen:
        if candidate.merged is None:
            continue
        ours, theirs = (m.model.layers[candidate.layer].mlp.experts for m in (child, reference))
        for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
            for n, group in enumerate(candidate.merged.groups):
                torch.testing.assert_close(mine[n], its[group[0][0]], rtol=2**-7, atol=2**-24)
                its.data[[e for e, _ in group]] = mine[n].data
    with torch.no_grad():
        found, expected = child(text).logits, reference(text).logits
    assert (expected - logits(SPECS / "tinymoe", tokens=text)).abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


# ---- groups ----------------------------------------------------------------------------------


def _naive(far: list[list[float]], size: int) -> list[list[int]]:
    """Average linkage from the pairs themselves."""
    found = [[n] for n in range(len(far))]
    while len(found) > size:
        a, b = min(
            combinations(range(len(found)), 2),
            key=lambda ab: (
                sum(far[i][j] for i in found[ab[0]] for j in found[ab[1]])
                / len(found[ab[0]])
                / len(found[ab[1]])
            ),
        )
        found[a] = sorted(found[a] + found.pop(b))
    return sorted(found)


@pytest.mark.parametrize("seed", range(6))
def test_clusters_are_those_of_average_linkage(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randint(2, 14)
    far = [[0.0] * count for _ in range(count)]
    for a, b in combinations(range(count), 2):
        far[a][b] = far[b][a] = draw.random()
    flat = [value for row in far for value in row]
    before: list[list[int]] = []
    for size in range(1, count + 1):
        found = clusters.clusters(flat, count, size)
        assert found == _naive(far, size)
        assert all(any(set(small) <= set(large) for large in before) for small in found if before)
        before = found


def test_the_survivor_has_the_most_tokens_and_dead_groups_count_alike() -> None:
    places = [0.0, 0.1, 5.0, 5.1, 9.0]
    far = [abs(a - b) for a in places for b in places]
    found = clusters.merging(far, [3.0, 8.0, 0.0, 0.0, 0.0], 3)
    assert found.groups == (((1, 8), (0, 3)), ((2, 1), (3, 1)), ((4, 1),))
    assert found.text == "1*8+0*3,2*1+3*1,4*1"
    assert merging_of(found.text) == found
    assert clusters.merging(far, [1.0] * 5, 5).survivors == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0*1,", "1*1,0*1", "0*01", "0*1+0*1", "0*1,2*1", "0*0", "0*1+2*1+1*1", "0*-1", "a*1"],
)
def test_groups_that_nobody_would_write_are_refused(text: str) -> None:
    assert merging_of(text) is None


def test_similarities_are_what_their_formulas_say(parents: Path, tmp_path: Path) -> None:
    merges = [
        replace(alternative("merge", 4, line=24 + n), by=Ranking(span(24 + n), criterion, "text"))
        for n, criterion in enumerate(("outputs",))
    ]
    choice = choose(EXPERTS, layers(), alternative("keep"), *merges)
    made = bench(parents, "gpt_oss", tmp_path, dataset(take=2), choices=(choice,))
    space = made.rank(Library(tmp_path / "library"))
    parent, batch = load_parent(made.model), tokens(made)
    module: Any = parent.module
    entered: list[torch.Tensor] = []
    mlp = module.model.layers[2].mlp

    def hook(_module: Any, inputs: Any) -> None:
        entered.append(inputs[0].flatten(0, 1))

    handle = mlp.register_forward_pre_hook(hook)
    watched = [(2, EXPERTS, "groups")]
    whole = activations.collect(parent, [batch], watched, batch.numel())[watched[0]]
    handle.remove()
    hidden = entered[0]
    means: list[torch.Tensor] = []
    experts = mlp.experts
    with torch.no_grad():
        for e in range(8):
            gate_up = hidden @ experts.gate_up_proj[e] + experts.gate_up_proj_bias[e]
            gate, up = gate_up[:, 0::2].clamp(max=7.0), gate_up[:, 1::2].clamp(-7.0, 7.0)
            inner = (up + 1) * gate * torch.sigmoid(1.702 * gate)
            means.append((inner @ experts.down_proj[e] + experts.down_proj_bias[e]).mean(0))
        routed = (hidden @ mlp.router.weight.T + mlp.router.bias).T
    pairs = [(a, b) for a in range(8) for b in range(8)]
    outputs = [float((means[a] - means[b]).square().sum().sqrt()) for a, b in pairs]
    assert whole.scores("outputs") == pytest.approx(outputs, rel=1e-3, abs=1e-6)
    cosine = [1 - float(torch.cosine_similarity(routed[a], routed[b], dim=0)) for a, b in pairs]
    assert whole.scores("routing") == pytest.approx(cosine, abs=1e-4)
    chosen = routed.topk(2, dim=0).indices
    counts = [int((chosen == e).sum()) for e in range(8)]
    (candidate,) = (c for c in space.candidates if c.edit == "merge" and c.layer == 2)
    assert candidate.merged == clusters.merging(outputs, [float(n) for n in counts], 4)
    rows = [row.unsqueeze(0) for row in batch]
    split = activations.collect(parent, rows, watched, batch.numel())[watched[0]]
    assert split.scores("outputs") == pytest.approx(whole.scores("outputs"), rel=1e-4, abs=1e-7)


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "code"), [(128, ""), (64, "E0421"), (129, "E0405"), (3, "E0406")]
)
def test_packed_experts_and_numbers_that_cannot_be(value: int, code: str) -> None:
    model = gpt_oss()
    block = model.layers[0].mlp
    assert block is not None
    found = edits.refuse(model, block, EXPERTS, _merge(value))
    assert (found.code.id if found else "") == code
    plain = gpt_oss(quantization_config=None)
    refused = edits.refuse(plain, block, EXPERTS, _merge(value))
    assert (refused is None) == (code in ("", "E0421"))


def _merge(value: int) -> Any:
    by = Ranking(span(), "outputs", "text")
    return replace(alternative("merge", value), by=by)


# ---- the whole way ---------------------------------------------------------------------------


def test_a_spec_is_compiled_verified_and_exchanged(
    workplace: Workplace, hf_modules: None, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = GPT_OSS_SPEC.replace(
        "retain 6 | 4 by moe.contribution(text)", "merge 6 | 4 by moe.similar_outputs(text)"
    )
    path = workplace.write("a.surg", spec)
    assert workplace.run("compile", path, "-o", "out") == 0
    assert workplace.run("verify", "out/a.plan", "out/checkpoint", "--parent", "gpt_oss") == 0
    text = (workplace.folder / "out/a.plan").read_text(encoding="utf-8")
    assert "\nmerged layer.0" in text
    config = json.loads((workplace.folder / "out/checkpoint/config.json").read_text())
    found = [layer.mlp for layer in read_layers(family_of(config), config)]
    assert any(getattr(block, "count", 8) < 8 for block in found)
    assert logits(workplace.folder / "out/checkpoint", remote=True).isfinite().all()
    assert workplace.run("compile", path, "--plan", "out/a.plan", "-o", "again") == 0
    ours, again = (workplace.folder / name / "checkpoint" for name in ("out", "again"))
    assert tree(ours) == tree(again)
    library = ("--library", str(workplace.library))
    capsys.readouterr()
    assert workplace.run("library", path, "--csv", "t.csv", *library) == 0
    assert workplace.run("plan", path, "--table", "t.csv", "-o", "table.plan") == 0
    told = lockfile.parse((workplace.folder / "table.plan").read_text(encoding="utf-8"), "t")
    assert told.decisions == lockfile.parse(text, "a").decisions
    assert workplace.run("diff", "out/a.plan", "table.plan") == 0
