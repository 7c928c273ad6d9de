"""Linear layers in place of blocks: products of the parent's projections.

The reference is Transformers' own Llama, one of whose modules is replaced by a matrix that is
multiplied here, head by head.
"""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import product as product_of
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import LLAMA_SPEC, Workplace, make_llama, write_text
from emit_fixtures import (
    ATTENTION,
    FFN,
    LLAMA,
    TOKENS,
    Case,
    logits,
    measured_logits,
    prepare,
    pretrained,
    stored,
    tree,
)
from space_fixtures import alternative, gpt_oss, smollm
from torch import nn

from surgery import edits, sizes
from surgery.diagnostics import Sink
from surgery.ir import Linear
from surgery.passes import verify
from surgery.progress import silent
from surgery.tensors.ops import bf16_to_f32, f32_to_bf16
from surgery.tensors.product import product, split
from surgery_runtime import schema
from surgery_runtime.load import load

TEMPLATE = LLAMA.replace("  noop\n}}\nchoose ffn", "  noop\n  linear\n}}\nchoose ffn").replace(
    "  noop\n}}\nrequire", "  noop\n  linear\n}}\nrequire"
)
PICKS = {
    (0, ATTENTION): "linear",
    (0, FFN): "64",
    (1, FFN): "linear",
    (2, ATTENTION): "window(5)",
    (2, FFN): "noop",
    (3, ATTENTION): "linear",
    (3, FFN): "linear",
}


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory, hf_modules: None) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    make_llama(folder / "llama")
    write_text(folder / "text.jsonl")
    return folder


