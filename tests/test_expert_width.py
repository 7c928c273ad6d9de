"""Narrower experts: the parent whose channels that are gone have no way out.

The reference is Transformers' own parent, with the rows of the down projection that belong to
dropped channels at zero; scores are held against leaving channels out one by one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GPT_OSS_SPEC, Workplace, make_gpt_oss, make_mixtral, make_qwen3_moe, write_text
from emit_fixtures import (
    EXPERTS,
    GPT_OSS,
    TOKENS,
    Case,
    logits,
    measured_logits,
    pack_experts,
    prepare,
    pretrained,
    stored,
    tree,
)
from measuring_fixtures import bench, dataset, forbid, ranked_by, tokens
from msgspec.structs import replace
from space_fixtures import alternative, choose, gpt_oss, layers

from surgery import edits
from surgery.cli import main
from surgery.diagnostics import Sink
from surgery.edits.experts import WIDTH
from surgery.ir import Candidate, Cost, Experts, Model, Site
from surgery.library import Library
from surgery.passes import baseline, cost, rank, verify
from surgery.progress import silent
from surgery.scoring import activations, data
from surgery.scoring.model import load_parent

SPECS = Path(__file__).parent.parent / "specs"
RETAIN = 'retain 6 | 4 | 2 by rank_experts("router_contribution", text)'
TEMPLATE = GPT_OSS.replace(RETAIN, f"{RETAIN}\n  width 32 by channel_contribution(text)")
NAMES = ("gpt_oss", "mxfp4", "mixtral", "qwen3_moe")
PICKS = {(0, EXPERTS): "width(32)", (2, EXPERTS): "4", (3, EXPERTS): "width(32)"}


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory, hf_modules: None) -> Path:
    """Tiny mixtures of four kinds whose experts are 64 wide."""
    folder = tmp_path_factory.mktemp("wide")
    make_gpt_oss(folder / "gpt_oss")
    pack_experts(make_gpt_oss(folder / "mxfp4"))
    make_mixtral(folder / "mixtral")
    make_qwen3_moe(folder / "qwen3_moe", moe_intermediate_size=64, mlp_only_layers=[])
    write_text(folder / "text.jsonl")
    (folder / "tinymoe").symlink_to(SPECS / "tinymoe")
    return folder


@pytest.fixture(scope="module")
def children(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Two layers of narrower experts, one with fewer, one as it was; written to disk."""
    folder = tmp_path_factory.mktemp("narrow")
    made = {name: prepare(parents, name, PICKS, folder / name, "", TEMPLATE) for name in NAMES}
    for name, case in made.items():
        case.write(folder / name / "out")
    return made


def _out(case: Case) -> Path:
    return case.spec.folder / "out"


