"""Tiny parents, children picked by hand, and what it takes to write them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_gpt_oss, make_llama
from msgspec import Struct

from surgery import edits
from surgery import plan as plans
from surgery.diagnostics import Sink
from surgery.grammar import parse
from surgery.ir import Candidate, Measured, Model, Plan, Site, SiteOptions, Space, Spec
from surgery.passes import check, emit, expand, resolve
from surgery.scoring import clusters
from surgery.scoring import model as scoring
from surgery.scoring.arrays import numbers

LLAMA = """surg 1

## A tiny llama.

model parent = local("{parent}")
dataset text = local("text.jsonl") {{
  take = 4
  length = 64 tok
  seed = 0
}}
score damage = swap_one(metric: kl(logits), on: text)
choose attention in layers {{
  keep
  kv_heads 1 init mean
  window 16 tok | 5 tok
  sink_window 16 tok | 5 tok
  noop
}}
choose ffn in layers {{
  keep
  width 96 | 64 by channel_contribution(text)
  noop
}}
require @size params <= parent.params
minimize damage
{emits}
"""

GPT_OSS = """surg 1

## A tiny mixture of experts.

model parent = local("{parent}")
dataset text = local("text.jsonl") {{
  take = 4
  length = 64 tok
  seed = 0
}}
score damage = swap_one(metric: kl(logits), on: text)
choose experts in layers {{
  keep
  retain 6 | 4 | 2 by rank_experts("router_contribution", text)
}}
choose attention in layers {{
  keep
  kv_heads 1 init mean
  window 5 tok
  noop
}}
require @size params <= parent.params
minimize damage
{emits}
"""

TOKENS = (torch.arange(80).reshape(2, 40) * 37) % 250
TINYMOE = """surg 1

## The embedded mixture of experts.