@pytest.fixture(scope="module")
def child(parents: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    folder = tmp_path_factory.mktemp("straight")
    case = prepare(parents, "llama", PICKS, folder, "", TEMPLATE)
    case.write(folder / "out")
    return case, folder / "out"


def _by_heads(attention: Any) -> torch.Tensor:
    """W_o W_v, one query head after the other, with the value head that it reads."""
    size, heads = attention.head_dim, attention.config.num_attention_heads
    group = heads // attention.config.num_key_value_heads
    out, value = attention.o_proj.weight.double(), attention.v_proj.weight.double()
    total = torch.zeros(out.shape[0], value.shape[1], dtype=torch.float64)
    for head in range(heads):
        mine = slice(head * size, (head + 1) * size)
        read = slice(head // group * size, (head // group + 1) * size)
        total += out[:, mine] @ value[read]
    return total


class Straight(nn.Module):
    """What a module is replaced by, as attention or as FFN."""

    def __init__(self, weight: torch.Tensor, pair: bool) -> None:
        super().__init__()
        # Emitted in BF16, so rounded to it.
        self.weight, self.pair = weight.float().bfloat16().float(), pair

    def forward(self, hidden_states: torch.Tensor, **_named: Any) -> Any:
        made = hidden_states @ self.weight.T
        return (made, None) if self.pair else made


def _reference(parents: Path, case: Case) -> Any:
    model = pretrained(parents / "llama")
    for chosen in case.chosen:
        layer = model.model.layers[chosen.layer]
        if chosen.text == "linear" and chosen.site is ATTENTION:
            layer.self_attn = Straight(_by_heads(layer.self_attn), pair=True)
        elif chosen.text == "linear":
            weight = layer.mlp.down_proj.weight.double() @ layer.mlp.up_proj.weight.double()
            layer.mlp = Straight(weight, pair=False)
        elif chosen.changed:
            from measuring_fixtures import spoil

            spoil(model, chosen)
    return model


def test_child_is_the_parent_with_products_in_place_of_blocks(
    parents: Path, child: tuple[Case, Path]
) -> None:
    case, out = child
    with torch.no_grad():
        expected = _reference(parents, case)(TOKENS).logits
    found = logits(out / "checkpoint", remote=True)
    assert (expected - logits(parents / "llama")).abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(measured_logits(case), found, rtol=0, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(load(out, torch.float32)(TOKENS).logits, found)


def test_generation_without_a_cache_for_linear_layers(child: tuple[Case, Path]) -> None:
    _, out = child
    model = pretrained(out / "checkpoint", remote=True)
    prompt = TOKENS[:1, :7]
    said = model.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=None)
    with torch.no_grad():
        for _ in range(12):
            prompt = torch.cat([prompt, model(prompt).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(said, prompt)


def test_what_is_written_of_it(child: tuple[Case, Path]) -> None:
    case, out = child
    config = json.loads((out / "checkpoint/config.json").read_text(encoding="utf-8"))
    blocks = config["block_configs"]
    assert config["model_type"] == "nemotron-nas"
    assert [b["attention"]["replace_with_linear"] for b in blocks] == [True, False, False, True]
    assert [b["ffn"].get("replace_with_linear", False) for b in blocks] == [
        False,
        True,
        False,
        True,
    ]
    assert not any(b["attention"]["no_op"] for b in blocks)
    # Engines that know Nemotron-NAS without linear blocks do not find their class.
    assert config["architectures"] == ["DeciLMLayerwiseForCausalLM"]
    tensors = stored(out / "checkpoint")
    assert tensors["model.layers.0.self_attn.linear_attn.weight"].shape == (64, 64)
    assert tensors["model.layers.3.mlp.linear_mlp.weight"].shape == (64, 64)
    assert "model.layers.0.input_layernorm.weight" in tensors
    assert not [n for n in tensors if n.startswith("model.layers.3.") and "_proj" in n]
    told = json.loads((out / "provenance.json").read_text(encoding="utf-8"))["tensors"]
    stem = "model.layers.3.self_attn."
    assert told[f"{stem}linear_attn.weight"]["from"] == {
        "op": "product",
        "left": f"{stem}o_proj.weight",
        "right": f"{stem}v_proj.weight",
        "head_dim": 16,
    }
    runtime = schema.parse((out / "runtime.json").read_text(encoding="utf-8"))
    assert runtime.layers[3] == schema.Layer(schema.Linear(), schema.Linear())
    assert runtime.layers[1].mlp == schema.Linear()
    sink = Sink()
    done = verify.run(case.plan, "x.plan", case.model, out / "checkpoint", sink, silent)
    assert done is not None
    path = out.parent / "spoiled"
    path.mkdir()
    for name, data in tree(out / "checkpoint").items():
        (path / name).write_bytes(data)
    data = bytearray((path / "model.safetensors").read_bytes())
    length = int.from_bytes(data[:8], "little")
    name = f"{stem}linear_attn.weight"
    data[8 + length + json.loads(data[8 : 8 + length])[name]["data_offsets"][0]] ^= 1
    (path / "model.safetensors").write_bytes(data)
    assert verify.run(case.plan, "x.plan", case.model, path, sink, silent) is None
    assert sink.found[0].notes == (f"`{name}`",)


def test_costs_are_those_of_one_matrix(child: tuple[Case, Path]) -> None:
    case, _ = child
    linear = [c for c in case.chosen if c.text == "linear"]
    assert len(linear) == 4
    for chosen in linear:
        assert chosen.block == Linear()
        assert (chosen.cost.params, chosen.cost.weights) == (64 * 64 + 64, 2 * (64 * 64 + 64))
        assert chosen.cost.kv_bytes(1000) == 0
    model = smollm()
    block = model.layers[0].attention
    assert block is not None
    before = sizes.block_cost(block, edits.block_tensors(model, 0, ATTENTION))
    assert before.kv_bytes(1000) == 1000 * 2 * 3 * 64 * 2


# ---- products --------------------------------------------------------------------------------


def _exact(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> list[list[Fraction]]:
    rows, columns = left.tolist(), right.T.tolist()
    exact = (
        [[Fraction(x) for x in row] for row in rows],
        [[Fraction(x) for x in c] for c in columns],
    )
    return [
        [sum((a * b for a, b in zip(row, column, strict=True)), Fraction()) for column in exact[1]]
        for row in exact[0]
    ]


def test_products_do_not_depend_on_the_order_of_sums() -> None:
    draw = np.random.default_rng(0)
    scales = 2.0 ** draw.integers(-12, 3, (5, 300))
    left = bf16_to_f32(f32_to_bf16((draw.normal(size=(5, 300)) * scales).astype(np.float32)))
    right = bf16_to_f32(f32_to_bf16(draw.normal(size=(300, 7)).astype(np.float32)))
    wide, tall = left.astype(np.float64), right.astype(np.float64)
    found = product(wide, tall)
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(300)
        again = product(wide[:, order], tall[order])
        assert again.tobytes() == found.tobytes()
    exact = _exact(wide, tall)
    for i, j in product_of(range(5), range(7)):
        largest = float(np.abs(wide[i]).max() * np.abs(tall[:, j]).max())
        assert abs(Fraction(float(found[i, j])) - exact[i][j]) <= Fraction(largest) / 2**34
    upper, lower = split(wide, 20, 1)
    assert np.abs(upper + lower - wide).max() <= np.abs(wide).max() * 2.0**-39


def test_products_of_what_is_not_finite_or_does_not_fit() -> None:
    left, right = np.ones((2, 3)), np.ones((3, 2))
    left[0, 1] = np.inf
    found = product(left, right)
    assert not np.isfinite(found[0]).any()
    assert found[1].tolist() == [3.0, 3.0]
    assert product(np.zeros((2, 3)), right).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    with pytest.raises(ValueError, match="no product"):
        product(left, np.ones((2, 2)))


# ---- what is refused -------------------------------------------------------------------------


def test_families_without_words_for_it_and_blocks_with_biases() -> None:
    mixture, biased = gpt_oss(), smollm(attention_bias=True, mlp_bias=True)
    for model, site, why in (
        (mixture, ATTENTION, "children of gpt_oss have no linear blocks"),
        (biased, ATTENTION, "no bias"),
        (biased, FFN, "no bias"),
    ):
        block = model.layers[0].block(site)
        assert block is not None
        found = edits.refuse(model, block, site, alternative("linear", init="product"))
        assert found is not None
        assert found.code.id == "E0423"
        assert why in found.message
    plain = smollm()
    for site in (ATTENTION, FFN):
        block = plain.layers[0].block(site)
        assert block is not None
        assert edits.refuse(plain, block, site, alternative("linear")) is None


@pytest.mark.parametrize("text", ['{"linear": false}', '{"linear": true, "heads": 2}'])
def test_runtime_files_that_say_it_wrongly(text: str, child: tuple[Case, Path]) -> None:
    _, out = child
    whole = (out / "runtime.json").read_text(encoding="utf-8")
    assert '"attention": {"linear": true}' in whole
    with pytest.raises(schema.RuntimeFormatError):
        schema.parse(whole.replace('{"linear": true}', text, 1))


# ---- the whole way ---------------------------------------------------------------------------


def test_a_spec_is_compiled_and_verified(
    workplace: Workplace, hf_modules: None, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = LLAMA_SPEC.replace("  noop\n}", "  noop\n  linear\n}", 1).replace(
        "  width 96 | 64 by channel_contribution(text)",
        "  width 96 by channel_contribution(text)\n  linear init product",
    )
    spec = spec.replace(
        "minimize", "require @linear count(layers where attention is linear) >= 1\n\nminimize"
    )
    path = workplace.write("a.surg", spec)
    assert workplace.run("compile", path, "-o", "out") == 0
    assert workplace.run("verify", "out/a.plan", "out/checkpoint", "--parent", "llama") == 0
    text = (workplace.folder / "out/a.plan").read_text(encoding="utf-8")
    assert "attention=linear#" in text
    assert logits(workplace.folder / "out/checkpoint", remote=True).isfinite().all()
    later = workplace.write("b.surg", spec.replace("init product", "init least_squares(text)"))
    capsys.readouterr()
    assert workplace.run("plan", later) == 1
    assert "error[E0011]: `init least_squares`" in capsys.readouterr().err