def _reference(parent: Path, chosen: tuple[Candidate, ...]) -> Any:
    """The stock parent, of which dropped channels lead nowhere."""
    model = pretrained(parent)
    for candidate in chosen:
        mlp, kept = model.model.layers[candidate.layer].mlp, candidate.kept
        if candidate.edit == "width" and kept is not None:
            down = mlp.experts.down_proj.data
            # gpt-oss has [experts, width, hidden], the others [experts, hidden, width].
            rows = down if hasattr(mlp, "router") else down.transpose(1, 2)
            flat = set(range(rows.shape[0] * rows.shape[1])) - set(kept)
            for number in flat:
                rows[number // rows.shape[1], number % rows.shape[1]] = 0
        elif candidate.edit == "retain" and kept is not None:
            gone = sorted(set(range(8)) - set(kept))
            _forbid(mlp, gone)
    return model


def _forbid(mlp: Any, gone: list[int]) -> None:
    if hasattr(mlp, "router"):
        mlp.router.bias.data[gone] = -1e30
    else:
        forbid(mlp.gate, gone)


# ---- the child -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_child_is_the_parent_without_the_dropped_channels(
    name: str, parents: Path, children: dict[str, Case]
) -> None:
    case = children[name]
    with torch.no_grad():
        expected = _reference(parents / name, case.chosen)(TOKENS).logits
    found = logits(_out(case) / "checkpoint", remote=True)
    assert (expected - logits(parents / name)).abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(measured_logits(case), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_slices_are_the_parents_bytes(name: str, parents: Path, children: dict[str, Case]) -> None:
    case = children[name]
    parent, child = stored(parents / name), stored(_out(case) / "checkpoint")
    (chosen,) = (c for c in case.chosen if c.layer == 3 and c.changed)
    assert chosen.kept is not None
    place = "model.layers.3.mlp.experts."
    lists = [[n % 64 for n in chosen.kept if n // 64 == e] for e in range(8)]
    assert {len(mine) for mine in lists} == {32}
    assert len({tuple(mine) for mine in lists}) > 1
    for e, mine in enumerate(lists):
        pairs = [2 * n + i for n in mine for i in (0, 1)]
        if name == "gpt_oss":
            for part in ("gate_up_proj", "gate_up_proj_bias"):
                whole = parent[place + part][e][..., pairs]
                assert torch.equal(child[place + part][e], whole)
            assert torch.equal(child[f"{place}down_proj"][e], parent[f"{place}down_proj"][e][mine])
        elif name == "mxfp4":
            blocks = sorted({n // 32 for n in mine})
            for part in ("blocks", "scales"):
                gate_up, down = (f"{place}{p}_proj_{part}" for p in ("gate_up", "down"))
                assert torch.equal(child[gate_up][e], parent[gate_up][e][pairs])
                assert torch.equal(child[down][e], parent[down][e][:, blocks])
        else:
            pieces = {"mixtral": ("w1", "w3", "w2"), "qwen3_moe": ("gate_proj", "up_proj")}[name]
            stem = (
                f"{place}{e}." if name == "qwen3_moe" else place.replace("mlp", _SPARSE) + f"{e}."
            )
            for piece in pieces[:2]:
                key = f"{stem}{piece}.weight"
                assert torch.equal(child[key], parent[key][mine])
            key = f"{stem}{'down_proj' if name == 'qwen3_moe' else 'w2'}.weight"
            assert torch.equal(child[key], parent[key][:, mine])


_SPARSE = "block_sparse_moe"


@pytest.mark.parametrize("name", NAMES)
def test_config_says_the_width_of_each_layer(name: str, children: dict[str, Case]) -> None:
    case = children[name]
    config = json.loads((_out(case) / "checkpoint/config.json").read_text(encoding="utf-8"))
    key = "moe_intermediate_size" if name == "qwen3_moe" else "intermediate_size"
    assert [block.get(key) for block in config["block_configs"]] == [32, None, None, 32]
    assert config[key] == 64
    runtime = json.loads((_out(case) / "runtime.json").read_text(encoding="utf-8"))
    assert [layer["mlp"]["width"] for layer in runtime["layers"]] == [32, 64, 64, 32]


@pytest.mark.parametrize("name", NAMES)
def test_verify_proves_it_and_finds_a_flipped_bit(
    name: str, children: dict[str, Case], tmp_path: Path
) -> None:
    case = children[name]
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(_out(case) / "checkpoint", checkpoint)
    sink = Sink()
    assert verify.run(case.plan, "x.plan", case.model, checkpoint, sink, silent) is not None
    path = checkpoint / "model.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    victim = next(n for n in sorted(header) if ".layers.3." in n and "experts" in n)
    data[8 + length + header[victim]["data_offsets"][0]] ^= 1
    path.write_bytes(data)
    assert verify.run(case.plan, "x.plan", case.model, checkpoint, sink, silent) is None
    assert sink.found[0].notes == (f"`{victim}`",)


def test_embedded_mixture_is_cut_as_packed_bytes(parents: Path, tmp_path: Path) -> None:
    """Alike in all layers, so stock code runs it: 64 channels become one block of 32."""
    template = GPT_OSS.replace(RETAIN, "width 32 by channel_contribution(text)")
    picks = {(layer, EXPERTS): "width(32)" for layer in range(8)}
    case = prepare(parents, "tinymoe", picks, tmp_path / "tinymoe", "", template)
    made = case.write(tmp_path / "out")
    assert made.model_type == "gpt_oss"
    again = case.write(tmp_path / "again")
    assert tree(made.directory) == tree(again.directory)
    line = (SPECS / "tinymoe/text/heldout.jsonl").read_text(encoding="utf-8").splitlines()[0]
    encode: Any = data.load_tokenizer(case.model)
    text = torch.tensor([list(encode(json.loads(line)["text"]))[:160]])
    with torch.no_grad():
        expected = _reference(parents / "tinymoe", case.chosen)(text).logits
    found = logits(made.directory / "checkpoint", tokens=text)
    assert (expected - logits(parents / "tinymoe", tokens=text)).abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


# ---- rankings --------------------------------------------------------------------------------


def _left_out(mlp: Any, hidden: torch.Tensor) -> list[list[float]]:
    """How far the output of the layer moves without each channel: mean over an expert's tokens."""
    experts = mlp.experts
    logits_ = hidden @ mlp.router.weight.T + mlp.router.bias
    best = logits_.topk(mlp.router.top_k, dim=-1)
    gates = best.values.softmax(-1)
    scores: list[list[float]] = []
    for e in range(experts.num_experts):
        rows, places = torch.where(best.indices == e)
        gate_up = hidden[rows] @ experts.gate_up_proj[e] + experts.gate_up_proj_bias[e]
        gate, up = gate_up[:, 0::2].clamp(max=7.0), gate_up[:, 1::2].clamp(-7.0, 7.0)
        inner = (up + 1) * gate * torch.sigmoid(1.702 * gate)
        output = inner @ experts.down_proj[e]
        row: list[float] = []
        for channel in range(inner.shape[1]):
            without = inner.clone()
            without[:, channel] = 0
            moved = (output - without @ experts.down_proj[e]) * gates[rows, places, None]
            row.append(float(moved.norm(dim=-1).sum()) / max(len(rows), 1))
        scores.append(row)
    return scores


def test_channels_stay_whose_loss_would_cost_most(parents: Path, tmp_path: Path) -> None:
    choice = choose(
        Site.EXPERTS,
        layers(),
        alternative("keep"),
        ranked_by("width", 32, "channel_contribution", 24),
    )
    made = bench(parents, "gpt_oss", tmp_path, dataset(take=2), choices=(choice,))
    space = made.rank(Library(tmp_path / "library"))
    parent, batch = load_parent(made.model), tokens(made)
    module: Any = parent.module
    entered: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Callable[[Any, tuple[torch.Tensor]], None]:
        def hook(_module: Any, inputs: tuple[torch.Tensor]) -> None:
            entered[layer] = inputs[0].flatten(0, 1)

        return hook

    hooks = [n.mlp.register_forward_pre_hook(keep(i)) for i, n in enumerate(module.model.layers)]
    watched = [(layer, EXPERTS, "channels") for layer in range(4)]
    found = activations.collect(parent, [batch], watched, batch.numel())
    for handle in hooks:
        handle.remove()
    lists = {c.layer: c.kept for c in space.candidates if c.edit == "width"}
    for layer in range(4):
        with torch.no_grad():
            scores = _left_out(module.model.layers[layer].mlp, entered[layer])
        got = found[layer, EXPERTS, "channels"].scores("channel_contribution")
        flat = [score for row in scores for score in row]
        assert got == pytest.approx(flat, rel=1e-3, abs=1e-6)
        best = [sorted(range(64), key=lambda i, row=row: -row[i])[:32] for row in scores]
        listed = lists[layer]
        assert listed is not None
        assert listed == tuple(e * 64 + i for e, mine in enumerate(best) for i in sorted(mine))


def test_packed_channels_go_by_the_block() -> None:
    scores = rank.Scores((1.0, 1.0, 9.0, 0.0, 2.0, 2.0, 0.0, 3.0), (1.0,) * 8)
    assert rank.kept(scores, 2, groups=2) == (0, 2, 4, 7)
    assert rank.kept(scores, 2, groups=2, grain=2) == (2, 3, 4, 5)
    dead = replace(scores, counts=(1.0,) * 4 + (0.0,) * 4)
    assert rank.kept(dead, 1, groups=2) == (2, 7)


# ---- what is refused -------------------------------------------------------------------------


def _candidate(model: Model, value: int) -> Candidate:
    block = model.layers[0].mlp
    assert isinstance(block, Experts)
    chosen = alternative("width", value)
    free = edits.__name__, 0, EXPERTS, f"width({value})", replace(block, width=value)
    return Candidate(*free, Cost(0, 0), chosen)


def test_lists_that_do_not_fit_are_refused() -> None:
    model = gpt_oss(num_hidden_layers=2, num_local_experts=4, layer_types=None)
    wanted = _candidate(model, 64)
    fine = tuple(e * 2880 + 32 * e + i for e in range(4) for i in range(64))
    assert edits.ranked(model, wanted, fine).artefact
    for kept, why in (
        (fine[:-1], "64 ascending numbers of each of 4 times 2880"),
        (tuple(range(256)), "64 ascending numbers of each of 4 times 2880"),
        (tuple(n + 16 for n in fine), "cuts through packed blocks of 32"),
    ):
        with pytest.raises(ValueError, match=why):
            edits.ranked(model, wanted, kept)
    plain = gpt_oss(
        num_hidden_layers=2, num_local_experts=4, layer_types=None, quantization_config=None
    )
    assert edits.ranked(plain, wanted, tuple(n + 16 for n in fine)).artefact


def test_a_table_that_cuts_through_packed_blocks_is_refused(
    parents: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = GPT_OSS.replace(RETAIN, "width 32 by channel_contribution(text)")
    spec = template.format(parent=parents / "mxfp4", emits="")
    (tmp_path / "a.surg").write_text(
        spec.replace("text.jsonl", str(parents / "text.jsonl")), encoding="utf-8"
    )
    kept = ",".join(f"{64 * e + 16}-{64 * e + 47}" for e in range(8))
    rows = f'address,metric,value\nlayer.0.experts.width(32),kept,"{kept}"\n'
    (tmp_path / "t.csv").write_text(rows, encoding="utf-8")
    library = ("--library", str(tmp_path / "library"))
    command = ("plan", str(tmp_path / "a.surg"), "--table", str(tmp_path / "t.csv"), *library)
    assert main(list(command)) == 2
    told = capsys.readouterr().err
    assert "error[E0707]: the kept list of `layer.0.experts.width(32)` does not fit" in told
    assert "cuts through packed blocks of 32" in told


def test_sizes_are_exact_from_a_config_alone() -> None:
    model = gpt_oss()
    tensors = edits.block_tensors(model, 0, EXPERTS)
    block = model.layers[0].mlp
    assert isinstance(block, Experts)
    chosen = alternative("width", 1440)
    found = cost.alternative_cost(tensors, block, WIDTH.become(block, 1440), EXPERTS, chosen)
    # Per expert: 3 * 2880 * 1440 weights in 17 bytes per 32, biases of 2 * 1440 and 2880 in BF16.
    params = 3 * 2880 * 1440 + 2 * 1440 + 2880
    nbytes = 3 * 2880 * 1440 * 17 // 32 + 2 * (2 * 1440 + 2880)
    router = 128 * 2881 + 2880
    assert (found.params, found.weights) == (128 * params + router, 128 * nbytes + 2 * router)


def test_a_uniform_child_is_as_narrow_in_every_layer(parents: Path, tmp_path: Path) -> None:
    template = GPT_OSS.replace(RETAIN, "width 32 by channel_contribution(text)")
    for name, step in (("gpt_oss", 8), ("mxfp4", 32)):
        case = prepare(parents, name, {}, tmp_path / name, "", template)
        found = baseline.pattern(case.space)
        assert found is not None
        assert found.sizes == range(step, 64, step)
        child = baseline.uniform(case.space, 0)
        assert child is not None
        texts = {c.text for c in child if c.site is EXPERTS}
        assert texts == {f"width({step})"}


# ---- the whole way ---------------------------------------------------------------------------


def test_a_spec_is_compiled_verified_and_loaded(
    workplace: Workplace, hf_modules: None, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = GPT_OSS_SPEC.replace(
        "retain 6 | 4 by moe.contribution(text)", "width 32 by channel_contribution(text)"
    ).replace('import "std/moe.surg" as moe\n\n', "")
    path = workplace.write("a.surg", spec)
    assert workplace.run("compile", path, "-o", "out") == 0
    assert workplace.run("verify", "out/a.plan", "out/checkpoint", "--parent", "gpt_oss") == 0
    capsys.readouterr()
    assert workplace.run("inspect", "out/checkpoint", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["layers"]
    assert {row["mlp"] for row in rows} == {
        "8 experts of 32, 2 active",
        "8 experts of 64, 2 active",
    }
    assert logits(workplace.folder / "out/checkpoint", remote=True).isfinite().all()
    # A plan rebuilds its checkpoint without the library.
    assert workplace.run("compile", path, "--plan", "out/a.plan", "-o", "again") == 0
    ours, again = (workplace.folder / name / "checkpoint" for name in ("out", "again"))
    assert tree(ours) == tree(again)