model parent = local("{parent}")
dataset text = local("text.jsonl") {{
  take = 4
  length = 64 tok
  seed = 0
}}
score damage = swap_one(metric: kl(logits), on: text)
choose experts in layers {{
  keep
  retain 24 | 16 | 8 by rank_experts("router_contribution", text)
}}
choose attention in layers where attention is full {{
  keep
  window 64 tok
}}
require @size params <= parent.params
minimize damage
{emits}
"""

DENSE_CHOICE = """choose ffn in layers[1] {{
  keep
  width 64 by channel_contribution(text)
  noop
}}
require"""
QWEN3_MOE = (
    GPT_OSS.replace("experts in layers", "experts in layers except layers[1]")
    .replace("window 5 tok", "window 5 tok\n  sink_window 5 tok")
    .replace("require", DENSE_CHOICE)
)
TEMPLATES = {
    "llama": LLAMA,
    "gpt_oss": GPT_OSS,
    "mxfp4": GPT_OSS,
    "tinymoe": TINYMOE,
    "mixtral": GPT_OSS,
    "qwen3_moe": QWEN3_MOE,
}

ATTENTION, FFN, EXPERTS = Site.ATTENTION, Site.FFN, Site.EXPERTS

MIXED_LLAMA: Mapping[tuple[int, Site], str] = {
    (0, ATTENTION): "noop",
    (0, FFN): "64",
    (1, ATTENTION): "window(5)",
    (2, ATTENTION): "kv_heads(1)",
    (2, FFN): "noop",
    (3, ATTENTION): "window(16)",
    (3, FFN): "96",
}
MIXED_GPT_OSS: Mapping[tuple[int, Site], str] = {
    (0, ATTENTION): "noop",
    (0, EXPERTS): "4",
    (1, ATTENTION): "window(5)",
    (2, ATTENTION): "kv_heads(1)",
    (2, EXPERTS): "2",
    (3, EXPERTS): "6",
}
NAMES = ("llama", "gpt_oss", "mxfp4")
MIXED: Mapping[str, Mapping[tuple[int, Site], str]] = {
    "llama": MIXED_LLAMA,
    "gpt_oss": MIXED_GPT_OSS,
    "mxfp4": MIXED_GPT_OSS,
}


class Case(Struct, frozen=True):
    """A parent, and a child of it that is ready to be written."""

    spec: Spec
    model: Model
    space: Space
    plan: Plan
    chosen: tuple[Candidate, ...]

    def write(self, out: Path | None) -> emit.Emitted:
        """Write the child; any finding is a failed test."""
        sink = Sink()
        made = emit.run(self.spec, self.model, self.space, self.plan, self.chosen, out, sink)
        assert made is not None, sink.found
        assert not sink.found
        return made

    def refuse(self, out: Path | None) -> str:
        """Fail to write the child; the code of the finding."""
        sink = Sink()
        made = emit.run(self.spec, self.model, self.space, self.plan, self.chosen, out, sink)
        assert made is None
        (found,) = sink.found
        return f"{found.code.id}: {found.message}"


def make_parents(folder: Path) -> None:
    """`llama`, `gpt_oss` in BF16 and `mxfp4`, the latter with packed experts, and a text."""
    make_llama(folder / "llama", attention_bias=True)
    make_gpt_oss(folder / "gpt_oss")
    pack_experts(make_gpt_oss(folder / "mxfp4"))
    (folder / "text.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")


def pack_experts(directory: Path) -> None:
    """Give a gpt-oss checkpoint random experts packed as MXFP4."""
    path = directory / "model.safetensors"
    tensors = stored(directory)
    generator = torch.Generator().manual_seed(3)
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        count, wide, tall = tensors.pop(name).shape
        shape = (count, tall, wide // 32)
        blocks = torch.randint(0, 256, (*shape, 16), generator=generator)
        scales = torch.randint(118, 124, shape, generator=generator)
        tensors[f"{name}_blocks"] = blocks.to(torch.uint8)
        tensors[f"{name}_scales"] = scales.to(torch.uint8)
    safetensors: Any = importlib.import_module("safetensors.torch")
    safetensors.save_file(tensors, path, metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")


def prepare(
    parents: Path,
    name: str,
    picks: Mapping[tuple[int, Site], str],
    folder: Path,
    emits: str = "",
    template: str = "",
) -> Case:
    """The child of `name` that takes `picks` by their plan texts, and keeps everything else.

    `template` is the spec, that of the parent's name in `TEMPLATES` if it is not given.
    """
    path = folder / "tiny.surg"
    folder.mkdir(parents=True, exist_ok=True)
    text = (
        (template or TEMPLATES[name])
        .format(parent=parents / name, emits=emits)
        .replace("text.jsonl", str(parents / "text.jsonl"))
    )
    path.write_text(text, encoding="utf-8")
    sink = Sink()
    source = parse.read_source(str(path), sink)
    assert source is not None
    spec = check.run(parse.parse(source, sink), sink, {})
    assert spec is not None, sink.found
    model = resolve.run(spec, sink, folder / "cache")
    assert model is not None, sink.found
    space = expand.run(spec, model, sink)
    assert space is not None, sink.found
    chosen = tuple(_pick(model, picks.get((o.layer, o.site)), o) for o in space.options)
    plan = plans.build(
        spec,
        space,
        Measured({}, "0" * 64),
        chosen,
        solver=(("status", "optimal"),),
        objective=("damage", "0"),
        requirements=(),
        toolchain="surgery-test",
    )
    return Case(spec, model, space, plan, chosen)


def _pick(model: Model, text: str | None, option: SiteOptions) -> Candidate:
    if text is None:
        assert option.keep is not None
        return option.keep
    (found,) = (c for c in option.candidates if c.text == text)
    if found.alternative is None or not edits.selects(found.edit):
        return found
    block = model.layers[option.layer].block(option.site)
    edit = edits.known(option.site, found.edit)
    assert edit.selects is not None
    assert block is not None
    grain, whole = edits.grain(model, option.layer, edit), edit.selects.whole(block)
    size = edits.argument(found.alternative)
    generator = torch.Generator().manual_seed(option.layer)
    if edit.merge is not None:
        places = torch.rand(whole, 1, generator=generator)
        tokens = torch.randint(0, 99, (whole,), generator=generator)
        far = torch.cdist(places, places).flatten()
        groups = clusters.merging(numbers(far), numbers(tokens), size)
        return edits.merged(model, found, groups)
    kept: list[int] = []
    for group in range(edit.selects.groups(block)):
        order = torch.randperm(whole // grain, generator=generator)[: size // grain]
        starts = [group * whole + int(i) * grain for i in order]
        kept += sorted(start + i for start in starts for i in range(grain))
    return edits.ranked(model, found, tuple(kept))


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    files = (p for p in sorted(directory.rglob("*")) if p.is_file())
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in files}


def stored(directory: Path) -> dict[str, torch.Tensor]:
    """The tensors of an unsharded checkpoint, read by the safetensors library."""
    safetensors: Any = importlib.import_module("safetensors.torch")
    return safetensors.load_file(directory / "model.safetensors")


def pretrained(directory: Path, *, remote: bool = False) -> Any:
    """The model that Transformers makes of a checkpoint, in float32."""
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    return auto.from_pretrained(directory, dtype=torch.float32, trust_remote_code=remote).eval()


def logits(directory: Path, *, remote: bool = False, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    """What that model says to `tokens`: [batch, length, vocabulary]."""
    with torch.no_grad():
        return pretrained(directory, remote=remote)(tokens).logits


def measured_logits(case: Case, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    """The child as it is measured: the parent with its layers swapped."""
    parent = scoring.load_parent(case.model)
    layers = dict(
        scoring.make_layer(parent, tuple(c for c in case.chosen if c.layer == layer.index))
        for layer in case.model.layers
    )
    module: Any = parent.module
    with torch.no_grad(), scoring.swapped(parent, layers):
        hidden, state = module.begin(tokens)
        return module.logits(module.run(hidden, state, 0, len(layers)))


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, hf_modules: None) -> Path:
    """The three tiny parents, where checkpoints may bring code."""
    folder = tmp_path_factory.mktemp("bench")
    make_parents(folder)
    return folder
