"""Children with FP8 caches and other routers: planned, written, verified, loaded."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_gpt_oss, make_llama, write_text
from emit_fixtures import pack_experts
from msgspec import Struct
from msgspec.structs import replace

from surgery import diff, lockfile, pipeline
from surgery import plan as plans
from surgery.cli import main
from surgery.diagnostics import Sink, Stop
from surgery.ir import Decision, Plan, Scales, Site
from surgery.passes import emit, exchange, verify
from surgery.passes.resolve import read_model
from surgery.pipeline import Options, Planned
from surgery.progress import silent
from surgery.scoring import model as scoring
from surgery.sources import Fetched

TEXT = 'dataset text = local("text.jsonl") { take = 4, length = 64 tok, seed = 0 }\n'
HEAD = """surg 1

import "std/kv.surg" as kv
import "std/moe.surg" as moe

model parent = local("PARENT")
"""
MOE = """
score damage = swap_one(metric: kl(logits), on: text)
choose experts in layers { keep  retain 4 by moe.contribution(text) }
choose router in layers[1..2] { keep  active 1 }
choose attention in layers where attention is full { keep  window 32 tok }
choose kv_cache in layers { keep  fp8_e4m3 by kv.max_calibrated(text) }
require @kv  kv(64 tok) <= 55% * parent.kv(64 tok)
require @fp8 count(layers where kv_cache is fp8) == 3
require @top count(layers where active == 1) == 1
require @cut params <= 90% * parent.params
minimize damage
"""
DENSE = """
score damage = swap_one(metric: kl(logits), on: text)
choose attention in layers[1..3] { keep  kv_heads 1 init mean }
apply kv_cache { dtype = fp8_e4m3, scales = kv.mse_calibrated(text) }
require @kv kv(64 tok) <= 40% * parent.kv(64 tok)
minimize damage
"""
UNIFORM = """
apply kv_cache { dtype = fp8_e4m3, scales = kv.unit }
EMIT
minimize weights
"""
TOKENS = (torch.arange(60).reshape(2, 30) * 37) % 250


class Work(Struct, frozen=True):
    """A folder with parents and a library; a spec that was planned there."""

    folder: Path
    planned: Planned

    def options(self, library: str = "library") -> Options:
        return Options(self.folder / library, self.folder / "cache")

    def write(self, out: str) -> Path:
        """Write the child; any finding is a failed test."""
        sink, done = Sink(), self.planned
        made = emit.run(
            done.spec, done.space.model, done.space, done.plan, done.chosen, self.folder / out, sink
        )
        assert made is not None, sink.found
        return self.folder / out

    def child_logits(self, *, as_stored: bool) -> torch.Tensor:
        """What was measured: the parent with its layers swapped; or with caches left alone."""
        parent = scoring.load_parent(self.planned.space.model)
        module: Any = parent.module
        by_layer: dict[int, Any] = {}
        for index in range(len(module.model.layers)):
            own = tuple(c for c in self.planned.chosen if c.layer == index)
            by_layer[index] = scoring.make_layer(parent, own)[1]
            if not as_stored:
                by_layer[index].stored = None
        with torch.no_grad(), scoring.swapped(parent, by_layer):
            hidden, state = module.begin(TOKENS)
            return module.logits(module.run(hidden, state, 0, len(by_layer)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, hf_modules: None) -> Path:
    made = tmp_path_factory.mktemp("facets")
    make_gpt_oss(made / "moe")
    pack_experts(make_gpt_oss(made / "packed"))
    make_llama(made / "dense")
    write_text(made / "text.jsonl")
    return made


def planned(folder: Path, parent: str, rest: str) -> Work:
    path = folder / f"{parent}.surg"
    path.write_text(HEAD.replace("PARENT", parent) + TEXT + rest, encoding="utf-8")
    sink = Sink()
    options = Options(folder / "library", folder / "cache")
    done = pipeline.plan(str(path), sink, options)
    assert done is not None, sink.found
    return Work(folder, done)


@pytest.fixture(scope="module")
def moe(folder: Path) -> Work:
    return planned(folder, "moe", MOE)


@pytest.fixture(scope="module")
def dense(folder: Path) -> Work:
    return planned(folder, "dense", DENSE)


def tensors(out: Path) -> dict[str, torch.Tensor]:
    reader: Any = importlib.import_module("safetensors.torch")
    return reader.load_file(out / "checkpoint/model.safetensors")


def loaded(out: Path) -> Any:
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    return auto.from_pretrained(
        out / "checkpoint",
        trust_remote_code=True,
        dtype=torch.float32,
        attn_implementation="eager",
    ).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


# ---- the plan --------------------------------------------------------------------------------


def test_the_plan_tells_facets_and_scales(moe: Work) -> None:
    plan = moe.planned.plan
    text = lockfile.text(plan)
    texts = [d.text for d in plan.decisions]
    assert sum(each.endswith("+fp8") for each in texts) == 3
    assert sum(each.endswith("+top1") for each in texts) == 1
    scaled = [d for d in plan.decisions if d.scales is not None]
    assert [d.text.endswith("+fp8") for d in scaled] == [True] * 3
    for d in scaled:
        assert f"\nscales {lockfile.address(d.layer, d.site)} " in text
    assert lockfile.parse(text, "a.plan") == lockfile.short(plan)
    assert plans.from_json(plans.to_json(plan)) == plan
    assert "scales" not in json.loads(plans.to_json(replace(plan, decisions=plan.decisions[:0])))


def test_differences_of_scales_can_be_applied(moe: Work) -> None:
    one = lockfile.short(moe.planned.plan)
    place = next(n for n, d in enumerate(one.decisions) if d.scales)
    moved = replace(one.decisions[place], scales=Scales(0.5, 0.25), artefact="0" * 6)
    decisions = (*one.decisions[:place], moved, *one.decisions[place + 1 :])
    other = replace(one, decisions=decisions)
    found = diff.diff(one, other)
    address = f"scales.{lockfile.address(moved.layer, moved.site)}"
    assert found.pair(address)[1] == "0.5 0.25"
    assert diff.patch(one, found) == other
    assert diff.patch(other, diff.diff(other, one)) == one


@pytest.mark.parametrize(
    "line",
    [
        "scales layer.00.attention 0.010 0.02",
        "scales layer.00.attention 0 1",
        "scales layer.00.attention 1",
        "scales layer.00.attention 1 2 3",
        "scales layer.00.attention nan 1",
        "scales layer.00.attention 1e+99 1",
        "scales layer.09.attention 1 1",
        "scales layer.00.attention 1 1\nscales layer.00.attention 1 1",
    ],
)
def test_scales_that_nobody_wrote_are_refused(line: str) -> None:
    plan = Plan(
        ("a.surg", "0" * 16), ("local:x", "0" * 16), "0" * 16, "surgery-test",
        (Decision(0, Site.ATTENTION, "full+fp8", "0" * 6),),
        (("status", "optimal"),), ("minimize damage", "0"), (), (),
    )  # fmt: skip
    fine = lockfile.text(plan)
    assert lockfile.parse(f"{fine}\nscales layer.00.attention 1 0.01\n", "p").decisions[0].scales
    with pytest.raises(Stop) as refused:
        lockfile.parse(f"{fine}\n{line}\n", "p")
    assert refused.value.diagnostic.code.id == "E0808"


# ---- what is written -------------------------------------------------------------------------


def test_a_mixture_with_facets_loads_and_matches(moe: Work) -> None:
    out = moe.write("out-moe")
    plan, stored = moe.planned.plan, tensors(out)
    scaled = {d.layer: d.scales for d in plan.decisions if d.scales}
    for layer in range(4):
        for name in ("k", "v"):
            found = stored.get(f"model.layers.{layer}.self_attn.{name}_scale")
            wanted = scaled.get(layer)
            assert (found is None) is (wanted is None)
            if found is not None and wanted is not None:
                assert (found.shape, found.dtype) == (torch.Size(()), torch.float32)
                assert found.item() == getattr(wanted, name)
    config = json.loads((out / "checkpoint/config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "gpt_oss_puzzle"
    told = {n: b["num_experts_per_tok"] for n, b in enumerate(config["block_configs"])
            if "num_experts_per_tok" in b}  # fmt: skip
    (top,) = (d.layer for d in plan.decisions if d.text.endswith("+top1"))
    assert told == {top: 1}
    assert not any("kv" in key for block in config["block_configs"] for key in block)
    model = loaded(out)
    torch.testing.assert_close(logits(model), moe.child_logits(as_stored=False), rtol=0, atol=2e-5)
    model.simulate_fp8_cache()
    rounded = moe.child_logits(as_stored=True)
    torch.testing.assert_close(logits(model), rounded, rtol=0, atol=2e-5)
    assert float((rounded - moe.child_logits(as_stored=False)).abs().max()) > 1e-3


def test_a_rounding_cache_generates_what_it_predicts(moe: Work) -> None:
    model = loaded(moe.write("out-generate"))
    model.simulate_fp8_cache()
    prompt = TOKENS[:1, :20]
    made = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False
    )
    with torch.no_grad():
        whole = model(made).logits[0, 19:-1].argmax(-1)
    assert torch.equal(made[0, 20:], whole)


def test_the_rest_of_the_output_tells_of_caches(
    moe: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    out = moe.write("out-rest")
    scaled = {d.layer: d.scales for d in moe.planned.plan.decisions if d.scales}
    runtime = json.loads((out / "runtime.json").read_text(encoding="utf-8"))
    caches = [layer["attention"]["kv_cache"] for layer in runtime["layers"]]
    assert caches == ["F8_E4M3" if n in scaled else "BF16" for n in range(4)]
    beside = json.loads((out / "checkpoint/per_layer_config.json").read_text(encoding="utf-8"))
    told = [entry["kv_cache_dtype"] for entry in beside.values()]
    assert told == ["fp8_e4m3" if n in scaled else "auto" for n in range(4)]
    from surgery_runtime.load import load

    assert load(out, torch.float32) is not None
    manifest = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    for layer, scales in scaled.items():
        entry = manifest["tensors"][f"model.layers.{layer}.self_attn.k_scale"]
        assert entry["from"] == {"op": "constant", "value": scales.k, "how": "max of text"}
    card = (out / "checkpoint/README.md").read_text(encoding="utf-8")
    (bf16,) = {0, 1, 2, 3} - set(scaled)
    assert f"--kv-cache-dtype fp8 --kv-cache-dtype-skip-layers {bf16}" in card
    assert main(["inspect", str(out / "checkpoint")]) == 0
    assert capsys.readouterr().out.count(" in FP8") == 3


def test_verify_reads_scales(moe: Work, tmp_path: Path) -> None:
    out = moe.write("out-verify")
    model, plan = moe.planned.space.model, lockfile.short(moe.planned.plan)

    def findings(directory: Path, checked: Plan = plan) -> list[str]:
        sink = Sink()
        verify.run(checked, "a.plan", model, directory, sink, silent)
        return [f"{each.code.id} {' '.join(each.notes)}" for each in sink.found]

    assert findings(out / "checkpoint") == []
    spoiled = tmp_path / "spoiled"
    shutil.copytree(out / "checkpoint", spoiled)
    writer: Any = importlib.import_module("safetensors.torch")
    stored = tensors(out)
    name = next(each for each in stored if each.endswith("v_scale"))
    stored[name] *= 2
    writer.save_file(stored, spoiled / "model.safetensors", {"format": "pt"})
    assert findings(spoiled) == [f"E0805 `{name}`"]
    del stored[name]
    writer.save_file(stored, spoiled / "model.safetensors", {"format": "pt"})
    assert findings(spoiled) == [f"E0805 missing: `{name}`"]
    # A plan that tells other scales than its hashes were taken of is no plan of anything.
    changed = tuple(
        d if d.scales is None else replace(d, scales=Scales(1, 1)) for d in plan.decisions
    )
    with pytest.raises(Stop) as refused:
        findings(out / "checkpoint", replace(plan, decisions=changed))
    assert refused.value.diagnostic.code.id == "E0801"


def test_a_dense_child_has_scales_everywhere(dense: Work) -> None:
    out = dense.write("out-dense")
    texts = [d.text for d in dense.planned.plan.decisions if d.site is Site.ATTENTION]
    assert texts.count("kv_heads(1)+fp8") == 2
    assert texts.count("full+fp8") == 2
    config = json.loads((out / "checkpoint/config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "nemotron-nas"
    assert "quantization_config" not in config
    model = loaded(out)
    expected = dense.child_logits(as_stored=False)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=2e-5)
    model.simulate_fp8_cache(out / "checkpoint")
    rounded = dense.child_logits(as_stored=True)
    torch.testing.assert_close(logits(model), rounded, rtol=0, atol=2e-5)


def test_engines_can_be_told_in_the_words_of_modelopt(folder: Path) -> None:
    spec = UNIFORM.replace("EMIT", 'emit checkpoint "out" { kv_scheme = modelopt }')
    work = planned(folder, "dense", spec)
    out = work.write("out-modelopt")
    config = json.loads((out / "checkpoint/config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "llama"
    assert config["quantization_config"] == {
        "quant_method": "modelopt",
        "quant_algo": "FP8",
        "ignore": ["*"],
        "kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False},
    }
    assert all(d.scales == Scales(1, 1) for d in work.planned.plan.decisions if d.scales)
    torch.testing.assert_close(
        logits(loaded(out)), work.child_logits(as_stored=False), rtol=0, atol=2e-5
    )
    sink = Sink()
    plan, parent = lockfile.short(work.planned.plan), work.planned.space.model
    assert verify.run(plan, "p", parent, out / "checkpoint", sink, silent), sink.found
    # It can be a parent, too: of its own cache nothing is left.
    again = read_model(Fetched(out / "checkpoint", "again"), folder / "cache")
    assert again.layers == parent.layers
    assert [t.name for t in again.tensors] == [t.name for t in parent.tensors]


@pytest.mark.parametrize(
    ("parent", "model_type", "architecture"),
    [
        ("dense", "nemotron-nas", "DeciLMLayerwiseForCausalLM"),
        ("moe", "gpt_oss_puzzle", "GptOssPuzzleForCausalLM"),
    ],
)
def test_where_engines_are_not_told_stock_classes_are_not_named(
    parent: str, model_type: str, architecture: str, folder: Path
) -> None:
    """They would serve the child with scales of 1, and say nothing."""
    work = planned(folder, parent, UNIFORM.replace("EMIT", ""))
    out = work.write(f"out-untold-{parent}")
    config = json.loads((out / "checkpoint/config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["architectures"]) == (model_type, [architecture])
    assert "quantization_config" not in config
    torch.testing.assert_close(
        logits(loaded(out)), work.child_logits(as_stored=False), rtol=0, atol=2e-5
    )
    sink = Sink()
    plan, model = lockfile.short(work.planned.plan), work.planned.space.model
    assert verify.run(plan, "p", model, out / "checkpoint", sink, silent), sink.found


def test_a_mixed_child_that_tells_of_its_cache_is_served_by_stock_classes(folder: Path) -> None:
    spec = DENSE + 'emit checkpoint "out" { kv_scheme = modelopt }\n'
    work = planned(folder, "dense", spec)
    out = work.write("out-told")
    config = json.loads((out / "checkpoint/config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["DeciLMForCausalLM"]
    assert config["quantization_config"]["quant_method"] == "modelopt"
    sink = Sink()
    plan, model = lockfile.short(work.planned.plan), work.planned.space.model
    assert verify.run(plan, "p", model, out / "checkpoint", sink, silent), sink.found
    # The untold form of the same child is as good a witness of the plan.
    plain = planned(folder, "dense", DENSE).write("out-plain")
    assert verify.run(plan, "p", model, plain / "checkpoint", sink, silent), sink.found
    config = json.loads((plain / "checkpoint/config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["DeciLMLayerwiseForCausalLM"]


@pytest.mark.parametrize(
    ("parent", "spec", "message"),
    [
        ("packed", UNIFORM, "`kv_scheme` needs the `quantization_config`"),
        (
            "dense",
            UNIFORM.replace("apply kv_cache", "apply kv_cache in layers[1..2]"),
            "`kv_scheme` speaks of all layers",
        ),
    ],
)
def test_a_scheme_that_cannot_be_told_is_refused(
    folder: Path, parent: str, spec: str, message: str
) -> None:
    text = spec.replace("EMIT", 'emit checkpoint "out" { kv_scheme = modelopt }')
    done = planned(folder, parent, text).planned
    sink = Sink()
    out = folder / "refused"
    made = emit.run(done.spec, done.space.model, done.space, done.plan, done.chosen, out, sink)
    assert made is None
    (only,) = sink.found
    assert only.code.id == "E0804"
    assert message in only.message
    assert not out.exists()


def test_packed_experts_keep_their_quantisation(folder: Path) -> None:
    work = planned(folder, "packed", UNIFORM.replace("EMIT", ""))
    out = work.write("out-packed")
    config = json.loads((out / "checkpoint/config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "gpt_oss_puzzle"
    assert config["quantization_config"]["quant_method"] == "mxfp4"
    assert len([name for name in tensors(out) if name.endswith("_scale")]) == 8


def test_routers_that_are_alike_are_stock(folder: Path) -> None:
    work = planned(folder, "moe", "apply router { active = 1 }\nminimize weights\n")
    out = work.write("out-router")
    config = json.loads((out / "checkpoint/config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["num_experts_per_tok"]) == ("gpt_oss", 1)
    assert [d.kept for d in work.planned.plan.decisions if d.site is Site.EXPERTS] == [
        tuple(range(8))
    ] * 4
    torch.testing.assert_close(
        logits(loaded(out)), work.child_logits(as_stored=False), rtol=0, atol=2e-5
    )
    plan, parent = lockfile.short(work.planned.plan), work.planned.space.model
    assert verify.run(plan, "p", parent, out / "checkpoint", Sink(), silent)


# ---- plans from files ------------------------------------------------------------------------


def test_a_plan_needs_no_library(moe: Work, tmp_path: Path) -> None:
    file = tmp_path / "a.plan"
    text = lockfile.text(moe.planned.plan)
    file.write_text(text, encoding="utf-8")

    def compiled(content: str) -> list[str]:
        file.write_text(content, encoding="utf-8")
        sink = Sink()
        spec = str(moe.folder / "moe.surg")
        out = tmp_path / "out"
        done = pipeline.compile(spec, sink, moe.options("empty"), out, file)
        assert (done is None) is sink.failed
        return [each.message for each in sink.found]

    spec = moe.folder / "moe.surg"
    spec.write_text(HEAD.replace("PARENT", "moe") + TEXT + MOE, encoding="utf-8")
    assert compiled(text) == []
    assert len([name for name in tensors(tmp_path / "out") if name.endswith("_scale")]) == 6
    shutil.rmtree(tmp_path / "out")
    lines = text.splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if line.startswith("scales "))
    where = lines[place].split()[1]
    without = "".join(line for n, line in enumerate(lines) if n != place)
    assert compiled(without) == [f"the plan does not tell the scales of K and V in `{where}`"]
    lines[place] = f"scales {where} 0.5 0.5\n"
    told = f"the scales that it tells of `{where}` are not what its hash was taken of"
    assert compiled("".join(lines)) == [told]


def test_scales_travel_in_tables(moe: Work, tmp_path: Path) -> None:
    path, table = moe.folder / "moe.surg", tmp_path / "known.csv"
    path.write_text(HEAD.replace("PARENT", "moe") + TEXT + MOE, encoding="utf-8")
    known = pipeline.recall(str(path), Sink(), moe.options())
    assert known is not None
    exchange.write(known, table)
    assert ("scales", 8, 8) not in known.counts
    rows = [row for row in known.rows if row[1] == "k_scale"]
    assert len(rows) == 6, "two windows and two full layers with two alternatives"
    sink = Sink()
    options = replace(moe.options("nothing"), tables=(table,))
    again = pipeline.plan(str(path), sink, options)
    assert again is not None, sink.found
    assert again.plan.decisions == moe.planned.plan.decisions
    broken = tmp_path / "broken.csv"
    address = rows[0][0]
    content = (
        f"address,metric,value\n{address},k_scale,0\n{rows[1][0]},v_scale,0.1\n"
        "layer.0.experts.4,k_scale,1\n"
    )
    broken.write_text(content, encoding="utf-8")
    sink = Sink()
    assert pipeline.plan(str(path), sink, replace(options, tables=(broken,))) is None
    assert sorted(each.message for each in sink.found) == [
        f"`k_scale` of `{address}` is 0",
        "`layer.0.experts.4` is not cached in FP8, so it has no scales",
        f"`{rows[1][0]}` is given a `v_scale` and no `k_scale`",
    ]
